"""Shape bias: decisions and metrics by hand, the shipped tables, the task on encoders that see one cue, refusals."""

from __future__ import annotations

import json
import math
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from sp_hf.encoders.encoder import Encoding
from sp_hf.evaluation.data import EvaluationData
from sp_hf.evaluation.model import EvaluatedModel, Preprocess
from sp_hf.evaluation.source import DataSource
from sp_hf.evaluation.suite import run_suite
from sp_hf.evaluation.what.label_mapping import MappingError
from sp_hf.evaluation.what.shape_bias.classes import CALTECH_101, CIFAR_10, SIXTEEN, TABLES
from sp_hf.evaluation.what.shape_bias.task import ShapeBias, by_class, conflict_decisions, shape_bias_measures

NAMES = ["car", "cat", "dog"]
COLOURS = [(220, 30, 30), (30, 220, 30), (30, 30, 220)]  # a class's "texture"
BRIGHT_ROWS = [0, 1, 2]  # a class's "shape": which third of the image is bright


class SeesColour(nn.Module):
    """The proportions of red, green and blue: the texture of the images below."""

    def patches_of(self, size: int) -> tuple[int, int]:
        return 1, 1

    def forward(self, pixels: torch.Tensor) -> Encoding:
        colour = pixels.mean((2, 3))
        return self.encoding(colour / colour.sum(1, keepdim=True))

    @staticmethod
    def encoding(cls: torch.Tensor) -> Encoding:
        return Encoding(cls, cls.new_zeros(len(cls), 1, 1), (1, 1))


class SeesPlace(SeesColour):
    """Which third of the image is brightest: the shape of the images below."""

    def forward(self, pixels: torch.Tensor) -> Encoding:
        rows = pixels.amax(1).mean(2).unflatten(1, (3, -1)).mean(2)  # the largest channel: no colour in it
        return self.encoding(rows / rows.sum(1, keepdim=True))


def model(name: str, encoder: nn.Module, role: str = "model") -> EvaluatedModel:
    return EvaluatedModel(name, encoder, Preprocess.squash(30), role=role)


def picture(shape: int, texture: int) -> Image.Image:
    pixels = np.zeros((30, 30, 3))
    pixels[:] = np.array(COLOURS[texture]) * 0.3
    pixels[10 * BRIGHT_ROWS[shape] : 10 * BRIGHT_ROWS[shape] + 10] = COLOURS[texture]
    return Image.fromarray(pixels.astype(np.uint8))


def write(path: Path, images: list[Image.Image], **columns: tuple[list[int], list[str]]) -> str:
    features = {"image": datasets.Image()}
    features |= {name: datasets.ClassLabel(names=names) for name, (_, names) in columns.items()}
    rows = {"image": images} | {name: labels for name, (labels, _) in columns.items()}
    datasets.Dataset.from_dict(rows, features=datasets.Features(features)).to_parquet(str(path))
    return str(path)


def consistent(path: Path, n: int, names: list[str] = NAMES) -> str:
    labels = [i % 3 for i in range(n)]
    return write(path, [picture(label, label) for label in labels], label=(labels, names))


def conflicting(path: Path, pairs: list[tuple[int, int]], names: list[str] = NAMES) -> str:
    shapes, textures = ([pair[side] for pair in pairs] for side in (0, 1))
    return write(path, [picture(*pair) for pair in pairs], shape=(shapes, names), texture=(textures, names))


PAIRS = [(shape, texture) for shape in range(3) for texture in range(3)]


@pytest.fixture
def data(tmp_path: Path) -> EvaluationData:
    train, validation = consistent(tmp_path / "train.parquet", 30), consistent(tmp_path / "validation.parquet", 9)
    return EvaluationData(DataSource(train, validation_dataset=validation))


# ------------------------------------------------------------------------------------------------------ formulae
def test_decisions_average_probabilities_over_the_classes_that_stand_for_one() -> None:
    """Two dogs of 0.3 each lose to one cat of 0.35, as their mean is 0.3; a tree of 0.05 stands for nothing."""
    probabilities = torch.tensor([[0.3, 0.3, 0.35, 0.05], [0.5, 0.2, 0.29, 0.01], [0.01, 0.02, 0.03, 0.94]])
    counterparts = torch.tensor([2, 2, 0, -1])  # dog, dog, cat, none; nothing stands for class 1
    assert conflict_decisions(probabilities.log(), counterparts, 3).tolist() == [0, 2, 0]


def test_metrics_by_hand() -> None:
    """Six images: three decided by shape, one by texture, two by neither."""
    shape, texture = torch.tensor([0, 0, 1, 1, 2, 2]), torch.tensor([1, 2, 0, 2, 0, 1])
    decisions = torch.tensor([0, 0, 1, 2, 1, 0])
    measures = shape_bias_measures(decisions, shape, texture, 1 / 3)
    values = {name: measure.value for name, measure in measures.items()}
    assert values == {"shape_fraction": 3 / 4, "coverage": 4 / 6, "shape_accuracy": 3 / 6, "texture_accuracy": 1 / 6}
    assert {name: m.n for name, m in measures.items()} == dict.fromkeys(measures, 6)
    assert measures["coverage"].chance == 2 / 3 and measures["shape_fraction"].chance == 0.5
    rows = by_class(decisions, shape, texture, ["a", "b", "c"])
    assert rows["a"] == {"shape_fraction": 1, "coverage": 1, "images": 2}
    assert rows["b"] == {"shape_fraction": 1 / 2, "coverage": 1, "images": 2}
    assert rows["c"] == {"shape_fraction": None, "coverage": 0, "images": 2}


def test_without_any_decision_for_a_cue_there_is_no_shape_fraction() -> None:
    measures = shape_bias_measures(torch.tensor([2, 2]), torch.tensor([0, 1]), torch.tensor([1, 0]), 1 / 3)
    assert "shape_fraction" not in measures and measures["coverage"].value == 0


def test_guessing_gets_the_chances_that_are_given() -> None:
    rng = torch.Generator().manual_seed(0)
    shape = torch.randint(10, (20_000,), generator=rng)
    texture = (shape + torch.randint(1, 10, (20_000,), generator=rng)) % 10
    measures = shape_bias_measures(torch.randint(10, (20_000,), generator=rng), shape, texture, 0.1)
    for name, measure in measures.items():
        assert measure.value == pytest.approx(measure.chance, abs=0.03), name


# -------------------------------------------------------------------------------------------------------- tables
def test_the_tables_map_to_the_sixteen_classes() -> None:
    assert len(SIXTEEN) == len(set(SIXTEEN)) == 16
    for table in TABLES.values():
        assert set(table.values()) <= set(SIXTEEN)
    assert len(set(CALTECH_101.values())) == 9 and len(CIFAR_10) == 7


def test_the_table_of_cifar_10_is_found_by_its_class_names(tmp_path: Path) -> None:
    cifar = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    images = [picture(i % 3, i % 3) for i in range(20)]
    train = write(tmp_path / "train.parquet", images, label=([i % 10 for i in range(20)], cifar))
    ids = {name: place for place, name in enumerate(SIXTEEN)}
    pairs = [("car", "boat"), ("boat", "boat"), ("car", "oven"), ("bear", "cat"), ("dog", "truck")]
    numbers = [(ids[a], ids[b]) for a, b in pairs]
    shapes, textures = ([pair[side] for pair in numbers] for side in (0, 1))
    sixteen = list(SIXTEEN)
    conflict = write(tmp_path / "conflict.parquet", images[:5], shape=(shapes, sixteen), texture=(textures, sixteen))
    data = EvaluationData(DataSource(train, validation_dataset=train))
    (report,) = run_suite([model("colour", SeesColour())], [ShapeBias(dataset=conflict)], data)
    found = report.results["colour"]
    assert found.details["mapping"] == "table of CIFAR-10"
    assert found.details["counterparts"]["car"] == ["automobile"] and found.details["counterparts"]["boat"] == ["ship"]
    assert found.measures["coverage"].n == 2 and found.details["images_left_out"] == 3
    without = ["bear", "bicycle", "bottle", "chair", "clock", "elephant", "keyboard", "knife", "oven"]
    assert found.details["classes_without_counterpart"] == without
    assert found.measures["shape_accuracy"].chance == pytest.approx(1 / 7)


# ---------------------------------------------------------------------------------------------------------- task
def test_one_who_sees_colours_goes_by_texture_and_one_who_sees_places_by_shape(data, tmp_path: Path) -> None:
    conflict = conflicting(tmp_path / "conflict.parquet", PAIRS)
    models = [model("colour", SeesColour(), "random"), model("place", SeesPlace())]
    (report,) = run_suite(models, [ShapeBias(dataset=conflict)], data)
    for name, fraction in (("colour", 0), ("place", 1)):
        result = report.results[name]
        assert result.measures["shape_fraction"].value == fraction and result.measures["coverage"].value == 1
        assert result.measures["coverage"].n == 6 and result.details["images_left_out"] == 3  # the three that agree
        assert {row["shape_fraction"] for row in result.details["per_class"].values()} == {fraction}
        assert result.details["mapping"] == "equal names" and not result.details["classes_without_counterpart"]
    (drawn,) = report.task.draw(report.results, tmp_path)
    with Image.open(drawn.path) as image:
        assert image.size[0] > 600


def test_a_mapping_file_names_counterparts(tmp_path: Path) -> None:
    names = ["convertible", "tabby", "poodle"]
    train = consistent(tmp_path / "train.parquet", 30, names)
    conflict = conflicting(tmp_path / "conflict.parquet", PAIRS)
    (tmp_path / "mapping.json").write_text(json.dumps({"convertible": "car", "tabby": "cat", "poodle": None}))
    data = EvaluationData(DataSource(train, validation_dataset=train))
    task = ShapeBias(dataset=conflict, mapping=str(tmp_path / "mapping.json"))
    (report,) = run_suite([model("place", SeesPlace())], [task], data)
    result = report.results["place"]
    assert result.details["classes_without_counterpart"] == ["dog"] and result.measures["coverage"].n == 2
    assert result.measures["shape_fraction"].value == 1
    with pytest.raises(MappingError, match="not one of convertible, tabby, poodle has a counterpart in car, cat, dog"):
        run_suite([model("place", SeesPlace())], [ShapeBias(dataset=conflict)], data)


class SeesHue(SeesColour):
    """How much of the image has each hue: the textures of PartScenes, whatever the arrangement."""

    def forward(self, pixels: torch.Tensor) -> Encoding:
        high, low = pixels.amax(1), pixels.amin(1)
        r, g, b = pixels.unbind(1)
        angle = torch.atan2(math.sqrt(3) * (g - b), 2 * r - g - b)
        bins = ((angle / (2 * math.pi)) % 1 * 20).long().clamp(max=19)  # [B, H, W]
        weight = (high - low).flatten(1)
        return self.encoding(weight.new_zeros(len(pixels), 20).scatter_add_(1, bins.flatten(1), weight).sqrt())


def test_part_scenes_needs_no_other_dataset() -> None:
    data = EvaluationData(DataSource("part-scenes?size=32&num_images=500&seed=3&difficulty=hard"))
    (report,) = run_suite([model("hue", SeesHue())], [ShapeBias(images=120, train_images=300)], data)
    result = report.results["hue"]
    assert result.details["probe_images"] == 300
    assert result.measures["coverage"].n == 120 and result.details["images_left_out"] == 0
    assert result.measures["texture_accuracy"].value > 0.25 > 0.16 > result.measures["shape_accuracy"].value
    assert result.measures["shape_fraction"].estimate().high < 0.5


# -------------------------------------------------------------------------------------------------------- errors
def test_what_cannot_work_is_refused_before_any_work(data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EvaluationData, "features", lambda *_: pytest.fail("long work"))

    def refused(message: str, **options: object) -> None:
        with pytest.raises(ValueError, match=message):
            run_suite([model("place", SeesPlace())], [ShapeBias(**options)], data)

    refused("name a dataset with columns shape and texture with --shape_bias_dataset")
    refused("extra_columns='shape' is not a column", dataset=consistent(tmp_path / "plain.parquet", 3))
    agreeing = conflicting(tmp_path / "agreeing.parquet", [(0, 0), (1, 1)])
    refused("in not one of 2 images do shape and texture disagree", dataset=agreeing)
    others = conflicting(tmp_path / "others.parquet", PAIRS, ["car", "oven", "boat"])
    refused("needs two classes or more that the probe and the cue-conflict images share", dataset=others)
    images = [picture(0, 1)]
    mixed = write(tmp_path / "mixed.parquet", images, shape=([0], NAMES), texture=([1], NAMES[::-1]))
    refused("shape and texture are of different classes", dataset=mixed)
    with pytest.raises(ValueError, match="images = 1"):
        ShapeBias(images=1)
