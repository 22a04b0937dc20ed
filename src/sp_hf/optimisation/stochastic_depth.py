"""Stochastic depth: residual branches that are skipped at random, an image at a time.

    x <- x + mask / (1 - p_l) * branch(x)          mask ~ Bernoulli(1 - p_l), one an image and branch

Citation: Huang et al. 2016, "Deep networks with stochastic depth", arXiv:1603.09382, section 3.  As ViTs use it (DeiT,
arXiv:2012.12877; DINO's and timm's ``drop_path``) the rate rises linearly over the L layers from 0 at the first to p at
the last, p_l = p (l - 1) / (L - 1); the paper starts at p / L.  As there, too, the expectation is kept by scaling up
in training instead of scaling down in evaluation, which is therefore untouched.

It lives in training alone: it has no weights and leaves configuration and export as they are.  Random numbers come from
torch's global generator, whose state is in every checkpoint.  Processes start from one seed: each draws for all of them
and takes its own part.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, distributed, nn

from ..errors import InputError

if TYPE_CHECKING:
    from ..encoders.encoder import Encoder

DROP_PATHS = ("drop_path", "drop_path1", "drop_path2")
"""What the layers of transformers and timm call the module behind a branch; an identity where it drops nothing."""

BRANCH_DROPOUT = ("vit", "sp_vit", "deit", "ijepa")
"""Model types without one, whose layers send both branches, and nothing else, through their ``dropout``."""


class DropPath(nn.Module):
    """Drops whole images of a branch.

    Args:
        rate: probability, in [0, 1).
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, branch: Tensor) -> Tensor:
        """The branch [B, ...], in training with some images zero and the others scaled up to keep the expectation."""
        if not self.training or self.rate == 0.0:
            return branch
        ranks, rank = (distributed.get_world_size(), distributed.get_rank()) if distributed.is_initialized() else (1, 0)
        drawn = torch.rand(ranks, len(branch), device=branch.device)[rank]  # [B]
        scale = (drawn >= self.rate).to(branch.dtype) / (1.0 - self.rate)
        return branch * scale.view(-1, *[1] * (branch.ndim - 1))

    def extra_repr(self) -> str:
        return f"rate={self.rate:g}"


def add_stochastic_depth(encoder: Encoder, rate: float) -> None:
    """Let the encoder's layers drop their branches in training; replaces the model's own drop path, if it has one.

    Args:
        encoder: the student; a teacher must be made before.
        rate: of the last layer.

    Raises:
        ValueError: its layers have no place for it.
    """
    layers = _places(encoder.model)
    for index, (layer, names) in enumerate(layers):
        for name in names:
            setattr(layer, name, DropPath(rate * index / max(len(layers) - 1, 1)))


def _places(model: Any) -> list[tuple[nn.Module, list[str]]]:
    """Each layer, from first to last, and the names of its modules that end a branch."""
    named = [(layer, [name for name, _ in layer.named_children() if name in DROP_PATHS]) for layer in model.modules()]
    if any(names for _, names in named):
        return [(module, names) for module, names in named if names]
    kind = model.config.model_type
    lists = (module for module in model.modules() if isinstance(module, nn.ModuleList))
    each: list[Any] = [layer for layers in lists for layer in layers]
    layers = [layer for layer in each if isinstance(getattr(layer, "dropout", None), nn.Dropout)]
    if kind not in BRANCH_DROPOUT or not layers:
        raise InputError(
            f"--stochastic_depth: the layers of {kind!r} have no place to drop a branch at; leave it out, or take an"
            f" encoder of another type ({', '.join(BRANCH_DROPOUT)}, dinov2, dinov3_vit, beit, convnext, ...)."
        )
    if any(layer.dropout.p > 0 for layer in layers):
        raise InputError(
            f"--stochastic_depth takes the place of the dropout of {kind!r}, which is in use: set hidden_dropout_prob"
            f" (now {model.config.hidden_dropout_prob:g}) to 0 in the encoder's configuration."
        )
    return [(layer, ["dropout"]) for layer in layers]
