"""Keeps other libraries from saying what is not for our user's eyes."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator

from .access_tokens import keep_signatures_out_of_logs


def quieten_libraries() -> None:
    """For the command line: no bar a file, those of a dataset's preparation only on a terminal; no signatures."""
    import datasets
    import transformers

    transformers.utils.logging.disable_progress_bar()
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    keep_signatures_out_of_logs()


@contextlib.contextmanager
def without_retry_notes() -> Iterator[None]:
    """No line of huggingface_hub for each try to reach the Hub: an error of ours says why it cannot be, once."""
    notes = logging.getLogger("huggingface_hub.utils._http")
    level = notes.level
    notes.setLevel(logging.ERROR)
    try:
        yield
    finally:
        notes.setLevel(level)
