"""Two metrics of whether a batch of embeddings is alive, and means over a logging interval.

Letters: B images, D hidden size.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def embedding_std(embeddings: Tensor) -> Tensor:
    """Spread of L2-normalised embeddings [B, D]: 1 when isotropic, 0 when all are the same.

    sqrt(D) times the mean over dimensions of the standard deviation over images (SimSiam, arXiv:2011.10566, figure 2).
    """
    unit = torch.nn.functional.normalize(embeddings.float(), dim=-1)
    return unit.std(dim=0, unbiased=False).mean() * embeddings.shape[-1] ** 0.5


def rankme(embeddings: Tensor) -> Tensor:
    """Effective rank of embeddings [B, D]: exp of the entropy of their singular values (arXiv:2210.02885, eq. 1).

    At most min(B, D): compare it at one batch size only.
    """
    singular = torch.linalg.svdvals(embeddings.float())
    share = singular / singular.sum().clamp_min(1e-12) + 1e-7
    return (-(share * share.log()).sum()).exp()


class RunningMeans:
    """Means of named scalars over a logging interval, kept on the device and exact under resume.

    Values that are not finite are left out; a mean of none is not a number.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor | float] = {}
        self._counts: dict[str, Tensor | int] = {}

    def add(self, values: dict[str, Tensor]) -> None:
        """Add one forward's scalars."""
        for name, value in values.items():
            value = value.detach().double()
            finite = value.isfinite()
            self._sums[name] = self._sums.get(name, 0.0) + torch.where(finite, value, 0.0)
            self._counts[name] = self._counts.get(name, 0) + finite.long()

    def pop(self) -> dict[str, float]:
        """The means over all ranks (every rank must call it, with the same names), and start anew."""
        names = list(self._sums)
        counts = {n: int(self._counts[n]) for n in names}
        means = [float(self._sums[n]) / counts[n] if counts[n] else math.nan for n in names]
        if torch.distributed.is_available() and torch.distributed.is_initialized() and names:
            device = torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else "cpu"
            gathered = torch.tensor(means, dtype=torch.float64, device=device)
            torch.distributed.all_reduce(gathered)
            means = (gathered / torch.distributed.get_world_size()).tolist()
        self._sums, self._counts = {}, {}
        return dict(zip(names, means, strict=True))

    def state_dict(self) -> dict[str, dict[str, float]]:
        """JSON-able, exact."""
        sums = {name: float(value) for name, value in self._sums.items()}
        return {"sums": sums, "counts": {name: int(count) for name, count in self._counts.items()}}

    def load_state_dict(self, state: dict[str, dict[str, float]]) -> None:
        self._sums = dict(state["sums"])
        self._counts = {n: int(c) for n, c in state["counts"].items()}
