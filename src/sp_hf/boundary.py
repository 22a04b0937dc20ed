"""Where what other libraries raise becomes one sentence of :mod:`sp_hf.errors`.

Each ``with`` below stands around one step of one library, and knows the name of what the step was about. What passes
them all is looked at once more by :func:`as_ours` on the command line: errors of the operating system and of a device's
memory can come from anywhere. Errors are known by their class, their cause or their ``errno``, never by a traceback.
"""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import (
    CheckpointError,
    DataError,
    DeviceError,
    DiskFullError,
    FileError,
    FolderTakenError,
    HubError,
    InputError,
    NotFoundError,
    PackageError,
    SpHfError,
)

if TYPE_CHECKING:
    import torch

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
_LONGEST = 400  # characters of another library's message that are shown


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


def require_package(name: str, what: str, install: str | None = None) -> None:
    """Raise :class:`~sp_hf.errors.PackageError` unless ``name`` can be imported.

    Args:
        name: as it is imported.
        what: needs it, for the message.
        install: as pip calls it.
    """
    if importlib.util.find_spec(name) is None:
        raise PackageError(f"{what} needs {name}, which is not installed: pip install '{install or name}'")


def _of_hub(error: BaseException) -> HubError | None:
    text = explain_hub(error, "the repository", None)
    return HubError(text) if text else None


_GATED = "{} is gated: ask for access on its page at {}, then run `hf auth login`"
_NOT_THERE = (
    "{} is not on {}, or is private: check the spelling; if it is private, run `hf auth login` with a token that may"
    " read it"
)


def explain_hub(error: BaseException, name: str, revision: str | None) -> str | None:
    """What the Hub, or the way to it, has against ``name``, in one sentence; ``None``: nothing.

    Args:
        error: of huggingface_hub, or of a library that was caused by one.
        name: in words, "model owner/name".
        revision: that was asked for.
    """
    from huggingface_hub import constants
    from huggingface_hub import errors as hub

    hub_address = constants.ENDPOINT
    for one in chain(error):
        if isinstance(one, hub.HFValidationError):
            return f"{name}: {in_short(one)}"
        if isinstance(one, hub.GatedRepoError):
            return _GATED.format(name, hub_address)
        if isinstance(one, hub.DisabledRepoError):
            return f"{name} has been disabled by {hub_address}"
        if isinstance(one, hub.RevisionNotFoundError):
            return f"{name} has no revision {revision!r}: name a branch, tag or commit of it"
        if isinstance(one, hub.RepositoryNotFoundError):
            return _NOT_THERE.format(name, hub_address)
        if isinstance(one, hub.HfHubHTTPError):
            return _explain_status(one, name, hub_address)
    if any(isinstance(one, _no_answer()) for one in chain(error)):
        if constants.is_offline_mode():
            return f"{name} is not in the local cache, and HF_HUB_OFFLINE is set: unset it, or name a local folder"
        return f"{name} is not in the local cache, and {hub_address} cannot be reached: check the network"
    if _is_missing_dataset(error):
        return (_GATED if "gated" in str(error) else _NOT_THERE).format(name, hub_address)
    return None


def _is_missing_dataset(error: BaseException) -> bool:
    """datasets says so without the Hub's own error as its cause."""
    exceptions = sys.modules.get("datasets.exceptions")
    return exceptions is not None and isinstance(error, exceptions.DatasetNotFoundError)


def _explain_status(error: Any, name: str, hub_address: str) -> str | None:
    status = error.response.status_code
    if status == 404:
        return None  # a file that is not there: whoever asked says what that means
    complaint = {
        401: "does not accept your token (401): run `hf auth login`",
        403: "does not let you read it (403): ask its owner, or take a token with more rights",
        429: "has had too many requests from you (429): wait some minutes",
    }.get(status, f"answers with an error ({status}): try again later")
    return f"{name}: {hub_address} {complaint}"


def _no_answer() -> tuple[type[BaseException], ...]:
    """Of a connection that cannot be made or breaks."""
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    http_error = HfHubHTTPError.__bases__[0]  # of httpx or of httpx2, whichever huggingface_hub is built on
    return (http_error, ConnectionError, TimeoutError, LocalEntryNotFoundError)


def check_folder(flag: str, path: str | os.PathLike[str]) -> None:
    """Refuse a place where no folder can be made.

    Raises:
        FolderTakenError: the path, or a part of it, is a file.
        FileError: it may not be written to.
    """
    path = Path(path)
    nearest = next((folder for folder in (path, *path.absolute().parents) if folder.exists()), Path("/"))
    if not nearest.is_dir():
        raise FolderTakenError(f"{flag} {path}: {nearest} is a file; choose a folder")
    if not os.access(nearest, os.W_OK):
        raise FileError(f"{flag} {path}: {nearest} may not be written to; choose another folder")


def open_device(name: str | torch.device | None) -> torch.device:
    """The device of that name; ``None``: cuda where there is one.

    Raises:
        DeviceError: no such device here.
    """
    import torch

    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    devices = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # each backend refuses in its own way
        raise DeviceError(f"--device {name}: there is no such device here; there are: {', '.join(devices)}") from error
    return device


@contextlib.contextmanager
def reading_checkpoint(name: str, revision: str | None = None) -> Iterator[None]:
    """Around whatever reads a model's configuration or weights, from a folder or the Hub.

    Raises:
        HubError: the repository cannot be had.
        CheckpointError: a file of it is missing or damaged.
    """
    from safetensors import SafetensorError

    try:
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
    """Around whatever reads a dataset: damaged shards make tarfile, pyarrow and others raise nearly any class.

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
    """Around a constructor of another library that checks our user's options.

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
    answered = any(isinstance(one, HfHubHTTPError) and not _is_missing(one) for one in chain(error))
    raise HubError(text if answered else f"{text}; nor is there a folder {os.path.abspath(name)}") from error


def _is_missing(error: BaseException) -> bool:
    """Whether the Hub knows no such repository; one that is gated is of the same class."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    return isinstance(error, RepositoryNotFoundError) and not isinstance(error, GatedRepoError)
