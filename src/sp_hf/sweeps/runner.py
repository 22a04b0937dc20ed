"""Runs the processes of a sweep, several at a time; what is done is skipped, what was interrupted goes on."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

import torch
from tqdm.auto import tqdm

from ..errors import RunError
from ..run.folder import RunFolder
from .jobs import Job

PROGRAM = (sys.executable, "-m", "sp_hf.cli", "job")
_POLL = 0.5  # seconds
_LAST_WORDS = 15  # lines of a failed process's log that are shown


class SweepError(RunError):
    """Some processes failed; the others are done. The message has the last lines of each."""


class _Running:
    """A started process."""

    def __init__(self, job: Job, slot: int, slots: int, program: Sequence[str]) -> None:
        self.job, self.slot, self.started = job, slot, time.perf_counter()
        job.write()
        with open(f"{job.folder}.log", "a") as log:
            self.process = subprocess.Popen(
                [*program, str(job.file)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=_environment(slot, slots),
                start_new_session=True,  # Ctrl-C reaches the sweep alone, which tells its processes once
            )

    def finished(self) -> int | None:
        """Its exit status, once there is one; its cost is written down then."""
        if self.process.returncode is not None:
            return self.process.returncode
        pid, status, usage = os.wait4(self.process.pid, os.WNOHANG)
        if pid == 0:
            return None
        code = os.waitstatus_to_exitcode(status)
        self.process.returncode = code
        cost = {
            "seconds": round(time.perf_counter() - self.started, 1),
            "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
            "exit_status": code,
        }
        with open(f"{self.job.folder}.cost.jsonl", "a") as file:
            file.write(json.dumps(cost) + "\n")
        return code

    def says(self) -> str:
        """Its last line."""
        return next(iter(last_lines(Path(f"{self.job.folder}.log"), 1)), "")


def run_jobs(jobs: Sequence[Job], slots: int, program: Sequence[str] = PROGRAM) -> None:
    """Run all that are not done.

    Args:
        jobs: in the order in which they are preferred.
        slots: how many processes at a time; they share the cores, and take the GPUs in turn.
        program: what is started with each job's file.

    Raises:
        SweepError: some failed. What needs them was left out, everything else was run.
        KeyboardInterrupt: Ctrl-C or SIGTERM, after every process has stopped with its checkpoint.
    """
    waiting = [job for job in jobs if not job.done]
    running: list[_Running] = []
    failed: list[Job] = []
    bar = tqdm(total=len(jobs), initial=len(jobs) - len(waiting), unit="job", desc="sweep", disable=None)
    with bar, _sigterm_interrupts(), _stopped_together(running):
        while waiting or running:
            for one in list(running):
                code = one.finished()
                if code is None:
                    continue
                running.remove(one)
                bar.update()
                minutes = (time.perf_counter() - one.started) / 60
                bar.write(f"{one.job.name}: {'done' if code == 0 else f'FAILED ({code})'}, {minutes:.1f} minutes")
                if code != 0:
                    failed.append(one.job)
            free = [slot for slot in range(slots) if slot not in {one.slot for one in running}]
            for slot, job in zip(free, _ready(waiting), strict=False):
                waiting.remove(job)
                running.append(_Running(job, slot, slots, program))
            if waiting and not running:
                break  # what is left needs what failed
            bar.set_postfix_str(" | ".join(f"{one.job.name}: {one.says()[:40]}" for one in running), refresh=False)
            time.sleep(_POLL)
    if failed:
        report = "\n\n".join(
            f"{job.name} failed; the end of {job.folder}.log:\n  "
            + "\n  ".join(last_lines(Path(f"{job.folder}.log"), _LAST_WORDS))
            for job in failed
        )
        left = f"\n\nNot begun, as they need what failed: {', '.join(job.name for job in waiting)}" if waiting else ""
        raise SweepError(report + left)


def _ready(waiting: Sequence[Job]) -> list[Job]:
    return [job for job in waiting if all(RunFolder(folder).finished for folder in job.needs)]


def last_lines(path: Path, count: int) -> list[str]:
    """The last lines of a text file that are not empty; of a progress bar, its last state."""
    if not path.is_file():
        return []
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - 20_000, 0))
        text = file.read().decode("utf-8", "replace")
    return [line.rstrip().rsplit("\r", 1)[-1].strip() for line in text.split("\n") if line.strip()][-count:]


def _environment(slot: int, slots: int) -> dict[str, str]:
    """Processes share the cores, and take the GPUs in turn."""
    environment = dict(os.environ)
    environment.setdefault("OMP_NUM_THREADS", str(max((os.cpu_count() or 1) // slots, 1)))
    if torch.cuda.device_count() > 1 and "CUDA_VISIBLE_DEVICES" not in environment:
        environment["CUDA_VISIBLE_DEVICES"] = str(slot % torch.cuda.device_count())
    return environment


@contextlib.contextmanager
def _stopped_together(running: list[_Running]) -> Iterator[None]:
    """Whatever ends the sweep, its processes are asked to stop, and awaited: a training run saves a checkpoint."""
    try:
        yield
    finally:
        for one in running:
            os.kill(one.process.pid, signal.SIGTERM)  # Popen's own would reap one that has just ended
        for one in running:
            while one.finished() is None:
                time.sleep(_POLL / 5)


@contextlib.contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """SIGTERM ends a sweep as Ctrl-C does."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
