"""Merges evaluation results into the card of a model that is on the Hub already.

The card's model-index gets the headline metrics and its text a section between two comments. What is measured anew
takes the place of the same measured before, in both; whatever else is there stays, byte for byte.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi

from ..cards.front_matter import read_front_matter, split_card, with_field
from ..cards.model_index import DatasetName, eval_results, merge_model_index
from ..cards.result_tables import results_section, with_section
from ..cards.results import read_results
from ..errors import InputError
from .failures import PushError
from .published_card import card_of
from .push import Destination, PushResult, connect, push

_MAY_WRITE = ("admin", "write", "contributor")


def push_results(output: str | os.PathLike[str], repo: str, *, create_pr: bool | None = None) -> PushResult:
    """Merge what ``sp-hf evaluate`` measured into a model's card.

    Args:
        output: folder that ``sp-hf evaluate --output_dir`` wrote, or a ``results.json``.
        repo: ``owner/name`` of the model, which must be there.
        create_pr: open a pull request; ``None``: if the repository is not yours to write to.

    Raises:
        PushError: see :func:`~sp_hf.hub.push.connect`.
        ResultsError: the results are not about the weights in that repository.
    """
    target = destination(repo, create_pr)
    results = read_results([output], target.repo)
    try:
        merged = merge(card_of(target), results, target.repo.rsplit("/", 1)[-1])
    except InputError as error:
        raise PushError(
            f"the card of {target.repo} cannot be merged with: {error}. Repair it, then push again"
        ) from error
    with tempfile.TemporaryDirectory(prefix="sp-hf-push-") as folder:
        file = Path(folder) / "README.md"
        file.write_bytes(merged.encode("utf-8"))
        return push({"README.md": file}, target, f"Evaluation of what and where on {_data(results)}")


def destination(repo: str, create_pr: bool | None = None) -> Destination:
    """The repository, checked to be there; a pull request to it where it is not yours and ``create_pr`` is ``None``.

    Raises:
        PushError: no repository's id, not logged in, not there, or not allowed.
    """
    api = HfApi()
    anyone = Destination(api, repo, "")
    account = anyone.attempt(lambda: api.whoami(), "logging in")
    repo = repo if "/" in repo else f"{account['name']}/{repo}"
    anyone.attempt(lambda: api.model_info(repo), f"looking for {repo}")  # connect would make it
    return connect(repo, create_pr=not _may_write(account, repo) if create_pr is None else create_pr)


def _may_write(account: dict[str, Any], repo: str) -> bool:
    owner = repo.split("/")[0]
    roles = {org["name"]: org.get("roleInOrg") for org in account.get("orgs", ())}
    return owner == account["name"] or roles.get(owner) in _MAY_WRITE


def merge(card: str, results: Iterable[dict[str, Any]], name: str) -> str:
    """A card with these results in its model-index and its text; all else of it stays byte for byte.

    Args:
        card: its whole text; "" where there is none.
        results: of :func:`~sp_hf.cards.results.read_results`.
        name: of the model, where its card has none yet.

    Raises:
        InputError: the card's metadata cannot be read, so what is there could not be kept.
    """
    results, windows = list(results), "\r\n" in card
    text, entries = card.replace("\r\n", "\n"), eval_results(results)
    if entries:
        index = read_front_matter(text).get("model-index")
        text = with_field(text, "model-index", merge_model_index(index, entries, name))
    body = split_card(text)[1]
    section = results_section(results, name, before=body)
    merged = text.removesuffix(body) + with_section(body, section, "## What and where")
    return merged.replace("\n", "\r\n") if windows else merged


def _data(results: list[dict[str, Any]]) -> str:
    return ", ".join(str(DatasetName.of(result["data"]["validation"]["description"])) for result in results)
