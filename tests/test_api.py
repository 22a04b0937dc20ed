"""The functions of ``sp_hf`` with objects of each kind: the same run, the same numbers as by name; what is refused."""

from __future__ import annotations

import builtins
import json
import math
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file
from training.conftest import OBJECTIVES as TINY
from training.conftest import tiny_encoder  # noqa: F401
from transformers import BertConfig, BertModel, ViTConfig, ViTForImageClassification, ViTModel

import sp_hf
from sp_hf.cli import main
from sp_hf.evaluation.command import parser
from sp_hf.evaluation.measure import Estimate
from sp_hf.evaluation.report import terminal_table
from sp_hf.evaluation.tasks import build_tasks
from sp_hf.objectives import to_entry
from sp_hf.objectives.where.spatial_prediction import SpatialPrediction
from sp_hf.run.recipe import RecipeError, merge_objectives

SIZES = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48}
WHERE = {"name": "spatial_prediction", **TINY["spatial_prediction"]}
TRAINING = {
    "canvas_size": 32, "max_steps": 2, "per_device_train_batch_size": 4, "dataloader_num_workers": 0, "use_cpu": True,
    "warmup_steps": 1,
}  # fmt: skip
MEASURED = {"num_workers": 0, "no_cache": True}


def pictures(count: int = 12) -> list[Image.Image]:
    """Red, green and blue ones in turn."""
    noise = np.random.default_rng(0).integers(0, 90, (count, 20, 30, 3))
    colours = 150 * np.eye(3, dtype=np.int64)
    return [Image.fromarray((colours[i % 3] + noise[i]).astype(np.uint8)) for i in range(count)]


def labelled(count: int = 12) -> datasets.Dataset:
    features = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=["red", "green", "blue"]))
    return datasets.Dataset.from_dict({"image": pictures(count), "label": [i % 3 for i in range(count)]}, features)


def tiny_model(pooler: bool = False) -> ViTModel:
    torch.manual_seed(3)  # another one than of the evaluation, whose floor it would be
    return ViTModel(ViTConfig(**SIZES, image_size=16, patch_size=4), add_pooling_layer=pooler)


# Pretraining ----------------------------------------------------------------------------------------------------------


def test_objects_train_to_the_weights_of_the_run_that_names_them(tmp_path):
    labelled().to_parquet(str(tmp_path / "images.parquet"))
    model = tiny_model(pooler=True)
    sp_hf.Encoder(model).save_stock(tmp_path / "encoder")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    options = {**TRAINING, "seed": 5}
    named = {"encoder": str(tmp_path / "encoder"), "dataset": str(tmp_path / "images.parquet"), "objectives": [WHERE]}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({**named, **options}))
    flags = ["--recipe", str(tmp_path / "recipe.yaml"), "--output_dir", str(tmp_path / "named")]
    assert main(["pretrain", *flags]) == 0
    config = SpatialPrediction.config_class(**TINY["spatial_prediction"])
    run = sp_hf.pretrain(model, config, labelled(), output_dir=tmp_path / "given", **options)
    assert (run.step, run.finished, Path(run)) == (2, True, tmp_path / "given")
    expected, found = (load_file(tmp_path / name / "encoder" / "model.safetensors") for name in ("named", "given"))
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        assert torch.equal(value, found[name]), name
    assert not torch.equal(found["embeddings.cls_token"], before["embeddings.cls_token"])
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())  # a copy was trained
    recipe = yaml.safe_load((run.output_dir / "recipe.yaml").read_text())
    assert (recipe["encoder"], recipe["dataset"]) == ("object: ViTModel", "object: Dataset of 12 rows")
    with pytest.raises(ValueError, match=r"the encoder was an object that Python code had \(ViTModel\): name one"):
        sp_hf.pretrain(recipe=recipe, output_dir=tmp_path / "again")


def test_a_stream_given_as_an_object_is_resumed_in_the_folder_of_the_run(tmp_path):
    stream, options = labelled().to_iterable_dataset(2), {**TRAINING, "shuffle_block": 4}
    with pytest.raises(ValueError, match="a stream, which does not know its length: give --max_steps"):
        sp_hf.pretrain(tiny_model(), WHERE, stream, output_dir=tmp_path / "run", **{**options, "max_steps": -1})
    half = {**options, "save_steps": 1}
    whole = sp_hf.pretrain(tiny_model(), WHERE, stream, output_dir=tmp_path / "run", **half)
    with pytest.raises(FileExistsError, match="already holds a run"):
        sp_hf.pretrain(tiny_model(), WHERE, stream, output_dir=tmp_path / "run", **half)
    first = load_file(whole.encoder / "model.safetensors")
    (whole.encoder / "model.safetensors").unlink()
    checkpoint = whole.output_dir / "checkpoint-1"
    again = sp_hf.pretrain(tiny_model(), WHERE, stream, output_dir=tmp_path / "run", resume=checkpoint, **half)
    found = load_file(again.encoder / "model.safetensors")
    assert all(torch.equal(value, found[name]) for name, value in first.items())


def test_objectives_of_every_kind_come_to_the_same_entry():
    kind = SpatialPrediction
    config = kind.config_class(weight=0.5, head_width=16)
    built = kind(config, sp_hf.resolve_encoder("vit-micro-8"))
    entry = {"name": "spatial_prediction", "weight": 0.5, "head_width": 16}
    full = to_entry("spatial_prediction", config)
    assert merge_objectives([config], []) == merge_objectives([built], []) == [full]
    assert merge_objectives([entry], []) == merge_objectives([kind], [entry]) == [entry]
    assert merge_objectives([kind], []) == merge_objectives(["spatial_prediction"], [])
    assert merge_objectives(["spatial_prediction=0.5"], [])[0]["weight"] == 0.5
    hyphens = {**entry, "name": "spatial-prediction"}
    assert merge_objectives(["spatial-prediction"], [hyphens]) == merge_objectives([hyphens], []) == [entry]
    for wrong in (sp_hf.ObjectiveConfig(), torch.nn.Linear):
        with pytest.raises(RecipeError, match="is neither an objective nor the options of one"):
            merge_objectives([wrong], [])


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        ({"encoder": torch.nn.Linear(2, 2)}, TypeError, "not torch.nn.modules.linear.Linear"),
        ({"encoder": BertModel(BertConfig(**SIZES))}, ValueError, "bert"),
        ({"encoder": ViTForImageClassification(ViTConfig(**SIZES))}, ValueError, "headless ViTModel, got ViTFor"),
        ({"encoder": tiny_model(), "image_size": 32}, ValueError, "image_size=32 means nothing for a ViTModel"),
        ({"encoder": "object: ViTModel"}, ValueError, "an object that Python code had"),
        ({"dataset": datasets.Dataset.from_dict({"text": ["a"] * 8})}, ValueError, "no column of type Image"),
        ({"dataset": 3}, TypeError, "not int"),
        ({"learnin_rate": 1.0}, ValueError, "unknown option 'learnin_rate'; did you mean 'learning_rate'"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_what_pretrain_refuses(tmp_path, given, kind, message):
    options = {"encoder": "vit-micro-8", "objectives": WHERE, "dataset": pictures(), **TRAINING, **given}
    with pytest.raises(kind, match=message):
        sp_hf.pretrain(**options, output_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


# Evaluation -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> sp_hf.Results:
    """A model in memory, and the same one in a folder."""
    folder = tmp_path_factory.mktemp("run")
    model = tiny_model()
    sp_hf.Encoder(model).save_stock(folder / "encoder")
    run = sp_hf.PretrainingResult(folder, 0, None)
    everyone = {"in memory": model, "encoder": sp_hf.Encoder(model), "run": run}
    images = {"dataset": labelled(30), "validation_dataset": labelled(24)}
    output = tmp_path_factory.mktemp("out")
    tasks = ["knn", "relative-geometry"]
    return sp_hf.evaluate(
        everyone, tasks=tasks, **images, **MEASURED, relative_geometry_crop_size=16, output_dir=output, command="me"
    )


def test_models_of_every_kind_are_measured_alike(results):
    assert results.models == ["raw pixels", "low-level cues", "random initialisation", "in memory", "encoder", "run"]
    assert results.tasks == ["knn", "relative-geometry"] and results.reference == "in memory"
    for metric in results:
        if metric.model in ("encoder", "run"):
            reference = results.metric(metric.task, metric.name, "in memory")
            assert metric.value == pytest.approx(reference.value, abs=1e-5)
            assert metric.difference.value == pytest.approx(0, abs=1e-5)
            assert metric.difference.low <= 1e-5 and metric.difference.high >= -1e-5


def test_results_answer_by_name(results):
    accuracy = results.metric("knn", "accuracy", "raw pixels")
    assert (accuracy.value, accuracy.n, accuracy.percent, accuracy.role) == (1.0, 24, True, "pixels")
    assert accuracy.difference == results.difference("knn", "accuracy", "raw pixels")
    own = results.metric("knn", "accuracy", "in memory")
    assert accuracy.difference.value == pytest.approx(1.0 - own.value) and own.difference is None
    for arguments, message in (
        (("kn", "accuracy", "run"), "no task is called 'kn'; did you mean 'knn'"),
        (("knn", "acuracy", "run"), "no metric of knn is called 'acuracy'; did you mean 'accuracy'"),
        (("knn", "accuracy", "runs"), "no model with a result of knn is called 'runs'; did you mean 'run'"),
    ):
        with pytest.raises(KeyError, match=message):
            results.metric(*arguments)
    with pytest.raises(KeyError, match="no difference of knn/accuracy from the reference 'in memory'"):
        results.difference("knn", "accuracy", "in memory")


def test_results_as_table_json_and_data_frame(results):
    assert str(results) == terminal_table(results.data) and "knn (what)" in str(results)
    assert json.loads(results.to_json())["command"] == "me"
    frame = results.to_pandas().set_index(["task", "name", "model"])
    assert len(frame) == len(list(results))
    row = frame.loc[("knn", "accuracy", "raw pixels")]
    found = Estimate(row.difference, row.difference_low, row.difference_high)
    assert found == results.difference("knn", "accuracy", "raw pixels")
    assert math.isnan(frame.loc[("knn", "accuracy", "in memory")].difference)


def test_a_data_frame_without_pandas_says_what_to_install(results, monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "pandas":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match="pip install pandas"):
        results.to_pandas()


def test_results_are_saved_with_their_pictures_and_loaded(results, tmp_path):
    folder = results.save(tmp_path / "saved")
    loaded = sp_hf.Results.load(folder)
    assert loaded.data == json.loads(results.to_json()) and str(loaded) == str(results)
    drawn = {path.name for path in folder.glob("*.png")}
    assert drawn and all(name in (folder / "report.md").read_text() for name in drawn)
    again = loaded.save(tmp_path / "again")  # a copy of what was loaded
    assert {path.name for path in again.iterdir()} == {path.name for path in folder.iterdir()}
    for path in folder.iterdir():
        assert (again / path.name).read_bytes() == path.read_bytes()
    with pytest.raises(FileNotFoundError, match="no results at"):
        sp_hf.Results.load(tmp_path)
    (folder / "results.json").write_text('{"schema_version": 9}')
    with pytest.raises(ValueError, match="schema_version 9; this version reads 1"):
        sp_hf.Results.load(folder)


def test_what_decided_the_metrics_is_recorded(results):
    options = results.data["options"]
    assert options["tasks"]["relative-geometry"]["crop_size"] == 16 and options["seed"] == 0
    assert options["data"]["dataset"] == "object: Dataset of 30 rows" and options["data"]["max_images"] is None
    weights = {model["name"]: model["weights"] for model in results.data["models"]}
    assert weights["in memory"] is None and len(weights["run"]) == 64


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"knn_neighbors": 3}, TypeError, "no option 'knn_neighbors'"),
        ({"tasks": "knm"}, ValueError, "unknown task knm"),
        ({"models": []}, ValueError, "no model to evaluate"),
        ({"models": [torch.nn.Linear(2, 2)]}, TypeError, "not torch.nn.modules.linear.Linear"),
        ({"dataset": pictures()}, ValueError, "training images have none"),
        ({"dataset": labelled().select_columns("label")}, ValueError, "no column of type Image"),
        ({"dataset": pictures(), "validation_dataset": pictures()}, ValueError, "training images have none"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_what_evaluate_refuses(options, kind, message):
    with pytest.raises(kind, match=message):
        sp_hf.evaluate(**{"models": "vit-micro-8", "tasks": "knn", "size": 16, **MEASURED, **options})


# One spelling ---------------------------------------------------------------------------------------------------------


def test_old_and_hyphenated_flags_of_evaluate(caplog):
    old = ["--split", "a", "--config=b", "--revision", "c", "--validation_split", "d", "--max-images", "5"]
    args = parser().parse_args(["m", *old, "--knn-neighbours", "3"])
    found = (args.dataset_split, args.dataset_config, args.dataset_revision, args.validation_dataset_split)
    assert found == ("a", "b", "c", "d") and (args.max_images, args.knn_neighbours) == (5, 3)
    for name in ("split", "config", "revision", "validation_split"):
        assert f"--{name} is now called --" in caplog.text


def test_tasks_are_named_with_hyphens_or_underscores():
    assert [task.name for task in build_tasks(["relative_geometry", "relative-geometry"])] == ["relative-geometry"]


def test_every_command_spells_data_alike(monkeypatch, tmp_path):
    """The flags of pretrain, evaluate and sweep, and the arguments of the functions."""
    import inspect

    from sp_hf.data.flags import DATA_FLAGS
    from sp_hf.run.arguments import DataArguments
    from sp_hf.sweeps import sweep as sweeping
    from sp_hf.sweeps.command import sweep_command

    for function in (sp_hf.evaluate, sp_hf.sweep):
        assert set(DATA_FLAGS) <= set(inspect.signature(function).parameters)
    given = {}
    monkeypatch.setattr(sweeping, "sweep", lambda file, **options: given.update(options))
    words = [word for name in DATA_FLAGS for word in (f"--{name.replace('_', '-')}", name)]
    (file := tmp_path / "sweep.yaml").write_text("title: none")
    with pytest.raises(AttributeError):  # of the stand-in's result
        sweep_command([str(file), *words])
    assert {name: given[name] for name in DATA_FLAGS} == {name: name for name in DATA_FLAGS}
    args = vars(parser().parse_args(["m", *words]))
    assert {name: args[name] for name in DATA_FLAGS} == {name: name for name in DATA_FLAGS}
    assert set(DATA_FLAGS) <= set(DataArguments.__dataclass_fields__)
