"""A linear classifier of patch tokens whose targets are fractions of their areas, and what is decided by it.

Standardised tokens are whitened, z = (Lambda + 1/100)^(-1/2) V' x with V, Lambda the eigenvectors and values of their
covariance, and a softmax regression is trained on z (:mod:`sp_hf.evaluation.probes.softmax_regression`; 1000 steps of
512 tokens). Whitening is linear, so that the classifier is one of the tokens; it makes every direction equally easy to
learn, without which models whose tokens vary along few directions are compared by how far gradient descent got. Step
size and weight decay are those with the least cross-entropy on the held-out images.

Two decisions are taken of its logits:

    plain      argmax over c of    logit_c
    adjusted   argmax over c of    logit_c - tau log prior_c

The plain one is right as often as it can be, and mostly answers the commonest class where features say little. Mean IoU
asks otherwise: logit adjustment (Menon et al. 2021, arXiv:2007.07314, section 4) takes out a part tau of the classes'
frequencies, prior, in the training tokens; tau in 0, 1/4, ... 1 is the one with the best mIoU over the tokens of the
held-out images, areas counted by fraction.

Letters: D feature size, t tokens, C classes, K candidates.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ...probes.softmax_regression import shuffled_batches, train_softmax
from ..dense.dense_task import TrainingTokens

LEARNING_RATES = (0.03, 0.1, 0.3, 1.0)
WEIGHT_DECAYS = (1e-5, 1e-3, 1e-2)
TAUS = (0.0, 0.25, 0.5, 0.75, 1.0)
_BATCH = 512
_STEPS = 1000
_SHRINKAGE = 0.01  # of the covariance, whose mean eigenvalue is 1


class SegmentationHead(NamedTuple):
    """A trained linear classifier of tokens.

    Args:
        training: what it was fitted on.
        weight, bias: [D, C] and [C], for standardised tokens.
        prior: [C], the fraction of the training tokens' area that each class takes.
        learning_rate, weight_decay, tau: chosen.
    """

    training: TrainingTokens
    weight: Tensor
    bias: Tensor
    prior: Tensor
    learning_rate: float
    weight_decay: float
    tau: float

    def logits(self, tokens: Tensor) -> Tensor:
        """[..., D] to [..., C]."""
        return self.training.standardise(tokens) @ self.weight + self.bias

    def adjustment(self) -> Tensor:
        """[C], what the adjusted decision adds to the logits."""
        return -self.tau * _log(self.prior)


def fit_segmentation(training: TrainingTokens, seed: int) -> SegmentationHead:
    """Choose hyperparameters on the held-out images, then train on all.

    Args:
        training: its targets are fractions of area [t, C].
        seed: of the batches.
    """
    held_out, targets, classes = training.held_out, training.targets, training.targets.shape[1]
    whitening = whitening_of(training.x[~held_out])
    grid = [(rate, decay) for rate in LEARNING_RATES for decay in WEIGHT_DECAYS]
    batches = shuffled_batches(int((~held_out).sum()), _BATCH, _STEPS, seed)
    weights, biases = train_softmax(training.x[~held_out] @ whitening, targets[~held_out], classes, grid, batches)
    asked, wanted = training.x[held_out] @ whitening, targets[held_out]
    losses = [float(cross_entropy(asked @ w + b, wanted)) for w, b in zip(weights, biases, strict=True)]
    best = min(range(len(grid)), key=losses.__getitem__)
    prior = targets.sum(0) / targets.sum()
    logits = asked @ weights[best] + biases[best]
    tau = max(TAUS, key=lambda tau: token_miou(logits - tau * _log(prior), wanted))
    batches = shuffled_batches(len(targets), _BATCH, _STEPS, seed)
    weight, bias = train_softmax(training.x @ whitening, targets, classes, [grid[best]], batches)
    return SegmentationHead(training, whitening @ weight[0], bias[0], prior, *grid[best], tau)


def whitening_of(x: Tensor) -> Tensor:
    """The map [D, D] that gives standardised tokens [t, D] equal variances along all directions, but for shrinkage."""
    covariance = (x.T @ x / len(x)).double()
    values, vectors = torch.linalg.eigh(covariance)
    return (vectors / (values.clamp(min=0) + _SHRINKAGE).sqrt()).float()


def cross_entropy(logits: Tensor, fractions: Tensor) -> Tensor:
    """Mean over the area of tokens: both [t, C]."""
    return -(fractions * logits.log_softmax(-1)).sum() / fractions.sum()


def token_miou(logits: Tensor, fractions: Tensor) -> float:
    """mIoU of one class a token against fractions of its area: both [t, C]."""
    predicted = torch.zeros_like(fractions).scatter_(1, logits.argmax(-1, keepdim=True), 1)
    intersection, known = (predicted * fractions).sum(0), fractions.sum(1, keepdim=True)
    union = fractions.sum(0) + (predicted * known).sum(0) - intersection
    presence = fractions.sum(0) > 0
    return float((intersection[presence] / union[presence]).mean())


def _log(prior: Tensor) -> Tensor:
    """A class too small for any token to hold is as rare as float32 can say."""
    return prior.clamp(min=torch.finfo(prior.dtype).tiny).log()
