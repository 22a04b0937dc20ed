"""The command line: ``sp-hf pretrain | evaluate | sweep | export | push | demo``. Thin: functions of the package.

Each command reads its flags first, and only then imports what takes seconds, PyTorch above all.
"""

from __future__ import annotations

import logging
import os
import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import InputError
from .exit import report, take_traceback
from .flags import FlagParser
from .preconditions import check_run_is_there
from .quiet import quieten_libraries

if TYPE_CHECKING:
    from .training.result import PretrainingResult

COMMANDS: dict[str, tuple[str, str]] = {
    "pretrain": ("pretrain_command", "train an encoder without labels: what + where"),
    "evaluate": ("evaluate_command", "what vision models know, and where: any of the Hub or on disk, side by side"),
    "sweep": ("sweep_command", "an experiment: several runs over several seeds, measured alike, in one report"),
    "export": ("export_command", "write the stock encoder of any checkpoint of a run"),
    "push": ("push_command", "share a run on the Hub: the stock encoder, and all it takes to train on"),
    "where-bench": ("where_bench_command", "build the benchmark of where as a dataset of the Hub"),
    "demo": ("demo_command", "try in a browser what models know about where things are"),
}


def main(argv: list[str] | None = None) -> int:
    """Entry point of ``sp-hf``; returns the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help"):
        print("usage: sp-hf COMMAND [options]      sp-hf COMMAND --help\n")
        for name, (_, what) in COMMANDS.items():
            print(f"  {name:11} {what}")
        return 0 if argv else 2
    if argv[0] == "--version":
        from importlib.metadata import version

        print(version("sp-hf"))
        return 0
    if argv[0] == "job":  # of sweeps, not of people
        return run(job_command, argv[1:])
    if argv[0] not in COMMANDS:
        print(f"sp-hf: unknown command {argv[0]!r}; there are: {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    return run(globals()[COMMANDS[argv[0]][0]], argv[1:])


def run(command: Callable[[list[str]], int], argv: list[str]) -> int:
    """Run a command: what went wrong is one sentence, and a traceback only of a defect, or with ``--traceback``."""
    argv, with_traceback = take_traceback(argv)
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("huggingface_hub").propagate = False  # it has a handler of its own
    logging.getLogger("sp_hf").setLevel(logging.INFO if _speaks() else logging.WARNING)
    try:
        return command(argv)
    except KeyboardInterrupt:
        print("sp-hf: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        return report(error, with_traceback)


def _speaks() -> bool:
    """Of several processes only the first one reports."""
    return os.environ.get("RANK", "0") == "0"


def pretrain_command(argv: list[str]) -> int:
    """``sp-hf pretrain``, the same as ``accelerate launch scripts/pretrain.py``."""
    from .run.flags import read_flags
    from .run.names import check_names

    options = read_flags(argv)
    check_names(options)
    quieten_libraries()
    from .api import pretrain

    return report_run(pretrain(recipe=options.pop("recipe", None), **options))


def report_run(result: PretrainingResult) -> int:
    """Say what a run came to; returns the exit status."""
    import torch.distributed

    from .run.folder import RunFolder

    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()  # left to the interpreter's end, its threads may abort the process
    if result.stopped_by is not None:
        if _speaks():
            name = signal.Signals(result.stopped_by).name
            print(f"{name}: stopped at step {result.step}, with a checkpoint. Go on with the same command and")
            print("  --resume auto")
        return 128 + result.stopped_by
    if not _speaks():
        return 0
    if result.checked:
        print(f"Checked: {result.output_dir} could begin at step {result.step}. Nothing was written.")
        return 0
    if result.already_done:
        print(f"{result.output_dir} is already done ({result.step} steps): nothing was changed.")
    else:
        print(f"{result.output_dir}: {result.step} steps.")
    print(f'Load it:   AutoModel.from_pretrained("{RunFolder(result.output_dir).encoder}")')
    print(f"Evaluate it:  sp-hf evaluate {result.output_dir}")
    if result.pushed is not None:
        print(f"Pushed:    {result.pushed}")
    if result.push_error is not None:
        print(f"sp-hf: error: not pushed: {result.push_error}", file=sys.stderr)
        return 1
    return 0


def evaluate_command(argv: list[str]) -> int:
    """``sp-hf evaluate``."""
    from .evaluation.command import check_names, parser

    options = {name: value for name, value in vars(parser().parse_args(argv)).items() if value is not None}
    if "preset" in options:
        from .evaluation.presets import preset_options

        options = preset_options(**options)
    check_names(options)
    repo, create_pr = options.pop("push_results", None), options.pop("create_pr") or None
    output, benchmark = options.get("output_dir"), options.pop("benchmark", None)
    if repo is not None and output is None:
        raise InputError("--push_results needs --output_dir: what is pushed is read from its results.json")
    if benchmark is not None and (repo is None or "/" not in benchmark):
        raise InputError(f"--benchmark {benchmark} is a dataset's owner/name on the Hub, and needs --push_results")
    quieten_libraries()
    from .evaluation.evaluate import evaluate
    from .hub.push_results import destination, push_results

    if repo is not None:
        destination(repo, create_pr)  # refused now, not after hours of measuring
    print(evaluate(options.pop("models"), **options, command=shlex.join(["sp-hf", "evaluate", *argv])))
    if output is not None:
        report, numbers = Path(output) / "report.md", Path(output) / "results.json"
        print(f"\nAll metrics, differences and pictures: {report}; the numbers: {numbers}")
    if repo is not None and output is not None:
        result = push_results(output, repo, create_pr=create_pr, benchmark=benchmark)
        print(f"Results pushed: {result.url}" if result.changed else f"{result.url} has these results already.")
    return 0


def where_bench_command(argv: list[str]) -> int:
    """``sp-hf where-bench OWNER/NAME``."""
    from .hub.where_bench_command import where_bench_command as build

    return build(argv)


def sweep_command(argv: list[str]) -> int:
    """``sp-hf sweep FILE``."""
    from .sweeps.command import sweep_command as run_sweep

    return run_sweep(argv)


def job_command(argv: list[str]) -> int:
    """One process of a sweep: ``python -m sp_hf.cli job FILE``; people say ``sp-hf sweep``."""
    quieten_libraries()
    from .sweeps.job import run_job
    from .training.result import PretrainingResult

    result = run_job(*argv)
    if isinstance(result, PretrainingResult):
        return report_run(result)
    print(result)
    return 0


def export_command(argv: list[str]) -> int:
    """``sp-hf export RUN DIRECTORY``."""
    parser = FlagParser(prog="sp-hf export", description="Write a run's encoder as its stock class.")
    parser.add_argument("run", help="run folder, or one checkpoint of it")
    parser.add_argument("directory", help="where to write the encoder")
    parser.add_argument("--teacher", action="store_true", help="the EMA teacher instead of the student")
    parser.add_argument("--onnx", action="store_true", help="onnx/model.onnx too, checked against torch")
    parser.add_argument("--timm", action="store_true", help="loadable with timm, too (ViT, DINOv2)")
    args = parser.parse_args(argv)
    check_run_is_there(args.run)
    quieten_libraries()
    from .run.export import export

    source = export(args.run, args.directory, teacher=args.teacher, onnx=args.onnx, timm=args.timm)
    print(f'{source} -> AutoModel.from_pretrained("{args.directory}")')
    return 0


def push_command(argv: list[str]) -> int:
    """``sp-hf push RUN org/name``."""
    from .hub.command import push_run

    return push_run(argv)


def demo_command(argv: list[str]) -> int:
    """``sp-hf demo``."""
    from .space.command import run_demo

    return run_demo(argv)


if __name__ == "__main__":
    sys.exit(main())
