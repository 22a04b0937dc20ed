"""How flags are spelled, alike in every command: ``--dataset_split`` or ``--dataset-split``, old names with a notice.

Help shows one spelling, with underscores: that of recipes and of Python's keyword arguments.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping, Sequence
from typing import Any

logger = logging.getLogger(__name__)


def renamed_option(name: str, renamed: Mapping[str, str], prefix: str = "") -> str:
    """What an option is called today; says so where its old name was used."""
    if name not in renamed:
        return name
    logger.warning("%s%s is now called %s%s", prefix, name, prefix, renamed[name])
    return renamed[name]


class FlagParser(argparse.ArgumentParser):
    """An ``ArgumentParser`` that takes hyphens for underscores, and old names of flags.

    Args:
        renamed: today's names by old ones, without dashes.
        kwargs: of ``ArgumentParser``. Flags are never abbreviated: ``--task`` is a mistake, not ``--tasks``.
    """

    def __init__(self, *args: Any, renamed: Mapping[str, str] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **kwargs})
        self._renamed = dict(renamed or {})

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """As ``ArgumentParser``'s; ``args`` must be given."""
        return super().parse_known_args([self._spelled(word) for word in args or ()], namespace)

    def _spelled(self, word: str) -> str:
        """The flag as the parser knows it; anything else as it is."""
        if not word.startswith("--"):
            return word
        flag, equals, value = word.partition("=")
        name = flag.removeprefix("--").replace("-", "_")
        name = renamed_option(name, self._renamed, "--")
        return f"--{name}{equals}{value}" if f"--{name}" in self._option_string_actions else word
