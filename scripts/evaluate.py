"""``sp-hf evaluate`` as a script."""

import sys

from sp_hf.cli import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
