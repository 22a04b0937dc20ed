"""The measured results of a model card: a table for people, a model-index for the Hub.

Only what was measured of this very encoder is published: results are matched by the digest of its weights, not by
name.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult

from ..errors import InputError
from ..evaluation.model import open_model
from ..evaluation.report import show, title_of
from ..markdown import table

TASK_TYPES = {
    "knn": "image-classification",
    "linear": "image-classification",
    "finetune": "image-classification",
    "fine-grained": "image-classification",
    "robustness": "image-classification",
    "shape-bias": "image-classification",
    "segmentation": "image-segmentation",
    "depth": "depth-estimation",
}


class ResultsError(InputError):
    """Results that are not about the model they are to be published with."""


def read_results(paths: Iterable[str | Path], encoder: str | Path) -> list[dict[str, Any]]:
    """``results.json`` files (or the folders of evaluations), checked to be about this encoder.

    Args:
        paths: files or folders.
        encoder: folder of the stock encoder.

    Returns:
        Their contents; ``"this"`` holds the name that the encoder has in each.

    Raises:
        ResultsError: a file of another schema, or none of its models has this encoder's weights.
    """
    found, identity = [], None
    for path in map(Path, paths):
        file = path / "results.json" if path.is_dir() else path
        results = json.loads(file.read_text(encoding="utf-8"))
        if results.get("schema_version") != 1:
            raise ResultsError(f"{file} has schema_version {results.get('schema_version')!r}; this version reads 1")
        identity = identity or open_model(str(encoder)).identity
        this = next((m["name"] for m in results["models"] if m["role"] == "model" and m["identity"] == identity), None)
        if this is None:
            named = ", ".join(m["name"] for m in results["models"] if m["role"] == "model")
            raise ResultsError(
                f"{file} is about {named}, not about the weights in {encoder}; run sp-hf evaluate on it first"
            )
        found.append(results | {"this": this, "folder": file.parent})
    return found


def eval_results(results: Iterable[Mapping[str, Any]]) -> list[EvalResult]:
    """The model-index: the headline figures of every task, with their intervals as arguments."""
    made = []
    for result in results:
        dataset = result["data"]["validation"]["description"]
        for name, task in result["tasks"].items():
            measures = task["results"].get(result["this"], {}).get("measures", {})
            for key in task["headline"]:
                if key not in measures:
                    continue
                figure = measures[key]
                made.append(
                    EvalResult(
                        task_type=TASK_TYPES.get(name, "image-feature-extraction"),
                        task_name=f"{name} ({task['kind']})",
                        dataset_type=_slug(dataset),
                        dataset_name=public_name(dataset),
                        metric_type=key,
                        metric_name=f"{name}: {key.replace('_', ' ')}",
                        metric_value=round(figure["value"], 5),
                        metric_args={
                            "confidence_interval_95": [round(figure["low"], 5), round(figure["high"], 5)],
                            "n": figure["n"],
                            "seed": result["seed"],
                        },
                    )
                )
    return made


def results_tables(results: Iterable[Mapping[str, Any]], title: str) -> str:
    """One table a dataset: a row a model (the controls among them), a column a headline figure, with intervals."""
    blocks = []
    for result in results:
        columns = [
            (name, key, task)
            for kind in ("where", "what")
            for name, task in result["tasks"].items()
            if task["kind"] == kind and task["results"]
            for key in task["headline"]
            if key in task["results"].get(result["this"], {}).get("measures", {})
        ]
        lines = [
            f"On {public_name(result['data']['validation']['description'])}"
            f" ({result['data']['validation']['images']} images; probes fitted on"
            f" {public_name(result['data']['train']['description'])}, {result['data']['train']['images']} images; seed"
            f" {result['seed']}; brackets: 95 % intervals over images):",
            "",
        ]
        rows = [["", *(f"{name} ({task['kind']}): {title_of(key, task)}" for name, key, task in columns)]]
        for model in result["models"]:
            name = model["name"]
            cells = [task["results"].get(name, {}).get("measures", {}).get(key) for _, key, task in columns]
            shown = f"**{title}**" if name == result["this"] else public_name(name)
            rows.append([shown, *("-" if cell is None else show(cell) for cell in cells)])
        blocks.append("\n".join([*lines, *table(rows)]))
    return "\n\n".join(blocks)


def public_name(description: str) -> str:
    """A description without the paths of local files."""
    words = [
        word.rsplit("/", 1)[-1] if word.startswith(("/", "./", "../", "~")) else word for word in description.split()
    ]
    return " ".join(words)


def _slug(description: str) -> str:
    name = public_name(description).split(",")[0].split("?")[0].removeprefix("the ").removeprefix("file ")
    return "-".join(name.lower().split())
