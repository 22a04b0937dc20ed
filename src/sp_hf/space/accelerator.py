"""ZeroGPU: Spaces whose GPU is lent for the length of a call (https://huggingface.co/docs/hub/spaces-zerogpu)."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

from .controls import shows_mistakes

try:
    from spaces import GPU  # Hugging Face's package; on their machines
except ImportError:  # also where a folder of this name is all there is
    GPU = None

logger = logging.getLogger(__name__)


def lent_for_each_call() -> bool:
    """Is this ZeroGPU?"""
    return GPU is not None


def on_gpu(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let ZeroGPU lend a GPU for the length of a call; elsewhere the function as it is.

    The process that has the GPU may be a new one, with what is on disk and nothing in memory: a decorated function
    takes names and images, and gets models and probes from a :class:`~sp_hf.space.shelf.Shelf`, which fills itself.
    Its last argument, the callback that announces progress, cannot cross to that process; the log takes its place. Nor
    can errors, but for Gradio's own.
    """
    if GPU is None:
        return function

    @GPU(duration=60)
    @shows_mistakes
    def elsewhere(*args: Any) -> Any:
        return function(*args, logger.info)

    @functools.wraps(function)
    def here(*args: Any) -> Any:
        return elsewhere(*args[:-1])

    return here
