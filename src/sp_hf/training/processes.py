"""Work that one of several processes does for all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from transformers import TrainingArguments

T = TypeVar("T")


def in_first_process(args: TrainingArguments, work: Callable[[], T]) -> T:
    """What ``work`` returns, or raises, in the first process: in every process. All must call it."""
    if args.world_size == 1:
        return work()
    outcome: list[Any] = [None, None]
    if args.process_index == 0:
        try:
            outcome[0] = work()
        except Exception as error:
            outcome[1] = error
    torch.distributed.broadcast_object_list(outcome, src=0)
    if outcome[1] is not None:
        raise outcome[1]
    return outcome[0]
