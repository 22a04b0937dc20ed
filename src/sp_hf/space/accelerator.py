"""On which device the Space computes: on the CPU, on a GPU of its own, or on a ZeroGPU Space's, lent for each call."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

import torch

try:
    from spaces import GPU  # Hugging Face's package; on their machines
except ImportError:  # also where a folder of this name is all there is
    GPU = None

logger = logging.getLogger(__name__)


def device() -> torch.device:
    """A GPU if there is one; on ZeroGPU, ``spaces`` lets models be moved to it at any time."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def on_gpu(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let ZeroGPU lend a GPU for the length of a call; elsewhere the function as it is.

    The process that has the GPU may be a new one, with what is on disk and nothing in memory: a decorated function
    takes names and images, and gets models and probes from a :class:`~sp_hf.space.shelf.Shelf`, which fills itself.
    Its last argument, the callback that announces progress, cannot cross to that process; the log takes its place.
    """
    if GPU is None:
        return function

    @GPU(duration=60)
    def elsewhere(*args: Any) -> Any:
        return function(*args, logger.info)

    @functools.wraps(function)
    def here(*args: Any) -> Any:
        return elsewhere(*args[:-1])

    return here
