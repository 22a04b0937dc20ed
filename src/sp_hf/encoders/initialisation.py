"""How a fresh encoder's weights are drawn: the package's own scheme, or the stock class's.

``xavier`` (the default)
    Every linear layer is Xavier-uniform with zero bias, the patch projection likewise (as the linear layer that it
    is), and the table of positions starts as two-dimensional sines and cosines, the prefix tokens' at zero; it is
    learned from there, unless an objective fixes it (:func:`starts_at_sincos`): those of MAE (He et al. 2022,
    2111.06377, appendix A.1), MoCo v3 (Chen et al. 2021, 2104.02057, appendix) and DropPos stay fixed.
``stock``
    What the class in transformers does: for ``ViTModel`` a standard deviation of 0.02 for every weight and position.
    That suits a width of 768; at 128 the positions then have a twentieth of the patch embedding's norm and the
    blocks hardly change a token: an encoder that starts nearly linear and nearly blind to position.

Norms, layer scales, class and mask tokens are as the stock class makes them in both.  Conv nets, hierarchical models,
timm's, and all others without a row in :mod:`sp_hf.encoders.model_table` always start as their class makes them.
``benchmarks/initialisation.py`` measures both at four widths.

Letters: N patch tokens, D hidden size.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from ..errors import InputError
from .facts import TIMM, Dimensions, find
from .model_table import FACTS
from .model_types import describe
from .sincos_positions import sincos_positions

Initialisation = Literal["xavier", "stock"]
INITIALISATIONS: tuple[str, ...] = get_args(Initialisation)
RECORDED_AS = "sp_hf_initialisation"
"""Field of the encoder's configuration that names its scheme, so that an untrained control starts alike."""


def has_own_scheme(config: PreTrainedConfig) -> bool:
    """Whether ``xavier`` means something for a configuration: a plain transformer, of which the layers are known."""
    return config.model_type in FACTS and config.model_type != TIMM and FACTS[config.model_type].feature_map is None


def recorded_initialisation(config: PreTrainedConfig) -> str:
    """The scheme that an encoder of this configuration starts from; ``"stock"`` where none is recorded."""
    return getattr(config, RECORDED_AS, "stock")


def check_initialisation(name: str) -> str:
    """``name``, if there is such a scheme.

    Raises:
        ValueError: there is none.
    """
    if name not in INITIALISATIONS:
        raise InputError(f"unknown initialisation {name!r}; known: {', '.join(INITIALISATIONS)}")
    return name


@torch.no_grad()
def initialise(model: PreTrainedModel, scheme: str) -> None:
    """Draw a fresh model's weights anew, in place, from torch's global generator.

    Args:
        model: as its class has just made it.
        scheme: one of :data:`INITIALISATIONS`; ``"stock"`` leaves the model as it is.

    Raises:
        ValueError: an unknown scheme.
    """
    if check_initialisation(scheme) == "stock" or not has_own_scheme(model.config):
        return
    facts, dimensions = describe(model)
    for module in model.modules():
        if isinstance(module, nn.Linear):
            xavier_(module)
    xavier_(model.get_submodule(facts.patch_projection))
    table = position_table(model)
    if table is not None:
        table.copy_(_sincos_table(table, dimensions))


def position_table(model: PreTrainedModel) -> nn.Parameter | None:
    """The learned absolute positions of a model, [..., prefix + N, D]; ``None`` where it has none."""
    facts, _ = describe(model)
    table = find(model, facts.positions) if facts.positions else None
    return table if isinstance(table, nn.Parameter) else None


def starts_at_sincos(model: PreTrainedModel) -> bool:
    """Whether the table of positions is the sine-cosine one that the scheme ``xavier`` starts from, up to rounding.

    ``False`` for a table that has been learned, or has no values yet (on the device ``meta``).
    """
    table, (_, dimensions) = position_table(model), describe(model)
    if table is None or table.is_meta or dimensions.hidden_size % 4 or dimensions.hidden_size != table.shape[-1]:
        return False
    rows, columns = _grid(dimensions)
    if table.numel() // table.shape[-1] < rows * columns:
        return False
    rounding = 2 * torch.finfo(table.dtype).eps  # sines differ in the last bit between processors
    return torch.allclose(table, _sincos_table(table, dimensions), rtol=0, atol=rounding)


def _sincos_table(like: Tensor, dimensions: Dimensions) -> Tensor:
    """Zeros for the prefix tokens, sines and cosines for the patches, in the shape of a table of positions."""
    rows, columns = _grid(dimensions)
    table = torch.zeros(like.numel() // like.shape[-1], like.shape[-1], device="cpu")  # [prefix + N, D]
    table[-rows * columns :] = sincos_positions(rows, columns, dimensions.hidden_size, table.device)
    return table.view(like.shape).to(like)


def _grid(dimensions: Dimensions) -> tuple[int, int]:
    """(rows, columns) of patches at the native size."""
    rows, columns = (side // patch for side, patch in zip(dimensions.image_size, dimensions.patch_size, strict=True))
    return rows, columns


def xavier_(layer: Any) -> None:
    """Uniform weights of variance 2 / (fan in + fan out), and no bias (Glorot and Bengio 2010).

    A convolution counts as the linear layer that it is on a patch.
    """
    nn.init.xavier_uniform_(layer.weight.view(len(layer.weight), -1))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
