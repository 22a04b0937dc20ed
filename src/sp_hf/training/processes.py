"""What one of several processes does for all of them."""

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
    told: list[Any] = [None, None]
    if args.process_index == 0:
        try:
            told[0] = work()
        except Exception as error:
            told[1] = error
    torch.distributed.broadcast_object_list(told, src=0)
    if told[1] is not None:
        raise told[1]
    return told[0]
