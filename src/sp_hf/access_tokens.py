"""Finds access tokens and signed addresses in text, and keeps them out of logs and of what is published."""

from __future__ import annotations

import logging
import re

_TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{20,}")
_SIGNED = re.compile(r"[?&](?:[A-Za-z-]*Signature|sig|token)=[^&\s\"']{8,}", re.IGNORECASE)
_QUERY = re.compile(r"(https?://[^\s?\"'<>]+)\?[^\s\"'<>)]*")

_LOGS_ADDRESSES = ("huggingface_hub", "httpx", "httpx2", "urllib3", "fsspec")


def holds_token(text: str, token: str | None = None) -> bool:
    """Whether the text holds this token, anything that looks like one, or an address that is signed."""
    return bool(token and token in text) or _TOKEN.search(text) is not None or _SIGNED.search(text) is not None


def without_queries(text: str) -> str:
    """The text with what follows the ``?`` of its addresses left out: whoever has a signed one may read, or write."""
    return _QUERY.sub(r"\1", text)


class _NoQueries(logging.Filter):
    """A log filter: addresses without what follows their ``?``."""

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        if "?" in text:
            record.msg, record.args = without_queries(text), ()
        return True


_NO_QUERIES = _NoQueries()


def keep_signatures_out_of_logs() -> None:
    """Filter the loggers of huggingface_hub, and of the client it is built on, from now on."""
    names = [name for name in logging.root.manager.loggerDict if name.partition(".")[0] in _LOGS_ADDRESSES]
    for name in names:
        logging.getLogger(name).addFilter(_NO_QUERIES)  # a logger's own filters alone see what is logged with it
