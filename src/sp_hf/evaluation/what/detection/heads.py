"""Light detectors of transformers on a feature pyramid, and what they answer.

- Boxes: RT-DETR (Zhao et al. 2023, arXiv:2304.08069) with a hidden size of 96, one encoder and two decoder layers.
- Masks: Mask2Former (Cheng et al. 2021, arXiv:2112.01527) with as many.

Their backbone is replaced by :class:`~.pyramid.SimplePyramid`.

Letters: B images, C classes, Q queries, (H, W) size in px of masks.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    Mask2FormerConfig,
    Mask2FormerForUniversalSegmentation,
    RTDetrConfig,
    RTDetrForObjectDetection,
    RTDetrResNetConfig,
)

from .pyramid import SimplePyramid

HIDDEN = 96
QUERIES = 50
MOST = 100  # answers an image, as COCO counts
BOX_SCALES = (2.0, 1.0, 0.5)
MASK_SCALES = (4.0, 2.0, 1.0, 0.5)


class Answers(NamedTuple):
    """What a detector says of one image, best first, at most 100.

    Args:
        scores: float32 [m].
        labels: int64 [m].
        boxes: float32 [m, 4] normalised (cx, cy, w, h), or ``None``.
        masks: bool [m, H, W], or ``None``.
    """

    scores: Tensor
    labels: Tensor
    boxes: Tensor | None = None
    masks: Tensor | None = None


def box_detector(source: nn.Module, features: int, classes: int, grid: tuple[int, int]) -> RTDetrForObjectDetection:
    """RT-DETR on a pyramid of an encoder's map.

    Args:
        source: makes the map, see :class:`~.pyramid.SimplePyramid`.
        features: the map's channels.
        classes: C.
        grid: (h, w) of the map.
    """
    even = (grid[0] + grid[0] % 2) * (grid[1] + grid[1] % 2)
    config = RTDetrConfig(
        backbone_config=_stand_in(len(BOX_SCALES)),
        encoder_hidden_dim=HIDDEN,
        encoder_in_channels=[HIDDEN] * len(BOX_SCALES),
        encoder_ffn_dim=4 * HIDDEN,
        encoder_attention_heads=3,
        hidden_expansion=0.5,
        d_model=HIDDEN,
        decoder_in_channels=[HIDDEN] * len(BOX_SCALES),
        decoder_ffn_dim=4 * HIDDEN,
        decoder_attention_heads=3,
        decoder_layers=2,
        num_queries=min(QUERIES, int(even * sum(scale**2 for scale in BOX_SCALES))),
        num_denoising=20,
        num_labels=classes,
        disable_custom_kernels=True,
    )
    detector = RTDetrForObjectDetection(config)
    detector.model.backbone.model = SimplePyramid(source, features, HIDDEN, BOX_SCALES)
    return detector


def mask_detector(source: nn.Module, features: int, classes: int) -> Mask2FormerForUniversalSegmentation:
    """Mask2Former on a pyramid of an encoder's map; arguments as for :func:`box_detector`."""
    config = Mask2FormerConfig(
        backbone_config=_stand_in(len(MASK_SCALES)),
        feature_size=HIDDEN,
        mask_feature_size=HIDDEN,
        hidden_dim=HIDDEN,
        encoder_layers=1,
        encoder_feedforward_dim=4 * HIDDEN,
        decoder_layers=3,  # two: transformers counts the queries' first answer, too
        dim_feedforward=4 * HIDDEN,
        num_attention_heads=3,
        num_queries=QUERIES,
        feature_strides=[1, 2, 4, 8],
        common_stride=1,
        train_num_points=2048,
        num_labels=classes,
    )
    detector = Mask2FormerForUniversalSegmentation(config)
    detector.model.pixel_level_module.encoder = SimplePyramid(source, features, HIDDEN, MASK_SCALES)
    return detector


def _stand_in(stages: int) -> RTDetrResNetConfig:
    """Of the smallest backbone with as many stages, each of the pyramid's channels."""
    return RTDetrResNetConfig(
        embedding_size=8,
        hidden_sizes=[HIDDEN] * stages,
        depths=[1] * stages,
        layer_type="basic",
        out_features=[f"stage{stage + 1}" for stage in range(stages)],
    )


def box_answers(outputs: Any) -> list[Answers]:
    """Of RT-DETR's outputs for B images: the best pairs of a query and a class, as its own image processor does."""
    scores = outputs.logits.float().sigmoid().cpu()  # [B, Q, C]
    boxes, classes = outputs.pred_boxes.float().cpu(), scores.shape[-1]
    best, index = scores.flatten(1).topk(min(MOST, scores[0].numel()))
    return [Answers(s, i % classes, boxes=own[i // classes]) for s, i, own in zip(best, index, boxes, strict=True)]


def mask_answers(outputs: Any, sizes: list[tuple[int, int]]) -> list[Answers]:
    """Of Mask2Former's outputs for B images: the best pairs of a query and a class, as its own image processor does.

    A score is the class's probability times the mean probability of the mask's pixels.

    Args:
        outputs: of the detector.
        sizes: (H, W) of each image's masks.
    """
    probabilities = outputs.class_queries_logits.float().softmax(-1)[..., :-1].cpu()  # [B, Q, C]
    logits, classes = outputs.masks_queries_logits.float().cpu(), probabilities.shape[-1]  # [B, Q, h, w]
    best, index = probabilities.flatten(1).topk(min(MOST, probabilities[0].numel()))
    answers = []
    for scores, pairs, own, size in zip(best, index, logits, sizes, strict=True):
        upsampled = F.interpolate(own[None], size=size, mode="bilinear", align_corners=False)[0]
        quality = (upsampled.sigmoid() * (upsampled > 0)).sum((1, 2)) / (upsampled > 0).sum((1, 2)).clamp(min=1)
        query = pairs // classes
        scores = scores * quality[query]
        order = scores.argsort(descending=True)
        answers.append(Answers(scores[order], (pairs % classes)[order], masks=upsampled[query[order]] > 0))
    return answers
