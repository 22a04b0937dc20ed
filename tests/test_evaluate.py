"""``sp-hf evaluate`` from a dataset on disk to a report: sampling, floors, refusals, cache, what it leaves alone."""

import dataclasses
import json
import logging
import re

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from transformers import ViTConfig

from sp_hf.cli import main
from sp_hf.encoders.encoder import Encoder, Encoding
from sp_hf.evaluation.accuracy import LabelError
from sp_hf.evaluation.cache import FeatureCache
from sp_hf.evaluation.data import EvaluationData
from sp_hf.evaluation.features import choose_images, evaluating
from sp_hf.evaluation.measure import Measure
from sp_hf.evaluation.model import CUES, PIXELS, RANDOM, EvaluatedModel, Preprocess, random_initialisation
from sp_hf.evaluation.source import DataSource
from sp_hf.evaluation.suite import run_suite, with_controls
from sp_hf.evaluation.task import Task, TaskResult, TaskSkipped
from sp_hf.evaluation.tasks import TASKS, build_tasks
from sp_hf.evaluation.what.knn import KNN

COLOURS = np.array([[200, 40, 40], [40, 200, 40], [40, 40, 200]])
NAMES = ["red", "green", "blue"]


def pictures(n, seed):
    """Images of 40 x 30 px whose main colour is their class, a third of them of each."""
    noise = np.random.default_rng(seed).integers(-35, 35, (n, 30, 40, 3))
    return [Image.fromarray((COLOURS[i % 3] + noise[i]).astype(np.uint8)) for i in range(n)]


def write_split(path, n, *, seed=0, labels="classes", damaged=()):
    """A parquet file of n pictures."""
    columns = {"image": pictures(n, seed)}
    features = {"image": datasets.Image()}
    if labels != "none":
        columns["label"] = [1] * n if labels == "one" else [i % (2 if labels == "two" else 3) for i in range(n)]
        features["label"] = datasets.ClassLabel(names=NAMES)
    rows = datasets.Dataset.from_dict(columns, features=datasets.Features(features))
    rows = rows.cast_column("image", datasets.Image(decode=False))

    def damage(row, index):
        return {"image": {"bytes": row["image"]["bytes"][:60], "path": None}} if index in damaged else row

    rows.map(damage, with_indices=True, features=rows.features).to_parquet(str(path))
    return str(path)


def source(tmp_path, train=60, validation=30, **options):
    return DataSource(
        write_split(tmp_path / "train.parquet", train, labels=options.pop("train_labels", "classes")),
        validation_dataset=write_split(
            tmp_path / "validation.parquet", validation, seed=1, labels=options.pop("validation_labels", "classes"),
            damaged=options.pop("damaged", ()),
        ),
        **options,
    )  # fmt: skip


def tiny_encoder(seed=5, dropout=0.0):
    torch.manual_seed(seed)
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    return Encoder.from_config(ViTConfig(**sizes, image_size=16, patch_size=4, hidden_dropout_prob=dropout))


def tiny_model(name="mine", seed=5):
    return EvaluatedModel(name, tiny_encoder(seed).eval(), Preprocess.squash(16))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return EvaluationData(source(tmp_path_factory.mktemp("data")))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint") / "encoder"
    tiny_encoder().save_stock(folder)
    return folder


FAST = [
    "--tasks",
    "relative-geometry",
    "knn",
    "--refits",
    "3",
    "--num_workers",
    "0",
    "--relative_geometry_crop_size",
    "16",
]


# From the command line to the report ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def report(checkpoint, tmp_path_factory):
    """A report on one model, and on what was printed."""
    folder = tmp_path_factory.mktemp("report")
    origin = source(folder)
    flags = ["--dataset", origin.dataset, "--validation_dataset", origin.validation_dataset]
    flags += ["--output_dir", str(folder / "out"), "--cache_dir", str(folder / "cache")]
    assert main(["evaluate", str(checkpoint.parent), *flags, *FAST]) == 0
    return folder / "out", flags


def test_the_report_has_every_model_metric_and_interval(report, checkpoint):
    results = json.loads((report[0] / "results.json").read_text())
    name = str(checkpoint.parent)
    assert results["schema_version"] == 1 and results["seed"] == 0 and results["reference"] == name
    assert [model["role"] for model in results["models"]] == ["pixels", "cues", "random", "model"]
    assert results["data"]["train"]["images"] == 60 and "sp-hf evaluate" in results["command"]
    knn, where = results["tasks"]["knn"], results["tasks"]["relative-geometry"]
    assert list(knn["results"]) == [PIXELS, RANDOM, name]
    assert list(where["results"]) == [PIXELS, CUES, RANDOM, name]
    accuracy = knn["results"][PIXELS]["measures"]["accuracy"]
    assert (accuracy["value"], accuracy["n"], accuracy["percent"]) == (1.0, 30, True)
    assert accuracy["chance"] == pytest.approx(1 / 3)
    for task in results["tasks"].values():
        for result in task["results"].values():
            for metric in result["measures"].values():
                assert metric["low"] <= metric["high"] and metric["n"] == 30
        assert set(task["differences"]) == set(task["results"]) - {name}
    text = (report[0] / "report.md").read_text()
    assert "| accuracy % (chance 33.3) | 100.0 [88.6, 100.0] |" in text  # 30 of 30, by Wilson
    short = name if len(name) <= 28 else "…" + name[-27:]
    assert f"Minus {short}, paired" in text and f"| {short} | {name} | model |" in text
    for picture in re.findall(r"!\[.*\]\((.*)\)", text):
        assert (report[0] / picture).is_file()


def test_a_second_run_says_that_it_reuses_features_and_gets_the_same(report, checkpoint, capsys, caplog):
    folder, flags = report
    first = json.loads((folder / "results.json").read_text())
    with caplog.at_level(logging.INFO, logger="sp_hf"):
        assert main(["evaluate", str(checkpoint.parent), *flags, *FAST]) == 0
    assert caplog.text.count("are reused from") == 3 * 2 + 4 * 2  # models and splits: whole images, and crops
    again = json.loads((folder / "results.json").read_text())
    for name, task in first["tasks"].items():
        for model, result in task["results"].items():
            assert again["tasks"][name]["results"][model]["measures"] == result["measures"]
    assert "knn (what)" in capsys.readouterr().out


def test_all_leaves_out_what_the_images_do_not_allow(checkpoint, tmp_path, capsys):
    origin = source(tmp_path, train_labels="none", validation_labels="none")
    flags = ["--dataset", origin.dataset, "--validation_dataset", origin.validation_dataset, "--no_cache"]
    flags += ["--num_workers", "0", "--relative_geometry_crop_size", "8", "--output_dir", str(tmp_path / "out")]
    assert main(["evaluate", str(checkpoint), *flags, "--tasks", "relative-geometry", "knn"]) == 1
    assert "error: recognition needs labels, but the training images have none" in capsys.readouterr().err
    data = EvaluationData(origin)
    models = with_controls([tiny_model()], 0)
    tasks = build_tasks(["relative-geometry", "knn"], {"relative_geometry_crop_size": 8})
    left_out, done = sorted(run_suite(models, tasks, data, leave_out=True), key=lambda report: bool(report.results))
    assert left_out.task.name == "knn" and "labels" in left_out.skipped["mine"] and not left_out.results
    assert done.task.name == "relative-geometry" and set(done.results) == {PIXELS, RANDOM, "mine"}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--tasks", "knn", "jigsaww"], "unknown task jigsaww; there are: "),
        (["--label_column", "labl"], "label_column='labl' is not a column; the columns are: image: Image, label"),
        (["--tasks", "relative-geometry", "--relative_geometry_crop_size", "2"], "view of 2 pixels"),
        (["--tasks", "knn", "--size", "2"], "view of 2 pixels"),
        (["--tasks", "knn", "--knn_neighbours", "0"], "got k = 0"),
        (["--max_images", "-1"], "max_images is -1"),
    ],
)
def test_mistakes_are_one_line_before_any_work(flags, message, checkpoint, tmp_path, capsys):
    origin = source(tmp_path, 12, 12)
    base = ["--dataset", origin.dataset, "--validation_dataset", origin.validation_dataset, "--no_cache"]
    assert main(["evaluate", str(checkpoint), *base, *flags]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("sp-hf: error: ") and message in error


def test_all_tasks_on_part_scenes_in_one_report(tmp_path):
    """Everything there is, end to end and offline, very small; a task with images of its own is named with them."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    Encoder.from_config(ViTConfig(**sizes, image_size=32, patch_size=4)).save_stock(tmp_path / "encoder")
    small = {
        **{"relative_geometry_crop_size": 16, "shortcut_audit_crop_size": 16, "jigsaw_tile_size": 16},
        **{"robustness_images": 3, "robustness_ood_images": 10, "shape_bias_images": 30, "shape_bias_train_images": 40},
        **{"detection_epochs": 1, "detection_images": 8, "detection_batch_size": 4},
        **{"instance_segmentation_epochs": 1, "instance_segmentation_images": 8, "instance_segmentation_batch_size": 4},
        **{"finetune_epochs": 1, "depth_dataset": "part-scenes?size=32&num_images=40&seed=7"},
    }
    flags = [part for name, value in small.items() for part in (f"--{name}", str(value))]
    flags += ["--dataset", "part-scenes?size=32&num_images=60", "--tasks", "all", "--num_workers", "0", "--no_cache"]
    flags += ["--refits", "2"]
    assert main(["evaluate", str(tmp_path / "encoder"), *flags, "--output_dir", str(tmp_path / "out")]) == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert sorted(results["tasks"]) == sorted(TASKS)
    for name, task in results["tasks"].items():
        assert str(tmp_path / "encoder") in task["results"], name
        assert set(task["headline"]) & set(task["results"][str(tmp_path / "encoder")]["measures"]), name
    text = (tmp_path / "out" / "report.md").read_text()
    assert "- depth: measured on part-scenes?size=32&num_images=40&seed=7&difficulty=easy, split validation" in text
    others = [line for line in text.splitlines() if "measured on part-scenes" in line]  # not on the run's images
    assert [line.split(":")[0] for line in others] == ["- spatial-relation", "- correspondence", "- depth"]
    pictures = re.findall(r"!\[.*\]\((.*)\)", text)
    assert len(pictures) >= 10 and all((tmp_path / "out" / picture).is_file() for picture in pictures)


# Models and their floors ----------------------------------------------------------------------------------------------


def test_measuring_disturbs_neither_mode_nor_random_state(data):
    encoder = tiny_encoder(dropout=0.5)
    encoder.train()
    encoder.model.layernorm.eval()  # a part that its owner froze
    modes = [module.training for module in encoder.modules()]
    torch.manual_seed(1234)
    before = torch.get_rng_state()
    model = EvaluatedModel("mine", encoder, Preprocess.squash(16))
    with evaluating(encoder):
        first = KNN().run(model, data).measures["accuracy"]
        data.forget(model)
        again = KNN().run(model, data).measures["accuracy"]
    assert torch.equal(first.numerators, again.numerators)  # dropout was off
    random_initialisation(model, 0)
    assert torch.equal(torch.get_rng_state(), before)
    assert [module.training for module in encoder.modules()] == modes
    assert not any(parameter.grad is not None for parameter in encoder.parameters())


def test_the_floor_is_the_same_architecture_with_other_weights():
    model = tiny_model(seed=7)
    floor, again = random_initialisation(model, 0), random_initialisation(model, 0)
    shapes = {name: value.shape for name, value in model.encoder.state_dict().items()}
    assert {name: value.shape for name, value in floor.encoder.state_dict().items()} == shapes
    assert floor.identity == again.identity != model.identity
    assert floor.preprocess is model.preprocess and floor.encoder.image_mean == model.encoder.image_mean


def test_one_floor_an_architecture():
    models = [tiny_model("a", 1), tiny_model("b", 2)]
    assert [model.name for model in with_controls(models, 0)] == [PIXELS, RANDOM, "a", "b"]
    other = EvaluatedModel("c", tiny_encoder(3).eval(), Preprocess.squash(32))
    names = [model.name for model in with_controls([*models, other], 0)]
    assert len(names) == 6 and all(name.startswith(RANDOM) for name in names[1:3]) and names[1] != names[2]
    with pytest.raises(ValueError, match="twice or taken: a"):
        with_controls([models[0], tiny_model("a")], 0)


class Diverged(nn.Module):
    def patches_of(self, size):
        return 1, 1

    def forward(self, pixels):
        cls = pixels.mean((2, 3))
        cls[0, 0] = torch.nan
        return Encoding(cls, torch.zeros(len(cls), 1, 1), (1, 1))


def test_features_that_are_not_finite_are_refused(data):
    model = EvaluatedModel("broken", Diverged(), Preprocess.squash(16))
    with pytest.raises(ValueError, match=r"1 of 60 feature vectors \(broken, cls of .*NaN"):
        KNN().run(model, data)


@dataclasses.dataclass(frozen=True)
class OnlyForSome(Task):
    name = "only-for-some"
    kind = "what"
    headline = ("metric",)

    def run(self, model, data):
        if model.role == "pixels":
            raise TaskSkipped("pixels have no such thing")
        return TaskResult({"metric": Measure.of(torch.ones(3))})


def test_a_model_to_which_a_task_does_not_apply_is_named_with_the_reason(data):
    (report,) = run_suite(with_controls([tiny_model()], 0), [OnlyForSome()], data)
    assert report.skipped == {PIXELS: "pixels have no such thing"} and list(report.results) == [RANDOM, "mine"]


# Images and features --------------------------------------------------------------------------------------------------


def test_a_small_sample_has_every_class_and_is_otherwise_uniform(tmp_path):
    images = DataSource(write_split(tmp_path / "all.parquet", 30)).open("train")
    others = images.dataset.filter(lambda row: row["label"] != 2)
    rare = datasets.concatenate_datasets([others, images.dataset.select([2])])
    images = dataclasses.replace(images, dataset=rare)  # 10 red, 10 green, and 1 blue at the end
    samples = [choose_images(images, 5, seed) for seed in range(100)]
    assert all(set(sample.labels.tolist()) == {0, 1, 2} and len(sample.rows) == 5 for sample in samples)
    share = torch.cat([sample.labels for sample in samples]).eq(0).float().mean()
    assert 0.33 < share < 0.47  # 2 of 5 are red on average
    assert choose_images(images, 5, 3).labels.tolist() == samples[3].labels.tolist()
    assert len(choose_images(images, None, 0).rows) == len(choose_images(images, 1000, 0).rows) == 21


@pytest.mark.parametrize("workers", [0, 2])
def test_unreadable_images_are_left_out_named_and_keep_labels_straight(workers, tmp_path, caplog):
    whole = EvaluationData(source(tmp_path), num_workers=workers, batch_size=7)
    (tmp_path / "torn").mkdir()
    torn = EvaluationData(source(tmp_path / "torn", damaged=(2, 7)), num_workers=workers, batch_size=7)
    model = tiny_model()
    expected, found = (data.features(model, data.validation) for data in (whole, torn))
    kept = [i for i in range(30) if i not in (2, 7)]
    assert found.rows.tolist() == kept and len(found.skipped) == 2 and "skipped an unreadable image" in caplog.text
    for field in ("cls", "mean_patch", "labels"):
        torch.testing.assert_close(getattr(found, field), getattr(expected, field)[kept])
    assert torch.equal(torn.pixels(model, torn.validation).pixels, whole.pixels(model, whole.validation).pixels[kept])
    assert torch.equal(torn.canvases(torn.validation, 16).canvases, whole.canvases(whole.validation, 16).canvases[kept])


def test_nothing_readable_is_an_error(tmp_path):
    torn = EvaluationData(source(tmp_path, validation=6, damaged=range(6)))
    with pytest.raises(ValueError, match="not one of 6 images can be read"):
        torn.features(tiny_model(), torn.validation)


def test_features_do_not_depend_on_batch_workers_or_where_they_come_from(tmp_path):
    origin, model = source(tmp_path), tiny_model()
    plain = EvaluationData(origin, batch_size=60)
    expected = plain.features(model, plain.train)
    with torch.no_grad():  # the encoder by hand, on pixels from the image processor by hand
        first = model.encoder(torch.from_numpy(model.preprocess(pictures(60, 0)[0]))[None] / 255)
    torch.testing.assert_close(expected.cls[:1], first.cls)
    torch.testing.assert_close(expected.mean_patch[:1], first.patches.mean(1))
    for options in ({"batch_size": 7}, {"num_workers": 1}, {"keep_pixels": True}):
        other = EvaluationData(origin, **options)
        torch.testing.assert_close(other.features(model, other.train).cls, expected.cls)
    for _ in range(2):
        cached = EvaluationData(origin, batch_size=60, cache=FeatureCache(tmp_path / "cache"))
        assert torch.equal(cached.features(model, cached.train).cls, expected.cls)
    assert (cached.cache.hits, cached.cache.misses) == (1, 0)


def test_the_cache_is_keyed_by_weights_images_and_transform(tmp_path):
    origin, cache = source(tmp_path), FeatureCache(tmp_path / "cache")
    data = EvaluationData(origin, cache=cache)

    def misses(model, sample):
        before = cache.misses
        data.features(model, sample)
        return cache.misses - before

    assert misses(tiny_model(), data.train) == 1
    assert misses(tiny_model("the same weights under another name"), data.train) == 0
    changed = tiny_model()
    with torch.no_grad():
        next(changed.encoder.parameters())[0] += 1e-3
    assert misses(changed, data.train) == 1
    assert misses(EvaluatedModel("larger", tiny_encoder().eval(), Preprocess.squash(32)), data.train) == 1
    assert misses(tiny_model(), data.validation) == 1
    write_split(tmp_path / "train.parquet", 60, seed=5)  # other pictures under the same name
    data = EvaluationData(origin, cache=cache)
    assert misses(tiny_model(), data.train) == 1


def test_an_interrupted_run_leaves_nothing_half_written(tmp_path):
    cache = FeatureCache(tmp_path / "cache")

    def interrupted(folder):
        (folder / "cls.npy").write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.get({"model": "a"}, interrupted)
    assert not list((tmp_path / "cache").iterdir())
    whole = cache.get({"model": "a"}, lambda _: {"cls": np.arange(3)})
    assert whole["cls"].tolist() == [0, 1, 2]
    assert isinstance(cache.get({"model": "a"}, interrupted)["cls"], np.memmap)


@pytest.mark.parametrize(
    ("train", "validation", "message"),
    [("none", "classes", "training images have none"), ("classes", "none", "validation images have none"),
     ("one", "classes", r"1 \(green\)"), ("two", "classes", r"2 \(blue\)")],
)  # fmt: skip
@pytest.mark.parametrize("task", ["knn", "linear"])
def test_recognition_is_refused_before_anything_is_decoded(task, train, validation, message, tmp_path):
    origin = source(tmp_path, 12, 12, train_labels=train, validation_labels=validation, damaged=range(12))
    with pytest.raises(LabelError, match=message):
        run_suite([tiny_model()], build_tasks([task]), EvaluationData(origin))
