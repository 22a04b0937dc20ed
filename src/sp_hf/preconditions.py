"""Checks of what a command needs before it begins: packages, folders that can be written to, devices."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import DeviceError, FileError, FolderTakenError, NotFoundError, PackageError

if TYPE_CHECKING:
    import torch


def require_package(name: str, what: str, install: str | None = None) -> None:
    """Raise :class:`~sp_hf.errors.PackageError` unless ``name`` can be imported.

    Args:
        name: as it is imported.
        what: needs it, for the message.
        install: as pip calls it.
    """
    if importlib.util.find_spec(name) is None:
        raise PackageError(f"{what} needs {name}, which is not installed: pip install '{install or name}'")


def check_run_is_there(run: str | os.PathLike[str]) -> None:
    """Raise :class:`~sp_hf.errors.NotFoundError` unless a run folder, or a checkpoint, is there."""
    if not Path(run).is_dir():
        raise NotFoundError(f"no run at {run}: there is no such folder (looked at {Path(run).absolute()})")


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
