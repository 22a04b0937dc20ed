"""``sp-hf sweep FILE``: the flags of :func:`sp_hf.sweep`, and what is printed."""

from __future__ import annotations

from ..data.flags import add_data_flags
from ..flags import FlagParser
from ..quiet import quieten_libraries
from ..run.recipe_file import read_mapping


def sweep_command(argv: list[str]) -> int:
    """Entry point of ``sp-hf sweep``; returns the exit status."""
    parser = FlagParser(
        prog="sp-hf sweep",
        description="An experiment: runs over seeds, measured alike, in one report. What is done is skipped.",
    )
    parser.add_argument("file", help="the sweep's YAML, such as recipes/sweeps/part_scenes.yaml")
    add_data_flags(parser.add_argument_group("images", "in place of those that recipes name"))
    parser.add_argument("--output_dir", default="runs", help="the sweep gets a folder in it")
    parser.add_argument("--seeds", type=int, nargs="+", help="only these of the sweep's seeds")
    parser.add_argument("--only", nargs="+", metavar="RUN", help="only evaluations that begin with these runs")
    parser.add_argument(
        "--jobs",
        type=int,
        help="processes at a time (default: one a GPU, or one a core, at most 4)",
    )
    parser.add_argument("--list", action="store_true", help="say what is done and what is left, and run nothing")
    options = vars(parser.parse_args(argv))
    read_mapping(options["file"])
    quieten_libraries()
    from .sweep import sweep

    file, listed = options.pop("file"), options.pop("list")
    try:
        result = sweep(file, **options, dry_run=listed)
    except KeyboardInterrupt:
        print("Stopped, with checkpoints. The same command goes on.")
        raise
    if listed:
        print("\n".join(f"{'done' if done else 'left'}  {name}" for name, done in result.processes.items()))
    else:
        print(f"{result.plan.title}: tables and plots in {result.report}, the numbers in {result.numbers}")
    return 0
