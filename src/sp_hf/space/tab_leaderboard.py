"""The Leaderboard tab: measured results of many models, of this machine and of the Hub."""

from __future__ import annotations

import re
from typing import Any

import gradio as gr

from .controls import COMPUTE, answer_box, shows_mistakes
from .leaderboard import Leaderboard, as_table, datasets
from .markup import esc, table, waiting

_INTRO = (
    "What `sp-hf evaluate` measured, read from models' own repositories: `.eval_results` and the cards. Metrics of"
    " different data are not comparable, so a table is of one data set."
)
_NONE = "No results yet: name models of the Hub that have some, or show yours with sp-hf demo --results FOLDER."


def add_leaderboard(results: Leaderboard) -> None:
    """Lay out the tab."""
    gr.Markdown(_INTRO, elem_classes="tab-intro")
    rows, _ = results.rows()
    named = datasets(rows)
    with gr.Row():
        models = gr.Textbox(
            "",
            label="Models of the Hub",
            info="owner/name, several with spaces between; they join the table",
            elem_id="board-models",
            max_length=2000,
            scale=3,
            visible=results.hub,
        )
        first = named[0] if named else None
        dataset: Any = gr.Dropdown(named, value=first, label="Measured on", elem_id="board-data", scale=2)
    dataset.preprocess = lambda payload: payload if isinstance(payload, str) else None  # others may come with a model
    run = gr.Button("Show results", variant="primary", elem_id="board-run")
    answer = answer_box("board-answer", _shown(rows, named[0] if named else None, []))
    metrics = gr.JSON(visible=False)

    @shows_mistakes
    def show(models: str, dataset: str | None) -> tuple[Any, str, dict[str, Any]]:
        """The table of one data set, with these models of the Hub in it."""
        shown_rows, problems = results.rows(re.findall(r"[^\s,;]+", models or ""))
        names = datasets(shown_rows)
        chosen = dataset if dataset in names else names[0] if names else None
        entries = [
            {"model": r.model, "task": r.task, "metric": r.metric, "value": r.value, "dataset": r.dataset}
            for r in shown_rows
        ]
        return gr.Dropdown(choices=names, value=chosen), _shown(shown_rows, chosen, problems), {"rows": entries}

    asked = {"fn": show, "inputs": [models, dataset], "outputs": [dataset, answer, metrics], **COMPUTE}
    run.click(**asked, api_name="leaderboard")
    dataset.input(**asked, api_visibility="private")
    models.submit(**asked, api_visibility="private")


def _shown(rows: list[Any], dataset: str | None, problems: list[str]) -> str:
    said = "".join(f"<p class='note'>{esc(problem)}</p>" for problem in problems)
    if not rows:
        return waiting(_NONE) + said
    head, body = as_table(rows, dataset)
    note = "The first column orders the models."
    if any("±" in cell for line in body for cell in line):
        note = f"± is the wider side of the 95 % interval over images. {note}"
    return f"{table(head, body, f'Measured on {dataset}')}<p class='note'>{note}</p>{said}"
