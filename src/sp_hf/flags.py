"""Command lines: a parser whose mistakes are :class:`~sp_hf.errors.UsageError`, and one spelling of flags."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Iterable
from typing import NoReturn

from .errors import UsageError


class Parser(argparse.ArgumentParser):
    """argparse's, but a wrong flag or value is one sentence, not two hundred lines of usage; nothing is abbreviated."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **kwargs})

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} ({self.prog} --help lists what there is)")

    def parse_known_args(self, args: list[str] | None = None, namespace: argparse.Namespace | None = None):  # noqa: ANN201
        return super().parse_known_args(with_underscores(sys.argv[1:] if args is None else args), namespace)

    def parse_args(self, args: list[str] | None = None, namespace: argparse.Namespace | None = None):  # noqa: ANN201
        found, unknown = self.parse_known_args(args, namespace)
        if unknown:
            self.error(unknown_flag(unknown[0], self._option_string_actions))
        return found


def unknown_flag(word: str, known: Iterable[str]) -> str:
    """``"unknown flag '--epocs'; did you mean '--epochs'?"``"""
    if not word.startswith("-"):
        return f"there is no place for {word!r}"
    return f"unknown flag {word!r}{did_you_mean(word, known)}"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``"; did you mean ...?"`` where something is close."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def with_underscores(argv: list[str]) -> list[str]:
    """Flags with underscores, however they were written: ``--output-dir=a-b`` to ``--output_dir=a-b``."""
    return [_with_underscores(word) for word in argv]


def _with_underscores(word: str) -> str:
    if not word.startswith("--") or len(word) == 2:
        return word
    flag, equals, value = word[2:].partition("=")
    return f"--{flag.replace('-', '_')}{equals}{value}"
