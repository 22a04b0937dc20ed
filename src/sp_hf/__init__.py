"""Teach any Hugging Face vision encoder what is in an image and where, and measure both.

Names are imported on first use, so that ``import sp_hf`` is quick.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "Encoder": ".encoders.encoder",
    "Encoding": ".encoders.encoder",
    "OBJECTIVES": ".objectives",
    "Objective": ".objectives",
    "SPConfig": ".model.configuration",
    "SPForPreTraining": ".model.modeling",
    "SPViTConfig": ".encoders.configuration_sp_vit",
    "SPViTModel": ".encoders.modeling_sp_vit",
    "ViewSampler": ".views.sampler",
    "ViewSpec": ".views.spec",
    "load_images": ".data.datasets",
    "part_scenes": ".data.part_scenes.dataset",
    "resolve_encoder": ".encoders.loading",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'sp_hf' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(_HOME[name], __name__), name)


def __dir__() -> list[str]:
    return __all__
