"""Linear probe: softmax regression on frozen features, with a sweep of step sizes and weight decays in one pass.

Features are the class token and the mean patch token side by side (as in DINOv2's linear evaluation, Oquab et al.
2023, arXiv:2304.07193, section 7.1), standardised by the training images; each candidate is trained on them without
augmentation:

    min over W, b of   mean over images of CE(W x + b, y)  +  (decay / 2) |W|^2

Every candidate is a slice of one batched matrix, so that the sweep costs one pass over the features an epoch: SGD with
Nesterov momentum 0.9 and a cosine schedule. 20 % of the training images choose the candidate (never the validation
images), which is then trained again on all of them.

Features stay where they are, maybe on disk; batches of them go to the device on which the weights are trained. So
1.28 M images of 1,000 classes take the device less than 1 GB, and the host one copy of the features
(``benchmarks/linear_probe.py``).

Letters: n images, D features, C classes, K candidates, B images of a batch.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ..accuracy import check_labels
from .hold_out import hold_out_of_each_class
from .refits import random_halves
from .softmax_regression import read_rows, train_softmax
from .standardise import Standardisation

LEARNING_RATES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
WEIGHT_DECAYS = (1e-5, 1e-3, 1e-2, 1e-1)
_BATCH = 256
_STEPS = 1000  # at least, however few images there are
_ASKED = 1024  # held-out images at a time


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
    steps: int = _STEPS,
    device: torch.device | str = "cpu",
) -> LinearProbe:
    """Choose step size and weight decay on held-out training images, then train on all.

    Args:
        features: [n, D].
        labels: int64 [n]; images without one (-1) are left out.
        seed: of the held-out images and the batches.
        epochs: passes over the images (more where they are few: at least 1000 steps).
        learning_rates, weight_decays: candidates.
        refits: how many halves of the images the chosen candidate is trained on, too, in one pass for all of them.
        steps: of each training, at least.
        device: where it is trained; the probe is on the CPU.

    Raises:
        LabelError: fewer than two classes.
    """
    check_labels(labels, labels)
    rows = torch.where(labels >= 0)[0]  # of the features
    classes, index = torch.unique(labels[rows], return_inverse=True)
    features = features.float()
    standardise = Standardisation.of_rows(features, rows)
    held_out = hold_out_of_each_class(index, seed)
    grid = [(rate, decay) for rate in learning_rates for decay in weight_decays]
    images = _Images(features, rows, index, len(classes), standardise, device)
    fitted = torch.where(~held_out)[0]
    weights, biases = images.train(grid, _batches(len(fitted), epochs, steps, seed, fitted))
    correct, losses = images.score(weights, biases, torch.where(held_out)[0])  # [K] each; the loss breaks ties
    best = max(range(len(grid)), key=lambda k: (float(correct[k]), -float(losses[k])))
    batches = _batches(len(rows), epochs, steps, seed)
    weight, bias = images.train([grid[best]], batches)
    probe = LinearProbe(standardise, weight[0], bias[0], classes, *grid[best], float(correct[best]), len(rows))
    halves = random_halves(len(rows), refits, seed, index)
    if not halves:
        return probe
    shares = torch.zeros(len(rows), refits)
    for k, half in enumerate(halves):
        shares[half, k] = len(rows) / len(half)
    refitted = images.train([grid[best]] * refits, batches, shares)
    probes = [dataclasses.replace(probe, weight=weight, bias=bias) for weight, bias in zip(*refitted, strict=True)]
    return dataclasses.replace(probe, refits=tuple(probes))


class _Images(NamedTuple):
    """Labelled images: which rows of the features they are, their classes, and how their features are read."""

    features: Tensor  # float32 [m, D]
    rows: Tensor  # int64 [n]
    labels: Tensor  # int64 [n]
    classes: int
    standardise: Standardisation
    device: torch.device | str

    def train(
        self, grid: list[tuple[float, float]], batches: list[Tensor], shares: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """All candidates at once: weights [K, D, C] and biases [K, C]."""
        return train_softmax(
            self.features,
            self.labels,
            self.classes,
            grid,
            batches,
            shares,
            standardise=self.standardise,
            device=self.device,
            places=self.rows,
        )

    def score(self, weights: Tensor, biases: Tensor, asked: Tensor) -> tuple[Tensor, Tensor]:
        """Accuracy and cross-entropy of each candidate on some images: [K] each."""
        weights, biases = weights.to(self.device), biases.to(self.device)
        correct, loss = torch.zeros(2, len(weights), dtype=torch.float64)
        for part in asked.split(_ASKED):
            x = read_rows(self.features, self.rows[part], self.standardise, self.device)
            labels = self.labels[part].to(self.device)
            logits = torch.einsum("nd,kdc->knc", x, weights) + biases[:, None]
            correct += (logits.argmax(-1) == labels).double().sum(1).cpu()
            every = F.cross_entropy(logits.flatten(0, 1), labels.repeat(len(weights)), reduction="none")
            loss += every.unflatten(0, (len(weights), -1)).double().sum(1).cpu()
        return correct / len(asked), loss / len(asked)


def _batches(n: int, epochs: int, steps: int, seed: int, rows: Tensor | None = None) -> list[Tensor]:
    """Of n images, or of these ones: int64 [n]."""
    generator = torch.Generator().manual_seed(seed)
    per_epoch = -(-n // _BATCH)
    epochs = max(epochs, -(-steps // per_epoch))
    orders = [torch.randperm(n, generator=generator) for _ in range(epochs)]
    return [batch for order in orders for batch in (order if rows is None else rows[order]).split(_BATCH)]
