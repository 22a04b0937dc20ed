"""A run's model card: generated from what the run recorded and what was measured of it, never written by hand.

Nothing is guessed: the license is asked for or inherited from the base model's card, the dataset and the base model are
those of the recipe (the base model pinned by commit), results are those of :mod:`sp_hf.evaluation` of these very
weights, and snippets are in the card only if they ran (:mod:`sp_hf.cards.snippets`).
"""

from __future__ import annotations

import dataclasses
import re
import shutil
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import ModelCard, ModelCardData, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from ..access_tokens import holds_token
from ..errors import InputError
from ..evaluation.model import open_model
from ..markdown import table
from ..run.record import RunRecord
from .results import eval_results, read_results, results_tables
from .snippets import execute, snippets_for


@dataclasses.dataclass(frozen=True)
class Figure:
    """A picture that goes with the card, in ``figures/``."""

    source: Path
    name: str
    caption: str


def write_card(
    run: str | Path,
    folder: str | Path,
    repo_id: str,
    *,
    license: str | None = None,
    evaluations: Sequence[str | Path] = (),
    encoder: str | Path | None = None,
    run_snippets: bool = True,
) -> ModelCard:
    """Write ``README.md`` and ``figures/`` for a run.

    Args:
        run: folder of a finished run.
        folder: where to; made if need be.
        repo_id: ``owner/name``, for titles and snippets.
        license: SPDX-like identifier as the Hub has it (``apache-2.0``). ``None``: the base model's, if its card names
            one; otherwise the card names none and says so.
        evaluations: folders that ``sp-hf evaluate --output_dir`` wrote, or ``results.json`` files.
        encoder: folder of the stock encoder that the card is about; ``None``: the run's own.
        run_snippets: execute the snippets now, as published cards must; ``False`` leaves out what they print.

    Returns:
        The card.

    Raises:
        FileNotFoundError: not a finished run.
        ResultsError: an evaluation is about other weights.
        SnippetError: a snippet does not run.
        ValueError: a token in what would be published.
    """
    record, folder = RunRecord.read(run), Path(folder)
    encoder = Path(encoder or record.folder.encoder)
    results = read_results(evaluations, encoder)
    found = _pictures_of_results(results)
    picture = next((figure for figure in found if "pca" in figure.name or "jigsaw" in figure.name), None)
    curves = _pictures_of_run(record)
    license = license or _inherited_license(record.base_model, record.recipe.get("encoder_revision"))
    model = open_model(str(encoder))
    snippets = snippets_for(repo_id, record.model_class, model.encoder, model.size)
    if run_snippets:
        snippets = [execute(snippet, repo_id, encoder) for snippet in snippets]
    title = repo_id.rsplit("/", 1)[-1]
    card = ModelCard.from_template(
        _metadata(record, title, license, results),
        template_str=files(__package__).joinpath("model_card_template.md").read_text(encoding="utf-8"),
        title=title,
        repo_id=repo_id,
        summary=_summary(record, model.describe()),
        picture=picture,
        model_class=record.model_class,
        snippets=snippets,
        results=results_tables(results, title) if results else "",
        training=_training(record),
        figures=curves,
        limitations=_limitations(record, license, bool(results)),
        citations=record.citations(),
    )
    card.content = re.sub(r"\n{3,}", "\n\n", str(card))  # what the template's conditions leave behind
    _check_no_secret(card.content)
    folder.mkdir(parents=True, exist_ok=True)
    for figure in [picture, *curves] if picture else curves:
        (folder / "figures").mkdir(exist_ok=True)
        shutil.copyfile(figure.source, folder / "figures" / figure.name)
    card.save(folder / "README.md")
    return card


def _metadata(record: RunRecord, title: str, license: str | None, results: list[dict[str, Any]]) -> ModelCardData:
    made = eval_results(results)
    base, commit = record.base_model, record.recipe.get("encoder_revision")
    return ModelCardData(
        license=license,
        library_name="transformers",
        pipeline_tag="image-feature-extraction",
        tags=[
            "vision",
            *([] if record.uses_labels else ["self-supervised"]),
            "sp-hf",
            *(name.replace("_", "-") for name in record.objectives),
        ],
        datasets=[record.hub_dataset] if record.hub_dataset else None,
        base_model=base,
        model_name=title if made else None,
        eval_results=made or None,
        **({"base_model_revision": commit} if base and commit else {}),
        **({"dataset_revision": record.recipe["dataset_revision"]} if record.recipe.get("dataset_revision") else {}),
    )


def _inherited_license(base_model: str | None, revision: str | None) -> str | None:
    if base_model is None:
        return None
    try:
        readme = hf_hub_download(base_model, "README.md", revision=revision)
    except (HfHubHTTPError, HFValidationError, OSError):  # not there for us, or no network: nothing to inherit
        return None
    return ModelCard.load(readme, ignore_metadata_errors=True).data.license


def _summary(record: RunRecord, architecture: str) -> str:
    start = (
        "trained from scratch"
        if record.started_fresh
        else f"continued from [{record.base_model}](https://huggingface.co/{record.base_model})"
        if record.base_model
        else "continued from another checkpoint"
    )
    labels = "with labels" if record.uses_labels else "without labels"
    names = " + ".join(name.replace("_", " ") for name in record.objectives)
    where = (
        " It was taught not only *what* is in an image but *where* its parts are: from two crops, each seen on its own,"
        " it had to tell where the second lies relative to the first, and how much larger it is."
        if "spatial_prediction" in record.objectives
        else ""
    )
    return (
        f"A vision encoder ({architecture}), {start} {labels} by {names} on {_dataset_link(record)}, with"
        f" [sp-hf](https://pypi.org/project/sp-hf/).{where}"
    )


def _dataset_link(record: RunRecord) -> str:
    if record.hub_dataset:
        return f"[{record.hub_dataset}](https://huggingface.co/datasets/{record.hub_dataset})"
    return f"`{record.dataset}`"


def _training(record: RunRecord) -> str:
    done, environment = record.summary_line, record.environment
    hours = done.get("train_runtime", 0) / 3600
    facts = {
        "objectives": ", ".join(f"{n} (weight {o.get('weight', 1.0):g})" for n, o in record.objectives.items()),
        "data": f"{_dataset_link(record)}, {'its labels used' if record.uses_labels else 'no labels used'}",
        "budget": f"{record.steps} steps, {done.get('epoch', 0):.4g} epochs" if done else f"{record.steps} steps",
        "hardware": ", ".join(sorted(set(environment.get("devices", [])))) or "not recorded",
        "time": f"{hours:.2f} hours" if done else "not recorded",
        "versions": ", ".join(f"{n} {v}" for n, v in environment["packages"].items() if v),
    }
    lines = table([("", ""), *facts.items()])
    losses = {k: v for line in record.metrics for k, v in line.items() if k.startswith("loss/")}
    if losses:
        last = ", ".join(f"{name.removeprefix('loss/')} {value:.4g}" for name, value in losses.items())
        lines += ["", f"Last logged losses: {last}."]
    if record.warnings:
        lines += ["", "Warnings during training:", ""]
        lines += [f"- Step {warning['step']}: {warning['seen']}." for warning in record.warnings]
    hidden = {"dataset", "output_dir", "validation_dataset", "hub_model_id", "hub_token", "run_name", "logging_dir"}
    options = {name: value for name, value in record.recipe.items() if name not in hidden}
    text = yaml.safe_dump(options, sort_keys=False, allow_unicode=True).strip()
    return "\n".join(
        [
            *lines,
            "",
            "<details><summary>All options (transformers' own where not its default)</summary>",
            "",
            "```yaml",
            text,
            "```",
            "",
            "</details>",
        ]
    )


def _limitations(record: RunRecord, license: str | None, measured: bool) -> str:
    labels = "with labels" if record.uses_labels else "without labels"
    points = [
        f"It saw {record.steps} steps of training on one dataset; features may be poor on other kinds of images.",
        f"It was trained {labels} and filters nothing: what the training images are biased to, it is biased to.",
    ]
    if not measured:
        points.append("Nothing has been measured of it yet.")
    if record.dataset.startswith("part-scenes"):
        points.append(
            "Its training images are procedural scenes, not photographs: it shows a method, not a useful model."
        )
    if license is None:
        points.append("No license has been declared.")
    return "\n".join(f"- {point}" for point in points)


def _pictures_of_run(record: RunRecord) -> list[Figure]:
    captions = {
        record.folder.curves: "What was logged during training.",
        record.folder.views: "Sample views with their boxes.",
    }
    return [Figure(path, path.name, caption) for path, caption in captions.items() if path.is_file()]


def _pictures_of_results(results: list[dict[str, Any]]) -> list[Figure]:
    found = []
    for result in results:
        for task in result["tasks"].values():
            found += [Figure(result["folder"] / p["path"], p["path"], p["caption"]) for p in task["pictures"]]
    unique = {figure.name: figure for figure in found if figure.source.is_file()}
    return list(unique.values())


def _check_no_secret(text: str) -> None:
    if holds_token(text):
        raise InputError(
            "the card would hold something that looks like a Hub token (hf_...); remove it from the recipe"
        )
