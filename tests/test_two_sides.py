"""The contract with datasets: classes by name, duplicates, balance, hold-outs, tasks that images do not allow."""

import json

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

import sp_hf
from sp_hf.data.datasets import load_images
from sp_hf.data.sources import DatasetLoadError
from sp_hf.evaluation.accuracy import LabelError, majority_accuracy
from sp_hf.evaluation.controls.raw_pixels import RawPixels
from sp_hf.evaluation.data import EvaluationData
from sp_hf.evaluation.label_names import renumbered
from sp_hf.evaluation.model import EvaluatedModel, Preprocess
from sp_hf.evaluation.report import markdown, terminal_table
from sp_hf.evaluation.results_json import results_dict
from sp_hf.evaluation.source import DataSource
from sp_hf.evaluation.splits import has_split, held_out_rows
from sp_hf.evaluation.suite import run_suite
from sp_hf.evaluation.tasks import TASKS, build_tasks
from sp_hf.evaluation.two_sides import describe_sides, duplicates, image_digests
from sp_hf.evaluation.what.knn import KNN

COLOURS = {"ant": (200, 40, 40), "bee": (40, 200, 40), "cat": (40, 40, 200), "dog": (200, 200, 40)}


def picture(name, seed):
    """16 px of a colour that tells the class."""
    noise = np.random.default_rng(seed).integers(-30, 30, (16, 16, 3))
    return Image.fromarray((np.array(COLOURS[name]) + noise).astype(np.uint8))


def image_folder(root, classes, each, seed=0):
    """``root/<class>/<number>.png``; ``each`` is how many of every class, or a number by class."""
    for name in classes:
        (root / name).mkdir(parents=True)
        for index in range(each if isinstance(each, int) else each[name]):
            picture(name, 1000 * seed + 100 * sorted(COLOURS).index(name) + index).save(root / name / f"{index}.png")
    return str(root)


def raw_model(name="mine"):
    return EvaluatedModel(name, RawPixels(4).eval(), Preprocess.squash(16))


# Classes by name ------------------------------------------------------------------------------------------------------


def test_a_side_that_lacks_a_class_is_matched_by_name(tmp_path):
    """{ant, bee, cat} against {bee, cat}: by number, bees would be taken for ants, and cats for bees."""
    train = image_folder(tmp_path / "train", ["ant", "bee", "cat"], 6)
    validation = image_folder(tmp_path / "validation", ["bee", "cat"], 5, seed=1)
    data = EvaluationData(DataSource(train, validation_dataset=validation))
    assert data.sample(data.source, "validation").labels.tolist() == [0] * 5 + [1] * 5
    assert data.validation.labels.tolist() == [1] * 5 + [2] * 5
    data.check_labels()
    accuracy = KNN(neighbours=3).run(raw_model(), data).measures["accuracy"]
    assert (accuracy.value, accuracy.n) == (1, 10)
    assert any("matched by name" in note for note in describe_sides(data).notes)


def test_a_class_that_only_validation_has_is_refused_by_its_name(tmp_path):
    train = image_folder(tmp_path / "train", ["bee", "cat"], 6)
    validation = image_folder(tmp_path / "validation", ["ant", "bee", "dog"], 3, seed=1)
    data = EvaluationData(DataSource(train, validation_dataset=validation))
    with pytest.raises(LabelError, match=r"2 of the 3 classes .* no training image \(2 \(ant\), 3 \(dog\)\)"):
        data.check_labels()


def test_labels_of_other_names_by_hand():
    labels = torch.tensor([0, 2, -1, 1])
    assert renumbered(labels, ["cat", "dog", "bee"], ["ant", "bee", "cat", "dog"]).tolist() == [2, 1, -1, 3]


# Duplicates and balance -----------------------------------------------------------------------------------------------


def test_the_same_folder_twice_is_told(tmp_path):
    folder = image_folder(tmp_path / "train", ["ant", "bee"], 4)
    sides = describe_sides(EvaluationData(DataSource(folder, validation_dataset=folder)))
    assert sides.validation["duplicates"] == 8
    assert any("8 of the 8 validation images (100.0 %) are on the training side, too" in note for note in sides.notes)
    other = image_folder(tmp_path / "other", ["ant", "bee"], 4, seed=1)
    sides = describe_sides(EvaluationData(DataSource(folder, validation_dataset=other)))
    assert sides.validation["duplicates"] == 0 and not sides.notes


def test_duplicates_are_found_one_by_one_and_in_memory(tmp_path):
    shared = [picture("ant", 1), picture("bee", 2)]
    ours, theirs = [*shared, picture("cat", 3)], [picture("cat", 4), *(image.copy() for image in reversed(shared))]
    data = EvaluationData(DataSource(sp_hf.data.given_images.GivenImages.of(ours),
                                     validation_dataset=sp_hf.data.given_images.GivenImages.of(theirs)))  # fmt: skip
    digests = [image_digests(data, sample) for sample in (data.train, data.validation)]
    assert duplicates(*digests).tolist() == [False, True, True]
    turned = picture("ant", 1).resize((8, 32))  # as many pixels in another shape
    assert len({*image_digests(data, data.train).tolist()}) == 3 and turned.size != shared[0].size
    assert not duplicates(np.zeros(2, np.uint64), np.zeros(2, np.uint64)).any()  # unreadable ones are not alike


def test_imbalance_and_what_guessing_gets_are_reported(tmp_path):
    train = image_folder(tmp_path / "train", ["ant", "bee"], {"ant": 40, "bee": 4})
    validation = image_folder(tmp_path / "validation", ["ant", "bee"], {"ant": 9, "bee": 3}, seed=1)
    data = EvaluationData(DataSource(train, validation_dataset=validation))
    sides = describe_sides(data)
    assert sides.train["classes"] == {"count": 2, "rarest": 4, "commonest": 40}
    assert sides.validation["majority_accuracy"] == 0.75
    assert [note for note in sides.notes if "different sizes, 4 to 40" in note] and len(sides.notes) == 1
    result = KNN().run(raw_model(), data)
    assert result.details["majority_accuracy"] == 0.75
    assert majority_accuracy(torch.tensor([2, 2, -1, -1, -1, 0]), torch.tensor([2, 0, 0, -1])) == pytest.approx(1 / 3)


# A dataset with one split ---------------------------------------------------------------------------------------------


def test_one_split_is_divided_by_seed_and_said(tmp_path):
    folder = image_folder(tmp_path / "all", ["ant", "bee"], {"ant": 20, "bee": 5})
    sides = {}
    for seed in (0, 0, 1):
        data = EvaluationData(DataSource(folder), seed=seed)
        paths = [[row["image"]["path"] for row in sample.rows] for sample in (data.train, data.validation)]
        assert [len(side) for side in paths] == [20, 5] and len({*paths[0], *paths[1]}) == 25
        assert data.validation.labels.tolist() == [0] * 4 + [1]  # a fifth of each class
        assert sides.setdefault(seed, paths) == paths
    assert sides[0] != sides[1]
    assert any("a fifth of the images, drawn by seed 1, is held out" in note for note in describe_sides(data).notes)
    assert describe_sides(data).validation["description"].endswith("split train (held-out fifth)")


def test_a_named_or_present_validation_split_is_taken(tmp_path):
    image_folder(tmp_path / "both" / "train", ["ant", "bee"], 4)
    image_folder(tmp_path / "both" / "test", ["ant", "bee"], 2, seed=1)
    data = EvaluationData(DataSource(str(tmp_path / "both")))
    assert (len(data.train.rows), len(data.validation.rows)) == (8, 4) and not describe_sides(data).notes
    only_test = image_folder(tmp_path / "one" / "test", ["ant", "bee"], 5)
    data = EvaluationData(DataSource(only_test.removesuffix("/test")))
    assert (len(data.train.rows), len(data.validation.rows)) == (8, 2)
    named = DataSource(only_test.removesuffix("/test"), validation_dataset_split="test")
    assert describe_sides(EvaluationData(named)).validation["duplicates"] == 10


def test_a_dataset_that_cannot_be_loaded_is_not_taken_for_one_without_validation(tmp_path):
    """As when the Hub does not answer: nothing is divided, the reason is told."""
    folder = image_folder(tmp_path / "all", ["ant", "bee"], 2)
    assert not has_split(folder, "validation") and has_split(folder, "train")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(DatasetLoadError, match=r"cannot load the file .*broken.parquet"):
        _ = EvaluationData(DataSource(str(tmp_path / "broken.parquet"))).validation


def test_a_stream_cannot_be_divided():
    rows = datasets.Dataset.from_dict({"image": [picture("ant", i) for i in range(4)]}).to_iterable_dataset()
    data = EvaluationData(DataSource(sp_hf.data.given_images.GivenImages.of(rows), max_images=4))
    with pytest.raises(DatasetLoadError, match="is a stream without a validation split: name images to measure on"):
        _ = data.validation


def test_no_class_loses_its_only_image_and_each_gives_a_fifth():
    labels = torch.tensor([0] * 10 + [1] * 5 + [2] + [-1] * 10)
    held_out = held_out_rows(labels, len(labels), seed=3)
    assert [int(held_out[labels.numpy() == label].sum()) for label in (0, 1, 2, -1)] == [2, 1, 0, 2]
    assert held_out_rows(None, 20, seed=3).sum() == 4


# Whatever the data allow ----------------------------------------------------------------------------------------------


def parquet(path, labels, seed):
    """Twelve pictures, with labels (``None`` for none), or without their column."""
    columns = {"image": [picture(sorted(COLOURS)[i % 3], 100 * seed + i) for i in range(12)]}
    features = {"image": datasets.Image()}
    if labels is not None:
        columns["label"], features["label"] = labels, datasets.ClassLabel(names=sorted(COLOURS))
    datasets.Dataset.from_dict(columns, features=datasets.Features(features)).to_parquet(str(path))
    return str(path)


@pytest.mark.parametrize(
    ("labels", "reason"), [(None, "training images have none"), ([2] * 12, r"all training images are of class 2 (cat)")]
)
def test_default_tasks_leave_out_what_labels_do_not_allow_and_say_so(labels, reason, tmp_path):
    images = {
        "dataset": parquet(tmp_path / "train.parquet", labels, 0),
        "validation_dataset": parquet(tmp_path / "validation.parquet", labels, 1),
    }
    small = {"size": 16, "relative_geometry_crop_size": 8, "num_workers": 0, "no_cache": True}
    results = sp_hf.evaluate({"mine": "vit-micro-8"}, **images, **small, output_dir=tmp_path / "out")
    saved = json.loads((tmp_path / "out" / "results.json").read_text())
    for found in (results.data, saved):
        assert (
            found["tasks"]["relative-geometry"]["results"]["mine"]
            and not found["tasks"]["relative-geometry"]["left_out"]
        )
        for task in ("knn", "linear"):
            assert reason in found["tasks"][task]["left_out"] and not found["tasks"][task]["results"]
    for text in (str(results), (tmp_path / "out" / "report.md").read_text()):
        assert text.lower().count("left out: recognition needs") == 2 and reason in text
    with pytest.raises(ValueError, match="recognition needs"):  # what was named is not left out in silence
        sp_hf.evaluate({"mine": "vit-micro-8"}, tasks=["knn"], **images, **small)


def test_of_all_tasks_a_folder_without_labels_gets_those_that_need_none(tmp_path):
    """From a bare folder: no labels, no validation split, no annotations."""
    (tmp_path / "photos").mkdir()
    for index in range(24):
        picture("ant", index).resize((48, 48)).save(tmp_path / "photos" / f"{index}.png")
    data = EvaluationData(DataSource(str(tmp_path / "photos")))
    model = EvaluatedModel("mine", RawPixels(4).eval(), Preprocess.squash(32))
    small = {"relative_geometry_crop_size": 16, "shortcut_audit_crop_size": 16, "jigsaw_grids": (2,)}
    results = results_dict(run_suite([model], build_tasks(["all"], small), data, leave_out=True), [model], data)
    measured = {name for name, task in results["tasks"].items() if task["results"]}
    assert measured == {"relative-geometry", "shortcut-audit", "jigsaw", "patch-position", "patch-pca"}
    assert all(task["left_out"] or task["skipped"] for name, task in results["tasks"].items() if name not in measured)
    assert results["data"]["train"]["labelled"] == 0 and "classes" not in results["data"]["train"]
    for text in (terminal_table(results), markdown(results)):
        assert text.lower().count("left out: ") == len(TASKS) - len(measured)


def test_images_without_a_label_are_told_and_do_not_count(tmp_path):
    labels = [0, 1, 2] * 3 + [None] * 3
    paths = [parquet(tmp_path / f"{seed}.parquet", labels, seed) for seed in (0, 1)]
    data = EvaluationData(DataSource(paths[0], validation_dataset=paths[1]))
    models, tasks = [raw_model()], build_tasks(["knn", "shape-bias", "fine-grained"], {"knn_neighbours": 3})
    results = results_dict(run_suite(models, tasks, data, leave_out=True), models, data)
    assert results["tasks"]["knn"]["results"]["mine"]["measures"]["accuracy"]["n"] == 9
    assert "needs cue-conflict images" in results["tasks"]["shape-bias"]["left_out"]
    assert "needs finer labels" in results["tasks"]["fine-grained"]["left_out"]
    assert results["data"]["validation"]["labelled"] == 9
    for text in (terminal_table(results), markdown(results)):
        assert "3 of the 12 training images have no label" in text and "left out: fine-grained" in text.replace(
            "L", "l"
        )


# No more than max_images ----------------------------------------------------------------------------------------------


def test_of_part_scenes_no_more_are_drawn_than_asked_for():
    source = DataSource("part-scenes?size=32&seed=12", max_images=7)
    train, validation = (source.open(side) for side in ("train", "validation"))
    assert (len(train.dataset), len(validation.dataset)) == (7, 7)
    assert train.description.startswith("part-scenes?size=32&seed=12") and "num_images" not in train.description
    rows = load_images("part-scenes?size=32&num_images=9&seed=12").dataset
    assert [row["image"] for row in train.dataset] == [row["image"] for row in rows.select(range(7))]
    few = DataSource("part-scenes?size=32&num_images=5&seed=12", max_images=7).open("train")
    assert len(few.dataset) == 5


class Counted(torch.utils.data.Dataset):
    """(image, label), and which were read."""

    def __init__(self):
        self.read = []

    def __len__(self):
        return 1000

    def __getitem__(self, index):
        self.read.append(index)
        return picture(sorted(COLOURS)[index % 3], index), index % 3


def test_of_a_torch_dataset_no_more_are_read_than_asked_for():
    images = Counted()
    data = EvaluationData(DataSource(sp_hf.data.given_images.GivenImages.of(images), max_images=5))
    assert len(data.train.rows) == 5 and data.train.labels.shape == (5,)
    assert data.train.labels.tolist() == [row["label"] for row in data.train.rows]
    assert len({*images.read} - {0}) <= 5  # the first tells the columns
