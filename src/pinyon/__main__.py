"""`python -m pinyon` is `pinyon`."""

from pinyon.cli import main

if __name__ == "__main__":
    main(prog_name="pinyon")
