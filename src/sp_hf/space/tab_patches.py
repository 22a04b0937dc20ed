"""The Patches tab: which patches do models find alike? All of the line-up side by side, at one click."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr

from .accelerator import on_gpu
from .boards import point_board
from .controls import COMPUTE, Shared, announce, answer_box, number_box, open_all, shows_mistakes
from .drawing import draw_components, draw_similarity, image_url
from .markup import cards, esc, picture
from .patches import PatchMaps, patch_maps
from .shelf import Say, Shelf
from .uploads import Upload, open_upload

_INTRO = (
    "Click on the photograph, or use the arrow keys and Enter: which other patches does each model find like that one?"
)
WAITING = "Click on the photograph: each model shows what it finds alike."
AT = (50.0, 50.0)  # percent
GRID = (8, 8)  # until a model has said how many patches it sees
_SHOW_GRID = "(metrics, board) => metrics ? { ...board, grid: Object.values(metrics.models)[0].grid } : board"
_NOTE = (
    "Above, the cosine of patch tokens with the chosen one, from the least (dark) to the most alike (bright). Below,"
    " the first three principal components of all patches as red, green and blue: the shapes count, not the colours."
)


def add_patches(shared: Shared, shelf: Shelf, shown: dict[str, Any], answer: str) -> tuple[gr.HTML, gr.HTML]:
    """Lay out the tab; returns its board and its answer."""
    gr.Markdown(_INTRO, elem_classes="tab-intro")
    with gr.Row(elem_classes="halves"):
        with gr.Column(scale=4, min_width=280):
            board = point_board(value={"at": AT, "grid": GRID} | shown, elem_id="patches-board")
            run = gr.Button("Compare this patch with all", variant="primary", elem_id="patches-run")
        with gr.Column(scale=6, min_width=280):
            answered = answer_box("patches-answer", answer)
    metrics = gr.JSON(visible=False)
    x, y = (number_box(n, f"{axis}, in %,") for axis, n in zip("xy", AT, strict=True))
    answers = Answers(shelf)
    inputs, outputs = [shared.image, shared.models, x, y], [answered, metrics]
    asked = run.click(answers.alike, inputs, outputs, api_name="patches", **COMPUTE)
    to_point = "(board) => board && board.at ? board.at : [50, 50]"
    chosen = board.input(None, [board], [x, y], js=to_point, api_visibility="private").then(
        answers.alike,
        inputs,
        outputs,
        api_visibility="private",
        show_progress="minimal",
        trigger_mode="always_last",  # of patches chosen while it computes, the last one is compared too
        **COMPUTE,
    )
    for answered_event in (asked, chosen):
        answered_event.success(None, [metrics, board], [board], js=_SHOW_GRID, api_visibility="private")
    return board, answered


class Answers:
    """The tab's handler."""

    def __init__(self, shelf: Shelf) -> None:
        @on_gpu
        def compute(names: list[str], upload: Upload, at: tuple[float, float], say: Say) -> list[PatchMaps]:
            return [patch_maps(one.model, upload, at) for one in open_all(shelf, names, say)]

        self._shelf, self._compute = shelf, compute

    @shows_mistakes
    def alike(
        self,
        image: str | None,
        models: list[str],
        x: float,
        y: float,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> tuple[Any, ...]:
        """Compare all patches with the chosen one, in every model."""
        upload, say = open_upload(image), announce(progress)
        open_all(self._shelf, models, say)  # before a GPU is lent
        at = (x / 100, y / 100)
        maps = dict(zip(models, self._compute(models, upload, at, say), strict=True))
        metrics = {
            name: {
                "grid": list(one.similarity.shape),
                "chosen": list(one.chosen),
                "similarity": [[round(value, 4) for value in row] for row in one.similarity.tolist()],
            }
            for name, one in maps.items()
        }
        return shown_answer(upload, maps), {"models": metrics}


def shown_answer(upload: Upload, maps: Mapping[str, PatchMaps]) -> str:
    """Both maps of every model."""
    items = []
    for name, one in maps.items():
        rows, columns = one.similarity.shape
        where = f"patch in row {one.chosen[0] + 1}, column {one.chosen[1] + 1} of {rows} x {columns}"
        similar = picture(image_url(draw_similarity(upload, one)), f"{name}: similarity to the {where}", "similarity")
        parts = picture(image_url(draw_components(upload, one)), f"{name}: principal components of all patches")
        items.append((name, esc(where.capitalize()), similar + parts))
    return f"<div class='answers'>{cards(items)}</div><p class='note'>{esc(_NOTE)}</p>"
