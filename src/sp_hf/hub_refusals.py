"""What the Hub, or the way to it, says in refusal, in one sentence each."""

from __future__ import annotations

import sys
from typing import Any

from .errors import chain, in_short

_GATED = "{} is gated: ask for access on its page at {}, then run `hf auth login`"
_NOT_THERE = (
    "{} is not on {}, or is private: check the spelling; if it is private, run `hf auth login` with a token that may"
    " read it"
)


def explain_hub(error: BaseException, name: str, revision: str | None) -> str | None:
    """Why ``name`` cannot be had from the Hub, in one sentence; ``None``: for a reason that is not the Hub's.

    Args:
        error: of huggingface_hub, or of a library that was caused by cause.
        name: in words, "model owner/name".
        revision: that was asked for.
    """
    from huggingface_hub import constants
    from huggingface_hub import errors as hub

    hub_address = constants.ENDPOINT
    for cause in chain(error):
        if isinstance(cause, hub.HFValidationError):
            return f"{name}: {in_short(cause)}"
        if isinstance(cause, hub.GatedRepoError):
            return _GATED.format(name, hub_address)
        if isinstance(cause, hub.DisabledRepoError):
            return f"{name} has been disabled by {hub_address}"
        if isinstance(cause, hub.RevisionNotFoundError):
            return f"{name} has no revision {revision!r}: name a branch, tag or commit of it"
        if isinstance(cause, hub.RepositoryNotFoundError):
            return _NOT_THERE.format(name, hub_address)
        if isinstance(cause, hub.HfHubHTTPError):
            return _explain_status(cause, name, hub_address)
    if any(isinstance(cause, _no_answer()) for cause in chain(error)):
        if constants.is_offline_mode():
            return f"{name} is not in the local cache, and HF_HUB_OFFLINE is set: unset it, or name a local folder"
        return f"{name} is not in the local cache, and {hub_address} cannot be reached: check the network"
    if _is_missing_dataset(error):
        return (_GATED if "gated" in str(error) else _NOT_THERE).format(name, hub_address)
    return None


def _is_missing_dataset(error: BaseException) -> bool:
    """datasets says so without the Hub's own error as its cause."""
    exceptions = sys.modules.get("datasets.exceptions")
    return exceptions is not None and isinstance(error, exceptions.DatasetNotFoundError)


def _explain_status(error: Any, name: str, hub_address: str) -> str | None:
    status = error.response.status_code
    if status == 404:
        return None  # a file that is not there: whoever asked says what that means
    complaint = {
        401: "does not accept your token (401): run `hf auth login`",
        403: "does not let you read it (403): ask its owner, or take a token with more rights",
        429: "has had too many requests from you (429): wait some minutes",
    }.get(status, f"answers with an error ({status}): try again later")
    return f"{name}: {hub_address} {complaint}"


def _no_answer() -> tuple[type[BaseException], ...]:
    """Of a connection that cannot be made or breaks."""
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    http_error = HfHubHTTPError.__bases__[0]  # of httpx or of httpx2, whichever huggingface_hub is built on
    return (http_error, ConnectionError, TimeoutError, LocalEntryNotFoundError)
