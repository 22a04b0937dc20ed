"""timm's vision transformers and conv nets, as ``transformers`` wraps them (model type ``timm_wrapper``).

A wrapped model's configuration names an architecture of timm's registry and says nothing of widths or patches, so
they are read off the built model, and one forward pass of shapes alone (on the ``meta`` device) confirms that the
tokens lie as :class:`~sp_hf.encoders.encoder.Encoder` will read them.  What is yielded:

- ``cls``: timm's own pooled embedding (``forward_head`` without a classifier): class token, mean of patches, attention
  pooling, whichever the architecture was made with.
- ``patches``: ``forward_features`` without its prefix tokens, or the cells of the last feature map.  Where the
  architecture keeps its last norm for the pooled output (``fc_norm``, ``head.norm``), it is applied to them too.

Vision transformers that can are built with ``dynamic_img_size``: positions are interpolated to the size of the view,
and at the native size nothing changes.  Those that cannot take their native size alone.

timm is an optional dependency: ``pip install timm`` (which needs torchvision).
"""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.func import functional_call
from transformers import PreTrainedConfig, PreTrainedModel

from ..errors import InputError
from .facts import Dimensions, ModelFacts, find

if TYPE_CHECKING:
    from transformers import CLIPImageProcessor

FORBIDDEN_ARGS = ("checkpoint_path", "features_only", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay")
"""Arguments of ``timm.create_model`` that would fetch other weights, or build something else than the encoder."""

RESAMPLE = {"nearest": 0, "bilinear": 2, "bicubic": 3}
"""Codes of interpolation (``PIL.Image.Resampling``)."""


def require_timm(name: str) -> None:
    """Import timm.

    Raises:
        ValueError: it is not there, or does not import (it needs torchvision).
    """
    try:
        import timm  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"{name} is a timm model and timm cannot be imported ({error}): pip install timm, with a torchvision that "
            "fits the installed torch"
        ) from error


def sizeable(config: PreTrainedConfig) -> PreTrainedConfig:
    """A copy of a ``timm_wrapper`` configuration that takes views of any size, where its architecture can.

    Raises:
        ValueError: timm is missing; it does not know the architecture; an argument that an encoder cannot have.
    """
    require_timm(f"architecture {config.architecture!r}")
    import timm

    config = copy.deepcopy(config)
    arguments = dict(config.model_args or {})
    forbidden = [name for name in FORBIDDEN_ARGS if name in arguments]
    if forbidden:
        raise InputError(f"model_args of {config.architecture} cannot have {', '.join(forbidden)} in an encoder")
    if not timm.is_model(config.architecture):
        raise InputError(
            f"timm {timm.__version__} has no architecture {config.architecture!r}: pip install -U timm, "
            "or see timm.list_models()"
        )
    if "dynamic_img_size" not in arguments:
        with torch.device("meta"):  # only to learn its class
            network = timm.create_model(config.architecture, pretrained=False, num_classes=0, **arguments)
        if _takes_any_size(type(network)):
            config.model_args = {**arguments, "dynamic_img_size": True}
    return config


def _takes_any_size(network_class: type[nn.Module]) -> bool:
    return "dynamic_img_size" in inspect.signature(network_class.__init__).parameters


def image_statistics(config: PreTrainedConfig) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std for pixels in [0, 1]: the checkpoint's ``pretrained_cfg``, or else the architecture's in timm."""
    import timm

    written = getattr(config, "pretrained_cfg", None) or {}
    default = timm.get_pretrained_cfg(config.architecture)
    mean = written.get("mean") or default.mean
    std = written.get("std") or default.std
    return tuple(float(value) for value in mean), tuple(float(value) for value in std)


def image_processor(config: PreTrainedConfig) -> CLIPImageProcessor:
    """What timm does to whole images: resize the shorter side (``crop_mode`` "squash": both sides), crop the centre.

    timm's own wrapper of it fixes the size and needs torchvision; this is a stock processor that does the same.

    Args:
        config: of a ``timm_wrapper`` model.

    Raises:
        ValueError: a crop mode or an interpolation that is none of timm's usual ones.
    """
    import timm
    from transformers import CLIPImageProcessor  # here, as its import is what transformers remarks on

    written = {name: value for name, value in (getattr(config, "pretrained_cfg", None) or {}).items() if value}
    described = {**timm.get_pretrained_cfg(config.architecture).to_dict(), **written}
    mode, interpolation = described.get("crop_mode") or "center", described["interpolation"]
    if mode not in ("center", "squash") or interpolation not in RESAMPLE:
        raise InputError(
            f"{config.architecture} wants images by crop mode {mode!r} and {interpolation!r} interpolation; "
            f"known are center and squash, {', '.join(RESAMPLE)}"
        )
    _, height, width = described["input_size"]
    tall, wide = (math.floor(side / described["crop_pct"]) for side in (height, width))
    mean, std = image_statistics(config)
    return CLIPImageProcessor(
        size={"height": tall, "width": wide} if mode == "squash" else {"shortest_edge": min(tall, wide)},
        crop_size={"height": height, "width": width},
        resample=RESAMPLE[interpolation],
        image_mean=list(mean),
        image_std=list(std),
    )


def timm_facts(model: PreTrainedModel) -> tuple[ModelFacts, Dimensions]:
    """How to read a ``TimmWrapperModel``, and its dimensions.

    Raises:
        ValueError: an architecture whose features are not a grid of patches, alone or behind prefix tokens.
    """
    network: Any = model.timm_model
    described = network.pretrained_cfg
    projection, *_ = _names(described["first_conv"])
    made_for = getattr(getattr(network, "patch_embed", None), "img_size", None) or described["input_size"][1:]
    dimensions = Dimensions(
        hidden_size=network.num_features,
        num_hidden_layers=len(network.blocks if hasattr(network, "blocks") else network.feature_info),
        num_prefix_tokens=getattr(network, "num_prefix_tokens", 0),
        patch_size=(network.feature_info[-1]["reduction"],) * 2,
        image_size=tuple(made_for),
        num_channels=(model.config.model_args or {}).get("in_chans", described["input_size"][0]),
    )
    layout = _layout(model, dimensions)
    any_size = (model.config.model_args or {}).get("dynamic_img_size", False)
    facts = ModelFacts(
        "TimmWrapperModel",
        patch_projection=f"timm_model.{projection}",
        embedding="pooler",
        resizes_on_request=False,
        square_positions=False,
        fixed_size=bool(described.get("fixed_input_size")) and not any_size,
        final_norm=next((f"timm_model.{path}" for path in ("fc_norm", "head.norm") if _has(network, path)), None),
        feature_map=layout,
        norm_of_map=layout == "NCHW",
        foreign=_names(described["classifier"]),
    )
    return facts, dimensions


def _layout(model: PreTrainedModel, dimensions: Dimensions) -> str | None:
    """``"NCHW"`` or ``"NHWC"`` of feature maps, ``None`` of tokens; found by a forward pass of shapes alone."""
    network: Any = model.timm_model
    architecture = model.config.architecture
    state = {name: value.detach().to("meta") for name, value in (*model.named_parameters(), *model.named_buffers())}
    height, width = dimensions.image_size
    pixels = torch.empty(1, dimensions.num_channels, height, width, device="meta")
    with torch.no_grad():
        outputs = functional_call(model, state, (pixels,))
    features, pooled = tuple(outputs.last_hidden_state.shape), getattr(outputs.pooler_output, "shape", None)
    (patch, _), prefix, hidden = dimensions.patch_size, dimensions.num_prefix_tokens, dimensions.hidden_size
    rows, columns = height // patch, width // patch
    layouts = {
        None: (1, prefix + rows * columns, hidden),
        "NCHW": (1, hidden, rows, columns),
        "NHWC": (1, rows, columns, hidden),
    }
    layout = str(getattr(network, "output_fmt", "NCHW")) if len(features) == 4 else None
    if features != layouts[layout] or pooled != (1, hidden):
        raise InputError(
            f"timm's {architecture} cannot be used as an encoder: of {height} x {width} pixels it makes features "
            f"{list(features)} and an embedding {list(pooled or ())}; needed are {rows} x {columns} patches of {patch} "
            f"pixels behind {prefix} prefix tokens, or as a feature map, and an embedding, all {hidden} wide"
        )
    if layout is None and not hasattr(network, "num_prefix_tokens"):
        raise InputError(
            f"timm's {architecture} cannot be used as an encoder: {type(network).__name__} does not say in what order "
            "its tokens lie (no num_prefix_tokens); take a vision transformer or a conv net"
        )
    return layout


def _names(value: str | Sequence[str] | None) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value or ())


def _has(network: nn.Module, path: str) -> bool:
    """Whether there is a layer at a dotted path that does something."""
    layer = find(network, path)
    return layer is not None and not isinstance(layer, nn.Identity)
