"""Fresh ViTs by name: ``vit-<size>-<patch>``, e.g. ``vit-small-16``.

Sizes tiny to large are those of ViT (Dosovitskiy et al. 2021, 2010.11929, table 1) and DeiT (Touvron et al. 2021,
2012.12877, table 1); micro is for demonstrations on a CPU.  LayerNorm's epsilon is 1e-6, as in the MAE, DINO and
MoCo v3 papers' code (``ViTConfig`` has 1e-12).
"""

from __future__ import annotations

from typing import Any

from transformers import ViTConfig

from ..errors import InputError

SIZES: dict[str, tuple[int, int, int]] = {  # (hidden size, layers, heads); the MLP is 4 times as wide
    "micro": (128, 6, 4),
    "tiny": (192, 12, 3),
    "small": (384, 12, 6),
    "base": (768, 12, 12),
    "large": (1024, 24, 16),
}
PATCHES = (4, 8, 14, 16, 32)
PRESETS: tuple[str, ...] = tuple(f"vit-{size}-{patch}" for size in SIZES for patch in PATCHES)


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
