"""The second probe of relative geometry: a small MLP on the concatenated features of a pair.

    r(i, j) = [g(f_i, f_j) - g(f_j, f_i)] / 2        g = two hidden layers of 256, GELU, in standard units

Relations in image units are antisymmetric, and so is r, whatever g: features that say nothing are then answered with
exactly 0, the floor. AdamW (Loshchilov and Hutter 2017, arXiv:1711.05101) on the mean squared error of the four
standardised targets (learning rate 5e-4, weight decay 0.1, batches of 64 images with all their pairs), cosine schedule
over 10 epochs or 300 steps, whichever is longer. Early stopping: the epoch with the least error on held-out training
images is kept, and the rest is not waited for once 5 epochs and 60 steps have brought no better one.

Letters: n images, V crops of an image, P = V (V - 1) ordered pairs, D feature size, H hidden size, T = 4 targets.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from ....views.geometry import relation
from ....views.pairs import ordered_pairs
from ...probes.hold_out import hold_out
from ...probes.standardise import Standardisation
from .probe import PROBE

_HIDDEN = 256
_LEARNING_RATE = 5e-4
_WEIGHT_DECAY = 0.1
_BATCH = 64  # images, with all their pairs
_EPOCHS, _STEPS = 10, 300  # the longer of the two
_PATIENCE_EPOCHS, _PATIENCE_STEPS = 5, 60  # without a better epoch; the longer of the two


class PairMLP(nn.Module):
    """r: the first layer of g is applied to each crop once, as it is linear in the concatenation."""

    def __init__(self, features: int, targets: int = 4, hidden: int = _HIDDEN) -> None:
        super().__init__()
        self.first = nn.Linear(features, hidden)
        self.second = nn.Linear(features, hidden, bias=False)
        self.rest = nn.Sequential(nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, targets))

    def forward(self, x: Tensor) -> Tensor:
        """Standardised features [n, V, D] to relations of all ordered pairs [n, P, T]."""
        first, second = ordered_pairs(x.shape[1])
        g = self.rest(self.first(x)[:, first] + self.second(x)[:, second])  # [n, P, T]
        return (g - g[:, reverse_of(first, second)]) / 2


def reverse_of(first: Tensor, second: Tensor) -> Tensor:
    """For each ordered pair (i, j) of :func:`~sp_hf.views.pairs.ordered_pairs`, the index of (j, i)."""
    return second * int(first.max()) + first - (first > second).long()


@dataclasses.dataclass(frozen=True)
class RelationMLP:
    """A trained MLP.

    Args:
        standardise: of the training crops' features.
        target_scale: [T], standard deviation of the relations.
        network: g.
        epochs: after which it was kept.
    """

    standardise: Standardisation
    target_scale: Tensor
    network: PairMLP
    epochs: int

    @classmethod
    def fit(cls, features: Tensor, boxes: Tensor, *, seed: int) -> RelationMLP:
        """Train on all ordered pairs of the training images but the held-out fifth, which says when to stop.

        Args:
            features: [n, V, D].
            boxes: [n, V, 4], cxcywh.
            seed: of the held-out images, the first weights and the batches; the global generator is left alone.

        Raises:
            ValueError: too few images to hold some out.
        """
        held_out = hold_out(len(features), seed, PROBE)
        features, boxes = features.float().cpu(), boxes.float().cpu()
        first, second = ordered_pairs(boxes.shape[1])
        targets = relation(boxes[:, first], boxes[:, second])  # [n, P, T], mean 0: both orders of every pair are there
        target_scale = targets.square().mean((0, 1)).sqrt().clamp(min=1e-6)
        standardise = Standardisation.of(features)
        x, y = standardise(features), targets / target_scale
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = PairMLP(x.shape[-1])
            epochs = _train(network, x[~held_out], y[~held_out], x[held_out], y[held_out])
        return cls(standardise, target_scale, network, epochs)

    @torch.no_grad()
    def predict_pairs(self, features: Tensor) -> Tensor:
        """Relations of all ordered pairs, in image units: features [n, V, D] to float32 [n, P, T]."""
        x = self.standardise(features.float().cpu())
        return torch.cat([self.network(part) for part in x.split(1024)]) * self.target_scale


def _train(network: PairMLP, x: Tensor, y: Tensor, held_x: Tensor, held_y: Tensor) -> int:
    """Leave the network with the weights of its best epoch, and return which that was."""
    batches = -(-len(x) // _BATCH)
    epochs = max(_EPOCHS, -(-_STEPS // batches))
    patience = max(_PATIENCE_EPOCHS, -(-_PATIENCE_STEPS // batches))
    optimizer = torch.optim.AdamW(network.parameters(), lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * batches)
    least, best, kept = torch.inf, 0, {}
    for epoch in range(1, epochs + 1):
        for rows in torch.randperm(len(x)).split(_BATCH):
            loss = (network(x[rows]) - y[rows]).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        with torch.no_grad():
            error = float((network(held_x) - held_y).square().mean())
        if error < least:
            least, best = error, epoch
            kept = {name: value.clone() for name, value in network.state_dict().items()}
        elif epoch - best >= patience:
            break
    network.load_state_dict(kept)
    return best
