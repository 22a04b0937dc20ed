"""Turns off progress bars of other libraries, on the command line. Functions of the package leave them as they are."""

from __future__ import annotations

import sys

from .access_tokens import keep_signatures_out_of_logs


def quieten_libraries() -> None:
    """No bar for each file written or loaded, those of a dataset's preparation only on a terminal; no signatures."""
    import datasets
    import transformers

    transformers.utils.logging.disable_progress_bar()
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    keep_signatures_out_of_logs()
