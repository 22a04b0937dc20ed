"""The layers of a network, from the names of its parameters: which come first, which come last."""

from __future__ import annotations

import re
from collections.abc import Iterable

# "layers.0", "encoder.layer.0", "blocks.0", "block.0.1", "stages.0.layers.0", "layer1.0", and what a stage has beside
# its layers.
_BLOCK = re.compile(
    r"^(?:.*?\.)?(?:block\.\d+\.\d+|(?:layers?\d*|blocks?|stages|levels)\.\d+)(?:\.(?:layers|blocks)\.\d+)?(?=\.)"
)
_STAGE_INPUT = re.compile(r"^(.*?\.)?patch_embeddings\.([1-9]\d*)\.")  # of PVT's and PoolFormer's second stage and on


def layer_ids(names: Iterable[str]) -> dict[str, int]:
    """The layer l of each parameter.

    Args:
        names: of all parameters, in the order in which the network has them.

    Returns:
        0 for those ahead of the first block, then one number a block, in order, and one more for those behind the last;
        what lies between two blocks counts with the later one, as do the patch embeddings of a later stage.
        Without blocks all are 0.
    """
    names = list(names)
    blocks = {name: match.group() for name in names if (match := _BLOCK.match(name))}
    number = {block: index for index, block in enumerate(dict.fromkeys(blocks.values()), start=1)}
    ids: dict[str, int] = {}
    following = len(number) + 1 if blocks else 0
    for name in reversed(names):
        if name in blocks:
            following = number[blocks[name]]
        ids[name] = following
        if blocks and name == next(iter(blocks)):
            following = 0
    for name in names:
        stage = _STAGE_INPUT.match(name) if name not in blocks else None
        if stage is not None:
            start = f"{stage.group(1) or ''}block.{stage.group(2)}."
            ids[name] = next((index for block, index in number.items() if block.startswith(start)), ids[name])
    return {name: ids[name] for name in names}


def num_layers(names: Iterable[str]) -> int:
    """How many blocks there are; what a stage has beside its own counts as one."""
    return len({match.group() for name in names if (match := _BLOCK.match(name))})
