"""The answer of a sweep in words, made of its numbers: what adding to a run changed, metric by metric."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from .metrics import Metrics
from .plan import Plan
from .spread import Difference
from .tables import difference_text, scale_of


def answer(plan: Plan, metrics: Metrics) -> list[str]:
    """Markdown: of each metric that something was expected of, a line of counts and all differences."""
    compared = [name for name in plan.runs if name in metrics.references]
    keys = [key for key in plan.expect if metrics.facts(key)]
    if not compared or not keys:
        return []
    return [_counts(key, compared, plan, metrics) for key in keys]


def lead(sweeps: Sequence[tuple[Plan, Metrics]]) -> str:
    """One paragraph over several sweeps that expect the same: of each metric, how many comparisons say what.

    It begins with *Yes* if what should be higher is so in every comparison, *In part* if in some, else *No*.
    """
    keys = [key for key in sweeps[0][0].expect if all(key in plan.expect for plan, _ in sweeps)]
    changes = {key: _all_differences(key, sweeps) for key in keys}
    signs = [d.sign * good for key in keys if sweeps[0][0].expect[key] == "higher" for d, good in _signed(changes[key])]
    word = "Yes" if signs and min(signs) == 1 else "In part" if 1 in signs else "No"
    named = _joined([f"{plan.title} ({len(_seeds(metrics))} seeds)" for plan, metrics in sweeps])
    added_to = _joined(list(dict.fromkeys(name for _, metrics in sweeps for name in metrics.references.values())))
    text = "; ".join(f"{sweeps[0][0].measures[key]} {_range(changes[key])}" for key in keys if changes[key])
    return (
        f"**{word}.** What adding SP to {added_to} changed, on {named}, counting a change only where its 95 % interval"
        f" is clear of zero: {text}."
    )


def _all_differences(key: str, sweeps: Sequence[tuple[Plan, Metrics]]) -> list[tuple[Difference, Mapping[str, Any]]]:
    """Every comparison's difference, with the metric's facts."""
    return [
        (difference, metrics.facts(key) or {})
        for plan, metrics in sweeps
        for name in plan.runs
        if name in metrics.references and (difference := metrics.difference(name, key)) is not None
    ]


def _signed(differences: Sequence[tuple[Difference, Mapping[str, Any]]]) -> list[tuple[Difference, int]]:
    """Each difference, and 1 where more is better, else -1."""
    return [(difference, 1 if facts["higher_is_better"] else -1) for difference, facts in differences]


def _seeds(metrics: Metrics) -> set[int]:
    return {evaluation["seed"] for evaluation in metrics.evaluations}


def _joined(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _range(differences: Sequence[tuple[Difference, Mapping[str, Any]]]) -> str:
    """``better in 5 of 6 comparisons, worse in none (-0.002 to +0.119)``."""
    facts = differences[0][1]
    signs = [difference.sign * good for difference, good in _signed(differences)]
    scale, digits = scale_of(facts)
    unit = " points" if facts["percent"] else ""
    values = [difference.value * scale for difference, _ in differences]
    ends = f"{min(values):+.{digits}f} to {max(values):+.{digits}f}{unit}"
    better, worse = (signs.count(sign) or "none" for sign in (1, -1))
    return f"better in {better} of {len(signs)} comparisons, worse in {worse} ({ends})"


def _counts(key: str, compared: list[str], plan: Plan, metrics: Metrics) -> str:
    changes = {name: metrics.difference(name, key) for name in compared}
    signs = [d.sign for d in changes.values() if d is not None and not math.isnan(d.low)]
    if not (metrics.facts(key) or {}).get("higher_is_better", True):
        signs = [-sign for sign in signs]
    reasons = [] if signs else ["one seed, so no interval"]
    for sign, word in ((1, "better"), (-1, "worse"), (0, "not told apart from no change")):
        if signs.count(sign):
            reasons.append(f"{word} in {signs.count(sign)} of {len(signs)}")
    shown = "; ".join(f"{name} {difference_text(metrics, name, key)}" for name, d in changes.items() if d is not None)
    return f"- **{plan.measures[key]}**: {', '.join(reasons)}. {shown}."
