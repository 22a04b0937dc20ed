"""Tables, verdicts and pictures of a collected sweep whose numbers are known."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from sp_hf.sweeps.answer import answer, lead
from sp_hf.sweeps.metrics import Metrics
from sp_hf.sweeps.plan import read_plan
from sp_hf.sweeps.plots import draw_pairs
from sp_hf.sweeps.report import write_report
from sp_hf.sweeps.tables import cost_table, differences_table, expectations_table, metrics_table, reached_text, verdict

from .conftest import evaluation

POSITION, KNN = "relative-geometry/r2_position", "knn/accuracy"


@pytest.fixture
def plan(write_sweep):
    return read_plan(write_sweep())


def cells(lines: list[str], row: str) -> list[str]:
    """Of the row that begins so."""
    line = next(line for line in lines if line.startswith(f"| {row} |"))
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def test_means_and_deviations_are_over_seeds(plan, found):
    table = metrics_table(plan, Metrics(found))
    assert cells(table, "A") == ["0.150 ± 0.071", "65.0 ± 7.1", "2"]
    assert cells(table, "random initialisation") == ["0.060 ± 0.014", "20.0 ± 0.0", "2"]
    assert "kNN % (chance 10.0)" in table[0]
    assert not any(line.startswith("| A, then SP") for line in table)  # not measured yet


def test_differences_are_paired_by_seed(plan, found):
    """A differs by 0.1 between seeds, and A + SP too: their difference does not."""
    position, accuracy = cells(differences_table(plan, Metrics(found)), "A + SP")[1:]
    assert position == "**+0.100** [+0.090, +0.110]"  # only the images' half-width of 0.01 is left
    assert accuracy == "**-30.0** [-31.0, -29.0]"


def test_an_interval_that_holds_zero_is_not_bold(plan):
    two = [evaluation(s, {"A": 0.1, "A + SP": 0.1 + d}, {"A": 0.5, "A + SP": 0.5}) for s, d in ((0, 0.2), (1, 0.0))]
    text = cells(differences_table(plan, Metrics({"evaluations": two})), "A + SP")[1]
    assert text.startswith("+0.100 [-1.1")  # Student's interval of two seeds


def test_verdicts(plan, found):
    metrics = Metrics(found)
    assert verdict(metrics, "A + SP", POSITION, "higher") == "yes"
    assert verdict(metrics, "A + SP", KNN, {"not_below": 0.01}) == "no"
    assert verdict(metrics, "A + SP", KNN, {"not_below": 0.5}) == "yes"
    assert verdict(metrics, "A + SP", KNN, {"not_below": 0.3}) == "open"
    assert cells(expectations_table(plan, metrics), "A + SP") == ["yes", "no"]
    found["evaluations"] = found["evaluations"][:1]
    assert verdict(Metrics(found), "A + SP", POSITION, "higher") == "open (one seed)"


def test_less_is_better_where_a_metric_says_so(plan, found):
    for one in found["evaluations"]:
        for measures in one["tasks"]["knn"]["results"].values():
            measures["accuracy"]["higher_is_better"] = False
    metrics = Metrics(found)
    assert verdict(metrics, "A + SP", KNN, {"not_below": 0.01}) == "yes"
    assert "**kNN**: better in 1 of 1" in answer(plan, metrics)[1]


def test_the_answer_counts(plan, found):
    position, accuracy = answer(plan, Metrics(found))
    assert position == "- **R2 of position**: better in 1 of 1. A + SP **+0.100** [+0.090, +0.110]."
    assert accuracy.startswith("- **kNN**: worse in 1 of 1.")
    found["evaluations"] = found["evaluations"][:1]
    assert answer(plan, Metrics(found))[0].startswith("- **R2 of position**: one seed, so no interval. A + SP +0.100")


def test_the_lead_counts_over_sweeps(plan, found):
    text = lead([(plan, Metrics(found)), (plan, Metrics(found))])
    assert text.startswith("**Yes.** What adding SP to A changed, on Tiny (2 seeds) and Tiny (2 seeds), ")
    assert "R2 of position better in 2 of 2 comparisons, worse in none (+0.100 to +0.100); kNN better in none" in text
    assert text.endswith("worse in 2 (-30.0 to -30.0 points).")
    more = {"A": 0.1, "A + SP": 0.1}
    none = {"evaluations": [evaluation(seed, more, more) for seed in (0, 1)]}
    assert lead([(plan, Metrics(found)), (plan, Metrics(none))]).startswith("**In part.**")
    assert lead([(plan, Metrics(none))]).startswith("**No.** What adding SP to A changed, on Tiny (2 seeds), ")


def test_cost_is_the_mean_of_a_seed(found):
    cost = cost_table(found["runs"])
    assert cells(cost, "A") == ["600", "10", "0.5", "1.0", "cpu, 1 thread", "-"]
    assert cells(cost, "A + SP")[-1] == "0.30"
    assert cells(cost_table({"A": found["runs"]["A"]}), "A")[-1] == "cpu, 1 thread"  # no SP, no column of it


def test_an_own_metric_stands_beside_its_prior():
    last = [{"loca/location_accuracy": 0.3, "loca/location_accuracy_prior": 0.2}, {"loca/location_accuracy": 0.5}]
    assert reached_text(last, "loca/location_accuracy") == "0.40 (prior 0.20)"
    assert reached_text([{"mp3/accuracy": 0.3}], "mp3/accuracy") == "0.30"
    assert reached_text([{}], "mp3/accuracy") == "-"


def test_report_and_pictures(write_sweep, found, tmp_path):
    plots = [{"title": "With and without", "runs": {"no": "A", "yes": "A + SP"}, "line": True}]
    plan = read_plan(write_sweep(plots=plots, findings="Read **me**.", introduction="Of images."))
    (tmp_path / "out").mkdir()
    write_report(tmp_path / "out" / "report.md", plan, found)
    text = (tmp_path / "out" / "report.md").read_text()
    assert text.index("Of images.") < text.index("| A |") < text.index("Read **me**.")
    draw_pairs(tmp_path / "out" / "pairs.png", [(plan, Metrics(found)), (plan, Metrics(found))], [POSITION, KNN])
    for name in ("tiny.png", "tiny_with-and-without.png", "pairs.png"):
        assert name == "pairs.png" or f"]({name})" in text
        pixels = np.asarray(Image.open(tmp_path / "out" / name).convert("RGB"))
        assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 20  # something was drawn
