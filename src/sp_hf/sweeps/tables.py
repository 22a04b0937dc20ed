"""A collected sweep as Markdown tables: metrics, differences, what was expected, cost."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ..markdown import table
from ..objectives import OBJECTIVES, Objective
from .metrics import Metrics
from .plan import Plan
from .spread import Difference


def metrics_table(plan: Plan, metrics: Metrics) -> list[str]:
    """A row a control and a run: mean and standard deviation over seeds."""
    keys = [key for key in plan.measures if metrics.facts(key)]
    rows = [["", *(f"{plan.measures[key]}{chance_of(metrics, key)}" for key in keys), "seeds"]]
    for name in [*metrics.controls, *plan.runs]:
        seeds = metrics.seeds(name)
        if seeds:
            rows.append([name, *(value_text(metrics, name, key) for key in keys), str(len(seeds))])
    return table(rows)


def value_text(metrics: Metrics, name: str, key: str) -> str:
    """``0.231 ± 0.004``; in per cent where the metric is."""
    spread, facts = metrics.spread(name, key), metrics.facts(key)
    if spread is None or facts is None:
        return "-"
    scale, digits = scale_of(facts)
    text = f"{spread.mean * scale:.{digits}f}"
    return text if math.isnan(spread.deviation) else f"{text} ± {spread.deviation * scale:.{digits}f}"


def chance_of(metrics: Metrics, key: str) -> str:
    """`` % (chance 11.1)``, where that says something."""
    facts = metrics.facts(key) or {}
    scale, digits = scale_of(facts)
    unit = " %" if facts.get("percent") else ""
    return f"{unit} (chance {facts['chance'] * scale:.{digits}f})" if facts.get("chance") else unit


def differences_table(plan: Plan, metrics: Metrics) -> list[str]:
    """A row a run that is compared with another: the mean difference and its 95 % interval, bold if clear of zero."""
    keys = [key for key in plan.measures if metrics.facts(key)]
    rows = [["", "minus", *(plan.measures[key] for key in keys)]]
    for name in plan.runs:
        if name in metrics.references:
            cells = [difference_text(metrics, name, key) for key in keys]
            rows.append([name, metrics.references[name], *cells])
    return table(rows) if len(rows) > 1 else []


def difference_text(metrics: Metrics, name: str, key: str) -> str:
    """``**+0.051** [+0.031, +0.071]``."""
    change, facts = metrics.difference(name, key), metrics.facts(key)
    if change is None or facts is None:
        return "-"
    scale, digits = scale_of(facts)
    value, low, high = (f"{number * scale:+.{digits}f}" for number in (change.value, change.low, change.high))
    if math.isnan(change.low):
        return f"{value} (one seed)"
    return f"**{value}** [{low}, {high}]" if change.sign else f"{value} [{low}, {high}]"


def expectations_table(plan: Plan, metrics: Metrics) -> list[str]:
    """What was expected of each difference, and whether it was seen."""
    rows = [["", *(f"{plan.measures[key]}: {_wish(wish, metrics, key)}" for key, wish in plan.expect.items())]]
    for name in plan.runs:
        if name in metrics.references:
            rows.append([name, *(verdict(metrics, name, key, wish) for key, wish in plan.expect.items())])
    return table(rows) if len(rows) > 1 and plan.expect else []


def verdict(metrics: Metrics, name: str, key: str, wish: Any) -> str:
    """``yes``, ``no``, or ``open`` where the interval allows either."""
    change, facts = metrics.difference(name, key), metrics.facts(key)
    if change is None or facts is None:
        return "-"
    if math.isnan(change.low):
        return "open (one seed)"
    if not facts["higher_is_better"]:
        change = Difference(-change.value, -change.high, -change.low)
    least = 0.0 if wish == "higher" else -float(wish["not_below"])
    return "yes" if change.low > least else "no" if change.high < least else "open"


def _wish(wish: Any, metrics: Metrics, key: str) -> str:
    if wish == "higher":
        return "better"
    scale, _ = scale_of(metrics.facts(key) or {})
    points = f"{float(wish['not_below']) * scale:g}"
    return f"not worse by {points}{' points' if scale == 100 else ''}"


def cost_table(runs: Mapping[str, Any]) -> list[str]:
    """A row a run: what one seed took, and how far its objectives' own tasks got, on the last batches logged."""
    own = own_metrics(runs)
    titles = [f"{title}, last training batches" for title in own.values()]
    rows = [["", "images presented", "steps", "minutes", "CPU minutes", "hardware", *titles]]
    for name, run in runs.items():
        seeds = list(run["seeds"].values())
        if not seeds:
            continue
        images, steps = seeds[0]["images"], seeds[0]["steps"]
        minutes, cpu = (sum(s[key] for s in seeds) / len(seeds) / 60 for key in ("seconds", "cpu_seconds"))
        threads = seeds[0]["environment"]["threads"]
        devices = ", ".join(sorted(set(seeds[0]["environment"]["devices"])))
        hardware = f"{devices}, {threads} thread{'s' * (threads > 1)}"
        row = [name, f"{images:,}", f"{steps:,}", f"{minutes:.1f}", f"{cpu:.1f}", hardware]
        rows.append(row + [reached_text([seed["last"] for seed in seeds], key) for key in own])
    return table(rows)


def reached_text(last: Sequence[Mapping[str, float]], key: str) -> str:
    """A metric of the last log lines, mean over seeds, with what it is without a look at the pictures, where logged."""
    reached, prior = ([line[name] for line in last if name in line] for name in (key, f"{key}_prior"))
    if not reached:
        return "-"
    beside = f" (prior {sum(prior) / len(prior):.2f})" if prior else ""
    return f"{sum(reached) / len(reached):.2f}{beside}"


def own_metrics(runs: Mapping[str, Any]) -> dict[str, str]:
    """Of the metrics that runs logged last, those that say how far an objective's own task got, with their titles."""
    logged = {key for run in runs.values() for seed in run["seeds"].values() for key in seed["last"]}
    named = {f"{name}/{kind.own_metric[0]}": kind.own_metric[1] for name, kind in _known(logged) if kind.own_metric}
    return {key: title for key, title in named.items() if key in logged}


def _known(logged: Iterable[str]) -> Iterator[tuple[str, type[Objective]]]:
    """The objectives that log lines are of; one whose package is gone has none."""
    names = {key.partition("/")[0] for key in logged if "/" in key}
    return ((name, OBJECTIVES[name]) for name in sorted(names) if name in OBJECTIVES)


def scale_of(facts: Mapping[str, Any]) -> tuple[float, int]:
    """What a metric is multiplied by to be shown, and its digits."""
    return (100, 1) if facts.get("percent") else (1, 3)
