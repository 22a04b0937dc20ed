"""A classifier that looks at an image's patch tokens by learned queries: attentive pooling, then a linear layer.

    a_mn = softmax over n of  q_m . x_n / sqrt(D)     z_m = sum over n of a_mn x_n     logits = W [z_1, ..., z_M] + b

x_n are standardised tokens. What it can tell of *where* must be in the tokens themselves, as pooling forgets their
order. SpaRRTa (Kargin et al. 2026, arXiv:2601.11729) finds relations of objects in patch tokens that a mean over them
hides; its strongest probe has M = 4 queries, too (efficient probing, Psomas et al. 2025, with a bottleneck of D / 8
before the linear layer, which is left out here: the composition is linear).

AdamW (weight decay 1e-3), batches of 64 images, cosine schedule over 40 epochs or 300 steps, whichever is longer; step
size and epoch are those with the least cross-entropy on a fifth of each class of the training images, and training is
repeated on all of them for as many steps.

Letters: n images, N tokens of an image, D feature size, M queries, C classes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...probes.hold_out import hold_out_of_each_class
from ...probes.standardise import Standardisation

QUERIES = 4
LEARNING_RATES = (1e-3, 1e-2)
_WEIGHT_DECAY = 1e-3
_BATCH = 64
_EPOCHS, _STEPS = 40, 300  # the longer of the two
_STANDARDISED_BY = 20_000  # tokens

Batch = Callable[[Tensor], Tensor]  # rows int64 [b] to tokens float32 [b, N, D]


class AttentivePooling(nn.Module):
    """The classifier.

    Args:
        features: D.
        classes: C.
        seed: of its initial weights.
    """

    def __init__(self, features: int, classes: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.queries = nn.Parameter(0.02 * torch.randn(QUERIES, features, generator=generator))
        self.weight = nn.Parameter(torch.zeros(classes, QUERIES * features))
        self.bias = nn.Parameter(torch.zeros(classes))

    def forward(self, x: Tensor) -> Tensor:
        """[b, N, D] to [b, C]."""
        attention = (x @ self.queries.T / x.shape[-1] ** 0.5).softmax(1)  # [b, N, M]
        pooled = attention.transpose(1, 2) @ x  # [b, M, D]
        return F.linear(pooled.flatten(1), self.weight, self.bias)


@dataclasses.dataclass(frozen=True)
class AttentiveProbe:
    """A trained classifier.

    Args:
        network: on the CPU.
        standardise: of the training tokens.
        learning_rate, epochs: chosen.
    """

    network: AttentivePooling
    standardise: Standardisation
    learning_rate: float
    epochs: int

    @torch.no_grad()
    def predict(self, values: np.ndarray) -> Tensor:
        """Classes int64 [n] of tokens [n, N, D]."""
        read = _reader(values, self.standardise)
        return torch.cat([self.network(read(rows)).argmax(-1) for rows in torch.arange(len(values)).split(_BATCH)])


def fit_attentive(values: np.ndarray, labels: Tensor, classes: int, seed: int) -> AttentiveProbe:
    """Train on tokens.

    Args:
        values: [n, N, D], maybe memory-mapped.
        labels: int64 [n] in 0 .. C-1.
        classes: C.
        seed: of held-out images, weights and batches.
    """
    n, tokens, features = values.shape
    drawn = np.random.default_rng(seed).choice(n * tokens, min(n * tokens, _STANDARDISED_BY), replace=False)
    sample = values[drawn // tokens, drawn % tokens].astype(np.float32)
    standardise = Standardisation.of(torch.from_numpy(sample))
    read = _reader(values, standardise)
    held_out = hold_out_of_each_class(labels, seed)
    fitted, asked = (torch.where(rows)[0] for rows in (~held_out, held_out))
    tried = []
    for rate in LEARNING_RATES:
        network = AttentivePooling(features, classes, seed)
        losses = _train(network, read, fitted, labels, rate, seed, asked=asked)
        epoch = min(range(len(losses)), key=losses.__getitem__)
        tried.append((losses[epoch], rate, epoch + 1))
    _, rate, epochs = min(tried)
    network = AttentivePooling(features, classes, seed)
    _train(network, read, torch.arange(n), labels, rate, seed, stop=epochs)
    return AttentiveProbe(network, standardise, rate, epochs)


def _reader(values: np.ndarray, standardise: Standardisation) -> Batch:
    return lambda rows: standardise(torch.from_numpy(values[rows.numpy()].astype(np.float32)))


def _train(
    network: AttentivePooling,
    read: Batch,
    rows: Tensor,
    labels: Tensor,
    rate: float,
    seed: int,
    *,
    asked: Tensor | None = None,
    stop: int | None = None,
) -> list[float]:
    """Train in place, for ``stop`` of the schedule's epochs; the cross-entropy on ``asked`` after each."""
    generator = torch.Generator().manual_seed(seed)
    per_epoch = -(-len(rows) // _BATCH)
    epochs = max(_EPOCHS, -(-_STEPS // per_epoch))
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=_WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * per_epoch)
    losses = []
    for _ in range(epochs if stop is None else stop):
        for batch in rows[torch.randperm(len(rows), generator=generator)].split(_BATCH):
            optimizer.zero_grad()
            F.cross_entropy(network(read(batch)), labels[batch]).backward()
            optimizer.step()
            schedule.step()
        if asked is not None:
            losses.append(_loss(network, read, asked, labels))
    return losses


@torch.no_grad()
def _loss(network: AttentivePooling, read: Batch, rows: Tensor, labels: Tensor) -> float:
    parts = [F.cross_entropy(network(read(b)), labels[b], reduction="sum") for b in rows.split(_BATCH)]
    return float(torch.stack(parts).sum() / len(rows))
