"""Training a light detector on an encoder's feature maps, or with the encoder.

Letters: n images, b images of a batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm
from transformers import PreTrainedModel, get_cosine_schedule_with_warmup

from ...task import TaskSkipped
from .coco import decode_masks
from .objects import ImageObjects

_WARM_UP = 0.05
_WEIGHT_DECAY = 1e-4
_MAX_NORM = 0.1


class Recipe(NamedTuple):
    """How a detector is trained.

    Args:
        epochs: passes over the images.
        batch_size: b.
        learning_rate: of the detector.
        encoder_learning_rate: of the encoder beneath, where it is trained.
        seed: of the order of the images, and of what the detector's loss draws.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    encoder_learning_rate: float
    seed: int

    def steps(self, images: int) -> int:
        """Of the whole training; a last batch that is not full is left out, where there is another."""
        return self.epochs * max(1, images // self.batch_size)


def train(
    detector: PreTrainedModel,
    encoder: nn.Module | None,
    batch_of: Callable[[np.ndarray], dict[str, Any]],
    images: int,
    recipe: Recipe,
    bar: tqdm,
) -> float:
    """Train in place with AdamW, a linear warm-up over 5 % of the steps and a cosine schedule.

    Args:
        detector: on its device; its outputs have a loss.
        encoder: the part of it that has a learning rate of its own; ``None`` where there is none.
        batch_of: from indices int64 [b] to arguments of the detector, on its device.
        images: n.
        recipe: how.
        bar: moves by one a step.

    Returns:
        The mean loss of the last epoch.

    Raises:
        TaskSkipped: it diverged.
    """
    steps = recipe.steps(images)
    optimizer = torch.optim.AdamW(_groups(detector, encoder, recipe), weight_decay=_WEIGHT_DECAY)
    schedule = get_cosine_schedule_with_warmup(optimizer, math.ceil(_WARM_UP * steps), steps)
    order = np.random.default_rng(recipe.seed)
    losses: list[float] = []
    detector.train()
    for _ in range(recipe.epochs):
        shuffled = order.permutation(images)
        for step in range(steps // recipe.epochs):
            batch = shuffled[step * recipe.batch_size : (step + 1) * recipe.batch_size]
            loss = detector(**batch_of(batch)).loss
            losses.append(loss.item())
            if not math.isfinite(losses[-1]):
                raise TaskSkipped(
                    f"the detector diverged at a learning rate of {recipe.learning_rate}: use a smaller one"
                )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(detector.parameters(), _MAX_NORM)
            optimizer.step()
            schedule.step()
            bar.update()
    return float(np.mean(losses[-(steps // recipe.epochs) :]))


def _groups(detector: nn.Module, encoder: nn.Module | None, recipe: Recipe) -> list[dict[str, Any]]:
    beneath = list(encoder.parameters()) if encoder is not None else []
    theirs = {id(parameter) for parameter in beneath}
    own = [parameter for parameter in detector.parameters() if id(parameter) not in theirs]
    groups = [{"params": own, "lr": recipe.learning_rate}]
    return [*groups, {"params": beneath, "lr": recipe.encoder_learning_rate}] if beneath else groups


def box_targets(objects: list[ImageObjects], device: torch.device) -> dict[str, Any]:
    """Arguments of RT-DETR: boxes and classes of each image, without crowds."""
    labels = []
    for one in objects:
        kept = ~one.crowd
        boxes, classes = torch.from_numpy(one.boxes[kept]), torch.from_numpy(one.labels[kept])
        labels.append({"boxes": boxes.to(device), "class_labels": classes.to(device)})
    return {"labels": labels}


def mask_targets(objects: list[ImageObjects], side: int, device: torch.device) -> dict[str, Any]:
    """Arguments of Mask2Former: masks, squashed onto a square of ``side`` px, and classes, without crowds."""
    masks: list[Tensor] = []
    classes = []
    for one in objects:
        kept = np.flatnonzero(~one.crowd)
        assert one.masks is not None  # as of every side that a task of masks has opened
        own = torch.from_numpy(decode_masks([one.masks[i] for i in kept], one.size)).float()  # [m, H, W]
        masks.append(nn.functional.interpolate(own[None], size=(side, side), mode="nearest-exact")[0].to(device))
        classes.append(torch.from_numpy(one.labels[kept]).to(device))
    return {"mask_labels": masks, "class_labels": classes}
