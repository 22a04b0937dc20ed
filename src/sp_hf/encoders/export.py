"""Write an encoder as the stock class that anybody loads with ``AutoModel.from_pretrained``.

``SPViTModel`` is written as ``ViTModel``; every other class as itself.  ``ViTModel`` and ``DeiTModel`` build a
pooler by default, which no objective trains; so that nothing is left to chance on loading, it is written as the
identity (``dense`` = I, ``pooler_act`` = "linear"): ``pooler_output`` *is* the class token.

A mask token that pretraining gave a class which is built without one is left out, and a field of positions of its own
becomes the table of positions of a whole image.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel, ViTModel

from .configuration_sp_vit import SPViTConfig
from .facts import find
from .model_types import describe
from .position_field import lay_over_image


def stock_model(model: PreTrainedModel, state_dict: Mapping[str, Tensor] | None = None) -> PreTrainedModel:
    """A copy of an encoder's model as the stock class, on the CPU.

    Args:
        model: the model inside an ``Encoder``.
        state_dict: its weights, where its own are sharded over processes.
    """
    config: PreTrainedConfig = copy.deepcopy(model.config)
    stock_class: type[PreTrainedModel] = type(model)
    if isinstance(config, SPViTConfig):
        config, stock_class = config.to_vit(), ViTModel
    has_pooler = hasattr(model, "pooler")
    if has_pooler and model.pooler is None and hasattr(config, "pooler_act"):
        config.pooler_act, config.pooler_output_size = "linear", config.hidden_size
    with torch.random.fork_rng(devices=[]):  # throw-away initial weights must not move the caller's random numbers
        stock = stock_class(config)
    state = {name: value.detach().cpu() for name, value in (state_dict or model.state_dict()).items()}
    state = _without_extras(model, stock, state)
    state = {**_identity_pooler(stock, state), **state}
    module: nn.Module = stock
    module.to(next(iter(state.values())).dtype).load_state_dict(state)
    return stock.eval()


def _without_extras(model: PreTrainedModel, stock: PreTrainedModel, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights without a mask token and a position field that the stock class does not have."""
    facts, dimensions = describe(model)
    if facts.mask_token is not None and facts.mask_token in state and find(stock, facts.mask_token) is None:
        del state[facts.mask_token]
    field = state.pop("position_field", None)  # [1, side * side, D]
    if field is not None:
        table = state["embeddings.position_embeddings"]
        (height, width), (tall, wide) = dimensions.image_size, dimensions.patch_size
        side = model.config.position_field
        positions = lay_over_image(field[0].unflatten(0, (side, side)), (height // tall, width // wide))
        state["embeddings.position_embeddings"] = torch.cat([table[:, :1], positions], dim=1)
    return state


def _identity_pooler(stock: PreTrainedModel, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a pooler that the stock class builds and the encoder lacks."""
    if not isinstance(getattr(stock, "pooler", None), nn.Module) or any(name.startswith("pooler.") for name in state):
        return {}
    own = stock.state_dict()
    if "pooler.dense.weight" not in own:  # one without weights, or another's
        return {}
    weights = {"pooler.dense.weight": torch.eye(len(own["pooler.dense.weight"])), "pooler.dense.bias": torch.zeros(1)}
    return {name: value.expand_as(own[name]).clone() for name, value in weights.items() if name in own}


def save_stock(
    model: PreTrainedModel,
    image_mean: Sequence[float],
    image_std: Sequence[float],
    directory: str | Path,
    image_size: int | tuple[int, int],
    state_dict: Mapping[str, Tensor] | None = None,
) -> None:
    """Write ``config.json``, ``model.safetensors`` and ``preprocessor_config.json``.

    The image processor is ``ViTImageProcessor`` for every model: resize to a square, scale to [0, 1], normalise.

    Args:
        model: the model inside an ``Encoder``.
        image_mean, image_std: per channel, for pixels in [0, 1].
        directory: made if need be.
        image_size: pixels a side, or (height, width), that the image processor resizes to.
        state_dict: its weights, where its own are sharded over processes.
    """
    directory = Path(directory)
    stock = stock_model(model, state_dict)
    if getattr(stock.config, "pretrained_cfg", None):  # where timm keeps what its image processor does
        stock.config.pretrained_cfg |= {"mean": list(image_mean), "std": list(image_std)}
    stock.save_pretrained(directory)
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    processor = {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "size": {"height": height, "width": width},
        "resample": 3,  # bicubic
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(image_mean),
        "image_std": list(image_std),
    }
    (directory / "preprocessor_config.json").write_text(json.dumps(processor, indent=2) + "\n", encoding="utf-8")
