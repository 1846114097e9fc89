"""`python -m bench [--rounds N]`: measures, and prints each ratio beside what the project aims at.

Exit status 0 whether or not a ratio falls short: a shared machine is no judge of a commit.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from bench import embed, machine


@dataclass(frozen=True, slots=True)
class Aim:
    what: str
    found: float
    aim: float
    at_most: bool = False

    def line(self) -> str:
        met = self.found <= self.aim if self.at_most else self.found >= self.aim
        aim = f"at most {self.aim:g}" if self.at_most else f"at least {self.aim:g}"
        return f"| {self.what} | {self.found:.2f} | {aim} | {'met' if met else 'short'} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    figures = embed.measure(parser.parse_args().rounds)
    tokens_per_text = figures.value("engine bf16, tokens/s") / figures.value("engine bf16, texts/s")
    flops = embed.flops_per_token(tokens_per_text)
    http_tokens = figures.value("http bf16 64x4, texts/s") * tokens_per_text
    print(f"\n{machine.describe()}\n")
    print("| figure | median | rounds |\n|---|---|---|")
    for name, values in figures.rounds.items():
        print(f"| {name} | {figures.value(name):.2f} | {', '.join(f'{value:.2f}' for value in values)} |")
    print(f"| tokens a text | {tokens_per_text:.1f} | |")
    print(f"| http bf16 64x4, tokens/s | {http_tokens:.0f} | |")
    for name in ("engine bf16", "http bf16 64x4", "http bf16 1x16"):
        rate = figures.value(f"{name}, texts/s") * tokens_per_text * flops / 1e9
        print(f"| {name}, share of the bf16 matrix rate | {rate / figures.value('matrix bf16, GFLOP/s'):.2f} | |")
    aims = [
        Aim("64 texts x 4 connections, bf16, against sentence-transformers fp32",
            figures.ratio("http bf16 64x4, texts/s", "peer, texts/s"), 7),
        Aim("64 texts x 4 connections, f32, against sentence-transformers fp32",
            figures.ratio("http f32 64x4, texts/s", "peer, texts/s"), 4),
        Aim("64 texts x 4 connections, bf16, against the engine driven directly",
            figures.ratio("http bf16 64x4, texts/s", "engine bf16, texts/s"), 0.85),
        Aim("1 text x 16 connections, bf16, against the engine driven directly",
            figures.ratio("http bf16 1x16, texts/s", "engine bf16, texts/s"), 0.6),
        Aim("one query at a time: p50 beyond the bare model's, ms",
            figures.value("http query, ms") - figures.value("bare query, ms"), 2.0, at_most=True),
        Aim("peak memory of the server, MB", figures.value("peak memory, MB"), 600, at_most=True),
        Aim("ready after start, s", figures.value("ready, s"), 2.0, at_most=True),
    ]  # fmt: skip
    print("\n| ratio | found | aim | |\n|---|---|---|---|")
    for aim in aims:
        print(aim.line())


if __name__ == "__main__":
    main()
