"""The answer of a sweep in words, made of its numbers: what adding to a run changed, figure by figure."""

from __future__ import annotations

import math

from .figures import Figures
from .plan import Plan
from .tables import difference_text


def answer(plan: Plan, figures: Figures) -> list[str]:
    """Markdown: a sentence of counts, then a line a figure with every difference.

    Only figures that something was expected of are counted.
    """
    compared = [name for name in plan.runs if name in figures.references]
    keys = [key for key in plan.expect if figures.facts(key)]
    if not compared or not keys:
        return []
    return [_counts(key, compared, plan, figures) for key in keys]


def _counts(key: str, compared: list[str], plan: Plan, figures: Figures) -> str:
    found = {name: figures.difference(name, key) for name in compared}
    signs = [d.sign for d in found.values() if d is not None and not math.isnan(d.low)]
    if not (figures.facts(key) or {}).get("higher_is_better", True):
        signs = [-sign for sign in signs]
    said = [] if signs else ["one seed, so no interval"]
    for sign, word in ((1, "better"), (-1, "worse"), (0, "not told apart from no change")):
        if signs.count(sign):
            said.append(f"{word} in {signs.count(sign)} of {len(signs)}")
    shown = "; ".join(f"{name} {difference_text(figures, name, key)}" for name, d in found.items() if d is not None)
    return f"- **{plan.measures[key]}**: {', '.join(said)}. {shown}."
