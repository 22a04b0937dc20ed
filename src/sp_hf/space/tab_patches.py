"""The Patches tab."""

from __future__ import annotations

from typing import Any

import gradio as gr

from .accelerator import on_gpu
from .boards import point_board
from .controls import COMPUTE, Shared, announce, picture_box, report, report_box, shows_mistakes
from .drawing import draw_components, draw_similarity
from .patches import patch_maps
from .probes import Say
from .shelf import Shelf
from .uploads import Upload, open_upload

_INTRO = (
    "Choose a patch: click on the image, or use the arrow keys and Enter. Which others does the model find like it?"
)
AT = (50.0, 50.0)  # percent
GRID = (14, 14)  # until a model has said how many patches it sees
_SHOW_GRID = "(metrics, board) => metrics ? { ...board, grid: metrics.grid } : board"
_NOTE = (
    "Similarity is the cosine of patch tokens, from the least (dark) to the most (bright) in this image. Colours of the"
    " components are of this image alone; the shapes they make count."
)


def add_patches(shared: Shared, shelf: Shelf) -> tuple[gr.HTML, gr.Slider, gr.Slider]:
    """Lay out the tab; returns its board and the coordinates of the point."""
    gr.Markdown(_INTRO, elem_classes="tab-intro")
    with gr.Row():
        with gr.Column(min_width=260):
            gr.Markdown("**Choose a patch**", elem_classes="caption")
            board = point_board(value={"src": None, "at": AT, "grid": GRID}, elem_id="patches-board")
            with gr.Row():
                x = gr.Slider(0, 100, AT[0], step=0.1, label="From the left, %", elem_id="patches-x", min_width=120)
                y = gr.Slider(0, 100, AT[1], step=0.1, label="From the top, %", elem_id="patches-y", min_width=120)
            run = gr.Button("Compare patches", variant="primary", elem_id="patches-run")
            answer = report_box("patches-report")
        with gr.Column(min_width=260):
            gr.Markdown("**Similarity** to the chosen patch", elem_classes="caption")
            similarity = picture_box("The image under a map of similarity to the chosen patch", "patches-similarity")
            gr.Markdown("**Principal components** of all patches", elem_classes="caption")
            components = picture_box("Three principal components of the patches, as colours", "patches-components")
    metrics = gr.JSON(visible=False)
    answers = Answers(shelf)
    to_board = "(x, y, board) => board && board.src ? { ...board, at: [x, y] } : board"
    for slider in (x, y):
        slider.input(None, [x, y, board], [board], js=to_board, api_visibility="private")
    inputs, outputs = [shared.image, shared.model, x, y], [similarity, components, answer, metrics]
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
    for answered in (asked, chosen):
        answered.success(None, [metrics, board], [board], js=_SHOW_GRID, api_visibility="private")
    return board, x, y


class Answers:
    """The tab's handler."""

    def __init__(self, shelf: Shelf) -> None:
        @on_gpu
        def compute(model: str, upload: Upload, at: tuple[float, float], say: Say) -> Any:
            return patch_maps(shelf.open(model, say).model, upload, at)

        self._shelf, self._compute = shelf, compute

    @shows_mistakes
    def alike(
        self,
        image: str | None,
        model: str,
        x: float,
        y: float,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> tuple[Any, ...]:
        """Compare all patches with the chosen one."""
        upload = open_upload(image)
        say = announce(progress)
        self._shelf.open(model, say)  # before a GPU is lent
        maps = self._compute(model, upload, (float(x) / 100, float(y) / 100), say)
        rows, columns = maps.similarity.shape
        others = maps.similarity.flatten().sort(descending=True).values[1:]
        metrics = {
            "grid": [rows, columns],
            "chosen": list(maps.chosen),
            "similarity": [[round(value, 4) for value in row] for row in maps.similarity.tolist()],
        }
        words = report(
            f"Patch in row {maps.chosen[0] + 1}, column {maps.chosen[1] + 1}",
            {
                "Patches": f"{rows} x {columns}",
                "Most alike": f"{others[0]:.2f}" if len(others) else "no other",
                "Mean similarity": f"{others.mean():.2f}" if len(others) else "no other",
            },
            _NOTE,
        )
        return draw_similarity(upload, maps), draw_components(upload, maps), words, metrics
