"""Labels on their way from the dataset to an objective that learns from them, and what is refused on it."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections import Counter
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from sp_hf.cards.model_card import write_card
from sp_hf.cli import main
from sp_hf.data.datasets import load_images
from sp_hf.model.modeling import SPForPreTraining
from sp_hf.training.labels import check_range, label_range, with_num_labels
from sp_hf.views.sampler import ViewSampler

from .conftest import OBJECTIVES, SPEC, tiny_options

SUPERVISED = {"name": "supervised", "views": {**SPEC, "count": 1}}
SP = {"name": "spatial_prediction", **OBJECTIVES["spatial_prediction"]}
HALVES = ("--gradient_accumulation_steps", "2", "--per_device_train_batch_size", "2", "--bf16")


def pretrain(recipe: Path, output: Path, *flags: str) -> int:
    return main(["pretrain", "--recipe", str(recipe), "--output_dir", str(output), *flags])


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Path) -> Path:
    """Supervised and SP, 4 steps of 4 images: once through the 16."""
    path = tmp_path_factory.mktemp("supervised") / "tiny.yaml"
    options = {**tiny_options(tiny_encoder), "objectives": [SUPERVISED, SP], "max_steps": 4, "logging_steps": 1}
    path.write_text(json.dumps(options))
    return path


@pytest.fixture(scope="module")
def finished(recipe: Path) -> Path:
    assert pretrain(recipe, recipe.parent / "out") == 0
    return recipe.parent / "out"


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor | None]:
    """The labels of every forward."""
    labels: list[torch.Tensor | None] = []
    forward = SPForPreTraining.forward

    def spy(self, **inputs):
        labels.append(inputs.get("labels"))
        return forward(self, **inputs)

    monkeypatch.setattr(SPForPreTraining, "forward", spy)
    return labels


def save(folder: Path, labels: list, **columns: list) -> str:
    """A parquet file of small images with these labels."""
    files = [folder / f"{i}.png" for i in range(len(labels))]
    for i, file in enumerate(files):
        Image.fromarray(np.full((16, 16, 3), 10 * i, dtype=np.uint8)).save(file)
    rows = {"image": [str(file) for file in files], "label": labels, **columns}
    if not any(label is not None for label in labels):
        del rows["label"]
    dataset = datasets.Dataset.from_dict(rows).cast_column("image", datasets.Image())
    dataset.to_parquet(folder / "train.parquet")
    return str(folder / "train.parquet")


def test_number_of_labels_is_in_the_recipe_and_the_model(finished: Path) -> None:
    recipe = yaml.safe_load((finished / "recipe.yaml").read_text())
    assert [entry.get("num_labels") for entry in recipe["objectives"]] == [10, None]
    config = json.loads((finished / "pretraining" / "config.json").read_text())
    assert config["objectives"][0]["num_labels"] == 10
    model = SPForPreTraining.from_pretrained(finished / "pretraining")
    assert model.objectives["supervised"].head.out_features == 10
    assert model.needs_labels and model.teacher is None


def test_loss_and_accuracy_are_logged(finished: Path) -> None:
    records = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    training = [r for r in records if "learning_rate" in r]
    assert len(training) == 4
    for r in training:
        assert r["loss"] == pytest.approx(r["loss/supervised"] + r["loss/spatial_prediction"], rel=1e-5)
        assert r["supervised/accuracy"] in (0, 0.25, 0.5, 0.75, 1)
    assert training[0]["loss/supervised"] == pytest.approx(np.log(10), rel=0.1)  # a head that knows nothing


def test_its_model_card_says_that_labels_were_used(finished: Path, tmp_path: Path) -> None:
    card = write_card(finished, tmp_path, "someone/tiny", run_snippets=False)
    assert "self-supervised" not in card.data.tags and "supervised" in card.data.tags
    assert "| labels | used |" in card.content
    assert "without labels" not in card.content and "not used" not in card.content


@pytest.mark.parametrize("flags", [(), ("--streaming", "--images_per_epoch", "16")], ids=["map-style", "streaming"])
def test_each_images_label_arrives_once_an_epoch(recipe: Path, tmp_path: Path, seen: list, flags: tuple) -> None:
    assert pretrain(recipe, tmp_path / "out", *HALVES, *flags) == 0
    assert all(labels.shape == (2,) and labels.dtype == torch.int64 for labels in seen)
    truth = load_images("part-scenes?size=32&num_images=16").dataset["label"]
    assert Counter(torch.cat(seen).tolist()) == Counter(truth)


def test_resumed_run_equals_the_uninterrupted_one(recipe: Path, tmp_path: Path) -> None:
    assert pretrain(recipe, tmp_path / "whole", *HALVES) == 0
    shutil.copytree(tmp_path / "whole", tmp_path / "broken")
    for name in ("checkpoint-4", "pretraining", "encoder"):
        shutil.rmtree(tmp_path / "broken" / name)
    assert pretrain(recipe, tmp_path / "broken", *HALVES, "--resume_from_checkpoint", "last") == 0
    ours, theirs = (load_file(tmp_path / n / "pretraining" / "model.safetensors") for n in ("broken", "whole"))
    assert "objectives.supervised.head.weight" in ours
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]), name


def test_who_needs_no_labels_gets_none(recipe: Path, tmp_path: Path, seen: list) -> None:
    assert pretrain(recipe, tmp_path / "out", "--objectives", "spatial_prediction", "--max_steps", "1") == 0
    assert seen == [None]


def test_labels_are_hidden_from_objectives_that_do_not_ask(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = SPForPreTraining.from_pretrained(finished / "pretraining")
    batches = {}
    for name, objective in model.objectives.items():
        forward = objective.forward
        monkeypatch.setattr(
            objective, "forward", lambda batch, e, n=name, f=forward: (batches.update({n: batch}), f(batch, e))[1]
        )
    keys, labels = torch.arange(2), torch.tensor([3, -1])
    views = ViewSampler(model.view_specs)(torch.zeros(2, 3, 32, 32, dtype=torch.uint8), torch.ones(2), keys)
    model(views, keys, labels)
    assert torch.equal(batches["supervised"].labels, labels) and batches["spatial_prediction"].labels is None


def test_classes_are_counted_where_the_dataset_does_not_name_them(tmp_path: Path) -> None:
    images = load_images(save(tmp_path, [4, 0, None, 2]))
    assert label_range(images) == (0, 4)
    entries = with_num_labels([SUPERVISED, SP], images)
    assert entries == [{**SUPERVISED, "num_labels": 5}, SP]
    assert with_num_labels([{**SUPERVISED, "num_labels": 9}], images)[0]["num_labels"] == 9
    assert "num_labels" not in SUPERVISED


def test_self_supervised_entries_and_data_stay_as_they_are(tmp_path: Path) -> None:
    images = load_images(save(tmp_path, [None, None]))
    assert images.label_column is None
    assert with_num_labels([SP], images) == [SP]


def test_another_column_of_labels(recipe: Path, tmp_path: Path) -> None:
    dataset = save(tmp_path, [0, 1, 0, 1], kind=[5, 6, 6, 5])
    flags = ("--dataset", dataset, "--label_column", "kind", "--max_steps", "1")
    assert pretrain(recipe, tmp_path / "out", *flags) == 0
    resolved = yaml.safe_load((tmp_path / "out" / "recipe.yaml").read_text())
    assert resolved["objectives"][0]["num_labels"] == 7 and resolved["label_column"] == "kind"


def test_a_dataset_without_labels_is_refused_before_training(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    dataset = save(tmp_path, [None] * 4, caption=["a", "b", "c", "d"])
    assert pretrain(recipe, tmp_path / "out", "--dataset", dataset) == 1
    error = capsys.readouterr().err
    assert error.count("sp-hf: error:") == 1 and "Traceback" not in error
    for word in ("'supervised'", "train.parquet", "image: Image, caption: string", "--label_column"):
        assert word in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("labels", "num_labels", "message"),
    [
        ([0, 3, 1], 3, r"train.parquet.* has the label 3, but objective 'supervised' has num_labels 3.* 0 to 2"),
        ([0, -2, 1], None, "has the label -2"),
        ([-1, -1, -1], None, "holds not one label"),
    ],
)
def test_labels_out_of_range_are_refused(tmp_path: Path, labels: list, num_labels: int | None, message: str) -> None:
    images = load_images(save(tmp_path, labels))
    with pytest.raises(ValueError, match=message):
        with_num_labels([{**SUPERVISED, "num_labels": num_labels}], images)


def test_a_stream_that_names_no_classes_must_be_told(tmp_path: Path) -> None:
    images = load_images(save(tmp_path, [0, 3, 1]), streaming=True)
    with pytest.raises(ValueError, match="is a stream whose labels are plain numbers.*write num_labels"):
        with_num_labels([SUPERVISED], images)
    told = {**SUPERVISED, "num_labels": 2}
    assert with_num_labels([told], images) == [told]
    named = dataclasses.replace(images, label_names=["a", "b", "c", "d"])
    assert with_num_labels([SUPERVISED], named)[0]["num_labels"] == 4


def test_a_label_out_of_range_in_a_stream_stops_the_run(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    options = json.loads(recipe.read_text())
    options["objectives"][0]["num_labels"] = 2
    (tmp_path / "told.yaml").write_text(json.dumps(options))
    flags = ("--dataset", save(tmp_path, [0, 3, 1, 0]), "--streaming", "--max_steps", "2")
    assert pretrain(tmp_path / "told.yaml", tmp_path / "out", *flags) == 1
    error = capsys.readouterr().err
    assert "train.parquet" in error and "has the label 3" in error and "Traceback" not in error


def test_range_of_labels() -> None:
    check_range(-1, 4, {"one": 5, "two": 6}, "x")
    with pytest.raises(ValueError, match="x has the label 5, but objective 'one' has num_labels 5"):
        check_range(0, 5, {"two": 6, "one": 5}, "x")
