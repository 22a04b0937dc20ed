"""Write a run's model card, with its pictures, into a folder: what ``sp-hf push`` does on the way.

python scripts/model_card.py runs/mine org/name model_cards/name --license apache-2.0 --evaluation out
"""

from __future__ import annotations

import argparse
import sys

from sp_hf.cards.model_card import write_card
from sp_hf.cli import run
from sp_hf.flags import FlagParser


def main(argv: list[str]) -> int:
    parser = FlagParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="folder of a finished run")
    parser.add_argument("repo", help="owner/name that the card is for")
    parser.add_argument("folder", help="where to write README.md and pictures/")
    parser.add_argument("--license", help="as the Hub names it (apache-2.0); default: the base model's")
    parser.add_argument("--evaluation", nargs="+", default=[], metavar="DIR", help="what sp-hf evaluate wrote")
    args = parser.parse_args(argv)
    write_card(args.run, args.folder, args.repo, license=args.license, evaluations=args.evaluation)
    print(f"{args.folder}/README.md")
    return 0


if __name__ == "__main__":
    sys.exit(run(main, sys.argv[1:]))
