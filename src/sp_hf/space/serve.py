"""Serve the page: on a Space for everyone, or with ``sp-hf demo`` for yourself (:mod:`.command`)."""

from __future__ import annotations

import os
import threading
from typing import Any

from . import shipped
from .accelerator import lent_for_each_call
from .first import First
from .leaderboard import Leaderboard
from .page import Content, build_page, serving
from .shelf import Shelf, ShelfOptions

FRESH = "vit-tiny-16"
"""Asked where no models were shipped: untrained."""


def serve_space() -> None:
    """Serve everyone, until stopped: the shipped models, and models of the Hub that visitors name; no folders.

    The variable ``SPACE_MODELS`` names others in place of the shipped ones, separated by spaces.
    """
    named = tuple(os.environ.get("SPACE_MODELS", "").split())
    shelf = Shelf(ShelfOptions(models=named or shipped.models() or (FRESH,)))
    serve(shelf, shipped_content() if not named and shipped.models() else own_content(shelf))


def shipped_content() -> Content:
    """The page of the shipped models."""
    root = shipped.folder()
    cards = [(name, root / place) for name, place in shipped.FOLDERS.items() if (root / place / "README.md").exists()]
    return Content(
        photographs=shipped.photographs(),
        line_up=list(shipped.FOLDERS),
        benchmark=shipped.evidence(),
        first=First(shipped.first_answers()),
        results=Leaderboard(cards),
    )


def own_content(shelf: Shelf, **content: Any) -> Content:
    """The page of other models: nothing was measured of them beforehand."""
    defaults: dict[str, Any] = {"photographs": shipped.photographs(), "line_up": list(shelf.options.places())[:3]}
    return Content(**defaults | content)


def serve(shelf: Shelf, content: Content, **launch: Any) -> None:
    """Build the page, get its models ready meanwhile, and serve."""
    page = build_page(shelf, content)
    threading.Thread(target=warm_up, args=(shelf, content.line_up), daemon=True).start()
    folders = sorted({str(path.parent) for path in content.photographs})
    page.launch(allowed_paths=folders, **serving(), **launch)


def warm_up(shelf: Shelf, names: Any) -> None:
    """Open models, and fit their probes where none were shipped, before the first visitor asks."""
    for name in names:
        try:
            contestant = shelf.open(name, print)
            if not lent_for_each_call():  # there is no GPU between calls: the first one fits
                contestant.probes(print)
        except ValueError as error:
            print(f"{name}: {error}", flush=True)
            continue
        print(f"{name}: ready", flush=True)
