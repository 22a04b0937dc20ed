"""``sp-hf demo``: the Space on your own machine, with your own runs beside models of the Hub."""

from __future__ import annotations

import argparse
import importlib.util
import os
import tempfile
from pathlib import Path

from ..declared import declared
from ..errors import InputError
from ..flags import FlagParser
from ..quiet import quieten_libraries

EXAMPLES = (3, 8, 10, 14, 21)  # scenes of PartScenes
_DEFAULT = ("facebook/dinov2-small", "vit-tiny-16")


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
        raise DemoError("the demo needs Gradio: pip install 'sp-hf[demo]'")
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    quieten_libraries()
    from .shelf import Shelf, ShelfOptions

    models = tuple(args.models or _DEFAULT)
    shelf = Shelf(ShelfOptions(models=models, local_paths=True, scenes=args.scenes))
    if args.models:
        shelf.open(models[0], print)  # a mistyped name is told here, not in the browser
    from .serve import serve  # Gradio, which takes seconds

    with tempfile.TemporaryDirectory(prefix="sp-hf-demo-") as folder:
        examples = render_examples(Path(folder))
        serve(shelf, examples, server_name=args.host, server_port=args.port, inbrowser=args.open)
    return 0


def render_examples(folder: Path, size: int = 320) -> list[Path]:
    """Draw the example images."""
    from PIL import Image

    from ..data.part_scenes.dataset import render_scene

    paths = []
    for index in EXAMPLES:
        paths.append(folder / f"scene_{index}.jpg")
        Image.fromarray(render_scene(7, index, size, split="test").image).save(paths[-1], quality=88)
    return paths


def _parser() -> argparse.ArgumentParser:
    parser = FlagParser(prog="sp-hf demo", description="Try in a browser what models know about where.")
    parser.add_argument("models", nargs="*", help="to choose from: runs, folders, Hub ids or presets")
    parser.add_argument("--port", type=int, help="default: the first free one from 7860 on")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 lets other machines in; they may name any folder")
    parser.add_argument("--open", action="store_true", help="open a browser")
    scenes = declared("sp_hf.space.probes", "SCENES")
    parser.add_argument(
        "--scenes", type=int, default=scenes, help=f"drawn, to which probes are fitted (default: {scenes})"
    )
    return parser
