"""The errors of this package: one family, a few kinds, each a sentence that names the value, the limit and the fix.

=========================  ================================================  ==================
kind                       what it is about                                  is also a
=========================  ================================================  ==================
:class:`UsageError`        a command line that cannot be read                ``ValueError``
:class:`InputError`        a value, option or recipe that cannot be used     ``ValueError``
:class:`DataError`         a dataset, column, image or label                 ``ValueError``
:class:`CheckpointError`   weights or a configuration that are not whole     ``ValueError``
:class:`UnknownNameError`  a metric, task or model that results do not have  ``KeyError``
:class:`NotFoundError`     a file or folder that is not there                ``FileNotFoundError``
:class:`FolderTakenError`  a place that holds something else                 ``FileExistsError``
:class:`FileError`         a file or folder that cannot be read or written   ``OSError``
:class:`HubError`          a repository of the Hub that cannot be had        ``OSError``
:class:`PackageError`      an optional package that is not installed         ``ImportError``
:class:`DeviceError`       a device that is not there, or its memory         ``RuntimeError``
:class:`RunError`          work that cannot go on                            ``RuntimeError``
=========================  ================================================  ==================

Whoever calls this package catches :class:`SpHfError`, or the built-in beside it. What other libraries raise is put into
this family where it enters (:mod:`sp_hf.boundary`). Any other exception is a defect of this package.
"""

from __future__ import annotations

from collections.abc import Iterator

_LONGEST = 400  # characters of another library's message that are shown


class SpHfError(Exception):
    """Something that the person who called can mend. ``exit_code`` is what the command line then ends with.

    Example:
        >>> import sp_hf
        >>> try:
        ...     sp_hf.pretrain(learning_rate=float("nan"))
        ... except sp_hf.SpHfError as error:  # or ValueError, which it is, too
        ...     print(error)
        --learning_rate is nan; it must be a finite number, above 0
    """

    exit_code = 1


class UsageError(SpHfError, ValueError):
    """A command line with an unknown flag, a missing argument, or a value of the wrong type."""

    exit_code = 2


class InputError(SpHfError, ValueError):
    """A value that cannot be used, or values that do not go together."""


class RecipeError(InputError):
    """A recipe or option that cannot be used; the message says which and what to write instead."""


class PluginError(InputError):
    """An objective or task under a name that it cannot have, or one of a package that cannot be had."""


class InputTypeError(SpHfError, TypeError):
    """An object of another kind than is asked for, or an argument that is not known."""


class UnknownNameError(SpHfError, KeyError):
    """A name that is not among those there are."""

    __str__ = Exception.__str__  # KeyError's is the repr


class DataError(SpHfError, ValueError):
    """Images, labels or annotations that are not there or cannot be used."""


class CheckpointError(SpHfError, ValueError):
    """A checkpoint that does not hold the encoder it names."""


class NotFoundError(SpHfError, FileNotFoundError):
    """A file or folder that is not there."""


class FolderTakenError(SpHfError, FileExistsError):
    """A folder that holds something that would be lost."""


class FileError(SpHfError, OSError):
    """A file or folder that cannot be read or written."""


class DiskFullError(FileError):
    """No room on the disk, or in the quota."""


class HubError(SpHfError, OSError):
    """A repository of the Hub that is not there, not open to this user, or cannot be reached."""


class PackageError(SpHfError, ImportError):
    """An optional package that is not installed."""


class DeviceError(SpHfError, RuntimeError):
    """A device that is not there, or too small."""


class RunError(SpHfError, RuntimeError):
    """Work that was begun and cannot go on."""


class DivergedError(SpHfError, FloatingPointError):
    """Numbers that are no longer finite."""


def sentence(error: SpHfError) -> str:
    """What it says; of an error that a DataLoader's worker raised, without the text that PyTorch puts around it.

    PyTorch hands such an error on as its class, with the printed traceback as its message; that ends in the class's
    name and what the error said.
    """
    text = str(error)
    if text.startswith(f"Caught {type(error).__name__} in "):
        text = text.rpartition(f"{type(error).__module__}.{type(error).__qualname__}: ")[2]
    return text.strip()


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what caused it, outermost first."""
    visited: set[int] = set()
    while error is not None and id(error) not in visited:
        visited.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def in_short(error: BaseException) -> str:
    """The first paragraph of a message, on one line."""
    text = " ".join(str(error).strip().split("\n\n")[0].split()) or type(error).__name__
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 100]} [...] {text[-90:]}"
