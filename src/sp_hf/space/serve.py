"""Serve the page: on a Space for everyone, or with ``sp-hf demo`` for yourself (:mod:`.command`)."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .accelerator import lent_for_each_call
from .page import build_page, serving
from .shelf import Shelf, ShelfOptions

MODELS = ("facebook/dinov2-small", "facebook/dino-vits16", "vit-tiny-16")
"""Offered on a Space, unless ``SPACE_MODELS`` names others: Hub ids, presets (at random initialisation)."""


def serve_space(examples: Path) -> None:
    """Serve everyone, until stopped: models of the Hub alone, no folders.

    Args:
        examples: a folder of images.
    """
    models = os.environ.get("SPACE_MODELS", "").split() or MODELS
    shelf = Shelf(ShelfOptions(models=tuple(models), local_paths=False))
    serve(shelf, sorted(examples.iterdir()))


def serve(shelf: Shelf, examples: Sequence[Path], **launch: Any) -> None:
    """Build the page, fit the probes of the first model meanwhile, and serve."""
    page = build_page(shelf, examples)
    threading.Thread(target=warm_up, args=(shelf, shelf.options.models[0]), daemon=True).start()
    page.launch(allowed_paths=[str(examples[0].parent)], **serving(), **launch)


def warm_up(shelf: Shelf, name: str) -> None:
    """Fit the probes of a model before the first visitor asks."""
    try:
        probes = shelf.open(name, print)
    except ValueError as error:
        print(f"{name}: {error}", flush=True)
        return
    if lent_for_each_call():
        return  # there is no GPU between calls: the first one fits
    for grid in (3, 2, 4):
        probes.jigsaw(grid, print)
    probes.classifier(print)
    probes.relation(print)
    print(f"{name}: ready", flush=True)
