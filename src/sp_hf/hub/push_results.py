"""Merges evaluation results into the card of a model that is on the Hub already.

The card's model-index gets the headline metrics and its text a section between two comments. What is measured anew
takes the place of the same measured before, in both; whatever else is there stays, byte for byte. Results of
where-bench also become entries of ``.eval_results``, from which the Hub makes that benchmark's leaderboard.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResultEntry, HfApi

from ..cards.front_matter import read_front_matter, split_card, with_field
from ..cards.hub_results import bench_entries, file_of, merge_entries
from ..cards.model_index import DatasetName, eval_results, merge_model_index
from ..cards.result_tables import results_section, with_section
from ..cards.results import ResultsError, read_results
from ..errors import InputError
from ..evaluation.where_bench import NAME, bench_command
from .failures import PushError
from .published_card import card_of, text_of
from .push import Destination, PushResult, connect, push

logger = logging.getLogger(__name__)

_MAY_WRITE = ("admin", "write", "contributor")


def push_results(
    output: str | os.PathLike[str], repo: str, *, create_pr: bool | None = None, benchmark: str | None = None
) -> PushResult:
    """Merge what ``sp-hf evaluate`` measured into a model's card, and into its entry on a benchmark's leaderboard.

    Args:
        output: folder that ``sp-hf evaluate --output_dir`` wrote, or a ``results.json``.
        repo: ``owner/name`` of the model, which must be there.
        create_pr: open a pull request; ``None``: if the repository is not yours to write to.
        benchmark: id of where-bench on the Hub, for ``.eval_results/``; ``None``: the card only.

    Raises:
        PushError: see :func:`~sp_hf.hub.push.connect`; or a file there that cannot be merged with.
        ResultsError: the results are not about the weights in that repository, or none of them is the benchmark's.
    """
    target = destination(repo, create_pr)
    results = read_results([output], target.repo)
    entries = [] if benchmark is None else _entries(results, benchmark, target)
    try:
        merged = merge(card_of(target), results, target.repo.rsplit("/", 1)[-1])
    except InputError as error:
        raise PushError(
            f"the card of {target.repo} cannot be merged with: {error}. Repair it, then push again"
        ) from error
    texts = {"README.md": merged}
    if benchmark is not None:
        texts[file_of(benchmark)] = _merged_entries(target, file_of(benchmark), entries)
    with tempfile.TemporaryDirectory(prefix="sp-hf-push-") as folder:
        files = {name: Path(folder) / str(index) for index, name in enumerate(texts)}
        for name, file in files.items():
            file.write_bytes(texts[name].encode("utf-8"))
        return push(files, target, f"Evaluation of what and where on {_data(results)}")


def _entries(results: list[dict[str, Any]], benchmark: str, target: Destination) -> list[EvalResultEntry]:
    """Those of the benchmark; a warning for each task that was measured otherwise.

    Raises:
        ResultsError: there is none.
    """
    entries, reasons = bench_entries(results, benchmark, f"{target.api.endpoint}/{target.repo}")
    for reason in reasons:
        logger.warning("not for %s: %s", benchmark, reason)
    if not entries:
        raise ResultsError(f"no result is {NAME}'s ({'; '.join(reasons)}): measure with {bench_command(target.repo)}")
    return entries


def _merged_entries(target: Destination, path: str, entries: list[EvalResultEntry]) -> str:
    try:
        return merge_entries(text_of(target, path), entries)
    except InputError as error:
        raise PushError(
            f"{path} of {target.repo} cannot be merged with: {error}. Repair it, then push again"
        ) from error


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
