"""Heads that say something of ordered pairs (i, j) of embeddings: from both, or from their difference alone.

Letters: B images, V embeddings of one image, P pairs, D features.

The first layer is linear in the pair, so that of all pairs of V embeddings it is applied once an embedding.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from ..views.pairs import ordered_pairs

PairHeadKind = Literal["concat", "difference"]


class PairHead(nn.Module):
    """MLP on the concatenation [z_i; z_j].

    Args:
        features: D.
        width: hidden width.
        depth: linear layers, at least 2.
        outputs: numbers a pair.
    """

    def __init__(self, features: int, width: int, depth: int, outputs: int = 4) -> None:
        super().__init__()
        self.first_layer = nn.Linear(2 * features, width)
        self.rest = _after_the_first(width, depth, outputs)

    def forward(self, embeddings: Tensor) -> Tensor:
        """All ordered pairs: [B, V, D] to [B, V(V-1), outputs]."""
        first, second = ordered_pairs(embeddings.shape[1], embeddings.device)
        as_first, as_second = self._as_first(embeddings), self._as_second(embeddings)  # [B, V, width]
        return self.rest(as_first[:, first] + as_second[:, second])

    def of_pairs(self, first: Tensor, second: Tensor) -> Tensor:
        """Pairs given: [..., D] and [..., D] to [..., outputs]."""
        return self.rest(self._as_first(first) + self._as_second(second))

    def _as_first(self, embeddings: Tensor) -> Tensor:
        return F.linear(embeddings, self.first_layer.weight.chunk(2, dim=1)[0], self.first_layer.bias)

    def _as_second(self, embeddings: Tensor) -> Tensor:
        return F.linear(embeddings, self.first_layer.weight.chunk(2, dim=1)[1])


class DifferenceHead(nn.Module):
    """MLP on the difference z_j - z_i; of one layer, a linear map without bias.

    What both embeddings have in common cancels, so the head cannot know what the pair shows, nor where its first one
    lies: f depends on the pair only through the step from one embedding to the other, and the swapped pair gives it
    that step backwards, f(j, i) = g(z_i - z_j). The MLP g is not odd by construction, but is taught to be where the
    target is, as each pair is seen in both orders. One layer is odd, f(j, i) = -f(i, j), and transitive,
    f(i, j) + f(j, k) = f(i, k), as offsets and log ratios are: W z is then a map on which views have places.

    After the pose head of PART-MAE v6 (github.com/dgcnz/REPR, 2025), which is W z_i - W z_j without bias; there W
    starts at zero, here as PyTorch's layers do. No products of features (as Conneau et al. 2017, arXiv:1705.02364, have
    beside the difference): they would bring back what cancels.

    Args:
        features: D.
        width: hidden width.
        depth: linear layers, at least 1.
        outputs: numbers a pair.
    """

    def __init__(self, features: int, width: int, depth: int, outputs: int = 4) -> None:
        super().__init__()
        if depth == 1:
            self.first_layer = nn.Linear(features, outputs, bias=False)
            self.rest: nn.Module = nn.Identity()
        else:
            self.first_layer = nn.Linear(features, width)
            self.rest = _after_the_first(width, depth, outputs)

    def forward(self, embeddings: Tensor) -> Tensor:
        """All ordered pairs: [B, V, D] to [B, V(V-1), outputs]."""
        first, second = ordered_pairs(embeddings.shape[1], embeddings.device)
        mapped = F.linear(embeddings, self.first_layer.weight)  # [B, V, width]
        return self._of_steps(mapped[:, second] - mapped[:, first])

    def of_pairs(self, first: Tensor, second: Tensor) -> Tensor:
        """Pairs given: [..., D] and [..., D] to [..., outputs]."""
        return self._of_steps(F.linear(second - first, self.first_layer.weight))

    def _of_steps(self, steps: Tensor) -> Tensor:
        bias = self.first_layer.bias
        return self.rest(steps if bias is None else steps + bias)


def pair_head(kind: PairHeadKind, features: int, width: int, depth: int, outputs: int = 4) -> PairHead | DifferenceHead:
    """The head of that kind."""
    head = DifferenceHead if kind == "difference" else PairHead
    return head(features, width, depth, outputs)


def _after_the_first(width: int, depth: int, outputs: int) -> nn.Sequential:
    """Layers after the first one of an MLP of ``depth`` linear layers."""
    hidden = [layer for _ in range(depth - 2) for layer in (nn.GELU(), nn.Linear(width, width))]
    return nn.Sequential(*hidden, nn.GELU(), nn.Linear(width, outputs))


__all__ = ["DifferenceHead", "PairHead", "PairHeadKind", "pair_head"]
