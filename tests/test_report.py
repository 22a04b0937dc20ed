"""The report of an evaluation: short names, LaTeX, CSV, what against where, and results of older versions."""

import csv
import io
import json
import re

import pytest

from sp_hf.evaluation.report import markdown, terminal_table, write_report
from sp_hf.evaluation.report_csv import COLUMNS, csv_text
from sp_hf.evaluation.report_latex import escaped, latex
from sp_hf.evaluation.results import Results
from sp_hf.evaluation.short_names import LONGEST, short_names
from sp_hf.evaluation.what_where import what_where_points

LONG = "random initialisation (as facebook/dinov2-with-registers-small-imagenet1k-1-layer)"
MODELS = {
    "raw pixels": "pixels",
    LONG: "random",
    "runs/dino_sp/seed_0/checkpoint-12000/encoder": "model",
    "A & B": "model",
}


def metric(value, *, percent=False, **more):
    told = {"n": 30, "percent": percent, "higher_is_better": True, "chance": 0.25 if percent else 0.0}
    return {"value": value, "low": value - 0.05, "high": value + 0.05, **told, **more}


def task(kind, key, values, *, percent=False, headline=(), **more):
    results = {
        model: {"measures": {key: metric(value, percent=percent, interval="bootstrap", refits=0, warning=None)},
                "details": {}, "seconds": 0.0}
        for model, value in values.items()
    }  # fmt: skip
    differences = {model: {key: {"value": 0.1, "low": -0.1, "high": 0.3}} for model in values if model != "A & B"}
    told = {"settings": {}, "headline": [*headline, key], "skipped": {}, "pictures": [], "left_out": None}
    return {"kind": kind, **told, "results": results, "differences": differences, **more}


@pytest.fixture
def results():
    where = dict(zip(MODELS, (0.1, 0.0, 0.4, 0.2), strict=True))
    what = dict(zip(MODELS, (0.3, 0.26, 0.7, 0.9), strict=True))
    left_out = {
        "results": {},
        "skipped": dict.fromkeys(MODELS, "no labels"),
        "left_out": "no labels",
        "differences": {},
    }
    return {
        "schema_version": 1, "sp_hf_version": "0", "created": "now", "command": "", "seed": 0, "environment": {},
        "data": {side: {"description": f"{side}_images", "images": 30} for side in ("train", "validation")},
        "notes": ["beware"], "reference": "A & B",
        "models": [{"name": name, "role": role, "architecture": "ViT", "identity": "0", "size": 32}
                   for name, role in MODELS.items()],
        "tasks": {
            "relative-geometry": task("where", "r2_position", where, headline=["r2_position_beyond_cues"]),
            "knn": task("what", "accuracy", what, percent=True),
            "linear": task("what", "accuracy", what, percent=True) | left_out,
        },
    }  # fmt: skip


def test_short_names_fit_differ_and_keep_the_end():
    names = [*MODELS, *(f"{'x' * 40}/{i}/encoder" for i in range(3)), *(c + "y" * 60 for c in "abc")]
    made = short_names(names)
    assert list(made) == names and len(set(made.values())) == len(names)
    assert max(map(len, made.values())) <= LONGEST
    assert made["raw pixels"] == "raw pixels" and made[names[2]] == "…_0/checkpoint-12000/encoder"
    assert made[LONG].startswith("random …") and made[LONG].endswith("1-layer)")


def test_tables_have_short_names_and_explain_them(results):
    text, told = markdown(results), terminal_table(results)
    short = short_names(MODELS)
    for line in text.split("## Models")[0].splitlines():
        if line.startswith("|"):
            assert max(map(len, line.strip("|").split("|"))) <= LONGEST + 12 and LONG not in line
    assert f"| {short[LONG]} | {LONG} | random |" in text
    assert f"{short[LONG]} is {LONG}" in told
    body = told.split("\n\n")[0].splitlines()
    assert max(map(len, body)) < 80 and body[-1].startswith("A & B ")
    for shown in (text, told):
        assert "eft out: no labels" in shown and "beware" in shown and shown.count("no labels") == 1


def test_the_resolution_is_said_once_or_by_models(results):
    found = results["tasks"]["relative-geometry"]["results"]
    for result in found.values():
        result["details"]["measured_at"] = "crops of 32 px"
    for text in (markdown(results), terminal_table(results)):
        assert text.count("relative-geometry: crops of 32 px.") == 1
    found["A & B"]["details"]["measured_at"] = "crops of 16 px"
    assert "relative-geometry: crops of 16 px (A & B)." in terminal_table(results)


def test_rows_of_a_markdown_table_have_equally_many_cells(results):
    for block in re.findall(r"(?:^\|.*\n)+", markdown(results), flags=re.M):
        assert len({line.count("|") for line in block.splitlines()}) == 1


def test_what_is_the_same_for_all_models_is_shown_once(results):
    found = results["tasks"]["relative-geometry"]
    for result in found["results"].values():
        result["measures"]["r2_blur"] = metric(-0.0001)
    for difference in found["differences"].values():
        difference["r2_blur"] = {"value": 0.0, "low": 0.0, "high": 0.0}
    lines = [line for line in markdown(results).splitlines() if "r2 blur" in line]
    assert lines == ["| r2 blur | 0.000 [-0.050, 0.050] | 30 |"]
    assert "The same for all models:" in markdown(results)
    found["results"]["A & B"]["measures"]["r2_blur"] = metric(0.3)
    lines = [line for line in markdown(results).splitlines() if "r2 blur" in line]
    assert [line.count("|") for line in lines] == [len(MODELS) + 3, len(MODELS) + 1], "all, and their differences"


def test_latex_has_the_metrics_in_columns_and_nothing_unescaped(results):
    text = latex(results)
    tables = re.findall(r"\\begin\{tabular\}\{(l(r+))\}(.*?)\\end\{tabular\}", text, flags=re.S)
    assert len(tables) == 2  # what was left out has none
    for _, columns, body in tables:
        rows = [line for line in body.splitlines() if line.endswith(r"\\")]
        assert len(rows) == 1 + len(MODELS)
        assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {len(columns)}
    assert r"A \& B & 0.200 [0.150, 0.250] \\" in text and r"accuracy \% (chance 25.0)" in text
    assert r"A \& B & 90.0 [85.0, 95.0] \\" in text
    assert not re.search(r"(?<!\\)[#_$]", text.replace("tab:", ""))
    assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")
    assert escaped("50 % of a_b & {c} ~ d^2 \\ #1 $") == (
        r"50 \% of a\_b \& \{c\} \textasciitilde{} d\textasciicircum{}2 \textbackslash{} \#1 \$"
    )


def test_csv_is_what_results_yield(results):
    rows = list(csv.DictReader(io.StringIO(csv_text(results))))
    assert tuple(rows[0]) == COLUMNS
    metrics = list(Results(results))
    assert len(rows) == len(metrics) == 8
    for row, metric in zip(rows, metrics, strict=True):
        assert (row["task"], row["kind"], row["name"], row["model"]) == (
            metric.task, metric.kind, metric.name, metric.model,
        )  # fmt: skip
        assert (float(row["value"]), float(row["high"]), int(row["n"])) == (metric.value, metric.high, metric.n)
        assert row["difference_low"] == ("" if metric.difference is None else str(metric.difference.low))
        assert (row["interval"], row["warning"]) == ("bootstrap", "")


def test_dots_are_the_first_metrics_of_both_kinds(results, tmp_path):
    points = what_where_points(results)
    assert list(points) == [("relative-geometry", "knn")]
    found = {model: (x["value"], y["value"]) for model, (x, y) in points["relative-geometry", "knn"].items()}
    assert found == {"raw pixels": (0.1, 0.3), LONG: (0.0, 0.26), list(MODELS)[2]: (0.4, 0.7), "A & B": (0.2, 0.9)}
    write_report(results, tmp_path)
    assert "(what_against_where.png)" in (tmp_path / "report.md").read_text()
    assert (tmp_path / "what_against_where.png").stat().st_size > 10_000
    assert {file.name for file in tmp_path.iterdir()} == {
        "results.json", "report.md", "report.tex", "report.csv", "what_against_where.png",
    }  # fmt: skip
    del results["tasks"]["knn"]
    assert what_where_points(results) == {} and "what_against_where" not in markdown(results)


def test_results_of_an_older_version_are_read(results, tmp_path):
    """Without notes, reasons and kinds of intervals; with fields of a newer one."""
    del results["notes"]
    for found in results["tasks"].values():
        del found["left_out"]
        for result in found["results"].values():
            for measured in result["measures"].values():
                for field in ("interval", "refits", "warning"):
                    del measured[field]
                measured["later"] = 1
    (tmp_path / "results.json").write_text(json.dumps(results))
    loaded = Results.load(tmp_path)
    metric = loaded.metric("knn", "accuracy", "A & B")
    assert (metric.value, metric.interval, metric.warning) == (0.9, "bootstrap", None)
    assert "left out: no labels" in str(loaded)
    assert (loaded.save(tmp_path / "again") / "report.tex").is_file()
