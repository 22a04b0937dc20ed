"""Verified loading of an encoder's weights from the Hub or a folder.

Only safetensors, no custom code.  Every parameter of the encoder must be in the checkpoint.  Entries that the encoder
has no place for are errors too, except those known to belong to something else, which are dropped with a note: the
other tower of CLIP and SigLIP, the head of a stock ``...For...`` class (``classifier``, ViT-MAE's ``decoder``,
... : :data:`sp_hf.encoders.facts.TASK_HEADS`), and the pooler of ViT, DeiT and I-JEPA.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import torch
from huggingface_hub import hf_hub_download
from transformers import AutoConfig, ImageProcessingMixin, PreTrainedConfig, PreTrainedModel, ViTConfig, ViTModel
from transformers.utils import logging as transformers_logging

from ..boundary import reading_checkpoint
from ..errors import CheckpointError, InputError
from .configuration_sp_vit import SPViTConfig, convert_config
from .facts import TASK_HEADS, TIMM, ModelFacts
from .model_types import describe, facts_of, model_class_of, vision_config
from .modeling_sp_vit import SPViTModel
from .timm_wrapper import image_statistics as timm_image_statistics
from .timm_wrapper import require_timm

logger = logging.getLogger(__name__)

Channels = tuple[float, ...]
ViT = TypeVar("ViT", bound=ViTModel)


def load_verified(
    name_or_path: str | Path, revision: str | None = None
) -> tuple[PreTrainedModel, Channels | None, Channels | None]:
    """Load a vision model in float32 and check that all of it was loaded.

    Args:
        name_or_path: ``owner/name`` on the Hub, or a folder with ``config.json`` and safetensors.
        revision: branch, tag or commit of the repository.

    Returns:
        The model without heads, and the image mean and std of its image processor (``None``: it has none).

    Raises:
        CheckpointError: missing, unexpected or misshapen entries (all listed), or no safetensors.
        ValueError: a model type that is not supported.
    """
    name = str(name_or_path)
    config = read_config(name, revision)
    facts = facts_of(config)
    # Weights of the very commit that the configuration is of; of "main" without safetensors, transformers would ask a
    # service to open a pull request with converted ones, and load that.
    commit = commit_of(name, revision)
    try:
        with reading_checkpoint(name, revision), quiet_transformers():
            loader: Any = model_class_of(config)  # whose from_pretrained returns two things, when asked for the second
            model, report = loader.from_pretrained(
                name,
                config=config,
                revision=commit,
                use_safetensors=True,
                output_loading_info=True,
                dtype=torch.float32,
                key_mapping=facts.key_mapping(config) or None,
                **facts.init_kwargs,
            )
    except CheckpointError as error:
        if "safetensors" not in str(error) or "file named" not in str(error):
            raise
        raise CheckpointError(
            f"{name} has no safetensors weights, and other formats are not read (they can run code). "
            "Convert it once, in a place you trust: model.save_pretrained(folder) writes safetensors."
        ) from error
    except RuntimeError as error:  # how transformers reports entries of another shape
        raise CheckpointError(f"{name} does not fit its own configuration: {error}") from error
    _check_report(name, model, describe(model)[0], report)
    if config.model_type == TIMM:
        return model, *timm_image_statistics(config)
    return model, *image_statistics_of(name, revision)


def read_config(name: str, revision: str | None = None) -> PreTrainedConfig:
    """The configuration of the vision encoder in a Hub repository, folder or ``config.json``.

    Raises:
        ValueError: it is a timm model, and timm is missing or cannot build it.
    """
    with reading_checkpoint(name, revision):
        fields, _ = PreTrainedConfig.get_config_dict(name, revision=revision)
    if fields.get("model_type") == TIMM:  # transformers' reader of these imports timm
        require_timm(name)
    with reading_checkpoint(name, revision):
        config = AutoConfig.from_pretrained(name, revision=revision, trust_remote_code=False)
    return vision_config(config)


def commit_of(name: str, revision: str | None = None) -> str | None:
    """The commit that ``revision`` of a Hub repository stands for; of a folder ``revision`` itself."""
    if Path(name).expanduser().exists():
        return revision
    with reading_checkpoint(name, revision):
        folder = Path(hf_hub_download(name, "config.json", revision=revision)).parent  # .../snapshots/<commit>
    return folder.name if folder.parent.name == "snapshots" else revision


def weights_digest(folder: str | Path) -> str | None:
    """SHA-256 of the safetensors in a folder, names included; ``None`` where there are none."""
    files = sorted(Path(folder).glob("*.safetensors"))
    if not files:
        return None
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode())
        with file.open("rb") as content:
            while part := content.read(1 << 22):
                digest.update(part)
    return digest.hexdigest()


def _check_report(name: str, model: PreTrainedModel, facts: ModelFacts, report: dict[str, Any]) -> None:
    prefix = f"{model.base_model_prefix}."
    missing = sorted(key.removeprefix(prefix) for key in report["missing_keys"])
    unexpected = sorted(key.removeprefix(prefix) for key in report["unexpected_keys"])
    misshapen = sorted(str(key) for key in report["mismatched_keys"])
    owners = {key: _owner(key, (*TASK_HEADS, *facts.foreign)) for key in unexpected}
    unknown = [key for key, owner in owners.items() if owner is None]
    problems = {"missing": missing, "unexpected": unknown, "of another shape": misshapen}
    if any(problems.values()):
        lists = "; ".join(f"{len(keys)} {problem}: {', '.join(keys)}" for problem, keys in problems.items() if keys)
        raise CheckpointError(f"{name} is not a whole {facts.model_class} checkpoint: {lists}")
    if owners:
        dropped = ", ".join(sorted({owner for owner in owners.values() if owner is not None}))
        logger.warning("%s: left out %d entries that are not the encoder's: %s", name, len(owners), dropped)


def _owner(key: str, names: tuple[str, ...]) -> str | None:
    """The name that ``key`` is or lies under."""
    return next((name for name in names if key == name or key.startswith(f"{name}.")), None)


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Without transformers' own report of the load: ours says what matters, once."""
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)


def image_statistics_of(name: str, revision: str | None) -> tuple[Channels | None, Channels | None]:
    """Mean and std that the checkpoint's image processor applies to pixels in [0, 1]."""
    try:
        processor, _ = ImageProcessingMixin.get_image_processor_dict(name, revision=revision)
    except OSError:
        logger.warning("%s has no preprocessor_config.json: pixels are normalised with ImageNet's mean and std", name)
        return None, None
    if not processor.get("do_normalize", True):
        return (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    if "image_mean" not in processor or "image_std" not in processor:
        raise CheckpointError(f"{name}: preprocessor_config.json normalises, but has no image_mean and image_std")
    # Pixels in [0, 1] times this is what the processor subtracts the mean from; 1 for nearly every checkpoint.
    scale = 255 * processor.get("rescale_factor", 1 / 255) if processor.get("do_rescale", True) else 255
    mean, std = (tuple(value / scale for value in processor[name]) for name in ("image_mean", "image_std"))
    return mean, std


def plain_vit(model: PreTrainedModel) -> ViTModel:
    """The ``ViTModel`` with the weights of a ViT-like model (``ViTMAEModel``, ``SPViTModel``)."""
    return _as_vit(model, ViTModel, convert_config(model.config, ViTConfig))


def with_token_control(model: PreTrainedModel) -> SPViTModel:
    """The ``SPViTModel`` with the weights of a ``ViTModel`` or ``ViTMAEModel``.

    Raises:
        ValueError: any other model.
    """
    if isinstance(model, SPViTModel):
        return model
    if model.config.model_type not in ("vit", "vit_mae"):
        raise InputError(
            f"token control (masked tokens, moved positions) needs a ViT; {type(model).__name__} is none. "
            "Take ViT or ViT-MAE weights, or objectives that work on whole views"
        )
    return _as_vit(model, SPViTModel, SPViTConfig.from_vit(model.config))


def _as_vit(model: PreTrainedModel, model_class: type[ViT], config: ViTConfig) -> ViT:
    """Move the weights; both ends must have the same ones, poolers apart."""
    with torch.random.fork_rng(devices=[]):  # throw-away initial weights must not move the caller's random numbers
        vit = model_class(config, add_pooling_layer=False)
    state = {key: value for key, value in model.state_dict().items() if not key.startswith("pooler.")}
    vit.load_state_dict(state)
    vit.set_attn_implementation(model.config._attn_implementation)
    module: torch.nn.Module = vit
    module.to(model.device, model.dtype)
    return vit.train(model.training)
