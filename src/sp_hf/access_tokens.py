"""Access tokens of the Hub must not be published."""

from __future__ import annotations

import re

_TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{20,}")


def holds_token(text: str, token: str | None = None) -> bool:
    """Whether the text holds this token, or anything that looks like one."""
    return bool(token and token in text) or _TOKEN.search(text) is not None
