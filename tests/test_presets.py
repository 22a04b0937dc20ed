"""Presets: datasets of the field by name, on miniature copies with the same columns."""

from __future__ import annotations

import datasets
import numpy as np
import pytest
from PIL import Image

import sp_hf
from sp_hf.data.annotations import AnnotationError, decode_annotation, voc_colours
from sp_hf.errors import UnknownNameError
from sp_hf.evaluation.flags import options_of
from sp_hf.evaluation.options import EvaluationOptions
from sp_hf.evaluation.presets import PRESETS, preset_options
from sp_hf.evaluation.source import DataSource
from sp_hf.evaluation.tasks import TASKS, build_tasks
from sp_hf.evaluation.what.label_mapping import map_names

NAMES = ["tench, Tinca tinca", "crane", "great white shark, white shark, man-eater", "crane, hoist"]


def picture(number: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(number).integers(0, 256, (32, 32, 3), np.uint8))


def ids(number: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(number).integers(0, 4, (32, 32)).astype(np.uint8))


def colours(number: int) -> Image.Image:
    """Of the first three classes and void."""
    chosen = np.array([[0, 0, 0], [128, 0, 0], [0, 128, 0], [224, 224, 192]], np.uint8)
    return Image.fromarray(chosen[np.asarray(ids(number))])


def metres(number: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(number).uniform(1, 12, (32, 32)).astype(np.float32))


ROWS = 12
LABELS = [row % 4 for row in range(ROWS)]
BOXES = datasets.Features(
    {
        "image": datasets.Image(),
        "objects": {
            "bbox": datasets.List(datasets.List(datasets.Value("float32"), length=4)),
            "category": datasets.List(datasets.ClassLabel(names=["cat", "dog"])),
        },
    }
)


def write(folder, split, features, **columns):
    columns = {"image": [picture(row) for row in range(ROWS)], **columns}
    datasets.Dataset.from_dict(columns, features=features).to_parquet(folder / f"{split}.parquet")


def miniature(name: str, folder, splits: tuple[str, str]) -> None:
    """A dataset of the preset's columns: images and one more."""
    for split in splits:
        if name == "ade20k":
            features = datasets.Features(image=datasets.Image(), annotation=datasets.Image())
            write(folder, split, features, annotation=[ids(row) for row in range(ROWS)])
        elif name == "voc":
            features = datasets.Features(image=datasets.Image(), mask=datasets.Image())
            write(folder, split, features, mask=[colours(row) for row in range(ROWS)])
        elif name == "nyuv2":
            features = datasets.Features(image=datasets.Image(), depth_map=datasets.Image())
            write(folder, split, features, depth_map=[metres(row) for row in range(ROWS)])
        elif name == "coco":
            objects = [{"bbox": [[2.0, 2.0, 20.0, 30.0]], "category": [row % 2]} for row in range(ROWS)]
            write(folder, split, BOXES, objects=objects)
        else:
            features = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=NAMES))
            write(folder, split, features, label=LABELS)


@pytest.mark.parametrize("name", PRESETS)
def test_every_option_of_a_preset_is_one_of_its_tasks_or_of_the_data(name):
    options = preset_options(name)
    known = {flag for task in options["tasks"] for flag in options_of(TASKS[task])}
    known |= set(DataSource.__dataclass_fields__) | {"tasks"}
    assert set(options) <= known
    build_tasks(options["tasks"], options)
    EvaluationOptions.of(**options)


@pytest.mark.parametrize("name", ["imagenet-1k", "imagenet-r", "ade20k", "voc", "nyuv2"])
def test_a_preset_reads_a_copy_with_the_same_columns_and_splits(name, tmp_path):
    (tmp_path / "copy").mkdir()
    miniature(name, tmp_path / "copy", ("train", "validation"))
    given = {"dataset": str(tmp_path / "copy"), "num_workers": 0, "no_cache": True, "refits": 0}
    if name == "imagenet-r":
        texts = datasets.Features(image=datasets.Image(), class_name=datasets.Value("string"))
        (tmp_path / "renditions").mkdir()
        write(tmp_path / "renditions", "test", texts, class_name=["great_white_shark", "tench", "crane", "unicorn"] * 3)
        given |= {"robustness_ood_dataset": [str(tmp_path / "renditions")], "robustness_images": 2}
    results = sp_hf.evaluate("vit-micro-8", size=32, **preset_options(name, **given))
    assert set(results.data["tasks"]) == set(PRESETS[name]["tasks"])
    if name == "imagenet-r":
        measure = results.metric("robustness", "accuracy_renditions", "vit-micro-8")
        assert measure.n == 9, "unicorns have no counterpart"


def test_another_dataset_leaves_out_what_is_the_hubs():
    options = preset_options("ade20k", dataset="elsewhere", max_images=3)
    assert options["dataset"] == "elsewhere" and options["max_images"] == 3
    assert not {"dataset_config", "dataset_revision"} & set(options)
    assert options["dataset_split"] == "train" and options["segmentation_void"] == [0]


def test_colours_of_voc_are_its_classes():
    assert voc_colours()[[0, 1, 2, 15, 20]].tolist() == [
        [0, 0, 0], [128, 0, 0], [0, 128, 0], [192, 128, 128], [0, 64, 128],
    ]  # fmt: skip
    assert len(np.unique(voc_colours(), axis=0)) == 256
    given = colours(3)
    decoded = decode_annotation(given, colours=voc_colours())
    np.testing.assert_array_equal(decoded, np.where(np.asarray(ids(3)) == 3, 255, np.asarray(ids(3))))
    with pytest.raises(AnnotationError, match=r"the colour \[1, 2, 3\], which stands for no class"):
        decode_annotation(Image.new("RGB", (2, 2), (1, 2, 3)), colours=voc_colours())
    with pytest.raises(AnnotationError, match="holds RGB pixels"):
        decode_annotation(given)


def test_an_unknown_preset_names_those_there_are():
    with pytest.raises(UnknownNameError, match="ade20k.*there are: imagenet-1k"):
        preset_options("ade20")


def test_names_with_synonyms_are_matched_by_any_that_is_one_classes_alone():
    asked = ["Tinca tinca", "white shark", "crane", "hoist", "man eater", "tench, Tinca tinca"]
    assert map_names(asked, NAMES).tolist() == [0, 2, 1, 3, 2, 0]
    assert map_names(["crane", "tench"], ["crane, bird", "crane, hoist", "tench"]).tolist() == [-1, 2]
