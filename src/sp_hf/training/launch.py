"""Starts as many processes as ``accelerate launch`` was asked for, also on CPUs.

With ``--cpu`` accelerate (1.15) starts one process, whatever ``--num_processes`` says, and says nothing. Such a process
is known by the address of a group that it was given no rank in; it makes way for torchrun's.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

import psutil

from ..errors import UsageError

_RANKS = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK")  # of torchrun and of MPI


def missing_processes(environment: Mapping[str, str], launcher: Sequence[str]) -> int | None:
    """How many processes were asked for and not started; ``None``: all are there.

    Args:
        environment: of this process.
        launcher: command line of the process that started it.

    Raises:
        UsageError: several, of which the command line does not say how many (they are in accelerate's own config file).
    """
    on_cpu = environment.get("ACCELERATE_USE_CPU", "").lower() in ("true", "1")
    if not on_cpu or "MASTER_ADDR" not in environment or not environment.keys().isdisjoint(_RANKS):
        return None
    for word, following in zip(launcher, [*launcher[1:], ""], strict=True):
        flag, _, value = word.replace("-", "_").partition("=")
        if flag in ("__num_processes", "__num_process"):
            return int(value or following)
    raise UsageError(
        "accelerate starts one process alone on CPUs, whatever its configuration says: use"
        " `torchrun --nproc_per_node N scripts/pretrain.py ...`"
    )


def start_missing_processes(script: str, argv: Sequence[str]) -> None:
    """Become torchrun, if accelerate has started fewer processes than it was asked for; else do nothing."""
    count = missing_processes(os.environ, psutil.Process().parent().cmdline())
    if count is None:
        return
    group = ["--nproc_per_node", str(count), "--master_addr", os.environ["MASTER_ADDR"]]
    group += ["--master_port", os.environ["MASTER_PORT"]]
    os.execv(sys.executable, [sys.executable, "-m", "torch.distributed.run", *group, script, *argv])
