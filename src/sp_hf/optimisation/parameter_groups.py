"""Learning-rate factors of a pretraining model's parameters, and an optimizer's groups split by them.

    factor = layer_decay ^ (L + 1 - l)  [x patch_embedding_factor]          in the encoder
    factor = 1                                                             in heads and all else

Citation: DINOv2, arXiv:2304.07193 (its code's ``get_params_groups_with_decay``); layers as in :mod:`.layer_decay`.

Weight decay is left to transformers' rule: none on biases and norms, all else is decayed, tokens and learned positions
too.  So do DINO, MAE and DINOv2; DeiT spares class token and positions, MoCo v3 spares nothing, and DINOv2 also spares
LayerScale's gains, which are decayed here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import nn
from torch.optim import Optimizer

from ..encoders.layers import num_layers
from ..errors import RecipeError
from .layer_decay import layer_factors

if TYPE_CHECKING:
    from ..encoders.encoder import Encoder

_WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")


def rate_factors(encoder: Encoder, layer_decay: float, patch_embedding_factor: float) -> dict[str, float]:
    """The factor of each parameter of the encoder, under its name in :class:`~sp_hf.model.modeling.SPForPreTraining`.

    Args:
        encoder: the student.
        layer_decay: in (0, 1].
        patch_embedding_factor: of the layer that turns pixels into patch embeddings, on top of its layer's.
    """
    if layer_decay != 1.0 and not num_layers(name for name, _ in encoder.model.named_parameters()):
        raise RecipeError(f"--layer_decay: {type(encoder.model).__name__} has no blocks that are told apart by name.")
    factors = layer_factors((name for name, _ in encoder.model.named_parameters()), layer_decay)
    patches = {id(parameter) for parameter in encoder.patch_projection().parameters()}
    for name, parameter in encoder.model.named_parameters():
        if id(parameter) in patches:
            factors[name] *= patch_embedding_factor
    return {f"encoder.model.{name}": factor for name, factor in factors.items()}


def unwrapped(name: str) -> str:
    """A parameter's name without what DDP, FSDP and ``torch.compile`` put into it."""
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def split_groups(optimizer: Optimizer, model: nn.Module, factors: Mapping[str, float]) -> None:
    """Split an optimizer's groups, before its first step, so that each parameter learns at its factor of the rate.

    The order of the groups stays; where one becomes several, the fastest comes first (its rate is the one that
    transformers logs).

    Args:
        optimizer: of the model's parameters.
        model: as wrapped as the optimizer's parameters are.
        factors: by unwrapped name; 1 for all others.
    """
    by_parameter = {id(p): factors.get(unwrapped(name), 1.0) for name, p in model.named_parameters()}
    groups = []
    for group in optimizer.param_groups:
        split = defaultdict(list)
        for parameter in group["params"]:
            split[by_parameter[id(parameter)]].append(parameter)
        groups += [
            {**group, "params": split[factor], "lr": group["lr"] * factor} for factor in sorted(split, reverse=True)
        ]
    optimizer.param_groups[:] = groups


def groups_holding(optimizer: Optimizer, model: nn.Module, names: set[str]) -> list[int]:
    """Numbers of the optimizer's groups that hold one of the named parameters of ``model``."""
    wanted = {id(parameter) for name, parameter in model.named_parameters() if name in names}
    return [i for i, group in enumerate(optimizer.param_groups) if any(id(p) in wanted for p in group["params"])]
