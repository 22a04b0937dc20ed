"""The end of a command that went wrong: a sentence or a traceback, and the exit status.

====  =====================================================================
1     something that the user can mend, told in one sentence
2     a command line that cannot be read
70    a defect of this package, with its traceback (``EX_SOFTWARE`` of sysexits.h)
====  =====================================================================

``--traceback``, which every command takes, and ``SP_HF_TRACEBACK=1`` show the traceback of any error.
"""

from __future__ import annotations

import os
import sys
import traceback

from .access_tokens import without_queries
from .boundary import as_ours
from .errors import sentence

DEFECT = 70
VARIABLE = "SP_HF_TRACEBACK"


def take_traceback(argv: list[str]) -> tuple[list[str], bool]:
    """The arguments without ``--traceback``, and whether tracebacks are wanted."""
    rest = [word for word in argv if word != "--traceback"]
    return rest, len(rest) < len(argv) or os.environ.get(VARIABLE, "") not in ("", "0")


def report(error: Exception, with_traceback: bool = False) -> int:
    """Tell what went wrong, on standard error; returns the exit status."""
    ours = as_ours(error)
    if ours is None or with_traceback:
        print(without_queries("".join(traceback.format_exception(error))), file=sys.stderr, end="")
    if ours is None:
        print("sp-hf: this is a defect of sp-hf; please report it with the lines above.", file=sys.stderr)
        return DEFECT
    print(f"sp-hf: error: {without_queries(sentence(ours))}", file=sys.stderr)
    return ours.exit_code
