"""Layer-wise learning-rate decay, as BEiT and MAE are fine-tuned and DINOv2 is pretrained.

    learning rate of layer l  =  base * decay ^ (L + 1 - l)

with l = 0 for the embeddings (patches, positions, tokens), l = 1 ... L for the L blocks from first to last, and
l = L + 1 for what comes after them (final norm, head), which learns at the base rate.  (Bao et al. 2022,
arXiv:2106.08254, appendix; He et al. 2022, arXiv:2111.06377, table 9, and its code's ``param_groups_lrd``.)  Norms,
biases, tokens and tables of positions are not decayed by weight decay.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from torch import nn

from ..encoders.layers import layer_ids

_NO_DECAY = re.compile(r"(?:_tokens?|position_embeddings?|pos_embed|position_bias_table)\b")


def layer_factors(names: Iterable[str], decay: float) -> dict[str, float]:
    """What the learning rate of each parameter is multiplied by.

    Args:
        names: of all parameters, in the order in which the network has them.
        decay: in (0, 1]; 1 is none.
    """
    ids = layer_ids(names)
    last = max(ids.values())
    return {name: decay ** (last - layer) for name, layer in ids.items()}


def parameter_groups(model: nn.Module, learning_rate: float, layer_decay: float, weight_decay: float) -> list[dict]:
    """Groups for a classifier's optimizer: one a layer, with and without weight decay.

    Args:
        model: a classifier; its frozen parameters are left out.
        learning_rate: base, of the head.
        layer_decay: in (0, 1]; 1 is none.
        weight_decay: of matrices.

    Returns:
        Dictionaries with ``params``, ``lr``, ``weight_decay``, ``layer`` and ``names``.
    """
    names = [name for name, _ in model.named_parameters()]
    ids, factors = layer_ids(names), layer_factors(names, layer_decay)
    groups: dict[tuple[int, bool], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        decayed = parameter.squeeze().ndim > 1 and not _NO_DECAY.search(name)
        group = groups.setdefault(
            (ids[name], decayed),
            {
                "params": [],
                "names": [],
                "layer": ids[name],
                "lr": learning_rate * factors[name],
                "weight_decay": weight_decay if decayed else 0.0,
            },
        )
        group["params"].append(parameter)
        group["names"].append(name)
    return list(groups.values())
