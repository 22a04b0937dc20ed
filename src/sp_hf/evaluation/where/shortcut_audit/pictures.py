"""The picture of the shortcut audit: what each low-level cue gives away, with countermeasures and without."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ...measure import Estimate

_BARS = (("_without_countermeasures", "without countermeasures", "#e4572e"), ("", "protocol", "#2e86ab"))


def draw_audit(path: Path, estimates: Mapping[str, Estimate], cues: Sequence[str]) -> None:
    """Two bars a cue, for position and for scale.

    Args:
        path: of the PNG.
        estimates: by name, ``r2_<target>_<cue>`` and ``r2_<target>_<cue>_without_countermeasures``.
        cues: in the order in which they are drawn, from the top.
    """
    figure = Figure(figsize=(9, 0.5 * len(cues) + 1.2), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for panel, target in zip(panels, ("position", "scale"), strict=True):
        for index, (suffix, label, colour) in enumerate(_BARS):
            bars = [estimates[f"r2_{target}_{cue}{suffix}"] for cue in cues]
            _draw_bars(panel, bars, 0.38 * (index - 0.5), label, colour)
        panel.set_title(f"R2 of {target}", fontsize=9)
        panel.axvline(0, color="black", linewidth=0.6)
        panel.tick_params(labelsize=8)
        panel.grid(axis="x", alpha=0.25)
    panels[0].set_yticks(range(len(cues)), [cue.replace("_", " ").replace("jpeg", "JPEG") for cue in cues])
    panels[0].invert_yaxis()
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8, frameon=False
    )
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=130)


def _draw_bars(axes: Axes, estimates: Sequence[Estimate], shift: float, label: str, colour: str) -> None:
    places = [index + shift for index in range(len(estimates))]
    values = [estimate.value for estimate in estimates]
    spans = [[e.value - e.low for e in estimates], [e.high - e.value for e in estimates]]
    axes.barh(places, values, height=0.36, color=colour, label=label)
    axes.errorbar(values, places, xerr=spans, fmt="none", ecolor="black", elinewidth=0.8, capsize=1.5)
