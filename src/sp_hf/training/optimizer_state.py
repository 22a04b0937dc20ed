"""An optimizer's state as checkpoints of sharded runs need it: complete."""

from __future__ import annotations

import torch
from torch.optim import Optimizer


@torch.no_grad()
def complete_state(optimizer: Optimizer) -> None:
    """Give the parameters that were never stepped the state that they would start from: zeros, at step 0.

    torch refuses to load a sharded optimizer's state in which a parameter is missing, and DINO's last layer has none
    while it is frozen. Adam and its kin do the same from this state as from none at all.
    """
    example = next(iter(optimizer.state.values()), None)
    if example is None:
        return
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.requires_grad and not optimizer.state.get(parameter):
                optimizer.state[parameter] = {name: _zero(value, parameter) for name, value in example.items()}


def _zero(value: object, parameter: torch.Tensor) -> object:
    """Zeros of the parameter's shape for what has a parameter's shape, else of the value's."""
    if not isinstance(value, torch.Tensor):
        return type(value)()
    return torch.zeros_like(value if value.ndim == 0 else parameter)
