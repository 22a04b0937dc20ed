"""``sp-hf push RUN org/name``: from a run folder to a model on the Hub that anybody loads with ``AutoModel``."""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
from pathlib import Path

from huggingface_hub.utils import enable_progress_bars

from ..run.export import find_weights
from .failures import PushError
from .layout import PRETRAINING, describe_files, files_to_push, with_card
from .push import Destination, connect, push


def push_run(argv: list[str]) -> int:
    """Run ``sp-hf push`` with the arguments after that.

    Raises:
        PushError: see :func:`~sp_hf.hub.push.connect` and :func:`~sp_hf.hub.push.push`.
        FileNotFoundError: no checkpoint there.
        ValueError: ``--teacher`` of a run without one.
    """
    args = _parser().parse_args(argv)
    if sys.stderr.isatty():
        enable_progress_bars()
    find_weights(args.run)
    there = None
    if not args.dry_run:
        there = connect(args.repo, private=args.private, revision=args.revision, create_pr=args.create_pr)
    with tempfile.TemporaryDirectory(prefix="sp-hf-push-") as folder:
        files = files_to_push(args.run, Path(folder), teacher=args.teacher)
        if args.card:
            print("Making the model card, its snippets are run ...", flush=True)
            options = {"license": args.license, "evaluations": args.evaluation}
            files = with_card(files, args.run, Path(folder), args.repo, **options)
        print(f"{args.run} -> {there.url if there else args.repo}")
        print(describe_files(files))
        if there is None:
            print("Dry run: nothing was pushed.")
            return 0
        try:
            _push(files, there, args)
        except PushError as error:
            again = shlex.join(["sp-hf", "push", *argv])
            raise PushError(f"{error} The run is untouched, and what is uploaded stays; go on with: {again}") from error
    return 0


def _push(files: dict[str, Path], there: Destination, args: argparse.Namespace) -> None:
    message = args.message or f"{Path(args.run).resolve().name}: encoder and pretraining state"
    result = push(files, there, message, progress=lambda line: print(line, flush=True))
    if not result.changed:
        print(f"{result.url} has all of this already.")
        return
    print(f"Pull request: {result.url}" if there.create_pr else f"Pushed: {result.url}")
    revision = f', revision="{there.revision}"' if there.revision else ""
    if not there.create_pr:
        print(f'Load it:      AutoModel.from_pretrained("{there.repo}"{revision})')
        print(f'Continue it:  SPForPreTraining.from_pretrained("{there.repo}", subfolder="{PRETRAINING}"{revision})')


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sp-hf push",
        description="Share a run on the Hub: the stock encoder, which AutoModel loads, and all it takes to train on.",
    )
    parser.add_argument("run", help="run folder, or one checkpoint of it")
    parser.add_argument("repo", help="owner/name on the Hub; created if it is not there")
    parser.add_argument("--private", action="store_true", default=None, help="if it is created: only for its owner")
    parser.add_argument("--create-pr", "--create_pr", action="store_true", help="open a pull request instead")
    parser.add_argument("--revision", help="branch, created if it is not there, or refs/pr/N; default: main")
    parser.add_argument("--teacher", action="store_true", help="the EMA teacher's encoder instead of the student's")
    parser.add_argument("--message", help="of the commit, or title of the pull request")
    parser.add_argument("--license", help="for the card, as the Hub names it (apache-2.0); default: the base model's")
    parser.add_argument(
        "--evaluation",
        nargs="+",
        default=[],
        metavar="DIR",
        help="what sp-hf evaluate --output_dir wrote, for the card",
    )
    parser.add_argument("--no-card", "--no_card", dest="card", action="store_false", help="push no model card")
    parser.add_argument("--dry-run", "--dry_run", action="store_true", help="list the files, push nothing")
    return parser
