"""``sp-hf pretrain`` as a script, for ``accelerate launch scripts/pretrain.py ...``."""

import sys

from sp_hf.cli import main

if __name__ == "__main__":
    sys.exit(main(["pretrain", *sys.argv[1:]]))
