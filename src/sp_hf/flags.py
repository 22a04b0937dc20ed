"""The flag parser of every command: ``--dataset_split`` or ``--dataset-split``, old names with a notice.

A command line that cannot be read is one sentence, a :class:`~sp_hf.errors.UsageError`.

Help shows one spelling, with underscores: that of recipes and of Python's keyword arguments.
"""

from __future__ import annotations

import argparse
import difflib
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

from .errors import UsageError

logger = logging.getLogger(__name__)


def renamed_option(name: str, renamed: Mapping[str, str], prefix: str = "") -> str:
    """What an option is called today; says so where its old name was used."""
    if name not in renamed:
        return name
    logger.warning("%s%s is now called %s%s", prefix, name, prefix, renamed[name])
    return renamed[name]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``"; did you mean ...?"`` where something is close."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def unknown_flag(word: str, known: Iterable[str]) -> str:
    """``"unknown flag '--epocs'; did you mean '--epochs'?"``"""
    if not word.startswith("-"):
        return f"there is no place for {word!r}"
    return f"unknown flag {word!r}{did_you_mean(word, known)}"


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

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """As ``ArgumentParser``'s.

        Raises:
            UsageError: an unknown flag, a missing argument, or a value of the wrong type.
        """
        values, unknown = self.parse_known_args(args, namespace)
        if unknown:
            self.error(unknown_flag(unknown[0], self._option_string_actions))
        return values

    def error(self, message: str) -> NoReturn:
        """One sentence in place of two hundred lines of usage."""
        raise UsageError(f"{message} ({self.prog} --help lists what there is)")
