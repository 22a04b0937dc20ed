"""Counts steps whose losses or gradients are not finite: on the device at every step, read by the host now and then.

A step is bad if its loss, on any process, or its gradients are not finite. The gradients of such a step are made zero,
so that the weights outlive it. After a few in a row the run stops, since they come of the weights themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from ..encoders.encoder import Encoder


class Health:
    """Counts bad steps in a row.

    Args:
        device: where losses and gradients are.
        limit: bad steps in a row at which :meth:`over` says so.
    """

    def __init__(self, device: torch.device, limit: int) -> None:
        self.limit = limit
        self._in_a_row = torch.zeros((), dtype=torch.int64, device=device)
        self._loss_is_bad = torch.zeros((), dtype=torch.bool, device=device)

    def add_loss(self, loss: Tensor) -> None:
        """Take in the loss of one forward, a scalar."""
        self._loss_is_bad |= ~loss.detach().isfinite()

    def end_step(self, gradient_norm: Tensor) -> None:
        """The step's forwards are done, and this is the norm of all of its gradients together; a scalar."""
        bad = self._loss_is_bad | ~gradient_norm.isfinite()
        self._in_a_row = (self._in_a_row + 1) * bad
        self._loss_is_bad = torch.zeros_like(self._loss_is_bad)

    def read(self) -> int:
        """Bad steps in a row up to now, by the process that has most: waits for the device, and every process calls."""
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(self._in_a_row, op=torch.distributed.ReduceOp.MAX)
        return int(self._in_a_row)


@torch.no_grad()
def leave_out(parameters: Iterable[nn.Parameter], gradient_norm: Tensor) -> None:
    """Make all gradients zero if their norm is not finite; nothing waits for the device."""
    bad = ~gradient_norm.isfinite()
    if bad.device.type == "cpu" and not bad:
        return
    for parameter in parameters:
        if parameter.grad is not None:
            local(parameter.grad).masked_fill_(bad, 0)


def finite_or_zero(loss: Tensor) -> Tensor:
    """The loss, or 0 where it is not finite: for sums over steps."""
    return torch.where(loss.isfinite(), loss, torch.zeros_like(loss))


def not_finite(model: nn.Module, optimizer: Optimizer | None = None) -> str | None:
    """The first weight, buffer or state of the optimizer, by name, that holds a value that is not finite.

    One wait for the device, and a look at every value: for when a checkpoint is written.
    """
    names, tensors = [], []
    for name, tensor in _state(model, optimizer):
        if tensor.is_floating_point() and tensor.numel():
            names.append(name)
            tensors.append(local(tensor).isfinite().all())
    if not tensors:
        return None
    finite = torch.stack([tensor.to(tensors[0].device) for tensor in tensors])
    if bool(finite.all()):
        return None
    return names[finite.tolist().index(False)]


@torch.no_grad()
def gives_numbers(encoder: Encoder, side: int) -> bool:
    """Whether an encoder's tokens of a grey image of ``side`` pixels are finite."""
    pixels = torch.full((1, 3, side, side), 0.5, device=next(encoder.parameters()).device)
    was_training = encoder.training
    tokens = encoder.eval()(pixels).patches
    encoder.train(was_training)
    return bool(tokens.isfinite().all())


def _state(model: nn.Module, optimizer: Optimizer | None) -> Iterator[tuple[str, Tensor]]:
    yield from model.named_parameters()
    for place, module in model.named_modules():
        for name, buffer in module.named_buffers(place, recurse=False):
            if name.rpartition(".")[2] not in module._non_persistent_buffers_set:
                yield name, buffer
    if optimizer is None:
        return
    names: Mapping[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            if isinstance(value, Tensor):
                yield f"{names.get(parameter, 'a parameter')} ({key} of the optimizer)", value


def local(tensor: Tensor) -> Tensor:
    """This process's part of a tensor that several share."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
