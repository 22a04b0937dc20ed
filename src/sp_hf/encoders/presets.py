"""Fresh ViTs by name: ``vit-<size>-<patch>``, e.g. ``vit-small-16``.

LayerNorm's epsilon is 1e-6, as in the MAE, DINO and MoCo v3 papers' code (``ViTConfig`` has 1e-12).
"""

from __future__ import annotations

from typing import Any

from transformers import ViTConfig

from ..errors import InputError
from .names import PATCHES, PRESETS, SIZES


def build_preset(name: str, image_size: int = 224, **overrides: object) -> ViTConfig:
    """Configuration of a preset.

    Args:
        name: one of :data:`PRESETS`.
        image_size: pixels a side for which the table of positions is made; other sizes interpolate it.
        **overrides: any field of ``ViTConfig``.

    Raises:
        ValueError: unknown name, or an image size that the patch size does not divide.
    """
    if name not in PRESETS:
        raise InputError(
            f"unknown preset {name!r}; presets are vit-<{'|'.join(SIZES)}>-<{'|'.join(map(str, PATCHES))}>"
        )
    _, size, patch = name.split("-")
    hidden_size, layers, heads = SIZES[size]
    fields: dict[str, Any] = {
        "hidden_size": hidden_size,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": 4 * hidden_size,
        "patch_size": int(patch),
        "image_size": image_size,
        "layer_norm_eps": 1e-6,
    }
    fields.update(overrides)
    if fields["image_size"] % fields["patch_size"]:
        raise InputError(
            f"image size {fields['image_size']} is not divisible by the patch size {fields['patch_size']} of {name}; "
            f"try {round(fields['image_size'] / fields['patch_size']) * fields['patch_size']}"
        )
    return ViTConfig(**fields)
