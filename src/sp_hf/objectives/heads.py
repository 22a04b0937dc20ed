"""Projection and prediction heads.

Letters: B items, D features in, K prototypes (outputs of a DINO head).

All of them draw their initial weights from PyTorch's global generator, in the order in which they are built: DINO's
head by the package's scheme for linear layers, the others as PyTorch does (as MoCo v3's own are).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..encoders.initialisation import xavier_
from ..errors import InputError
from .gather import all_reduce_sum, world_size


class SyncBatchNorm(nn.Module):
    """Batch normalisation by the statistics of the batch over all processes, on any device.

    Equal to one process's batch norm of the concatenated batch, in value and in gradient. (PyTorch's own
    ``SyncBatchNorm`` refuses CPU tensors.) It keeps no running statistics: a head is used only where there
    is a batch, and without them gradient accumulation and resuming have nothing to get wrong.

    Args:
        features: number of channels D.
        affine: learn a scale and a shift.
        eps: added to the variance.
    """

    def __init__(self, features: int, affine: bool = True, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(features)) if affine else None
        self.bias = nn.Parameter(torch.zeros(features)) if affine else None

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``x`` [B, D] over B.

        Raises:
            ValueError: fewer than two items in a run of one process.
        """
        if len(x) < 2 and world_size() == 1:
            raise InputError(f"batch norm over {len(x)} image(s) is undefined; use a batch of at least 2 images.")
        with torch.autocast(x.device.type, enabled=False):
            wide = x if x.dtype == torch.float64 else x.float()
            count = all_reduce_sum(wide.new_full((1,), len(wide)))
            centred = wide - all_reduce_sum(wide.sum(dim=0)) / count
            variance = all_reduce_sum(centred.square().sum(dim=0)) / count
            normalised = centred * torch.rsqrt(variance + self.eps)
            if self.weight is not None and self.bias is not None:
                normalised = normalised * self.weight + self.bias
        return normalised.to(x.dtype)


def mlp(sizes: Sequence[int]) -> nn.Sequential:
    """Linear layers of ``sizes`` = [in, hidden, ..., out] with GELU between them."""
    layers: list[nn.Module] = []
    for fan_in, fan_out in zip(sizes[:-1], sizes[1:], strict=True):
        layers += [nn.Linear(fan_in, fan_out), nn.GELU()]
    return nn.Sequential(*layers[:-1])


def batch_norm_mlp(sizes: Sequence[int], last_norm: bool = True) -> nn.Sequential:
    """Linear layers without bias, batch norm after each, ReLU between.

    Args:
        sizes: [in, hidden, ..., out].
        last_norm: end with a norm that is not affine (MoCo v3), or with a linear layer that has a bias (BYOL, VICReg).
    """
    layers: list[nn.Module] = []
    for fan_in, fan_out in zip(sizes[:-2], sizes[1:-1], strict=True):
        layers += [nn.Linear(fan_in, fan_out, bias=False), SyncBatchNorm(fan_out), nn.ReLU()]
    layers.append(nn.Linear(sizes[-2], sizes[-1], bias=not last_norm))
    return nn.Sequential(*layers, *([SyncBatchNorm(sizes[-1], affine=False)] if last_norm else []))


class NormalisedLinear(nn.Module):
    """Linear layer without bias whose rows have norm 1, or a learned norm that starts at 1.

    The normalisation is part of the forward pass, not a parametrisation, so copying, saving and wrapping
    the layer are what they are for any other.
    """

    def __init__(self, fan_in: int, fan_out: int, fixed_norm: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(fan_out, fan_in))
        nn.init.trunc_normal_(self.weight, std=fan_in**-0.5)
        self.norm = None if fixed_norm else nn.Parameter(torch.ones(fan_out, 1))

    def forward(self, x: Tensor) -> Tensor:
        rows = F.normalize(self.weight, dim=-1)
        return F.linear(x, rows if self.norm is None else rows * self.norm)


class DINOHead(nn.Module):
    """DINO's projection head (arXiv:2104.14294, section 3.1 and appendix C).

    A 3-layer MLP with GELU to a bottleneck, l2 normalisation, then a weight-normalised linear layer.

    Args:
        fan_in: D.
        prototypes: K.
        hidden: width of the MLP.
        bottleneck: width before the last layer.
        fixed_norm: keep the rows of the last layer at norm 1.
    """

    def __init__(
        self, fan_in: int, prototypes: int = 65536, hidden: int = 2048, bottleneck: int = 256, fixed_norm: bool = True
    ) -> None:
        super().__init__()
        self.mlp = mlp([fan_in, hidden, hidden, bottleneck])
        for layer in self.mlp:
            if isinstance(layer, nn.Linear):
                xavier_(layer)
        self.last_layer = NormalisedLinear(bottleneck, prototypes, fixed_norm)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [..., K] of ``x`` [..., D]."""
        return self.last_layer(F.normalize(self.mlp(x), dim=-1))
