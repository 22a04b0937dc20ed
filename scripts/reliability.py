"""Inject every fault that the tests know into tiny runs, and write down what became of them: docs/reliability.md.

    python scripts/reliability.py            # some four minutes on one core

A test that is marked ``@pytest.mark.fault("kind")`` injects one fault, once for each of its parameters, and fails if
anything was lost or changed in silence.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PAGE = REPOSITORY / "docs" / "reliability.md"
BEGIN, END = "<!-- faults: scripts/reliability.py -->", "<!-- end of faults -->"


class Faults:
    """A plug-in of pytest: what became of each marked test, by kind."""

    def __init__(self) -> None:
        self.kinds: dict[str, str] = {}  # by test
        self.failed: set[str] = set()
        self.ran: set[str] = set()

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        marks = {item.nodeid: item.get_closest_marker("fault") for item in items}
        self.kinds = {test: mark.args[0] for test, mark in marks.items() if mark is not None}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and not report.skipped:
            self.ran.add(report.nodeid)
        if report.failed:
            self.failed.add(report.nodeid)

    def table(self) -> str:
        """Markdown: a line a kind, and their sum."""
        rows = ["| fault | injected | survived | lost |", "|---|---|---|---|"]
        ran = (self.ran | self.failed) & self.kinds.keys()
        for kind in sorted(set(self.kinds.values())):
            rows.append(self._row(kind, {test for test in ran if self.kinds[test] == kind}))
        return "\n".join([*rows, self._row("**all**", ran)])

    def _row(self, title: str, tests: set[str]) -> str:
        lost = len(tests & self.failed)
        return f"| {title} | {len(tests)} | {len(tests) - lost} | {lost} |"


def main() -> int:
    faults = Faults()
    tests = [str(REPOSITORY / "tests" / room) for room in ("run", "training")]
    status = pytest.main(["-m", "fault", "-q", "--timeout", "3600", *tests], plugins=[faults])
    if not faults.ran:
        return int(status)
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n{faults.table()}\n{END}{after}", encoding="utf-8")
    print(faults.table())
    return int(status)


if __name__ == "__main__":
    sys.exit(main())
