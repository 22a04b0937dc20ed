"""A run that does not learn says so, once; one that learns says nothing. Curves are made up, or measured where said."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import re
import shutil
import types
import warnings
from pathlib import Path

import pytest
import yaml
from transformers import TrainerControl, TrainerState

import sp_hf
from sp_hf.cards.model_card import write_card
from sp_hf.cli import main
from sp_hf.hub.layout import files_to_push
from sp_hf.objectives import build_objective
from sp_hf.objectives import diagnosis as history_module
from sp_hf.objectives.diagnosis import LogHistory, Recent
from sp_hf.objectives.teacher_entropy import COLLAPSED_ENTROPY, FLAT_ENTROPY, entropy_findings
from sp_hf.objectives.where import spatial_prediction
from sp_hf.run.recipe import parse_run
from sp_hf.training.callbacks import OnlineProbe
from sp_hf.training.diagnosis import (
    KNN_MARGIN,
    RANKME_KEPT,
    RANKME_SHARE,
    Diagnosis,
    collapse,
    knn_findings,
    rank_findings,
)

from .conftest import OBJECTIVES

PAGE = (Path(__file__).parents[2] / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
SECTIONS = {heading.lower().replace(" ", "-") for heading in re.findall(r"^## (.*)$", PAGE, re.MULTILINE)}


def history(name: str, values: list[float], every: int = 75, total: int = 900, warmup: int = 30) -> LogHistory:
    lines = [{"step": every * (i + 1), name: value} for i, value in enumerate(values)]
    return LogHistory(lines, total, warmup)


def sections(findings: list) -> list[str]:
    for finding in findings:
        assert finding.section in SECTIONS and finding.remedy.endswith(".")
        assert re.search(r"\d", finding.seen)
    return [finding.section for finding in findings]


@pytest.fixture(scope="module")
def objectives(tiny_encoder: Path) -> dict:
    """DINO (32 prototypes) and SP, of a tiny encoder."""
    encoder = types.SimpleNamespace(hidden_size=24, patch_size=4)
    return {n: build_objective({"name": n, **OBJECTIVES[n]}, encoder) for n in ("dino", "spatial_prediction")}


# When ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "total", "warmup", "settled"),
    [
        *((299, 600, 30, False), (300, 600, 30, True)),  # at least 300 steps
        *((399, 1200, 30, False), (400, 1200, 30, True)),  # a third of the run
        *((4999, 10**6, 30, False), (5000, 10**6, 30, True)),  # which is 5,000 steps at most
        *((8999, 10**6, 9000, False), (9000, 10**6, 9000, True)),  # the warm-up
        (200, 200, 20, False),  # a run that ends before anything can be told
    ],
)
def test_nothing_is_expected_too_early(step: int, total: int, warmup: int, settled: bool) -> None:
    assert LogHistory([{"step": step}], total, warmup).settled is settled


def test_recent_is_the_last_quarter_of_a_metrics_own_lines() -> None:
    lines = [{"step": 10 * i, "x/a": float(i)} for i in range(1, 9)] + [{"step": 81, "b": 1.0}]
    told = LogHistory(lines, 100, 0)
    assert told.within("x").recent("a") == Recent(7.5, 70) and told.recent("b") == Recent(1.0, 81)
    assert told.recent("a") is None and told.step == 81
    assert told.within("x").points("a", after=60) == [(70, 7.0), (80, 8.0)]
    assert LogHistory([], 100, 0).step == 0


# What ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("curve", "total", "expected"),
    [
        ([-0.005, -0.001, 0.001, 0.001], 300, ["sp-at-zero"]),  # measured: stock initialisation
        ([0.070, 0.146, 0.179, 0.203], 300, []),  # measured: Xavier
        ([0.0, 0.0, 0.0], 300, []),  # 225 steps: too early
        ([0.0, 0.0, 0.0, 0.0], 3000, []),  # less than a third
        ([0.3, 0.3, 0.3, 0.0199], 300, ["sp-at-zero"]),
        ([0.0, 0.0, 0.0, 0.02], 300, []),
        ([0.0] * 6 + [0.03, 0.01], 600, []),  # the mean of the last quarter is 0.02
    ],
)
def test_sp_at_zero(objectives: dict, curve: list, total: int, expected: list) -> None:
    told = history("spatial_prediction/r2_position", curve, total=total).within("spatial_prediction")
    assert sections(objectives["spatial_prediction"].diagnose(told)) == expected


@pytest.mark.parametrize(
    ("entropy", "expected"),
    [
        (6.48, ["flat-teacher"]),  # measured: the flat DINO of a demo, K = 1024
        (FLAT_ENTROPY * math.log(1024), ["flat-teacher"]),
        (FLAT_ENTROPY * math.log(1024) - 1e-9, []),
        (3.7, []),
        (COLLAPSED_ENTROPY * math.log(1024) + 1e-9, []),
        (COLLAPSED_ENTROPY * math.log(1024), ["collapsed-teacher"]),
        (0.0, ["collapsed-teacher"]),
    ],
)
def test_a_flat_and_a_collapsed_teacher(entropy: float, expected: list) -> None:
    assert sections(entropy_findings(history("teacher_entropy", [3.0, 5.0, 5.0, entropy]), 1024)) == expected
    assert entropy_findings(history("teacher_entropy", [3.0, 5.0, entropy]), 1024) == []  # 225 steps


def test_dino_knows_its_own_number_of_prototypes(objectives: dict) -> None:
    told = history("dino/teacher_entropy", [3.4] * 4)  # of ln 32 = 3.47, and of no interest among 1024
    (finding,) = objectives["dino"].diagnose(told.within("dino"))
    assert finding.section == "flat-teacher" and "ln 32" in finding.seen and finding.since == 300
    assert entropy_findings(told.within("dino"), 1024) == []


@pytest.mark.parametrize(
    ("curve", "expected"),
    [
        ([12.7, 14.0, 16.7, 20.9], []),  # measured: MAE
        ([16.1, 13.1, 12.2, 11.6], []),  # measured: MoCo v3
        ([40.0, 30.0, 24.0, 20.0], []),  # half is not less than half
        ([40.0, 30.0, 24.0, 19.9], ["falling-rankme"]),
        ([7.0, 7.5, 8.0, 8.0], []),  # an eighth of 64
        ([7.0, 7.5, 8.0, 7.9], ["low-rankme"]),
    ],
)
def test_rankme(curve: list, expected: list) -> None:
    assert (RANKME_KEPT, RANKME_SHARE) == (1 / 2, 1 / 8)
    assert sections(rank_findings(history("rankme", curve), 64, 128)) == expected


def test_rankme_before_the_end_of_the_warm_up_does_not_count() -> None:
    told = history("rankme", [50.0, 16.0, 16.0, 16.0], warmup=75)
    assert rank_findings(told, 64, 128) == []
    assert sections(rank_findings(history("rankme", [50.0, 16.0, 16.0, 16.0], warmup=74), 64, 128)) == [
        "falling-rankme"
    ]


def test_rankme_is_compared_with_what_is_possible() -> None:
    told = history("rankme", [3.6] * 4)  # measured: the flat DINO of a demo, 32 images, 128 dimensions
    assert sections(rank_findings(told, 32, 128)) == ["low-rankme"]
    assert rank_findings(told, 16, 128) == [] and rank_findings(told, 1024, 24) == []
    assert rank_findings(history("rankme", [9.0] * 4), 1024, 768) == []  # a large batch asks for no more than 64 does


@pytest.mark.parametrize(
    ("start", "now", "expected"),
    [
        (0.227, 0.201, ["knn-below-the-start"]),  # measured: DINO, stock initialisation
        (0.228, 0.351, []),  # measured: SP, Xavier
        (0.5, 0.5 - KNN_MARGIN + 1e-9, []),
        (0.5, 0.5 - KNN_MARGIN - 1e-9, ["knn-below-the-start"]),
    ],
)
def test_knn_below_the_start(start: float, now: float, expected: list) -> None:
    lines = [{"step": s, "probe/knn_accuracy": k} for s, k in ((0, start), (100, 0.9), (200, now), (300, now))]
    findings = knn_findings(LogHistory(lines, 600, 30))
    assert sections(findings) == expected and all(finding.since == 200 for finding in findings)
    assert knn_findings(LogHistory(lines[:3], 600, 30)) == []  # too early
    assert knn_findings(LogHistory(lines[1:], 600, 30)) == []  # nothing is known of the start
    assert knn_findings(LogHistory([{"step": 0, "probe/knn_accuracy": start}, {"step": 300}], 600, 30)) == []


def test_collapse_is_told_as_soon_as_the_warm_up_is_over() -> None:
    curve = [0.5, 0.01, 0.4, 0.01, 0.019]
    told = history("embedding_std", curve, every=10)
    assert sections(collapse(told, 0.02)) == ["collapse"] and collapse(told, 0.02)[0].since == 40
    assert collapse(told, 0.019) == [] and collapse(history("embedding_std", curve, every=10, warmup=50), 0.02) == []
    assert collapse(history("embedding_std", [0.01, 0.01], every=10, warmup=10), 0.02)[0].since == 20


def test_every_cause_that_is_pointed_to_has_its_section() -> None:
    assert {"loss-is-nan", "slow-data", "out-of-memory", "resume-refused"} <= SECTIONS
    assert set(re.findall(r"\]\(#([a-z-]+)\)", PAGE)) == SECTIONS


# Once ------------------------------------------------------------------------------------------------------------

ARGS = types.SimpleNamespace(get_warmup_steps=lambda total: 30, learning_rate=1e-3)


def play(watch: Diagnosis, lines: list[dict], start: int = 0, main_process: bool = True) -> None:
    """What the Trainer does: the state of the checkpoint at ``start``, then a line at a time."""
    state, control = TrainerState(max_steps=600), TrainerControl()
    state.is_world_process_zero, state.global_step = main_process, start
    state.log_history = [line for line in lines if line["step"] <= start]
    watch.on_train_begin(ARGS, state, control)
    for line in lines[len(state.log_history) :]:
        state.global_step = line["step"]
        state.log_history.append(line)
        watch.on_log(ARGS, state, control, logs=line)


@pytest.fixture
def sick() -> list[dict]:
    """Flat, at zero, with a RankMe that falls at the end."""
    return [
        {
            "step": 20 * i,
            "dino/teacher_entropy": 3.45,
            "spatial_prediction/r2_position": 0.001,
            "rankme": 20.0 if i < 25 else 2.0,
            "embedding_std": 0.4,
        }
        for i in range(1, 31)
    ]


def test_each_finding_is_told_once_and_recorded(
    objectives: dict, sick: list, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "diagnosis.json"
    play(Diagnosis(path, objectives, 24, 24, 0.02), sick)
    records = json.loads(path.read_text())
    found = [(r["step"], r["objective"], r["section"]) for r in records]
    assert found[:2] == [(300, "dino", "flat-teacher"), (300, "spatial_prediction", "sp-at-zero")]
    assert [f[1:] for f in found[2:]] == [(None, "falling-rankme")] and found[2][0] > 500
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(told) == 3
    for message, record in zip(told, records, strict=True):
        assert record["seen"] in message and record["remedy"] in message and f"since step {record['since']}" in message
        assert message.endswith(f"See docs/troubleshooting.md#{record['section']}.")


@pytest.mark.parametrize("checkpoint", [200, 300, 400, 600])
def test_a_resume_tells_nothing_twice_and_forgets_what_came_after_its_checkpoint(
    objectives: dict, sick: list, tmp_path: Path, caplog: pytest.LogCaptureFixture, checkpoint: int
) -> None:
    path = tmp_path / "diagnosis.json"
    play(Diagnosis(path, objectives, 24, 24, 0.02), sick)
    whole = path.read_text()
    caplog.clear()
    play(Diagnosis(path, objectives, 24, 24, 0.02), sick, start=checkpoint)
    assert path.read_text() == whole
    assert len(caplog.records) == sum(record["step"] > checkpoint for record in json.loads(whole))


def test_a_new_run_starts_with_a_clean_record_and_a_healthy_one_leaves_none(
    objectives: dict, sick: list, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "diagnosis.json"
    play(Diagnosis(path, objectives, 24, 24, 0.02), sick)
    caplog.clear()
    well = [line | {"dino/teacher_entropy": 2.0, "spatial_prediction/r2_position": 0.2, "rankme": 9.0} for line in sick]
    play(Diagnosis(path, objectives, 24, 24, 0.02), well)
    assert not path.exists() and not caplog.records


def test_only_the_main_process_speaks(
    objectives: dict, sick: list, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    play(Diagnosis(tmp_path / "diagnosis.json", objectives, 24, 24, 0.02), sick, main_process=False)
    assert not caplog.records and not list(tmp_path.iterdir())


def test_labels_may_draw_embeddings_together(sick: list, tmp_path: Path) -> None:
    with_labels = {"supervised": types.SimpleNamespace(needs_labels=True, diagnose=lambda history: [])}
    play(Diagnosis(tmp_path / "diagnosis.json", with_labels, 24, 24, 0.02), sick)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("step", "logged"), [(0, [{"probe/knn_accuracy": 0.2}]), (4, [])])
def test_the_encoder_is_probed_before_training_and_not_again_at_a_resume(step: int, logged: list) -> None:
    lines = []
    trainer = types.SimpleNamespace(accelerator=types.SimpleNamespace(wait_for_everyone=lambda: None), log=lines.append)
    probe = OnlineProbe(trainer, 10, lambda: {"knn_accuracy": 0.2})
    probe.on_train_begin(ARGS, TrainerState(global_step=step), TrainerControl())
    assert lines == logged


# In a run --------------------------------------------------------------------------------------------------------


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Diagnoses within the 8 steps of the tiny run, in which SP explains next to nothing."""
    monkeypatch.setattr(history_module, "LEAST_STEPS", 1)
    monkeypatch.setattr(spatial_prediction, "LEAST_R2", 0.9)


def pretrain(recipe: Path, output: Path, *flags: str) -> None:
    assert main(["pretrain", "--recipe", str(recipe), "--output_dir", str(output), *flags]) == 0


@pytest.mark.usefixtures("impatient")
def test_record_card_and_resume_of_a_real_run(
    tiny_recipe: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    pretrain(tiny_recipe, whole, "--save_total_limit", "9")
    records = json.loads((whole / "diagnosis.json").read_text())
    assert ("spatial_prediction", "sp-at-zero", 3) in [(r["objective"], r["section"], r["step"]) for r in records]
    assert caplog.text.count("has not left zero") == 1
    card = write_card(whole, tmp_path / "card", "someone/tiny", run_snippets=False).content
    assert "Warnings during training:" in card
    for record in records:
        assert f"- Step {record['step']}: {record['seen']}." in card

    assert files_to_push(whole, tmp_path / "export")["diagnosis.json"] == whole / "diagnosis.json"

    shutil.copytree(whole, broken)
    for name in ("checkpoint-6", "checkpoint-8", "encoder", "pretraining"):
        shutil.rmtree(broken / name)
    caplog.clear()
    pretrain(tiny_recipe, broken, "--resume_from_checkpoint", "last")  # checkpoint-4, after the warning at step 3
    assert json.loads((broken / "diagnosis.json").read_text()) == records
    assert "has not left zero" not in caplog.text


def test_a_card_without_warnings_has_no_such_line(tiny_recipe: Path, tmp_path: Path) -> None:
    pretrain(tiny_recipe, tmp_path / "out", "--max_steps", "2")
    assert not (tmp_path / "out" / "diagnosis.json").exists()
    card = write_card(tmp_path / "out", tmp_path / "card", "someone/tiny", run_snippets=False).content
    assert "Warnings during training" not in card


@pytest.fixture
def any_device(tiny_recipe: Path) -> Path:
    """The tiny recipe without ``use_cpu``, with which transformers itself pins nothing."""
    options = json.loads(tiny_recipe.read_text())
    tiny_recipe.write_text(json.dumps({name: value for name, value in options.items() if name != "use_cpu"}))
    return tiny_recipe


def test_epochs_print_no_warning_of_pinned_memory(any_device: Path, tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pretrain(any_device, tmp_path / "out")  # two epochs
    assert not [str(warning.message) for warning in caught if "pin_memory" in str(warning.message)]
    assert "dataloader_pin_memory" not in yaml.safe_load((tmp_path / "out" / "recipe.yaml").read_text())


@pytest.mark.parametrize("asked", [True, False])
def test_pinned_memory_is_the_users_to_choose(any_device: Path, asked: bool) -> None:
    args = parse_run(["--recipe", str(any_device), "--dataloader_pin_memory", str(asked)])[2]
    assert args.dataloader_pin_memory is asked


@pytest.mark.parametrize("name", sp_hf.OBJECTIVES)
def test_what_an_objective_is_advised_is_an_option_of_its_own(name):
    kind = sp_hf.OBJECTIVES[name]
    options = {field.name for field in dataclasses.fields(kind.config_class)}
    assert {remedy.partition(":")[0] for remedy in kind.remedies} <= options


def test_advice_names_the_options_of_the_runs_objectives_alone():
    lines = history("teacher_entropy", [3.0, 5.0, 5.0, math.log(1024)])
    (finding,) = entropy_findings(lines, 1024)
    assert "sinkhorn" not in finding.remedy and "koleo" not in finding.remedy
    (finding,) = entropy_findings(lines, 1024, ("centring: sinkhorn", "koleo_weight: 0.1"))
    assert "set its centring: sinkhorn or koleo_weight: 0.1" in finding.remedy
