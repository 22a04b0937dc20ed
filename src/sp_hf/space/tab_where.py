"""The Where tab."""

from __future__ import annotations

from typing import Any

import gradio as gr
from torch import Tensor

from .accelerator import on_gpu
from .boards import box_board
from .controls import COMPUTE, Shared, announce, picture_box, report, report_box, shows_mistakes
from .drawing import FIRST, PREDICTED, SECOND, draw_crops, draw_located
from .probes import Say
from .shelf import Shelf
from .uploads import Upload, open_upload
from .where import in_words, locate, read_box

_INTRO = (
    "Put two boxes on the image: drag them, pull at their corner, or use the arrow keys. Only the two crops go to the"
    " model, each on its own. Where does the second lie, seen from the first?"
)
_COLOURS = {FIRST: "the first crop", SECOND: "the second, as it is", PREDICTED: "the second, as the model thinks"}
_NOTE = "The probe was fitted to crops of 5 to 30 % of an image's area; crops of other sizes are new to it."
BOXES = ([8.0, 45.0, 36.0, 40.0], [52.0, 8.0, 38.0, 42.0])  # left, top, width, height in percent
_TO_TEXT = "(board) => board && board.first ? [board.first.join(', '), board.second.join(', ')] : ['', '']"
_TO_BOARD = """(first, second, board) => {
  const read = (text, old) => {
    const box = (text.match(/[-+]?\\d*\\.?\\d+/g) || []).map(Number);
    const fits = box.length === 4 && box[2] >= 10 && box[3] >= 10 && box[0] >= 0 && box[1] >= 0
      && box[0] + box[2] <= 100 && box[1] + box[3] <= 100;
    return fits ? box : old;
  };
  return board && board.src
    ? { ...board, first: read(first, board.first), second: read(second, board.second) } : board;
}"""


def add_where(shared: Shared, shelf: Shelf) -> tuple[gr.HTML, gr.Textbox, gr.Textbox]:
    """Lay out the tab; returns its board and the two boxes as text."""
    gr.Markdown(_INTRO, elem_classes="tab-intro")
    with gr.Row():
        with gr.Column(min_width=260):
            gr.Markdown("**Your boxes**", elem_classes="caption")
            board = box_board(value={"src": None, "first": BOXES[0], "second": BOXES[1]}, elem_id="where-board")
            with gr.Row():
                options: dict[str, Any] = {"info": "left, top, width, height in %", "max_length": 60, "min_width": 120}
                texts = [
                    gr.Textbox(", ".join(f"{n:g}" for n in box), label=label, elem_id=f"where-{name}", **options)
                    for box, label, name in zip(BOXES, ("First box", "Second box"), ("first", "second"), strict=True)
                ]
            run = gr.Button("Where is the second?", variant="primary", elem_id="where-run")
            gr.Markdown("**All that the model sees**", elem_classes="caption")
            crops = picture_box("The two crops as the model sees them", "where-crops")
        with gr.Column(min_width=260):
            gr.Markdown("**The model's answer**", elem_classes="caption")
            drawn = picture_box("The image with both boxes, and where the model puts the second", "where-drawn")
            answer = report_box("where-report")
    metrics = gr.JSON(visible=False)
    answers = Answers(shelf)
    first, second = texts
    board.input(None, [board], texts, js=_TO_TEXT, api_visibility="private")
    for text in texts:
        text.change(None, [first, second, board], [board], js=_TO_BOARD, api_visibility="private")
    run.click(
        answers.locate,
        [shared.image, shared.model, first, second],
        [drawn, crops, answer, metrics],
        api_name="where",
        **COMPUTE,
    )
    return board, first, second


class Answers:
    """The tab's handler."""

    def __init__(self, shelf: Shelf) -> None:
        @on_gpu
        def compute(model: str, upload: Upload, first: Tensor, second: Tensor, say: Say) -> Any:
            probes = shelf.open(model, say)
            return locate(probes.model, probes.relation(say), probes.crops, upload, first, second)

        self._shelf, self._compute = shelf, compute

    @shows_mistakes
    def locate(
        self,
        image: str | None,
        model: str,
        first: str,
        second: str,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> tuple[Any, ...]:
        """Cut the two crops, and say where the second lies."""
        upload = open_upload(image)
        boxes = read_box(first, "first"), read_box(second, "second")
        say = announce(progress)
        self._shelf.open(model, say)  # before a GPU is lent
        answer = self._compute(model, upload, *boxes, say)
        x, y, scale = answer.error
        cx, cy, w, h = answer.predicted.tolist()
        metrics = {
            "predicted": [round(100 * n, 2) for n in (cx - w / 2, cy - h / 2, w, h)],
            "iou": round(answer.iou, 4),
            "error": {"x": round(x, 4), "y": round(y, 4), "scale": round(scale, 4)},
        }
        words = report(f"The model is {in_words(answer)}", {"Overlap with the truth (IoU)": f"{answer.iou:.2f}"}, _NOTE)
        key = "".join(
            f"<div><span class='key' style='background:{c}'></span>{what}</div>" for c, what in _COLOURS.items()
        )
        return draw_located(upload, answer), draw_crops(answer), f"{words}<div class='legend'>{key}</div>", metrics
