"""The Where tab: where do models think that a second crop lies, seen from a first?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr
from torch import Tensor

from .accelerator import on_gpu
from .boards import box_board
from .controls import COMPUTE, Shared, announce, answer_box, fitted_note, open_all, shows_mistakes
from .drawing import image_url
from .markup import boxes_on, esc, table
from .shelf import Say, Shelf
from .uploads import Upload, open_upload
from .where import Located, in_words, locate, read_box

_INTRO = (
    "Drag the two boxes, pull at their corners, or use the arrow keys. A model gets the two crops, each for itself:"
    " where does crop 2 lie, seen from crop 1?"
)
WAITING = "Where is crop 2? Ask the models."
_NOTE = (
    "Overlap (IoU): 1 if the guess is the box, 0 if they do not meet. Probes know crops of 5 to 30 % of an image best."
)
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


def add_where(
    shared: Shared, shelf: Shelf, shown: dict[str, Any], boxes: Sequence[str], answer: str
) -> tuple[gr.HTML, gr.HTML]:
    """Lay out the tab; returns its board and its answer.

    Args:
        shown: the photograph at first.
        boxes: the two crops at first, as text.
        answer: the models' at first.
    """
    gr.Markdown(_INTRO, elem_classes="tab-intro")
    start = {name: [float(n) for n in text.split(",")] for name, text in zip(("first", "second"), boxes, strict=True)}
    with gr.Row(elem_classes="halves"):
        with gr.Column(scale=5, min_width=280):
            board = box_board(value=start | shown, elem_id="where-board")
            run = gr.Button("Where is crop 2?", variant="primary", elem_id="where-run")
        with gr.Column(scale=5, min_width=280):
            answered = answer_box("where-answer", answer)
    with gr.Accordion("The boxes as numbers", open=False, elem_id="where-numbers"), gr.Row():
        options: dict[str, Any] = {"info": "left, top, width, height in %", "max_length": 60, "min_width": 120}
        texts = [
            gr.Textbox(box, label=label, elem_id=f"where-{name}", **options)
            for box, label, name in zip(boxes, ("First box", "Second box"), ("first", "second"), strict=True)
        ]
    metrics = gr.JSON(visible=False)
    first, second = texts
    board.input(None, [board], texts, js=_TO_TEXT, api_visibility="private")
    for text in texts:
        text.change(None, [first, second, board], [board], js=_TO_BOARD, api_visibility="private")
    inputs = [shared.image, shared.models, first, second]
    run.click(Answers(shelf).locate, inputs, [answered, metrics], api_name="where", **COMPUTE)
    return board, answered


class Answers:
    """The tab's handler."""

    def __init__(self, shelf: Shelf) -> None:
        @on_gpu
        def compute(names: list[str], upload: Upload, first: Tensor, second: Tensor, say: Say) -> list[Located]:
            return [locate(one.model, one.probes(say), upload, first, second) for one in open_all(shelf, names, say)]

        self._shelf, self._compute = shelf, compute

    @shows_mistakes
    def locate(
        self,
        image: str | None,
        models: list[str],
        first: str,
        second: str,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> tuple[Any, ...]:
        """Cut the two crops, and say where each model thinks that the second lies."""
        upload = open_upload(image)
        boxes = read_box(first, "first"), read_box(second, "second")
        say = announce(progress)
        contestants = open_all(self._shelf, models, say)  # before a GPU is lent
        located = dict(zip(models, self._compute(models, upload, *boxes, say), strict=True))
        return shown_answer(upload, located, fitted_note(contestants, say)), {"models": _metrics(located)}


def _metrics(located: Mapping[str, Located]) -> dict[str, Any]:
    metrics = {}
    for name, one in located.items():
        (x, y, scale), (cx, cy, w, h) = one.error, one.predicted.tolist()
        metrics[name] = {
            "predicted": [round(100 * n, 2) for n in (cx - w / 2, cy - h / 2, w, h)],
            "iou": round(one.iou, 4),
            "error": {"x": round(x, 4), "y": round(y, 4), "scale": round(scale, 4)},
        }
    return metrics


def shown_answer(upload: Upload, located: Mapping[str, Located], note: str = "") -> str:
    """All guesses on one photograph, and how far off each is."""
    one = next(iter(located.values()))
    boxes: list[tuple[str, str, Sequence[float]]] = [("true first", "1", one.first.tolist())]
    boxes.append(("true second", "2", one.second.tolist()))
    guesses = [(f"series-{i}", name, loc.predicted.tolist()) for i, (name, loc) in enumerate(located.items())]
    width, height = upload.shape
    drawn = boxes_on(
        image_url(upload.image.resize((width, height))),
        width / height,
        [*boxes, *guesses],
        "Both crops where they are, and where each model puts crop 2",
    )
    rows = [[name, f"{loc.iou:.2f}", in_words(loc)] for name, loc in located.items()]
    said = table(["Model", "Overlap (IoU)", "Its guess is"], rows)
    return f"{drawn}{said}<p class='note'>{esc(f'{_NOTE} {note}'.strip())}</p>"
