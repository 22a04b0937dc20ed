"""An evaluation as CSV: a row a metric of a model, for spreadsheets and plots.

Columns are the fields of :class:`~sp_hf.Metric`, the difference from the reference as three. Fractions stay fractions
where ``percent`` says that they are shown times 100.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any

_FIGURE = ("value", "low", "high", "n", "percent", "higher_is_better", "chance", "interval", "refits", "warning")
_DIFFERENCE = {"difference": "value", "difference_low": "low", "difference_high": "high"}
COLUMNS = ("kind", "task", "name", "model", "role", *_FIGURE, *_DIFFERENCE)


def csv_text(results: Mapping[str, Any]) -> str:
    """The file's text, with a head."""
    roles = {model["name"]: model["role"] for model in results["models"]}
    file = io.StringIO()
    writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for task, found in results["tasks"].items():
        for model, result in found["results"].items():
            for name, figure in result["measures"].items():
                row = {"kind": found["kind"], "task": task, "name": name, "model": model, "role": roles[model]}
                difference = found["differences"].get(model, {}).get(name, {})
                row |= {key: figure.get(key) for key in _FIGURE}
                row |= {column: difference.get(key) for column, key in _DIFFERENCE.items()}
                writer.writerow(row)
    return file.getvalue()
