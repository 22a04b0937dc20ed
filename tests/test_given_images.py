"""Datasets that Python code hands over: each kind gives the images and labels that a file does; others are refused."""

from __future__ import annotations

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, IterableDataset

from sp_hf.data.canvas_dataset import CanvasDataset
from sp_hf.data.columns import ColumnError
from sp_hf.data.datasets import load_images
from sp_hf.data.given_images import GivenImages
from sp_hf.data.sources import DatasetLoadError
from sp_hf.evaluation.features import choose_images
from sp_hf.evaluation.source import DataSource
from sp_hf.training.labels import label_range

NAMES = ["red", "green", "blue"]
FEATURES = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=NAMES))


def pictures(count: int = 9) -> list[Image.Image]:
    pixels = np.random.default_rng(0).integers(0, 256, (count, 20, 30, 3), dtype=np.uint8)
    return [Image.fromarray(one) for one in pixels]


def labels(count: int = 9) -> list[int]:
    return [i % 3 for i in range(count)]


class Pairs(Dataset):
    """As torchvision's datasets are; counts how often an image is read."""

    classes = NAMES

    def __init__(self, targets: bool = True) -> None:
        self.images, self.read = pictures(), 0
        if targets:
            self.targets = torch.tensor(labels())

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        self.read += 1
        return self.images[index], labels()[index]


class Mappings(Pairs):
    def __getitem__(self, index: int) -> dict:
        return {"label": labels()[index], "image": np.asarray(self.images[index]), "caption": "a picture"}


def hugging_face() -> datasets.Dataset:
    return datasets.Dataset.from_dict({"image": pictures(), "label": labels()}, features=FEATURES)


KINDS = {
    "Dataset": hugging_face,
    "formatted": lambda: hugging_face().with_format("torch"),
    "DatasetDict": lambda: datasets.DatasetDict(train=hugging_face(), test=hugging_face().select([0])),
    "pairs": Pairs,
    "pairs without targets": lambda: Pairs(targets=False),
    "mappings": Mappings,
    "list of mappings": lambda: [{"image": i, "label": k} for i, k in zip(pictures(), labels(), strict=True)],
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_the_images_and_labels_of_a_file(kind, tmp_path):
    hugging_face().to_parquet(str(tmp_path / "images.parquet"))
    expected, found = load_images(str(tmp_path / "images.parquet")), load_images(KINDS[kind]())
    assert len(found.dataset) == 9
    for i in range(9):
        canvas, other = CanvasDataset(expected, 16)[i], CanvasDataset(found, 16)[i]
        np.testing.assert_array_equal(canvas["canvas"], other["canvas"])
        assert (canvas["label"], canvas["aspect"]) == (other["label"], other["aspect"])
    assert (found.image_column, found.label_column, found.num_images) == ("image", "label", 9)
    assert found.label_names == (None if kind == "list of mappings" else NAMES)
    assert label_range(found) == label_range(expected) == (0, 2)
    sample, other = choose_images(expected, 5, seed=1), choose_images(found, 5, seed=1)
    assert sample.labels.tolist() == other.labels.tolist() and len(other.rows) == 5
    assert [row["label"] for row in other.rows] == other.labels.tolist()
    assert len(other.select(np.array([0, 3])).rows) == 2


def test_labels_that_are_there_without_the_images_are_not_read_from_them():
    pairs = Pairs()
    images = load_images(pairs)
    before = pairs.read
    assert label_range(images) == (0, 2) and pairs.read == before


def test_images_alone_and_those_on_disk(tmp_path):
    images = load_images(pictures())
    assert (images.label_column, images.num_images, images.description) == (None, 9, "list of 9 images")
    path = tmp_path / "one.png"
    pictures()[3].save(path)
    for item in (path, str(path), path.read_bytes(), {"bytes": path.read_bytes(), "path": None}):
        canvas = CanvasDataset(load_images([item]), 16)[0]["canvas"]
        np.testing.assert_array_equal(canvas, CanvasDataset(images, 16)[3]["canvas"])


def test_streams_and_splits():
    stream = load_images(hugging_face().to_iterable_dataset(3))
    assert stream.streaming and stream.num_images is None and stream.label_names == NAMES
    assert load_images(hugging_face(), streaming=True).streaming
    several = KINDS["DatasetDict"]()
    assert load_images(several, split="test").num_images == 1
    source = DataSource(GivenImages.of(several))
    assert [len(source.open(side).dataset) for side in ("train", "validation")] == [9, 1]


def test_what_is_set_on_a_dataset_is_not_applied_and_that_is_said(caplog):
    changed = hugging_face().with_transform(lambda rows: {"image": [0 for _ in rows["image"]]})
    assert CanvasDataset(load_images(changed), 16)[0]["canvas"].shape == (3, 16, 16)
    assert "transform" in caplog.text


class Tensors(Pairs):
    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.rand(3, 8, 8), 0


class Endless(IterableDataset):
    def __iter__(self):
        yield from pictures()


@pytest.mark.parametrize(
    ("dataset", "kind", "message"),
    [
        (datasets.Dataset.from_dict({"text": ["a"]}), ColumnError, "no column of type Image.*text: string"),
        ([{"text": "a"}], ColumnError, "no column of type Image.*text: string"),
        (Tensors(), TypeError, "not Tensor: leave out transforms such as ToTensor"),
        (Endless(), TypeError, "datasets.IterableDataset.from_generator"),
        ([], DatasetLoadError, "the list holds no images"),
        (7, TypeError, "a list of images, not int"),
        ({"a": 1}, TypeError, "not dict"),
        ("object: list of 9 images", DatasetLoadError, r"an object that Python code had \(list of 9 images\)"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_dataset_of_images_is_refused(dataset, kind, message):
    with pytest.raises(kind, match=message):
        load_images(dataset)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "test"}, "the list of 9 images has no split 'test'"),
        ({"config": "a"}, "config='a' belongs to a Hub dataset, not to the list of 9 images"),
        ({"streaming": True}, "cannot be read as a stream"),
    ],
)
def test_options_that_mean_nothing_for_a_list_are_refused(options, message):
    with pytest.raises(DatasetLoadError, match=message):
        load_images(pictures(), **options)


def test_one_split_is_not_both_sides():
    """What is given whole is no validation side, whatever its split is called: probes would be fitted on it."""
    test_split = datasets.Dataset.from_dict({"image": pictures()}, split="test")
    with pytest.raises(DatasetLoadError, match="name one with --validation_dataset_split, or another"):
        DataSource(GivenImages.of(test_split)).open("validation")
