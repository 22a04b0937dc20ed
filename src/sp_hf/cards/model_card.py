"""A run's model card: generated from what the run recorded and what was measured of it, never written by hand.

Nothing is guessed: the license is asked for or inherited from the base model's card, the dataset and the base model are
those of the recipe (the base model pinned by commit), results are those of :mod:`sp_hf.evaluation` of these very
weights, and no snippet is in the card that fails (:mod:`sp_hf.cards.snippets`).
"""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from ..access_tokens import holds_token
from ..errors import InputError
from ..evaluation.model import open_model
from ..run.record import RunRecord
from . import sections
from .front_matter import read_front_matter, with_field
from .hyperparameters import hyperparameters
from .model_index import eval_results, merge_model_index
from .result_tables import BEGIN, results_section
from .results import read_results
from .snippets import STOCK_PACKAGES, Snippet, run_all, snippets_for


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture that goes with the card, in ``pictures/``."""

    source: Path
    name: str
    caption: str


def write_card(
    run: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    repo_id: str,
    *,
    license: str | None = None,
    evaluations: Sequence[str | Path] = (),
    encoder: str | Path | None = None,
    run_snippets: bool = True,
    before: str = "",
) -> ModelCard:
    """Write ``README.md`` and ``pictures/`` for a run.

    Args:
        run: folder of a finished run.
        folder: where to; made if need be.
        repo_id: ``owner/name``, for titles and snippets.
        license: SPDX-like identifier as the Hub has it (``apache-2.0``). ``None``: the base model's, if its card names
            one; otherwise the card names none and says so.
        evaluations: folders that ``sp-hf evaluate --output_dir`` wrote, or ``results.json`` files.
        encoder: folder of the stock encoder that the card is about; ``None``: the run's own.
        run_snippets: run the snippets now; ``False`` leaves out what they print, and the claim that they ran.
        before: the card of these same weights that this one replaces: results that are in it stay.

    Returns:
        The card.

    Raises:
        FileNotFoundError: not a finished run.
        ResultsError: an evaluation is about other weights.
        ValueError: a token in what would be published.
    """
    record, folder, before = RunRecord.read(run), Path(folder), before.replace("\r\n", "\n")
    encoder = Path(encoder or record.folder.encoder)
    results = read_results(evaluations, encoder)
    picture = next((p for p in _pictures_of_results(results) if "pca" in p.name or "jigsaw" in p.name), None)
    license = license or _inherited_license(record.base_model, record.recipe.get("encoder_revision"))
    model = open_model(str(encoder))
    snippets = snippets_for(repo_id, record.model_class, model.encoder, model.size)
    if run_snippets:
        snippets = run_all(snippets, repo_id, encoder)
    title = repo_id.rsplit("/", 1)[-1]
    index = merge_model_index(read_front_matter(before).get("model-index"), eval_results(results), title)
    measured = any(model.get("results") for model in index)
    card = ModelCard.from_template(
        _metadata(record, license),
        template_str=files(__package__).joinpath("model_card_template.md").read_text(encoding="utf-8"),
        title=title,
        repo_id=repo_id,
        summary=sections.summary(record, model.describe()),
        picture=picture,
        results=results_section(results, title, before) if results or BEGIN in before else "",
        model_class=record.model_class,
        install=f"pip install {' '.join(STOCK_PACKAGES)}",
        others=sections.other_runtimes(encoder, repo_id),
        snippets=snippets,
        ran=_claim(snippets),
        data=sections.data(record),
        views=_picture(record.folder.views, "Images of it with the boxes of their views, and the views"),
        hyperparameters=hyperparameters(record),
        log=sections.training_log(record),
        curves=_picture(record.folder.curves, "What was logged during training"),
        cost=sections.cost(record),
        limitations=sections.limitations(record, license, measured),
        citations=record.citations(),
    )
    text = re.sub(r"\n{3,}", "\n\n", str(card))  # what the template's conditions leave behind
    text = with_field(text, "model-index", index) if measured else text
    _check_no_secret(text)
    folder.mkdir(parents=True, exist_ok=True)
    pictures = [picture, _picture(record.folder.views), _picture(record.folder.curves)]
    for shown in (shown for shown in pictures if shown is not None):
        (folder / "pictures").mkdir(exist_ok=True)
        shutil.copyfile(shown.source, folder / "pictures" / shown.name)
    (folder / "README.md").write_bytes(text.encode("utf-8"))
    return ModelCard(text, ignore_metadata_errors=True)


def _metadata(record: RunRecord, license: str | None) -> ModelCardData:
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


def _claim(snippets: Sequence[Snippet]) -> str:
    """Which of them ran, as the subject of a sentence; "" for none."""
    ran = [f"*{snippet.title}*" for snippet in snippets if snippet.ran]
    return "All of these" if ran and len(ran) == len(snippets) else " and ".join(ran)


def _picture(path: Path, caption: str = "") -> Picture | None:
    return Picture(path, path.name, caption) if path.is_file() else None


def _pictures_of_results(results: list[dict[str, Any]]) -> list[Picture]:
    pictures = []
    for result in results:
        for task in result["tasks"].values():
            pictures += [Picture(result["folder"] / p["path"], p["path"], p["caption"]) for p in task["pictures"]]
    unique = {picture.name: picture for picture in pictures if picture.source.is_file()}
    return list(unique.values())


def _check_no_secret(text: str) -> None:
    if holds_token(text):
        raise InputError(
            "the card would hold something that looks like a Hub token (hf_...); remove it from the recipe"
        )
