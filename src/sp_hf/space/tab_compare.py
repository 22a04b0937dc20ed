"""The Compare tab: the same question to two models, side by side."""

from __future__ import annotations

from typing import Any, NamedTuple

import gradio as gr
from PIL import Image

from ..errors import InputError
from .accelerator import on_gpu
from .controls import COMPUTE, Shared, announce, model_box, picture_box, report, report_box, shows_mistakes
from .drawing import draw_components, draw_located, draw_similarity, draw_solved
from .jigsaw import Cut, solve
from .patches import patch_maps
from .probes import Probes, Say
from .shelf import Shelf
from .uploads import Upload, open_upload
from .where import in_words, locate, read_box

QUESTIONS = ("Jigsaw", "Where", "Similarity", "Components")
_INTRO = (
    "The same image, the same question, two models: for instance with and without Spatial Prediction. Grid, seed, boxes"
    " and patch are those of the other tabs."
)


class Settings(NamedTuple):
    """Components of the other tabs that say what is asked; in handlers, their values."""

    grid: Any
    seed: Any
    first: Any
    second: Any
    x: Any
    y: Any


def add_compare(shared: Shared, shelf: Shelf, settings: Settings) -> None:
    """Lay out the tab."""
    gr.Markdown(_INTRO, elem_classes="tab-intro")
    models = shelf.options.choices()
    with gr.Row():
        question = gr.Radio(list(QUESTIONS), value="Jigsaw", label="Question", elem_id="compare-question")
        other = model_box(models, models[1 % len(models)][1], "Second model", "compare-model")
    run = gr.Button("Ask both", variant="primary", elem_id="compare-run")
    with gr.Row():
        outputs = []
        for index, which in enumerate(("first", "second"), start=1):
            with gr.Column(min_width=260):
                answer = report_box(f"compare-report-{index}")
                outputs += [picture_box(f"The answer of the {which} model", f"compare-picture-{index}"), answer]
    metrics = gr.JSON(visible=False)
    inputs = [shared.image, shared.model, other, question, *settings]
    run.click(Answers(shelf).ask, inputs, [*outputs, metrics], api_name="compare", **COMPUTE)


class Answers:
    """The tab's handler."""

    def __init__(self, shelf: Shelf) -> None:
        @on_gpu
        def compute(names: list[str], question: str, upload: Upload, settings: tuple, say: Say) -> Any:
            return [ask(shelf.open(name, say), question, upload, Settings(*settings), say) for name in names]

        self._shelf, self._compute = shelf, compute

    @shows_mistakes
    def ask(
        self,
        image: str | None,
        model: str,
        other: str,
        question: str,
        grid: int,
        seed: int,
        first: str,
        second: str,
        x: float,
        y: float,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> tuple[Any, ...]:
        """Ask two models one question."""
        if question not in QUESTIONS:
            raise InputError(f"The question is “{str(question)[:40]}”; it must be one of {', '.join(QUESTIONS)}.")
        settings = (grid, seed, first, second, x, y)
        names = [str(model or ""), str(other or "")]
        upload, say = open_upload(image), announce(progress)
        for name in names:
            self._shelf.open(name, say)  # before a GPU is lent
        answers = self._compute(names, question, upload, settings, say)
        outputs, metrics = [], {}
        for which, name, (label, picture, words, rows, numbers) in zip(
            ("first", "second"), names, answers, strict=True
        ):
            outputs += [picture, report(words, {"Model": label} | rows)]
            metrics[which] = {"model": name} | numbers
        return (*outputs, metrics)


class Answer(NamedTuple):
    """What one model says: its name, a picture, words, further rows of the report, and metrics."""

    label: str
    picture: Image.Image
    words: str
    rows: dict[str, str]
    metrics: dict[str, Any]


def ask(probes: Probes, question: str, upload: Upload, settings: Settings, say: Say) -> Answer:
    """Ask one model."""
    model = probes.model
    if question == "Jigsaw":
        cut = Cut.of(settings.grid, int(settings.seed or 0))
        solved = solve(model, probes.jigsaw(cut.puzzle.grid, say), probes.classifier(say), upload, cut)
        words = f"{solved.right} of {cut.puzzle.tiles} tiles right"
        metrics = {"right": solved.right, "tiles": cut.puzzle.tiles}
        return Answer(model.name, draw_solved(upload, solved), words, {}, metrics)
    if question == "Where":
        boxes = read_box(settings.first, "first"), read_box(settings.second, "second")
        located = locate(model, probes.relation(say), probes.crops, upload, *boxes)
        words, further = in_words(located), {"Overlap (IoU)": f"{located.iou:.2f}"}
        overlap = {"iou": round(located.iou, 4)}
        return Answer(model.name, draw_located(upload, located), words[0].upper() + words[1:], further, overlap)
    maps = patch_maps(model, upload, (float(settings.x) / 100, float(settings.y) / 100))
    draw = draw_similarity if question == "Similarity" else draw_components
    rows, columns = maps.similarity.shape
    similar = {"grid": [rows, columns], "mean_similarity": round(float(maps.similarity.mean()), 4)}
    return Answer(model.name, draw(upload, maps), f"{rows} x {columns} patches", {}, similar)
