"""Turns what other libraries raise into errors of this package, one sentence each (:mod:`sp_hf.errors`).

Each ``with`` below stands around one step of one library, and knows the name of what the step was about. What passes
them all is looked at once more by :func:`as_ours` on the command line: errors of the operating system and of a device's
memory can come from anywhere. Errors are known by their class, their cause or their ``errno``, never by a traceback.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator

from .errors import (
    CheckpointError,
    DataError,
    DeviceError,
    DiskFullError,
    FileError,
    HubError,
    InputError,
    NotFoundError,
    PackageError,
    SpHfError,
    chain,
    in_short,
)
from .hub_refusals import explain_hub
from .quiet import without_retry_notes

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FILE_PROBLEMS = {
    errno.EACCES: "you may not read or write it: choose another place, or change its permissions",
    errno.EPERM: "you may not change it: choose another place, or change its permissions",
    errno.EROFS: "its disk is read-only: choose another place",
    errno.ENOTDIR: "a part of this path is a file and no folder: choose another place",
    errno.EEXIST: "it is there already: choose another place",
    errno.EISDIR: "it is a folder: name a file",
    errno.ENAMETOOLONG: "the name is too long: choose a shorter one",
    errno.ELOOP: "links lead round in a circle",
    errno.EIO: "the disk failed to read or write it",
    errno.EMFILE: "too many files are open: raise `ulimit -n`",
    errno.EADDRINUSE: "the port is taken: choose another",
}


def as_ours(error: BaseException) -> SpHfError | None:
    """The error as one of this package's; ``None``: a defect."""
    if isinstance(error, SpHfError):
        return error
    return _of_memory(error) or _of_files(error) or _of_packages(error) or _of_hub(error)


def _of_memory(error: BaseException) -> SpHfError | None:
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return DeviceError(
            f"the device's memory is full ({in_short(error)}): lower the batch size, the views' size or count, or take"
            " --bf16 or --gradient_checkpointing"
        )
    if torch is not None and isinstance(error, torch.AcceleratorError):
        return DeviceError(f"the device failed: {in_short(error)}")
    if isinstance(error, MemoryError):
        return DeviceError(f"the memory is full ({in_short(error)}): lower the batch size or the number of workers")
    return None


def _of_files(error: BaseException) -> SpHfError | None:
    if not isinstance(error, OSError) or error.errno is None:
        return None
    name = error.filename or "a file"
    if error.errno in NO_ROOM:
        return DiskFullError(f"{name}: no room on the disk ({error.strerror}): free some, or choose another place")
    if error.errno == errno.ENOENT and error.filename is not None:
        return NotFoundError(f"{name}: there is no such file or folder")
    if error.errno in _FILE_PROBLEMS:
        return FileError(f"{name}: {_FILE_PROBLEMS[error.errno]} ({error.strerror})")
    return None


def _of_packages(error: BaseException) -> SpHfError | None:
    """Only of packages that are not there: an import that fails otherwise is a defect."""
    if not isinstance(error, ModuleNotFoundError) or not error.name or error.name.startswith("sp_hf"):
        return None
    return PackageError(f"this needs the package {error.name}, which is not installed: pip install {error.name}")


def _of_hub(error: BaseException) -> HubError | None:
    text = explain_hub(error, "the repository", None)
    return HubError(text) if text else None


@contextlib.contextmanager
def reading_checkpoint(name: str, revision: str | None = None) -> Iterator[None]:
    """A context around whatever reads a model's configuration or weights, from a folder or the Hub.

    Raises:
        HubError: the repository cannot be had.
        CheckpointError: a file of it is missing or damaged.
    """
    from safetensors import SafetensorError

    try:
        with without_retry_notes():
            yield
    except SpHfError:
        raise
    except SafetensorError as error:
        raise CheckpointError(
            f"{name}: its safetensors file is truncated or damaged ({in_short(error)}): copy or download it again"
        ) from error
    except (OSError, ValueError, KeyError) as error:
        _raise_if_hub(error, "model", name, revision)
        ours = _of_files(error)
        if ours is not None:
            raise ours from error
        raise CheckpointError(f"{name} cannot be read: {in_short(error)}") from error
    except Exception as error:  # of the HTTP client; anything else is a defect
        _raise_if_hub(error, "model", name, revision)
        raise


@contextlib.contextmanager
def reading_images(description: str) -> Iterator[None]:
    """A context around whatever reads a dataset; damaged shards make tarfile, pyarrow and others raise any class.

    Raises:
        DataError: what cannot be read.
        HubError: the dataset cannot be had.
    """
    try:
        yield
    except (SpHfError, MemoryError):
        raise
    except Exception as error:
        text = explain_hub(error, description, None)
        if text:
            raise HubError(text) from error
        innermost = list(chain(error))[-1]
        cause = "" if innermost is error or str(innermost) in str(error) else f", by {in_short(innermost)}"
        raise DataError(
            f"the {description} cannot be read ({type(error).__name__}: {in_short(error)}{cause}): a file of it may be"
            " damaged; copy or download it again"
        ) from error


@contextlib.contextmanager
def refusals_of(library: str) -> Iterator[None]:
    """A context around a constructor of another library that checks our user's options.

    Raises:
        InputError, PackageError: it refuses them.
    """
    try:
        yield
    except SpHfError:
        raise
    except ImportError as error:
        raise PackageError(f"{library} needs a package that is not installed: {in_short(error)}") from error
    except (ValueError, TypeError, RuntimeError, AssertionError, NotImplementedError) as error:
        if _of_memory(error) is not None:
            raise
        raise InputError(f"{library} refuses these options: {in_short(error)}") from error


def _raise_if_hub(error: BaseException, kind: str, name: str, revision: str | None) -> None:
    from huggingface_hub.errors import HfHubHTTPError

    text = None if os.path.exists(name) else explain_hub(error, f"{kind} {name}", revision)
    if text is None:
        return
    answered = any(isinstance(cause, HfHubHTTPError) and not _is_missing(cause) for cause in chain(error))
    raise HubError(text if answered else f"{text}; nor is there a folder {os.path.abspath(name)}") from error


def _is_missing(error: BaseException) -> bool:
    """Whether the Hub knows no such repository; one that is gated is of the same class."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    return isinstance(error, RepositoryNotFoundError) and not isinstance(error, GatedRepoError)
