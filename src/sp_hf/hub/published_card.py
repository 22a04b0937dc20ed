"""Reads the card that a model on the Hub has already."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path

from huggingface_hub.errors import EntryNotFoundError
from huggingface_hub.utils.sha import sha_fileobj

from ..cards.front_matter import read_front_matter
from ..cards.model_index import merge_model_index
from ..errors import InputError
from .push import Destination

logger = logging.getLogger(__name__)

_WEIGHTS = "model.safetensors"


def card_of(target: Destination) -> str:
    """The card's text; "" where there is none.

    Raises:
        PushError: the Hub does not answer, or not with a text.
    """
    return text_of(target, "README.md")


def text_of(target: Destination, path: str) -> str:
    """The text of a file there; "" where there is none.

    Raises:
        PushError: the Hub does not answer, or not with a text.
    """

    def load() -> str:
        with tempfile.TemporaryDirectory() as cache:  # as it is now, and once
            try:
                file = target.api.hf_hub_download(target.repo, path, revision=target.revision, cache_dir=cache)
            except EntryNotFoundError:
                return ""
            return Path(file).read_bytes().decode("utf-8", errors="replace")

    what = "the card" if path == "README.md" else path
    return target.attempt(load, f"reading {what} of {target.repo}")


def card_of_same_weights(target: Destination, files: Mapping[str, Path]) -> str:
    """The card's text, if it can be read and the weights there are those that are to be pushed; else "".

    Args:
        target: where to.
        files: {path on the Hub: local file}.

    Raises:
        PushError: the Hub does not answer.
    """
    if not _has_same_weights(target, files[_WEIGHTS]):
        return ""
    text = card_of(target)
    try:
        merge_model_index(read_front_matter(text).get("model-index"), [], "")
    except InputError as error:
        logger.warning("results in the card of %s are not kept: %s", target.repo, error)
        return ""
    return text


def _has_same_weights(target: Destination, weights: Path) -> bool:
    infos = target.attempt(
        lambda: target.api.get_paths_info(target.repo, [_WEIGHTS], revision=target.revision),
        f"looking at {target.repo}",
    )
    if not infos or infos[0].lfs is None:
        return False
    with weights.open("rb") as stream:
        return infos[0].lfs.sha256 == sha_fileobj(stream).hex()
