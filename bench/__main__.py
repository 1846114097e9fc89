"""`python -m bench [embed|models|sparse|stores|imports|grpc] ...`: measures, and prints each ratio beside its aim.

Exit status 0 whether or not a ratio falls short: a shared machine is no judge of a commit.
"""

from __future__ import annotations

import argparse

from bench import calls, embed, imports, machine, models, sparse, stores
from bench.figures import Figures, report

QUICK = 20_000  # vectors
GRPC = 10_000  # vectors that REST and gRPC write, each, in each round


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "which",
        nargs="*",
        choices=["embed", "models", "sparse", "stores", "imports", "grpc", []],
        help="what to measure; all, if not said",
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--vectors", type=int, default=100_000, help="how many the stores hold")
    parser.add_argument("--rows", type=int, default=1_000_000, help="how many are imported")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} vectors and rows, and one round")
    options = parser.parse_args()
    rounds = 1 if options.quick else options.rounds
    vectors = QUICK if options.quick else options.vectors
    rows = QUICK if options.quick else options.rows
    print(f"\n{machine.describe()}")
    for which in options.which or ["embed", "models", "sparse", "stores", "imports", "grpc"]:
        figures = Figures()
        match which:
            case "embed":
                aims = embed.measure(rounds, figures)
            case "models":
                aims = models.measure(figures)
            case "sparse":
                aims = sparse.measure(rounds, figures)
            case "stores":
                aims = stores.measure(vectors, rounds, figures)
            case "grpc":
                aims = calls.measure(min(vectors, GRPC), rounds, figures)
            case _:
                aims = imports.measure(rows, figures)
        print(f"\n{which}\n\n{figures.table()}\n\n{report(aims)}", flush=True)


if __name__ == "__main__":
    main()
