"""An evaluation as CSV: a row a metric of a model, for spreadsheets and plots.

Columns are the fields of :class:`~sp_hf.Metric`, the difference from the reference as three. Fractions stay fractions
where ``percent`` says that they are shown times 100.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any

_METRIC = ("value", "low", "high", "n", "percent", "higher_is_better", "chance", "interval", "refits", "warning")
_DIFFERENCE = {"difference": "value", "difference_low": "low", "difference_high": "high"}
COLUMNS = ("kind", "task", "name", "model", "role", *_METRIC, *_DIFFERENCE)


def csv_text(results: Mapping[str, Any]) -> str:
    """The file's text, with a head."""
    roles = {model["name"]: model["role"] for model in results["models"]}
    file = io.StringIO()
    writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for task, of_task in results["tasks"].items():
        for model, result in of_task["results"].items():
            for name, metric in result["measures"].items():
                row = {"kind": of_task["kind"], "task": task, "name": name, "model": model, "role": roles[model]}
                difference = of_task["differences"].get(model, {}).get(name, {})
                row |= {key: metric.get(key) for key in _METRIC}
                row |= {column: difference.get(key) for column, key in _DIFFERENCE.items()}
                writer.writerow(row)
    return file.getvalue()
