"""Processes of their own that have PyTorch and the package at hand: forked from one that imported them, once a session.

A fresh interpreter takes some eight seconds of CPU until it trains; one of these takes none, and is killed, signalled
and waited for as any other.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import runpy
import socket
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from sp_hf.cli import main

START = "forkserver"
SCRIPT = Path(__file__).parents[1] / "scripts" / "pretrain.py"

_CONTEXT = multiprocessing.get_context(START)
_CONTEXT.set_forkserver_preload(["sp_hf.api"])


@dataclasses.dataclass
class Running:
    """One process, and the file of what it says."""

    process: ForkServerProcess
    log: Path

    def wait(self, timeout: float = 1500) -> int:
        """Its exit status, as a shell has it of one that a signal has ended: negative."""
        self.process.join(timeout)
        assert self.process.exitcode is not None, f"it did not end in {timeout} seconds"
        return self.process.exitcode

    @property
    def said(self) -> str:
        return self.log.read_text()


def start(argv: Sequence[str], log: Path, script: Path | None = None, **environment: str) -> Running:
    """``sp-hf ARGV``, or a Python script with these arguments, in a process group of its own."""
    process = _CONTEXT.Process(target=_work, args=(list(argv), log, script, environment))
    process.start()
    return Running(process, log)


def run(argv: Sequence[str], log: Path) -> None:
    """``sp-hf ARGV``, which must succeed."""
    running = start(argv, log)
    assert running.wait() == 0, running.said


def run_two(argv: Sequence[str], log: Path, script: Path = SCRIPT) -> None:
    """A script in two processes that know of each other, as torchrun starts them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    both = [
        start(argv, log.with_suffix(f".{rank}"), script, RANK=rank, LOCAL_RANK=rank, **group) for rank in ("0", "1")
    ]
    found = [running.wait() for running in both]
    assert found == [0, 0], "\n".join(running.said[-3000:] for running in both)


def _work(argv: list[str], log: Path, script: Path | None, environment: Mapping[str, str]) -> None:
    os.setsid()
    multiprocessing.set_start_method("fork", force=True)  # of its own workers, as in a process that was not forked
    os.environ.update(environment)
    with log.open("w") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
    if script is None:
        sys.exit(main(argv))
    sys.argv = [str(script), *argv]
    runpy.run_path(str(script), run_name="__main__")
