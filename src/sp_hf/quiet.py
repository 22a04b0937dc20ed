"""Progress bars of other libraries, on the command line. Functions of the package leave them as they are."""

from __future__ import annotations

import sys


def quieten_libraries() -> None:
    """No bar for each file written or loaded; the bars of a dataset's preparation only on a terminal."""
    import datasets
    import transformers

    transformers.utils.logging.disable_progress_bar()
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
