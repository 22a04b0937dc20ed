"""The Jigsaw tab."""

from __future__ import annotations

from typing import Any

import gradio as gr

from ..errors import InputError
from .accelerator import on_gpu
from .boards import board_value, tile_board
from .controls import COMPUTE, Shared, announce, picture_box, report, report_box, shows_mistakes
from .drawing import data_url, draw_solved
from .jigsaw import GRIDS, Cut, check_arrangement, picture, solve
from .probes import Say
from .shelf import Shelf
from .uploads import Upload, open_upload

_INTRO = "The model sees the shuffled image once and puts every tile back. Can you do better?"
_PROBE = (
    "Probe and classifier are linear, on frozen features, fitted to drawn scenes of ten classes; a photograph is new to"
    " them, and is none of the ten."
)


def add_jigsaw(shared: Shared, shelf: Shelf) -> tuple[gr.Radio, gr.Number]:
    """Lay out the tab; returns the grid and the seed."""
    gr.Markdown(_INTRO, elem_classes="tab-intro")
    with gr.Row():
        grid = gr.Radio([(f"{g} x {g}", g) for g in GRIDS], value=3, label="Grid", elem_id="jigsaw-grid")
        seed = gr.Number(0, label="Seed", precision=0, minimum=0, step=1, elem_id="jigsaw-seed")
    run = gr.Button("Shuffle, and let the model solve it", variant="primary", elem_id="jigsaw-run")
    with gr.Row():
        with gr.Column(min_width=260):
            gr.Markdown("**Yours**: choose two tiles to swap", elem_classes="caption")
            board = tile_board(elem_id="jigsaw-board")
            check = gr.Button("Check mine", elem_id="jigsaw-check")
            verdict = report_box("jigsaw-verdict")
        with gr.Column(min_width=260):
            gr.Markdown("**The model's**, with its confidence in each tile", elem_classes="caption")
            solved = picture_box("The image as the model puts it back", "jigsaw-solved")
            answer = report_box("jigsaw-report")
    with gr.Accordion("The truth", open=False, elem_id="jigsaw-truth"):
        truth = picture_box("The tiles in their true order", "jigsaw-true")
    metrics = gr.JSON(visible=False)
    answers = Answers(shelf)
    run.click(
        answers.play,
        [shared.image, shared.model, grid, seed],
        [board, solved, truth, answer, metrics, verdict],
        api_name="jigsaw",
        **COMPUTE,
    )
    check.click(check_visitor, [board], [board, verdict], api_name="check_jigsaw", show_progress="hidden")
    return grid, seed


class Answers:
    """The tab's handler."""

    def __init__(self, shelf: Shelf) -> None:
        @on_gpu
        def compute(model: str, upload: Upload, cut: Cut, say: Say) -> Any:
            probes = shelf.open(model, say)
            return solve(probes.model, probes.jigsaw(cut.puzzle.grid, say), probes.classifier(say), upload, cut)

        self._shelf, self._compute = shelf, compute

    @shows_mistakes
    def play(
        self,
        image: str | None,
        model: str,
        grid: int,
        seed: int,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> tuple[Any, ...]:
        """Cut, shuffle, solve."""
        upload, cut = open_upload(image), Cut.of(grid, int(seed or 0))
        say = announce(progress)
        self._shelf.open(model, say)  # before a GPU is lent
        solved = self._compute(model, upload, cut, say)
        tiles, (width, height) = cut.puzzle.tiles, upload.shape
        board = {
            "src": data_url(picture(upload, cut, cut.shuffled), upload.shape),
            "grid": cut.puzzle.grid,
            "seed": int(seed or 0),
            "width": width,
            "height": height,
            "placed": cut.shuffled.tolist(),
            "right": None,
            "model": solved.right,
        }
        said = {f"Classifier, {what}": f"{name} ({100 * p:.0f} %)" for what, (name, p) in solved.said.items()}
        metrics = {
            "tiles": tiles,
            "right": solved.right,
            "cells": cut.cells.tolist(),
            "predicted": solved.placed.argsort().tolist(),
            "confidence": [round(float(value), 4) for value in solved.confidence[solved.placed.argsort()]],
            "classifier": {
                what: {"class": name, "probability": round(p, 4)} for what, (name, p) in solved.said.items()
            },
        }
        words = report(f"{solved.right} of {tiles} tiles right", {"By chance": "1, on average"} | said, _PROBE)
        return (
            board,
            draw_solved(upload, solved),
            upload.unsquash(picture(upload, cut, cut.solution)),
            words,
            metrics,
            "",
        )


@shows_mistakes
def check_visitor(board: Any) -> tuple[Any, str]:
    """Count the tiles that a visitor has put right."""
    if not isinstance(board, dict) or not board.get("src"):
        raise InputError("There is no puzzle yet: shuffle first.")
    grid, seed = (int(board_value(board, field, 1)[0]) for field in ("grid", "seed"))
    cut = Cut.of(grid, seed)
    right = cut.right(check_arrangement([int(tile) for tile in board_value(board, "placed")], cut))
    yours, models = int(right.sum()), int(board_value(board, "model", 1)[0])
    outcome = "You win" if yours > models else "A draw" if yours == models else "The model wins"
    done = "All right! " if right.all() else ""
    return board | {"right": right.tolist()}, report(f"{done}You {yours}, the model {models}", note=f"{outcome}.")
