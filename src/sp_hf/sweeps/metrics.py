"""Reads a collected sweep: each metric of a run over its seeds, and its paired differences.

A metric's key is ``task/metric``, as in ``relative-geometry/r2_position``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .spread import Difference, Spread, combined_difference

CONTROLS = ("random", "pixels", "cues")  # roles, in the order of their rows


class Metrics:
    """Everything measured in a sweep.

    Args:
        collected: what :func:`~sp_hf.sweeps.collect.collect` returns.
    """

    def __init__(self, collected: Mapping[str, Any]) -> None:
        self.evaluations: list[Mapping[str, Any]] = collected["evaluations"]
        self.roles = {model["name"]: model["role"] for e in self.evaluations for model in e["models"]}

    @property
    def controls(self) -> list[str]:
        """Names of the rows that no run made."""
        names = [name for name, role in self.roles.items() if role in CONTROLS]
        return sorted(names, key=lambda name: CONTROLS.index(self.roles[name]))

    @property
    def references(self) -> dict[str, str]:
        """By run, the run that it is compared with."""
        return {
            model["name"]: evaluation["reference"]
            for evaluation in self.evaluations
            for model in evaluation["models"]
            if model["role"] == "model" and model["name"] != evaluation["reference"]
        }

    def seeds(self, model: str) -> list[int]:
        """The seeds that a model was measured with."""
        return sorted({e["seed"] for e in self.evaluations if any(m["name"] == model for m in e["models"])})

    def facts(self, key: str) -> Mapping[str, Any] | None:
        """``percent``, ``chance``, ``higher_is_better`` of a metric; ``None`` if nothing has it."""
        return next((measure for _, _, measure in self._measures(key)), None)

    def spread(self, model: str, key: str) -> Spread | None:
        """A run's metric over seeds; ``None`` if it was not measured."""
        by_seed = {seed: measure["value"] for seed, name, measure in self._measures(key) if name == model}
        return Spread(tuple(by_seed[seed] for seed in sorted(by_seed))) if by_seed else None

    def difference(self, model: str, key: str) -> Difference | None:
        """A run minus its reference, paired by seed and image."""
        task, metric = key.split("/")
        values = []
        for evaluation in self.evaluations:
            own = evaluation["tasks"].get(task, {}).get("differences", {}).get(model, {}).get(metric)
            if own is not None and self.references.get(model) == evaluation["reference"]:
                values.append(own)
        if not values:
            return None
        return combined_difference([d["value"] for d in values], [(d["high"] - d["low"]) / 2 for d in values])

    def _measures(self, key: str) -> Iterator[tuple[int, str, Mapping[str, Any]]]:
        """(seed, model, measure) wherever the metric was measured."""
        task, metric = key.split("/")
        for evaluation in self.evaluations:
            for name, measures in evaluation["tasks"].get(task, {}).get("results", {}).items():
                if metric in measures:
                    yield evaluation["seed"], name, measures[metric]
