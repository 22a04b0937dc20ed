"""``sp-hf where-bench OWNER/NAME``: where-bench as a dataset of the Hub, or in a folder."""

from __future__ import annotations

from ..errors import UsageError
from ..flags import FlagParser
from ..quiet import quieten_libraries


def where_bench_command(argv: list[str]) -> int:
    """Run ``sp-hf where-bench`` with the arguments after that.

    Raises:
        PushError: see :func:`~sp_hf.hub.where_bench.push_where_bench`.
        UsageError: no repository's id.
    """
    options = _parser().parse_args(argv)
    if options.repo.count("/") != 1:
        raise UsageError(f"{options.repo} is no dataset's owner/name on the Hub")
    quieten_libraries()
    from .where_bench import build_where_bench, push_where_bench

    if options.output_dir is not None:
        files = build_where_bench(options.output_dir, options.repo)
        print("\n".join(str(path) for path in files))
        return 0
    result = push_where_bench(options.repo, private=options.private)
    print(f"Pushed: {result.url}" if result.changed else f"{result.url} has all of this already.")
    return 0


def _parser() -> FlagParser:
    parser = FlagParser(
        prog="sp-hf where-bench",
        description="Build where-bench, a benchmark of where, as a dataset of the Hub: scenes, card and eval.yaml.",
    )
    parser.add_argument("repo", help="owner/name of the dataset; made if it is not there")
    parser.add_argument("--output_dir", help="write it into this folder, and push nothing")
    parser.add_argument("--private", action="store_true", default=None, help="if it is made: only for its owner")
    return parser
