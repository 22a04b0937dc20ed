"""An evaluation as LaTeX: a table a task, its headline metrics with 95 % intervals, for ``\\input`` into a paper.

Needs the package ``booktabs``. Letters and signs that LaTeX reads as commands are escaped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .metric_text import measured_headline, show, title_of
from .short_names import names_in_tables

_ESCAPED = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "…": r"\ldots{}",
    **{sign: "\\" + sign for sign in "&%$#_{}"},
}


def latex(results: Mapping[str, Any]) -> str:
    """All tables, what and where."""
    names = names_in_tables(results)
    validation = results["data"]["validation"]
    parts = ["% needs \\usepackage{booktabs}"]
    for kind in ("where", "what"):
        for name, task in results["tasks"].items():
            if task["kind"] == kind and measured_headline(task):
                caption = f"{name} ({kind}), {validation['images']} images; brackets: 95 % intervals."
                parts.append(_table(caption, name, _rows(task, names)))
    return "\n\n".join(parts) + "\n"


def escaped(text: str) -> str:
    """Text as LaTeX prints it."""
    return "".join(_ESCAPED.get(letter, letter) for letter in text)


def _rows(task: Mapping[str, Any], names: Mapping[str, str]) -> list[list[str]]:
    keys = measured_headline(task)
    rows = [["", *(title_of(key, task) for key in keys)]]
    for model, result in task["results"].items():
        metrics = [result["measures"].get(key) for key in keys]
        rows.append([names[model], *("--" if metric is None else show(metric) for metric in metrics)])
    return rows


def _table(caption: str, label: str, rows: Sequence[Sequence[str]]) -> str:
    head, *body = (" & ".join(map(escaped, row)) + r" \\" for row in rows)
    lines = [
        r"\begin{table}",
        r"  \centering",
        rf"  \caption{{{escaped(caption)}}}",
        rf"  \label{{tab:{label}}}",
        rf"  \begin{{tabular}}{{l{'r' * (len(rows[0]) - 1)}}}",
        r"    \toprule",
        f"    {head}",
        r"    \midrule",
        *(f"    {line}" for line in body),
        r"    \bottomrule",
        r"  \end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines)
