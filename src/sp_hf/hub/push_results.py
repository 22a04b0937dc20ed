"""Evaluation results into the card of a model that is on the Hub already, beside what is there.

The card's model-index gets the headline figures: an entry about the same task, data set and metric is replaced, all
others stay. Its text gets one section between two comments, replaced when pushed again. Nothing else of the card
changes.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, HfApi, ModelCard, ModelCardData, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError

from ..cards.results import eval_results, public_name, read_results, results_tables
from .push import Destination, PushResult, connect, push

_BEGIN, _END = "<!-- measured by sp-hf evaluate -->", "<!-- end of what sp-hf evaluate measured -->"
_SECTION = re.compile(f"{re.escape(_BEGIN)}.*?{re.escape(_END)}", re.DOTALL)
_MAY_WRITE = ("admin", "write", "contributor")


def push_results(output: str | Path, repo: str, *, create_pr: bool | None = None) -> PushResult:
    """Merge what ``sp-hf evaluate`` measured into a model's card.

    Args:
        output: folder that ``sp-hf evaluate --output_dir`` wrote, or a ``results.json``.
        repo: ``owner/name`` of the model, which must be there.
        create_pr: open a pull request; ``None``: if the repository is not yours to write to.

    Raises:
        PushError: see :func:`~sp_hf.hub.push.connect`.
        ResultsError: the results are not about the weights in that repository.
    """
    there = destination(repo, create_pr)
    results = read_results([output], there.repo)
    card = _card_of(there)
    merged = merge(card, results, there.repo.rsplit("/", 1)[-1])
    with tempfile.TemporaryDirectory(prefix="sp-hf-push-") as folder:
        file = Path(folder) / "README.md"
        merged.save(file)
        return push({"README.md": file}, there, f"Evaluation of what and where on {_data(results)}")


def destination(repo: str, create_pr: bool | None = None) -> Destination:
    """The repository, checked to be there; a pull request to it where it is not yours and ``create_pr`` is ``None``.

    Raises:
        PushError: no repository's id, not logged in, not there, or not allowed.
    """
    api = HfApi()
    anyone = Destination(api, repo, "")
    who = anyone.attempt(lambda: api.whoami(), "logging in")
    repo = repo if "/" in repo else f"{who['name']}/{repo}"
    anyone.attempt(lambda: api.model_info(repo), f"looking for {repo}")  # connect would make it
    return connect(repo, create_pr=not _may_write(who, repo) if create_pr is None else create_pr)


def _may_write(who: dict[str, Any], repo: str) -> bool:
    owner = repo.split("/")[0]
    roles = {org["name"]: org.get("roleInOrg") for org in who.get("orgs", ())}
    return owner == who["name"] or roles.get(owner) in _MAY_WRITE


def _card_of(there: Destination) -> ModelCard:
    def load() -> ModelCard:
        try:
            return ModelCard.load(hf_hub_download(there.repo, "README.md"), ignore_metadata_errors=True)
        except EntryNotFoundError:  # a model without a card
            return ModelCard(f"---\n{ModelCardData().to_yaml()}\n---\n")

    return there.attempt(load, f"reading the card of {there.repo}")


def merge(card: ModelCard, results: Iterable[dict[str, Any]], name: str) -> ModelCard:
    """A card with these results in its model-index and its text.

    Args:
        card: left as it was.
        results: of :func:`~sp_hf.cards.results.read_results`.
        name: of the model, where its card has none yet.
    """
    results = list(results)
    merged = ModelCard(str(card), ignore_metadata_errors=True)
    new = eval_results(results)
    replaced = {_about(result) for result in new}
    kept = [result for result in merged.data.eval_results or [] if _about(result) not in replaced]
    merged.data.eval_results = kept + new
    merged.data.model_name = merged.data.model_name or name
    section = f"{_BEGIN}\n## What and where\n\n{results_tables(results, name)}\n{_END}"
    text = merged.text
    if _SECTION.search(text):
        merged.text = _SECTION.sub(lambda _: section, text)
    else:
        merged.text = f"{text.rstrip()}\n\n{section}\n"
    return merged


def _about(result: EvalResult) -> tuple[Any, ...]:
    return (result.task_name, result.dataset_type, result.dataset_name, result.metric_type)


def _data(results: list[dict[str, Any]]) -> str:
    return ", ".join(public_name(result["data"]["validation"]["description"]) for result in results)
