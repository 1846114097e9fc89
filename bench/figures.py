"""What was measured, and what is aimed at."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median


@dataclass(frozen=True, slots=True)
class Aim:
    what: str
    found: float
    aim: float
    at_most: bool = False

    def line(self) -> str:
        met = self.found <= self.aim if self.at_most else self.found >= self.aim
        aim = f"at most {self.aim:g}" if self.at_most else f"at least {self.aim:g}"
        return f"| {self.what} | {digits(self.found)} | {aim} | {'met' if met else 'short'} |"


@dataclass
class Figures:
    """What the rounds measured, a list of one figure a round under each name."""

    say: bool = True  # on standard error, as they come
    rounds: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, value: float) -> None:
        self.rounds.setdefault(name, []).append(value)
        if self.say:
            print(f"  {name:<68}{digits(value):>12}", file=sys.stderr, flush=True)

    def heading(self, text: str) -> None:
        if self.say:
            print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)

    def value(self, name: str) -> float:
        return median(self.rounds[name])

    def ratio(self, name: str, other: str) -> float:
        """The median of the ratios within each round, so that a machine that drifts does not tilt it."""
        return median(a / b for a, b in zip(self.rounds[name], self.rounds[other], strict=True))

    def table(self) -> str:
        lines = ["| figure | median | rounds |", "|---|---|---|"]
        for name, values in self.rounds.items():
            rounds = ", ".join(map(digits, values)) if len(values) > 1 else ""
            lines.append(f"| {name} | {digits(self.value(name))} | {rounds} |")
        return "\n".join(lines)


def digits(value: float) -> str:
    """To four decimals below 1, for recalls; else to two, and none from 1,000 on."""
    return f"{value:.{4 if abs(value) < 1 else 2 if abs(value) < 1000 else 0}f}"


def report(aims: Sequence[Aim]) -> str:
    return "\n".join(["| ratio | found | aim | |", "|---|---|---|---|", *(aim.line() for aim in aims)])
