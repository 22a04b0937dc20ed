"""``sp-hf demo``: the Space on your own machine, with your own runs beside models of the Hub."""

from __future__ import annotations

import argparse
import importlib.util
import os
import tempfile
from pathlib import Path
from typing import Any

from ..declared import declared
from ..errors import InputError
from ..flags import FlagParser
from ..quiet import quieten_libraries

DEMO = Path("runs/demo")
"""Where ``make demo`` leaves its two runs."""
SCENES = (3, 8, 10, 14, 21)
"""Of PartScenes, drawn as examples for models that were trained on them."""


class DemoError(InputError):
    """The demo cannot be shown; says what to do."""


def run_demo(argv: list[str]) -> int:
    """Run ``sp-hf demo`` with the arguments after that, until it is interrupted.

    Raises:
        DemoError: Gradio is not installed.
        ModelError: a model that cannot be opened.
    """
    args = _parser().parse_args(argv)
    if args.scenes < 1:
        raise DemoError(f"--scenes is {args.scenes}; it must be at least 1")
    if args.port is not None and not 0 < args.port < 2**16:
        raise DemoError(f"--port is {args.port}; it must be from 1 to {2**16 - 1}")
    if importlib.util.find_spec("gradio") is None:
        raise DemoError("the demo needs Gradio: pip install gradio")
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    quieten_libraries()
    launch = {"server_name": args.host, "server_port": args.port, "inbrowser": args.open}
    with tempfile.TemporaryDirectory(prefix="sp-hf-demo-") as folder:
        serve_local(args, Path(folder), launch)
    return 0


def serve_local(args: argparse.Namespace, folder: Path, launch: dict[str, Any]) -> None:
    """Serve the models that were named, or those of ``make demo``, or the shipped ones.

    Args:
        folder: for what is drawn.
        launch: of :func:`~sp_hf.space.serve.serve`.
    """
    from . import shipped
    from .demo_runs import DemoRuns
    from .leaderboard import Leaderboard
    from .serve import FRESH, own_content, serve, shipped_content  # Gradio, which takes seconds
    from .shelf import Shelf, ShelfOptions

    results = [(path.name, path) for path in args.results]
    demo = None if args.models else DemoRuns.find(DEMO)
    models = tuple(args.models) or (demo.models if demo else ())
    dataset = args.dataset or (demo.dataset if demo else None)
    options = {"local_paths": True, "dataset": dataset, "images": args.scenes}
    shelf = Shelf(ShelfOptions(models=(*models, *(shipped.models() or (FRESH,))), **options))
    if args.models:
        shelf.open(next(iter(shelf.options.places())), print)  # a mistyped name is told here, not in the browser
    if demo is not None:
        print(f"The two models of {DEMO}; sp-hf demo MODEL ... opens others.")
    if models:
        chosen = list(shelf.options.places())[: min(len(models), 4)]
        drawn = demo.draw(folder, SCENES) if demo is not None else []
        results += [(path.name, path) for path in (demo.evaluations if demo else ())]
        content = own_content(shelf, line_up=chosen, photographs=[*drawn, *shipped.photographs()])
    else:
        content = shipped_content() if shipped.models() else own_content(shelf)
        results += content.results.folders
    serve(shelf, content.with_results(Leaderboard(results)), **launch)


def _parser() -> argparse.ArgumentParser:
    parser = FlagParser(prog="sp-hf demo", description="Try in a browser what models know about where.")
    parser.add_argument(
        "models",
        nargs="*",
        help=f"to choose from: runs, folders, Hub ids or presets (default: those of {DEMO}, or else those shipped)",
    )
    parser.add_argument("--port", type=int, help="default: the first free one from 7860 on")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 lets other machines in; they may name any folder")
    parser.add_argument("--open", action="store_true", help="open a browser")
    parser.add_argument("--dataset", help="images that probes are fitted to (default: drawn scenes)")
    scenes = declared("sp_hf.space.shelf", "SCENES")
    parser.add_argument("--scenes", type=int, default=scenes, help=f"how many of these (default: {scenes})")
    parser.add_argument(
        "--results", type=Path, nargs="*", default=[], help="folders of sp-hf evaluate, for the leaderboard"
    )
    return parser
