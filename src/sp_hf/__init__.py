"""Teach any Hugging Face vision encoder what is in an image and where, and measure both.

The three promises as functions: :func:`pretrain`, :func:`evaluate`, and :func:`push` (or :func:`export`);
:func:`sweep` does it over seeds. Objectives and tasks of other packages are known as soon as these are installed, those
of a script by :func:`register_objective` and :func:`register_task`.

Everything here is known to editors and type checkers by the imports below. Since torch and transformers take seconds to
import, a name is loaded when it is first used, so that ``import sp_hf`` and ``sp-hf --help`` are quick.

:data:`OBJECTIVES` holds all objectives by name::

    >>> import sp_hf
    >>> sp_hf.OBJECTIVES["spatial_prediction"].kind
    'where'
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import Metric as Metric
    from .api import PretrainingResult as PretrainingResult
    from .api import Results as Results
    from .api import SweepResult as SweepResult
    from .api import evaluate as evaluate
    from .api import export as export
    from .api import pretrain as pretrain
    from .api import push as push
    from .api import sweep as sweep
    from .data.datasets import load_images as load_images
    from .data.object_boxes import with_object_boxes as with_object_boxes
    from .data.part_scenes.dataset import part_scenes as part_scenes
    from .encoders.configuration_sp_vit import SPViTConfig as SPViTConfig
    from .encoders.encoder import Encoder as Encoder
    from .encoders.encoder import Encoding as Encoding
    from .encoders.loading import resolve_encoder as resolve_encoder
    from .encoders.modeling_sp_vit import SPViTModel as SPViTModel
    from .errors import SpHfError as SpHfError
    from .evaluation.tasks import register_task as register_task
    from .hub.push import PushResult as PushResult
    from .model.configuration import SPConfig as SPConfig
    from .model.modeling import SPForPreTraining as SPForPreTraining
    from .objectives import OBJECTIVES as OBJECTIVES
    from .objectives import Objective as Objective
    from .objectives import ObjectiveConfig as ObjectiveConfig
    from .objectives import register_objective as register_objective
    from .views.sampler import ViewSampler as ViewSampler
    from .views.spec import ViewSpec as ViewSpec
else:
    _HOME = {
        "Encoder": "encoders.encoder",
        "Encoding": "encoders.encoder",
        "Metric": "api",
        "OBJECTIVES": "objectives",
        "Objective": "objectives",
        "ObjectiveConfig": "objectives",
        "PretrainingResult": "api",
        "PushResult": "hub.push",
        "Results": "api",
        "SPConfig": "model.configuration",
        "SPForPreTraining": "model.modeling",
        "SPViTConfig": "encoders.configuration_sp_vit",
        "SPViTModel": "encoders.modeling_sp_vit",
        "SpHfError": "errors",
        "SweepResult": "api",
        "ViewSampler": "views.sampler",
        "ViewSpec": "views.spec",
        "evaluate": "api",
        "export": "api",
        "load_images": "data.datasets",
        "part_scenes": "data.part_scenes.dataset",
        "pretrain": "api",
        "push": "api",
        "register_objective": "objectives",
        "register_task": "evaluation.tasks",
        "resolve_encoder": "encoders.loading",
        "sweep": "api",
        "with_object_boxes": "data.object_boxes",
    }

    def __getattr__(name: str) -> Any:
        if name not in _HOME:
            raise AttributeError(f"module 'sp_hf' has no attribute {name!r}; it has {', '.join(__all__)}")
        value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return __all__


__all__ = [
    "Encoder",
    "Encoding",
    "Metric",
    "OBJECTIVES",
    "Objective",
    "ObjectiveConfig",
    "PretrainingResult",
    "PushResult",
    "Results",
    "SPConfig",
    "SPForPreTraining",
    "SPViTConfig",
    "SPViTModel",
    "SpHfError",
    "SweepResult",
    "ViewSampler",
    "ViewSpec",
    "evaluate",
    "export",
    "load_images",
    "part_scenes",
    "pretrain",
    "push",
    "register_objective",
    "register_task",
    "resolve_encoder",
    "sweep",
    "with_object_boxes",
]
