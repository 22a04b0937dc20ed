"""Robustness: the formulae by hand, the task on encoders whose errors are known, other datasets, refusals."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from sp_hf.encoders.encoder import Encoding
from sp_hf.evaluation.accuracy import LabelError
from sp_hf.evaluation.data import EvaluationData
from sp_hf.evaluation.model import RANDOM, EvaluatedModel, Preprocess
from sp_hf.evaluation.part_scenes import variant_of, variant_of_run
from sp_hf.evaluation.source import DataSource
from sp_hf.evaluation.suite import run_suite
from sp_hf.evaluation.what.label_mapping import MappingError, map_names, read_mapping
from sp_hf.evaluation.what.robustness import task as robustness
from sp_hf.evaluation.what.robustness.corruptions import CORRUPTIONS
from sp_hf.evaluation.what.robustness.task import (
    Errors,
    Robustness,
    mean_corruption_error,
    relative_mean_corruption_error,
)

COLOURS = {"red": (200, 40, 40), "green": (40, 200, 40), "blue": (40, 40, 200)}


class Colour(nn.Module):
    """Sees the mean colour of an image and nothing else."""

    def patches_of(self, size: int) -> tuple[int, int]:
        return 1, 1

    def forward(self, pixels: torch.Tensor) -> Encoding:
        return Encoding(pixels.mean((2, 3)), pixels.new_zeros(len(pixels), 1, 1), (1, 1))


class Blind(Colour):
    """Sees nothing: its probe always answers the same."""

    def forward(self, pixels: torch.Tensor) -> Encoding:
        return Encoding(pixels.new_ones(len(pixels), 2), pixels.new_zeros(len(pixels), 1, 1), (1, 1))


class Pixel(Colour):
    """Sees one pixel."""

    def forward(self, pixels: torch.Tensor) -> Encoding:
        return super().forward(pixels[..., 5:6, 7:8])


def model(name: str, encoder: nn.Module, role: str = "model", size: int = 32) -> EvaluatedModel:
    return EvaluatedModel(name, encoder, Preprocess.squash(size), role=role)


def write(path: Path, labels: list[int | None], names: list[str], painted: list[str]) -> str:
    """A parquet file of even images; ``painted`` says in which colours."""
    images = [Image.new("RGB", (40, 30), COLOURS[colour]) for colour in painted]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=names)})
    datasets.Dataset.from_dict({"image": images, "label": labels}, features=features).to_parquet(str(path))
    return str(path)


def colours(path: Path, n: int) -> str:
    names = list(COLOURS)
    return write(path, [i % 3 for i in range(n)], names, [names[i % 3] for i in range(n)])


@pytest.fixture
def data(tmp_path: Path) -> EvaluationData:
    validation = colours(tmp_path / "validation.parquet", 12)
    return EvaluationData(DataSource(colours(tmp_path / "train.parquet", 24), validation_dataset=validation))


def all_red_from_severity_four(images: np.ndarray, name: str, severity: int, keys: list[int]) -> np.ndarray:
    made = images.copy()
    if severity >= 4:
        made[:] = COLOURS["red"]
    return made


# ------------------------------------------------------------------------------------------------------ formulae
def test_corruption_errors_by_hand() -> None:
    """Two images, two corruptions, two severities."""
    corrupted = torch.tensor([[[1, 1], [0, 0]], [[0, 1], [0, 1]]]).double()
    baseline = torch.tensor([[[1, 1], [1, 0]], [[1, 1], [0, 1]]]).double()
    mce = mean_corruption_error(corrupted, baseline)
    assert mce.groups() == [3 / 4, 1 / 2] and mce.value == pytest.approx(0.625)
    clean, theirs = torch.tensor([0.0, 0.0]).double(), torch.tensor([1.0, 0.0]).double()
    relative = relative_mean_corruption_error(Errors(clean, corrupted), Errors(theirs, baseline))
    assert relative.groups() == [3 / (4 - 2), None]  # the baseline's error does not rise under the second: 2 - 2 = 0
    assert relative.value == pytest.approx(1.5)
    assert mean_corruption_error(corrupted, torch.zeros(2, 2, 2).double()) is None
    assert relative_mean_corruption_error(Errors(clean, corrupted), Errors(torch.ones(2).double(), baseline)) is None


def test_a_model_relative_to_itself_is_one_hundred_percent() -> None:
    generator = torch.Generator().manual_seed(0)
    errors = (torch.rand(40, 15, 5, generator=generator) < 0.4).double()
    measure = mean_corruption_error(errors, errors)
    assert measure.value == 1 and measure.estimate().low == measure.estimate().high == 1
    assert measure.percent and not measure.higher_is_better


# ---------------------------------------------------------------------------------------------------------- task
def test_the_task_by_hand(data: EvaluationData, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Everything turns red at severities 4 and 5, so that two thirds are then mistaken."""
    monkeypatch.setattr(robustness, "corrupt", all_red_from_severity_four)
    blind, sees = model("blind", Blind()), model("sees", Colour())
    (report,) = run_suite([model("floor", Blind(), "random"), blind, sees], [Robustness()], data)
    assert report.task.settings() == Robustness().settings() and "models" not in report.task.settings()
    found = report.results["sees"]
    values = {name: measure.value for name, measure in found.measures.items()}
    assert values == pytest.approx({"clean_accuracy": 1, "unnormalised_mce": 2 / 5 * 2 / 3, "mce": 2 / 5})
    assert found.details["baseline"] == "blind" and found.measures["mce"].n == 12
    assert found.details["accuracy"]["fog"] == pytest.approx([1, 1, 1, 1 / 3, 1 / 3])
    assert set(found.details["relative_corruption_error"].values()) == {None}  # the blind one has no more to lose
    assert report.results["floor"].measures["mce"].value == 1  # it runs before the baseline, and is compared with it
    assert found.measures["clean_accuracy"].chance == pytest.approx(1 / 3)
    (picture,) = report.task.draw(report.results, tmp_path)
    with Image.open(picture.path) as drawn:
        assert drawn.size[0] > 800


def test_the_baseline_can_be_named(data: EvaluationData, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model by the name it has in the run, a control, or one that is not in the run."""
    monkeypatch.setattr(robustness, "corrupt", all_red_from_severity_four)
    monkeypatch.setattr(
        robustness, "open_model", lambda name, seed: {"sees": sees, "other": model("other", Blind())}[name]
    )
    sees = model("sees", Colour())
    models = [model(RANDOM, Blind(), "random"), model("blind", Blind()), sees]
    for baseline, of_blind, of_seeing in (("sees", 2.5, 1), (RANDOM, 1, 0.4), ("other", 1, 0.4)):
        (report,) = run_suite(models, [Robustness(baseline=baseline)], data)
        mce = {name: result.measures["mce"].value for name, result in report.results.items()}
        assert mce == pytest.approx({RANDOM: of_blind, "blind": of_blind, "sees": of_seeing})
        assert report.results["sees"].details["baseline"] == baseline
        if baseline == "sees":
            rise = {name: result.measures["relative_mce"].value for name, result in report.results.items()}
            assert rise == pytest.approx({RANDOM: 0, "blind": 0, "sees": 1})


def test_a_baseline_that_cannot_be_opened_is_refused_before_any_work(data, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(EvaluationData, "features", lambda *_: pytest.fail("long work"))
    with pytest.raises((ValueError, OSError), match="nothing"):
        run_suite([model("sees", Colour())], [Robustness(baseline=str(tmp_path / "nothing"))], data)


def test_images_are_corrupted_as_the_model_sees_them_and_by_their_own_keys(data: EvaluationData, monkeypatch) -> None:
    seen = []

    def spy(images, name, severity, keys):
        if images.ndim == 4:  # a single one is the picture's example
            seen.append((name, severity, images.shape, tuple(keys)))
        return images

    monkeypatch.setattr(robustness, "corrupt", spy)
    sees = model("sees", Colour(), size=40)
    (report,) = run_suite([sees, model("again", Colour(), size=40)], [Robustness(images=5)], data)
    assert len(seen) == len({call[:2] for call in seen}) == 15 * 5  # made once for both models
    assert {call[2] for call in seen} == {(5, 40, 40, 3)} and len({call[3] for call in seen}) == 1
    assert len(set(seen[0][3])) == 5
    both = [result.measures["unnormalised_mce"] for result in report.results.values()]
    assert torch.equal(both[0].numerators, both[1].numerators) and both[0].n == 5
    data.forget(sees)
    again = Robustness(images=5).run(sees, data).measures["unnormalised_mce"]
    assert torch.equal(again.numerators, both[0].numerators)


def test_real_corruptions_cost_accuracy_where_they_hide_what_the_model_goes_by(data: EvaluationData) -> None:
    (report,) = run_suite([model("pixel", Pixel())], [Robustness(images=6)], data)
    accuracy = report.results["pixel"].details["accuracy"]
    assert list(accuracy) == list(CORRUPTIONS)
    assert accuracy["defocus_blur"] == accuracy["pixelate"] == [1] * 5  # even images stay as they are
    assert np.mean([accuracy[name] for name in ("gaussian_noise", "shot_noise", "impulse_noise")]) < 0.95


def test_images_without_a_label_are_not_asked_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(robustness, "corrupt", all_red_from_severity_four)
    names = list(COLOURS)
    validation = write(tmp_path / "v.parquet", [0, None, 2, 1], names, ["red", "green", "blue", "green"])
    data = EvaluationData(DataSource(colours(tmp_path / "t.parquet", 12), validation_dataset=validation))
    result = Robustness().run(model("sees", Colour()), data)
    assert result.measures["clean_accuracy"].n == 3 and result.measures["clean_accuracy"].value == 1


# ----------------------------------------------------------------------------------------------------- elsewhere
def test_accuracy_elsewhere_by_hand(data: EvaluationData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three of four tomatoes are red, all grass is green, the sky has no counterpart; blue is never an answer."""
    monkeypatch.setattr(robustness, "corrupt", all_red_from_severity_four)
    painted = ["red"] * 3 + ["green"] + ["green"] * 2 + ["blue"] * 2
    elsewhere = write(tmp_path / "food.parquet", [0] * 4 + [1] * 2 + [2] * 2, ["tomato", "Grass", "sky"], painted)
    (tmp_path / "mapping.json").write_text(json.dumps({"tomato": "red", "grass": "GREEN", "sky": None}))
    task = Robustness(ood_dataset=(elsewhere,), ood_mapping=str(tmp_path / "mapping.json"))
    (report,) = run_suite([model("sees", Colour())], [task], data)
    measure = report.results["sees"].measures["accuracy_food"]
    assert (measure.n, measure.value, measure.chance) == (6, 5 / 6, 1 / 2)


def test_equal_names_need_no_mapping_and_answers_are_among_shared_classes(data, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(robustness, "corrupt", all_red_from_severity_four)
    elsewhere = write(tmp_path / "some.parquet", [0, 1, 0], ["Blue", "red"], ["blue", "red", "green"])
    (report,) = run_suite([model("sees", Colour())], [Robustness(ood_dataset=(elsewhere,))], data)
    measure = report.results["sees"].measures["accuracy_some"]
    answered = measure.numerators[:, 0].tolist()
    assert answered[:2] == [1, 1] and measure.chance == 1 / 2


def test_part_scenes_brings_its_own_variants(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(robustness, "corrupt", all_red_from_severity_four)
    source = DataSource("part-scenes?size=32&num_images=40&seed=4")
    (report,) = run_suite([model("sees", Colour())], [Robustness(images=4, ood_images=30)], EvaluationData(source))
    measures = report.results["sees"].measures
    for variant in ("new-textures", "new-backgrounds", "silhouettes", "jumbled"):
        assert measures[f"accuracy_{variant}"].n == 30 and measures[f"accuracy_{variant}"].chance == 0.1


def test_a_variant_keeps_the_runs_scenes() -> None:
    source = DataSource(
        "part-scenes?size=48&seed=4&variant=jumbled&difficulty=hard", dataset_split="test", max_images=70
    )
    train = variant_of(source, "train", "silhouettes", 1000, "fine_label")
    assert train.dataset == "part-scenes?size=48&seed=4&variant=silhouettes&difficulty=hard&num_images=70"
    assert (train.dataset_split, train.label_column) == ("test", "fine_label")
    other = DataSource("part-scenes?seed=4", validation_dataset="part-scenes?seed=9&variant=silhouettes")
    assert variant_of(other, "validation", "jumbled", 50).dataset.startswith("part-scenes?seed=9&variant=jumbled")
    assert variant_of(other, "validation", "jumbled", 50).dataset_split == "validation"
    assert variant_of_run(other) == "silhouettes" and variant_of_run(DataSource()) == "standard"


# ------------------------------------------------------------------------------------------------------ mappings
def test_names_map_whatever_their_case_and_hyphens() -> None:
    assert map_names(["Sea_Horse", "cat ", "emu"], ["cat", "sea horse"]).tolist() == [1, 0, -1]
    assert map_names(["tabby", "siamese", "oak"], ["cat"], {"tabby": "cat", "Siamese": "Cat"}).tolist() == [0, 0, -1]


@pytest.mark.parametrize(
    ("names", "targets", "mapping", "message"),
    [
        (["oak"], ["cat"], None, "not one of oak has a counterpart in cat; give a mapping"),
        (["oak"], ["cat"], {"elm": "cat"}, "there is no class elm; the classes are oak"),
        (["oak"], ["cat"], {"oak": "dog"}, "there is no class dog; the classes are cat"),
        (["oak"], ["cat"], {"oak": None}, "not one of oak has a counterpart"),
    ],
)
def test_mappings_that_map_nothing_are_refused(names, targets, mapping, message: str) -> None:
    with pytest.raises(MappingError, match=message):
        map_names(names, targets, mapping)


@pytest.mark.parametrize("text", ["[1]", "{", '{"a": 1}', None])
def test_files_that_hold_no_mapping_are_refused(text: str | None, tmp_path: Path) -> None:
    path = tmp_path / "mapping.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(MappingError, match="mapping.json"):
        read_mapping(path)


# -------------------------------------------------------------------------------------------------------- errors
def test_what_cannot_work_is_refused_before_any_work(data, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(EvaluationData, "features", lambda *_: pytest.fail("long work"))
    strange = write(tmp_path / "strange.parquet", [0], ["tomato"], ["red"])
    sees = model("sees", Colour())
    with pytest.raises(MappingError, match="not one of tomato has a counterpart in red, green, blue"):
        run_suite([sees], [Robustness(ood_dataset=(strange,))], data)
    with pytest.raises(ValueError, match="small sees 24 px; corruptions need 32 or more"):
        run_suite([sees, model("small", Colour(), size=24)], [Robustness()], data)
    with pytest.raises(ValueError, match="images = 0"):
        Robustness(images=0)
    one = write(tmp_path / "one.parquet", [0, 0], list(COLOURS), ["red", "red"])
    with pytest.raises(LabelError, match="two classes"):
        run_suite([sees], [Robustness()], EvaluationData(DataSource(one, validation_dataset=one)))


def test_a_control_that_is_not_in_the_run_is_no_baseline(data):
    with pytest.raises(ValueError, match=f"{RANDOM} is not in this run: sees"):
        run_suite([model("sees", Colour())], [Robustness(baseline=RANDOM)], data)
