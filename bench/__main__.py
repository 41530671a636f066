"""`python -m bench`: the same as the command `bench`, so that `accelerate launch -m bench run` works."""

from __future__ import annotations

from bench.cli.main import main

if __name__ == "__main__":
    main()
