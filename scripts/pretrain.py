"""``sp-hf pretrain`` as a script, for ``accelerate launch scripts/pretrain.py ...`` and torchrun (docs/scaling.md)."""

import sys

from sp_hf.cli import main, run
from sp_hf.training.launch import start_missing_processes


def start(argv: list[str]) -> int:
    """All processes that were asked for, and in each of them the command."""
    start_missing_processes(__file__, argv)
    return main(["pretrain", *argv])


if __name__ == "__main__":
    sys.exit(run(start, sys.argv[1:]))
