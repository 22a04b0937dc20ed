"""``sp-hf push RUN org/name``: the flags of :func:`sp_hf.push`, and what is printed."""

from __future__ import annotations

import argparse
import shlex
import sys

from ..flags import FlagParser
from ..preconditions import check_run_is_there
from ..quiet import quieten_libraries
from ..run.folder import PRETRAINING


def push_run(argv: list[str]) -> int:
    """Run ``sp-hf push`` with the arguments after that.

    Raises:
        PushError, FileNotFoundError, ValueError: see :func:`~sp_hf.hub.push_run.push`.
    """
    options = vars(_parser().parse_args(argv))
    run, repo = options.pop("run"), options.pop("repo")
    check_run_is_there(run)
    quieten_libraries()
    from huggingface_hub.utils import enable_progress_bars

    from .push_run import push

    if sys.stderr.isatty():
        enable_progress_bars()
    command = shlex.join(["sp-hf", "push", *argv])
    result = push(run, repo, **options, say=lambda text: print(text, flush=True), command=command)
    if options["dry_run"]:
        print("Dry run: nothing was pushed.")
    elif not result.changed:
        print(f"{result.url} has all of this already.")
    elif options["create_pr"]:
        print(f"Pull request: {result.url}")
    else:
        revision = f', revision="{options["revision"]}"' if options["revision"] else ""
        print(f"Pushed: {result.url}")
        print(f'Load it:      AutoModel.from_pretrained("{result.repo_id}"{revision})')
        print(
            f'Continue it:  SPForPreTraining.from_pretrained("{result.repo_id}", subfolder="{PRETRAINING}"{revision})'
        )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = FlagParser(
        prog="sp-hf push",
        description="Share a run on the Hub: the stock encoder, which AutoModel loads, and all it takes to train on.",
    )
    parser.add_argument("run", help="run folder, or one checkpoint of it")
    parser.add_argument("repo", help="owner/name on the Hub; created if it is not there")
    parser.add_argument("--private", action="store_true", default=None, help="if it is created: only for its owner")
    parser.add_argument("--create_pr", action="store_true", help="open a pull request instead")
    parser.add_argument("--revision", help="branch, created if it is not there, or refs/pr/N; default: main")
    parser.add_argument("--teacher", action="store_true", help="the EMA teacher's encoder instead of the student's")
    parser.add_argument("--message", help="of the commit, or title of the pull request")
    parser.add_argument("--license", help="for the card, as the Hub names it (apache-2.0); default: the base model's")
    parser.add_argument(
        "--evaluation",
        dest="evaluations",
        nargs="+",
        default=[],
        metavar="DIR",
        help="what sp-hf evaluate --output_dir wrote, for the card",
    )
    parser.add_argument("--no_card", dest="card", action="store_false", help="push no model card")
    parser.add_argument(
        "--no_run_snippets", dest="run_snippets", action="store_false", help="do not run the card's snippets first"
    )
    parser.add_argument("--onnx", action="store_true", help="with onnx/model.onnx, checked against torch")
    parser.add_argument("--timm", action="store_true", help="loadable with timm, too (ViT, DINOv2)")
    parser.add_argument("--dry_run", action="store_true", help="list the files, push nothing")
    return parser
