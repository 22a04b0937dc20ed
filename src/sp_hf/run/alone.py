"""One process, or one group of them, at a time in a run folder: two would delete what the other writes.

The folder itself is locked (``flock``): nothing is left behind, and a lock dies with its process.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path

from ..errors import FolderTakenError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

PATIENCE = 30.0
"""Seconds in which a run that was told to stop may write its last checkpoint."""
_BUSY = (errno.EWOULDBLOCK, errno.EACCES)
_held: set[int] = set()


@contextlib.contextmanager
def alone_in(folder: Path, patience: float | None = None) -> Iterator[None]:
    """A context in which no other process is in such a context with this folder, which must exist.

    Where the system or the file system has no such locks, this is not watched.

    Args:
        folder: to be alone in.
        patience: seconds to wait for another process to leave it; ``None``: :data:`PATIENCE`.

    Raises:
        FolderTakenError: it did not.
    """
    if fcntl is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    _held.add(handle)
    try:
        _lock(handle, folder, PATIENCE if patience is None else patience)
        yield
    finally:
        _held.discard(handle)
        os.close(handle)


def _lock(handle: int, folder: Path, patience: float) -> None:
    deadline, said = time.monotonic() + patience, False
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError as error:
            if error.errno not in _BUSY:
                logger.debug("%s cannot be locked: %s", folder, error)
                return
        if time.monotonic() >= deadline:
            raise FolderTakenError(
                f"another process is training in {folder}: wait until it has ended, stop it, or choose another"
                " --output_dir."
            )
        if not said:
            logger.warning("another process is in %s: waiting for it, for %.0f seconds at most", folder, patience)
            said = True
        time.sleep(0.2)


def _forget() -> None:
    """Of a fork, whose lock would outlive the process that it is of."""
    for handle in _held:
        os.close(handle)
    _held.clear()


if fcntl is not None:
    os.register_at_fork(after_in_child=_forget)
