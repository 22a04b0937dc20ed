"""Inject every fault that the tests know into tiny runs, and write down what became of them: docs/reliability.md.

    python scripts/reliability.py                      # some four minutes on one core
    python scripts/reliability.py "Ctrl-C or SIGTERM"  # this kind of fault alone; the other lines stay

A test that is marked ``@pytest.mark.fault("kind")`` injects one fault, once for each of its parameters, and fails if
anything was lost or changed in silence.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from sp_hf import markdown

REPOSITORY = Path(__file__).parents[1]
PAGE = REPOSITORY / "docs" / "reliability.md"
BEGIN, END = "<!-- faults: scripts/reliability.py -->", "<!-- end of faults -->"


class Faults:
    """A plug-in of pytest: what became of each marked test, by kind.

    Args:
        wanted: kinds; none: all.
    """

    def __init__(self, wanted: Sequence[str] = ()) -> None:
        self.wanted = wanted
        self.kinds: dict[str, str] = {}  # by test
        self.failed: set[str] = set()
        self.ran: set[str] = set()

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        marks = {item.nodeid: item.get_closest_marker("fault") for item in items}
        kinds = {test: mark.args[0] for test, mark in marks.items() if mark is not None}
        if unknown := [kind for kind in self.wanted if kind not in kinds.values()]:
            known = "; ".join(sorted(set(kinds.values())))
            raise pytest.UsageError(f"no test injects {unknown[0]!r}; there are: {known}")
        self.kinds = {test: kind for test, kind in kinds.items() if not self.wanted or kind in self.wanted}
        items[:] = [item for item in items if item.nodeid in self.kinds]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and not report.skipped:
            self.ran.add(report.nodeid)
        if report.failed:
            self.failed.add(report.nodeid)

    def counts(self) -> dict[str, tuple[int, int]]:
        """(injected, lost) of each kind."""
        ran = (self.ran | self.failed) & self.kinds.keys()
        tests = {kind: {test for test in ran if self.kinds[test] == kind} for kind in set(self.kinds.values())}
        return {kind: (len(of_kind), len(of_kind & self.failed)) for kind, of_kind in tests.items()}


def table(counts: Mapping[str, tuple[int, int]]) -> str:
    """Markdown: a line a kind, and their sum."""
    total = [sum(numbers) for numbers in zip(*counts.values(), strict=True)]
    rows = [(kind, *counts[kind]) for kind in sorted(counts)] + [("**all**", *total)]
    texts = [(kind, str(injected), str(injected - lost), str(lost)) for kind, injected, lost in rows]
    return "\n".join(markdown.table([("fault", "injected", "survived", "lost"), *texts]))


def read(text: str) -> dict[str, tuple[int, int]]:
    """(injected, lost) of each kind that a table has."""
    rows = re.findall(r"^\| ([^*|]+) \| (\d+) \| \d+ \| (\d+) \|$", text, flags=re.MULTILINE)
    return {kind: (int(injected), int(lost)) for kind, injected, lost in rows}


def main(wanted: Sequence[str]) -> int:
    faults = Faults(wanted)
    tests = [str(REPOSITORY / "tests" / room) for room in ("run", "training")]
    status = pytest.main(["-m", "fault", "-q", "--timeout", "3600", *tests], plugins=[faults])
    if not faults.ran:
        return int(status)
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    old, _, after = rest.partition(END)
    made = table({**(read(old) if wanted else {}), **faults.counts()})
    PAGE.write_text(f"{before}{BEGIN}\n{made}\n{END}{after}", encoding="utf-8")
    print(made)
    return int(status)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
