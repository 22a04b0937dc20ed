"""An encoder's own stock classifier: the class of ``AutoModelForImageClassification``, with the encoder's weights.

The weights are taken from the encoder in memory, all of them or an error, and the classification head is fresh, also
where the checkpoint brought one: otherwise models would not start alike. What the stock class feeds its head differs:
the class token (ViT, DeiT), class token and mean of patches side by side (DINOv2), the mean of patches (CLIP, SigLIP,
I-JEPA, BEiT), timm's own pooling.
"""

from __future__ import annotations

import copy

import torch
import transformers
from torch import nn
from transformers import AutoModelForImageClassification, PreTrainedConfig, PreTrainedModel

from ....encoders.checkpoint import quiet_transformers
from ....encoders.encoder import Encoder
from ....encoders.export import stock_model
from ....encoders.facts import TIMM
from ....errors import RunError
from ...task import TaskSkipped

# The stock classifier of a vision tower is built from the configuration of both towers, and keeps the one.
WHOLE_CONFIGS = {"clip_vision_model": "CLIPConfig", "siglip_vision_model": "SiglipConfig"}


def stock_classifier(encoder: nn.Module, num_labels: int, seed: int) -> PreTrainedModel:
    """A classifier on top of a copy of the encoder; neither it nor the global random state is touched.

    Args:
        encoder: an :class:`~sp_hf.encoders.encoder.Encoder`.
        num_labels: C, how many classes its head tells apart.
        seed: of the head; one seed gives encoders of one architecture one head.

    Returns:
        On the CPU, in float32. Its logits are [B, C].

    Raises:
        TaskSkipped: there is no such class for this encoder.
    """
    if not isinstance(encoder, Encoder):
        raise TaskSkipped(f"{type(encoder).__name__} is no transformers model, which alone have stock classifiers")
    body = stock_model(encoder.model)
    config = _classifier_config(body.config, num_labels)
    if type(config) not in AutoModelForImageClassification._model_mapping:
        raise TaskSkipped(
            f"transformers has no image classification class for model type {config.model_type!r}, "
            "so there is nothing stock to fine-tune"
        )
    with torch.random.fork_rng(devices=[]), quiet_transformers():
        torch.manual_seed(seed)
        classifier = AutoModelForImageClassification.from_config(config)
    _load_body(classifier, body, encoder.facts.foreign)
    return classifier.float()


def _classifier_config(config: PreTrainedConfig, num_labels: int) -> PreTrainedConfig:
    config = copy.deepcopy(config)
    whole = WHOLE_CONFIGS.get(config.model_type)
    if whole is not None:
        with quiet_transformers():  # on the unused text tower's special tokens
            config = getattr(transformers, whole)(vision_config=config.to_dict())
    config.num_labels = num_labels
    config.architectures = []  # it says which of several classes is meant; the first is
    return config


def _load_body(classifier: PreTrainedModel, body: PreTrainedModel, heads: tuple[str, ...]) -> None:
    """Copy every weight of the encoder; a pooler that the classifier does without is left out."""
    state = {name: value for name, value in body.state_dict().items() if not name.startswith("pooler.dense.")}
    if body.config.model_type == TIMM:  # encoder and head are one model of timm's
        state = {name.removeprefix("timm_model."): value for name, value in state.items()}
    two_towers = body.config.model_type in WHOLE_CONFIGS
    place = getattr(classifier, "vision_model" if two_towers else classifier.base_model_prefix)
    report = place.load_state_dict(state, strict=False)
    missing = [name for name in report.missing_keys if not name.startswith(heads)] if heads else report.missing_keys
    if missing or report.unexpected_keys:
        raise RunError(
            f"{type(classifier).__name__} and {type(body).__name__} differ: without {missing}, {report.unexpected_keys}"
        )
