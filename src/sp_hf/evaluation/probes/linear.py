"""Linear probe: softmax regression on frozen features, with a sweep of step sizes and weight decays in one pass.

Features are the class token and the mean patch token side by side (as in DINOv2's linear evaluation, Oquab et al.
2023, arXiv:2304.07193, section 7.1), standardised by the training images; each candidate is trained on them without
augmentation:

    min over W, b of   mean over images of CE(W x + b, y)  +  (decay / 2) |W|^2

Every candidate is a slice of one batched matrix, so that the sweep costs one pass over the features an epoch: SGD with
Nesterov momentum 0.9 and a cosine schedule. 20 % of the training images choose the candidate (never the validation
images), which is then trained again on all of them.

Letters: n images, D features, C classes, K candidates, B images of a batch.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor
from torch.nn import functional as F

from ..accuracy import check_labels
from .hold_out import hold_out_of_each_class
from .refits import random_halves
from .softmax_regression import train_softmax
from .standardise import Standardisation

LEARNING_RATES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
WEIGHT_DECAYS = (1e-5, 1e-3, 1e-2, 1e-1)
_BATCH = 256
_STEPS = 1000  # at least, however few images there are


@dataclasses.dataclass(frozen=True)
class LinearProbe:
    """A trained linear classifier of features.

    Args:
        standardise: of the training features.
        weight, bias: [D, C] and [C].
        classes: int64 [C], the labels its outputs stand for.
        learning_rate, weight_decay: chosen.
        held_out_accuracy: of the candidate that was chosen, on the images that chose it.
        train_images: how many it was trained on.
        refits: the chosen candidate, trained on random halves of the training images instead.
    """

    standardise: Standardisation
    weight: Tensor
    bias: Tensor
    classes: Tensor
    learning_rate: float
    weight_decay: float
    held_out_accuracy: float
    train_images: int
    refits: tuple[LinearProbe, ...] = ()

    def logits(self, features: Tensor) -> Tensor:
        """[..., D] to [..., C], in the order of ``classes``; on the CPU."""
        return self.standardise(features.float().cpu()) @ self.weight + self.bias

    def predict(self, features: Tensor) -> Tensor:
        """[..., D] to labels int64 [...]."""
        return self.classes[self.logits(features).argmax(-1)]


def fit_linear(
    features: Tensor,
    labels: Tensor,
    *,
    seed: int = 0,
    epochs: int = 30,
    learning_rates: tuple[float, ...] = LEARNING_RATES,
    weight_decays: tuple[float, ...] = WEIGHT_DECAYS,
    refits: int = 0,
) -> LinearProbe:
    """Choose step size and weight decay on held-out training images, then train on all.

    Args:
        features: [n, D].
        labels: int64 [n]; images without one (-1) are left out.
        seed: of the held-out images and the batches.
        epochs: passes over the images (more where they are few: at least 1000 steps).
        learning_rates, weight_decays: candidates.
        refits: how many halves of the images the chosen candidate is trained on, too, in one pass for all of them.

    Raises:
        LabelError: fewer than two classes.
    """
    check_labels(labels, labels)
    features, labels = features[labels >= 0].float(), labels[labels >= 0]
    classes, index = torch.unique(labels, return_inverse=True)
    standardise = Standardisation.of(features)
    x = standardise(features)
    held_out = hold_out_of_each_class(index, seed)
    grid = [(rate, decay) for rate in learning_rates for decay in weight_decays]
    weights, biases = _train(x[~held_out], index[~held_out], len(classes), grid, epochs, seed)
    logits = torch.einsum("nd,kdc->knc", x[held_out], weights) + biases[:, None]
    correct = (logits.argmax(-1) == index[held_out]).double().mean(1)  # [K]
    losses = torch.stack([F.cross_entropy(of_setting, index[held_out]) for of_setting in logits])  # breaks ties
    best = max(range(len(grid)), key=lambda k: (float(correct[k]), -float(losses[k])))
    weight, bias = _train(x, index, len(classes), [grid[best]], epochs, seed)
    probe = LinearProbe(standardise, weight[0], bias[0], classes, *grid[best], float(correct[best]), len(x))
    halves = random_halves(len(x), refits, seed, index)
    if not halves:
        return probe
    shares = torch.zeros(len(x), refits)
    for k, half in enumerate(halves):
        shares[half, k] = len(x) / len(half)
    refitted = _train(x, index, len(classes), [grid[best]] * refits, epochs, seed, shares)
    probes = [dataclasses.replace(probe, weight=weight, bias=bias) for weight, bias in zip(*refitted, strict=True)]
    return dataclasses.replace(probe, refits=tuple(probes))


def _train(
    x: Tensor,
    labels: Tensor,
    classes: int,
    grid: list[tuple[float, float]],
    epochs: int,
    seed: int,
    shares: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """All candidates at once: weights [K, D, C] and biases [K, C]."""
    return train_softmax(x, labels, classes, grid, _batches(len(x), epochs, seed), shares)


def _batches(n: int, epochs: int, seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    per_epoch = -(-n // _BATCH)
    epochs = max(epochs, -(-_STEPS // per_epoch))
    return [rows for _ in range(epochs) for rows in torch.randperm(n, generator=generator).split(_BATCH)]
