"""Failures on the way to the Hub: what may pass is tried again, what does not becomes one clear sentence.

huggingface_hub itself tries each request of an upload six times within half a minute (``http_backoff``) and obeys
``Retry-After`` there; it sends once whatever logs in, makes a repository or a branch, or commits. :func:`with_retries`
is the patience beyond: whole steps again, after 2, 6, 18 and 54 seconds, each within 50 % of that by chance so that
many clients do not return at once, or after as long as the Hub asks for. Steps must be safe to repeat. And where
huggingface_hub would wait for an answer for ever, a connection that says nothing for five minutes counts as broken.
"""

from __future__ import annotations

import json
import logging
import random
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import get_session, parse_ratelimit_headers

from ..access_tokens import keep_signatures_out_of_logs, without_queries
from ..errors import RunError

logger = logging.getLogger(__name__)

WAITS = (2.0, 6.0, 18.0, 54.0)  # seconds
LONGEST_WAIT = 600.0  # that the Hub may ask for
SILENCE = 300.0  # seconds; a commit of many files may take minutes
_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
_HTTPError = HfHubHTTPError.__bases__[0]  # of httpx or of httpx2, whichever huggingface_hub is built on

T = TypeVar("T")


class PushError(RunError):
    """Nothing, or not everything, was pushed; says why and what to do."""


def with_retries(step: Callable[[], T], what: str) -> T:
    """The result of ``step``, tried again while what fails is the network or the Hub and not the request.

    Args:
        step: safe to repeat, also where it was done and only its answer was lost.
        what: it does, for the warning.

    Raises:
        Exception: the step's own, once it cannot pass or has failed too often.
    """
    keep_signatures_out_of_logs()
    for attempt, pause in enumerate((*WAITS, None), start=1):
        _bound_silence()
        try:
            return step()
        except Exception as error:
            wait = _wait(error, pause)
            if wait is None:
                raise
            reason = _in_short(error)
        logger.warning("%s failed (%s); trying again in %.0f s (%d of %d)", what, reason, wait, attempt, len(WAITS))
        time.sleep(wait)
    raise AssertionError("the last attempt returns or raises")


def _bound_silence() -> None:
    """On the connections that huggingface_hub shares, unless somebody has set a bound of their own."""
    session = get_session()
    if session.timeout.read is None:
        session.timeout = SILENCE


def _wait(error: Exception, pause: float | None) -> float | None:
    """Seconds until another attempt makes sense; ``None``: it does not, or there were enough."""
    if pause is None or not is_transient(error):
        return None
    asked = _asked_to_wait(error)
    if asked is None:
        return pause * random.uniform(0.5, 1.5)
    return asked + random.uniform(0, 1) if asked <= LONGEST_WAIT else None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what caused it: huggingface_hub wraps some."""
    while error is not None:
        yield error
        error = error.__cause__


def _http_error(error: BaseException) -> HfHubHTTPError | None:
    return next((e for e in _chain(error) if isinstance(e, HfHubHTTPError)), None)


def is_transient(error: BaseException) -> bool:
    """Might the same request succeed later?"""
    http = _http_error(error)
    if http is not None:
        return http.response.status_code in _TRANSIENT
    causes = list(_chain(error))
    if any(isinstance(e, OfflineModeIsEnabled) for e in causes):
        return False
    # no answer at all; or a proxy's page in place of the Hub's JSON; or, of this very type, hf_xet's network errors
    broken = (_HTTPError, ConnectionError, TimeoutError, json.JSONDecodeError)
    return any(isinstance(e, broken) for e in causes) or type(causes[-1]) is RuntimeError


def _asked_to_wait(error: BaseException) -> float | None:
    """Seconds that the answer's ``Retry-After`` or ``RateLimit`` header asks for."""
    http = _http_error(error)
    if http is None:
        return None
    headers = http.response.headers
    limit = parse_ratelimit_headers(headers)
    if http.response.status_code == 429 and limit is not None and limit.remaining == 0:
        return float(limit.reset_in_seconds)
    after = headers.get("Retry-After", "").strip()
    return float(after) if after.isdigit() else None


def explain(error: Exception, repo: str, endpoint: str) -> str | None:
    """The error in one sentence with what to do about it; ``None``: it is not the Hub's.

    Args:
        error: of huggingface_hub.
        repo: where the push was going, ``"owner/name"``.
        endpoint: the Hub's address.
    """
    if isinstance(error, LocalTokenNotFoundError):
        return f"not logged in to {endpoint}: run `hf auth login`, or set HF_TOKEN to a token that may write."
    if isinstance(error, HFValidationError):
        return f"{repo!r} is not the id of a repository: write owner/name, of letters, digits, '-', '_' and '.'."
    http = _http_error(error)
    if is_transient(error):
        return _explain_outage(error, http, endpoint)
    if http is None:
        offline = next((e for e in _chain(error) if isinstance(e, OfflineModeIsEnabled)), None)
        return f"{endpoint} was not asked: HF_HUB_OFFLINE is set; unset it to push." if offline else None
    status, owner = http.response.status_code, repo.split("/")[0]
    if isinstance(http, RevisionNotFoundError):
        return f"{repo} has no such revision (404): name a branch, or a pull request as refs/pr/N."
    if status == 404 or isinstance(http, RepositoryNotFoundError):
        return (
            f"{endpoint} has no model {repo}, or it is private to others (404): check the name; without --create-pr"
            " it is created."
        )
    answer = f" It said: {without_queries(' '.join((http.server_message or str(error)).split()))}"
    sentences = {
        401: f"{endpoint} does not accept your token (401): run `hf auth login` with one that may write, from"
        f" {endpoint}/settings/tokens.",
        403: f"your token may not write to {repo} (403): take one with write permission for {owner}, ask {owner} for"
        " it, or open a pull request with --create-pr.",
        409: f"{repo} is being changed by somebody else (409): run the same command again in a minute.",
        412: f"{repo} has changed meanwhile (412): run the same command again.",
    }
    return sentences.get(status, f"{endpoint} refused the push to {repo} ({status}).{answer}")


def _explain_outage(error: Exception, http: HfHubHTTPError | None, endpoint: str) -> str:
    asked = _asked_to_wait(error)
    if http is not None and http.response.status_code == 429:
        time = f"in {asked:.0f} s" if asked is not None else "later"
        return f"{endpoint} has had too many requests from you (429) and wants the next one {time}."
    return f"{endpoint} could not be reached, or failed, again and again ({_in_short(error)})."


def _in_short(error: Exception) -> str:
    """Status, or the innermost cause by name; no addresses, whose query can hold a signature."""
    http = _http_error(error)
    if http is not None:
        return f"HTTP status {http.response.status_code}"
    innermost = list(_chain(error))[-1]
    text = without_queries(str(innermost))
    return f"{type(innermost).__name__}: {text}" if text else type(innermost).__name__
