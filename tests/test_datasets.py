"""Loading by one string, choosing columns, and the map-style dataset with its unreadable images."""

import io
import json
import tarfile

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from sp_hf.data.canvas import UnreadableImage
from sp_hf.data.canvas_dataset import CanvasCollator, CanvasDataset
from sp_hf.data.columns import ColumnError, find_image_column, find_label_column
from sp_hf.data.datasets import load_images
from sp_hf.data.skipped import SkippedLedger, TooManySkippedImages
from sp_hf.data.sources import DatasetLoadError, locate


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("cache")))
    datasets.disable_progress_bars()


def png(number, size=(6, 4)):
    """A picture that shows its number: red is number % 256, green number // 256."""
    buffer = io.BytesIO()
    Image.new("RGB", size, (number % 256, number // 256, 99)).save(buffer, "PNG")
    return buffer.getvalue()


def number_of(canvas):
    return int(canvas[0].flatten()[0]) + 256 * int(canvas[1].flatten()[0])


def rows(count, start=0, **columns):
    images = [{"bytes": png(start + i), "path": f"{start + i}.png"} for i in range(count)]
    features = {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])}
    data = {"image": images, "label": [i % 2 for i in range(count)]}
    for name, (values, feature) in columns.items():
        data[name], features[name] = values, feature
    return datasets.Dataset.from_dict(data, features=datasets.Features(features))


def folder_of_images(root, names):
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(number))
    return root


def tar_of(path, samples):
    with tarfile.open(path, "w") as archive:
        for key, members in samples:
            for suffix, data in members.items():
                info = tarfile.TarInfo(f"{key}.{suffix}")
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))


def numbers(images):
    """The numbers its pictures show, in order, through the real decoding."""
    if not images.streaming:
        return [number_of(CanvasDataset(images, 4)[i]["canvas"]) for i in range(len(images.dataset))]
    return [np.asarray(Image.open(io.BytesIO(row[images.image_column]["bytes"])))[0, 0, 0] for row in images.dataset]


# --- one string -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_files_and_patterns(tmp_path, suffix, streaming):
    for part in range(3):
        dataset = rows(5, start=5 * part, caption=(["x"] * 5, datasets.Value("string")))
        if suffix == "parquet":
            dataset.to_parquet(tmp_path / f"part-{part}.parquet")
        else:
            dataset.save_to_disk(tmp_path / "saved")
            (tmp_path / "saved" / "data-00000-of-00001.arrow").rename(tmp_path / f"part-{part}.arrow")
    images = load_images(f"{tmp_path}/part-*.{suffix}", streaming=streaming)
    assert numbers(images) == list(range(15))
    assert images.streaming is streaming and images.num_images == (None if streaming else 15)
    assert (images.image_column, images.label_column, images.label_names) == ("image", "label", ["cat", "dog"])
    assert list(images.dataset.features) == ["image", "label"] and images.dataset.features["image"].decode is False
    assert numbers(load_images(str(tmp_path / f"part-1.{suffix}"), streaming=streaming)) == list(range(5, 10))


@pytest.mark.parametrize("streaming", [False, True])
def test_image_folder_with_classes(tmp_path, streaming):
    # A class called like a split is a class: datasets itself would take "train-station" for the whole dataset.
    names = ["bridge/0.png", "bridge/1.png", "test/2.png", "train-station/3.png"]
    images = load_images(str(folder_of_images(tmp_path / "ph[o]tos", names)), streaming=streaming)
    assert images.label_names == ["bridge", "test", "train-station"]
    row_labels = [row["label"] for row in images.dataset]
    assert sorted(row_labels) == [0, 0, 1, 2]


def test_image_folder_with_splits(tmp_path):
    folder = folder_of_images(
        tmp_path, [f"{split}/{c}/{i}.png" for split in ("train", "val") for c in "ab" for i in "01"]
    )
    assert numbers(load_images(str(folder))) == [0, 1, 2, 3]
    assert numbers(load_images(str(folder), split="validation")) == [4, 5, 6, 7]
    with pytest.raises(DatasetLoadError, match="no split 'test'; its splits: train, validation"):
        load_images(str(folder), split="test")


def test_flat_folder_has_no_labels(tmp_path):
    images = load_images(str(folder_of_images(tmp_path, ["0.png", "1.png"])))
    assert images.label_column is None and images.label_names is None and numbers(images) == [0, 1]
    assert "labels" not in CanvasCollator()([CanvasDataset(images, 4)[0]])


def test_folder_of_parquet_files_and_saved_to_disk(tmp_path):
    (tmp_path / "parquet").mkdir()
    rows(4).to_parquet(tmp_path / "parquet" / "train-00000-of-00001.parquet")
    rows(2, start=9).to_parquet(tmp_path / "parquet" / "test-00000-of-00001.parquet")
    assert numbers(load_images(str(tmp_path / "parquet"))) == [0, 1, 2, 3]
    assert numbers(load_images(str(tmp_path / "parquet"), split="test")) == [9, 10]
    rows(3).save_to_disk(tmp_path / "saved")
    datasets.DatasetDict(train=rows(2), test=rows(1, start=7)).save_to_disk(tmp_path / "dict")
    for streaming in (False, True):
        assert numbers(load_images(str(tmp_path / "saved"), streaming=streaming)) == [0, 1, 2]
        assert numbers(load_images(str(tmp_path / "dict"), split="test", streaming=streaming)) == [7]


@pytest.mark.parametrize("streaming", [False, True])
def test_webdataset_tars(tmp_path, streaming):
    for part in range(2):
        samples = [(f"{part}{i}", {"png": png(3 * part + i), "cls": b"%d" % i}) for i in range(3)]
        tar_of(tmp_path / f"shard-{part}.tar", samples)
    images = load_images(f"{tmp_path}/shard-*.tar", streaming=streaming)
    assert (images.image_column, images.label_column) == ("png", "cls")
    assert numbers(images) == list(range(6))


def test_part_scenes_is_the_default():
    images = load_images("part-scenes?size=32&num_images=3&seed=5")
    assert (images.image_column, images.label_column, images.num_images) == ("image", "label", 3)
    canvas = CanvasDataset(images, 16)[2]["canvas"]
    again = CanvasDataset(load_images("part-scenes?size=32&num_images=3&seed=5"), 16)[2]["canvas"]
    other = CanvasDataset(load_images("part-scenes?size=32&num_images=3&seed=6"), 16)[2]["canvas"]
    assert np.array_equal(canvas, again) and not np.array_equal(canvas, other)
    stream = load_images("part-scenes?size=32&num_images=300", streaming=True)
    assert stream.streaming and stream.num_images == 300
    assert load_images(streaming=True).num_images >= 1000


def test_part_scenes_says_its_difficulty():
    plain, easy, hard = (
        load_images(f"part-scenes?size=32{option}", streaming=True)
        for option in ("", "&difficulty=easy", "&difficulty=hard")
    )
    assert plain.description == easy.description == "part-scenes?size=32&difficulty=easy, split train"
    assert plain.fingerprint == easy.fingerprint != hard.fingerprint
    assert load_images(streaming=True).description == "part-scenes?difficulty=easy, split train"


def test_split_slices_and_the_only_split(tmp_path):
    rows(10).to_parquet(tmp_path / "a.parquet")
    file = str(tmp_path / "a.parquet")
    assert numbers(load_images(file, split="train[2:4]")) == [2, 3]
    datasets.DatasetDict(test=rows(2)).save_to_disk(tmp_path / "dict")
    assert numbers(load_images(str(tmp_path / "dict"))) == [0, 1]
    for dataset, streaming in [(file, True), (str(tmp_path / "dict"), False)]:
        with pytest.raises(DatasetLoadError, match="whole splits only"):
            load_images(dataset, split="train[:2]", streaming=streaming)
    with pytest.raises(DatasetLoadError, match="cannot load the file .*a.parquet.*train"):
        load_images(file, split="test[:2]")


def test_hub_ids_go_to_the_hub(monkeypatch):
    source = locate("org/name-v1.5", "large", "v2")
    assert source.arguments == {"path": "org/name-v1.5", "name": "large", "revision": "v2"}
    assert source.description == "Hub dataset org/name-v1.5 (large) at v2"
    assert locate("food101").arguments["path"] == "food101"
    asked = []

    def load_dataset(path, **arguments):
        asked.append((path, arguments))
        return datasets.DatasetDict(train=rows(2), validation=rows(1, start=5))

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert numbers(load_images("org/name", config="large", revision="v2", split="validation")) == [5]
    assert asked == [("org/name", {"name": "large", "revision": "v2", "split": None, "streaming": False})]


def test_missing_hub_dataset_is_one_clear_error(monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DatasetLoadError, match="cannot load the Hub dataset no-org/no-name: .*; nor is there a file"):
        load_images("no-org/no-name")


def test_what_is_not_there_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "notes.txt").write_text("no images")
    (tmp_path / "mixed").mkdir()
    rows(1).to_parquet(tmp_path / "mixed" / "a.parquet")
    tar_of(tmp_path / "mixed" / "b.tar", [("0", {"png": png(0)})])
    rows(1).select([]).to_parquet(tmp_path / "empty.parquet")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 not really")
    cases = [
        ("gone/photos/", "no such file or folder: 'gone/photos/'"),
        ("./photos", f"no such file or folder: './photos' .looked at {tmp_path}"),
        ("gone.parquet", "no such file or folder: 'gone.parquet'"),
        ("gone-*.parquet", "no file matches the pattern 'gone-\\*.parquet'"),
        ("notes", "holds no images, parquet, arrow or tar files"),
        ("notes/notes.txt", "expected a file ending in .parquet"),
        ("https://example.invalid/photos", "expected a file ending in .parquet"),
        ("mixed", "files of several kinds .parquet, webdataset."),
        ("mixed/*", "files of several kinds .parquet, webdataset."),
        ("empty.parquet", "cannot load the file .*empty.parquet.*no data"),
        ("photos/", "no such file or folder: 'photos/'"),
        ("broken.parquet", "cannot load the file .*broken.parquet"),
        ("part-scenes?sice=3", "no option sice; its options are size, num_images"),
        ("part-scenes?size=1", "cannot make part-scenes.size=1.*pixels"),
        ("part-scenes?size=big", "cannot make part-scenes.size=big"),
    ]
    for dataset, message in cases:
        with pytest.raises(DatasetLoadError, match=message):
            load_images(dataset)
    with pytest.raises(DatasetLoadError, match="cannot load the file .*a.parquet.*no data"):
        load_images("mixed/a.parquet", split="train[:0]")
    with pytest.raises(DatasetLoadError, match="no split 'dev'"):
        load_images("part-scenes?num_images=1&size=32", split="dev")
    for dataset in ("mixed/a.parquet", "notes/../mixed/*.parquet", "part-scenes"):
        with pytest.raises(DatasetLoadError, match="revision='main' belongs to a Hub dataset"):
            load_images(dataset, revision="main")


def test_fingerprint_tells_datasets_apart(tmp_path):
    rows(3).to_parquet(tmp_path / "a.parquet")
    rows(3).to_parquet(tmp_path / "b.parquet")
    marks = [load_images(str(tmp_path / name)).fingerprint for name in ("a.parquet", "a.parquet", "b.parquet")]
    marks.append(load_images(str(tmp_path / "a.parquet"), split="train[:2]").fingerprint)
    assert marks[0] == marks[1] and len(set(marks)) == 3


# --- columns ----------------------------------------------------------------------------------------------------


def test_image_column_by_feature_type():
    image, text, integer = datasets.Image(), datasets.Value("string"), datasets.Value("int64")
    struct = {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}
    assert find_image_column(datasets.Features(photo=image, caption=text)) == "photo"
    assert find_image_column(datasets.Features(caption=text, pixels=struct)) == "pixels"
    assert find_image_column(datasets.Features(photo=image, data=datasets.Value("binary")), "data") == "data"
    features = datasets.Features(image=image, mask=image, caption=text)
    assert find_image_column(features, "mask") == "mask"
    with pytest.raises(ColumnError, match="several image columns .image, mask.*caption: string"):
        find_image_column(features)
    with pytest.raises(ColumnError, match="'img' is not a column; the columns are: image: Image, mask: Image"):
        find_image_column(features, "img")
    with pytest.raises(ColumnError, match="no column of type Image.*caption: string, n: int64"):
        find_image_column(datasets.Features(caption=text, n=integer))
    with pytest.raises(ColumnError, match="'n' is of type int64, which holds no images"):
        find_image_column(datasets.Features(caption=text, n=integer), "n")


def test_label_column_by_feature_type():
    named, whole, text = datasets.ClassLabel(names=["a"]), datasets.Value("int32"), datasets.Value("string")
    assert find_label_column(datasets.Features(species=named, label=whole)) == "species"
    assert find_label_column(datasets.Features(label=named, fine=named)) == "label"
    assert find_label_column(datasets.Features(coarse=named, fine=named)) is None
    assert find_label_column(datasets.Features(label=whole)) == "label"
    assert find_label_column(datasets.Features(label=text, age=whole)) is None
    assert find_label_column(datasets.Features(label=whole, age=whole), "age") == "age"
    with pytest.raises(ColumnError, match="label_column='breed' is not a column; the columns are: label: int32"):
        find_label_column(datasets.Features(label=whole), "breed")
    with pytest.raises(ColumnError, match="'label' is of type string; labels are ClassLabel or whole numbers"):
        find_label_column(datasets.Features(label=text), "label")


def test_a_column_of_texts_that_is_named_becomes_labels(tmp_path):
    features = datasets.Features(image=datasets.Image(), kind=datasets.Value("string"))
    pictures = [Image.fromarray(np.full((8, 8, 3), shade, np.uint8)) for shade in range(4)]
    rows = {"image": pictures, "kind": ["tench", "crane", None, "tench"]}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "a.parquet")
    loaded = load_images(str(tmp_path / "a.parquet"), label_column="kind")
    assert loaded.label_names == ["crane", "tench"]
    assert [row["kind"] for row in loaded.dataset] == [1, 0, None, 1]
    assert load_images(str(tmp_path / "a.parquet")).label_column is None


def test_parquet_written_without_datasets(tmp_path):
    import pyarrow
    import pyarrow.parquet

    pictures = [png(i) for i in range(3)]
    table = {"struct": [{"bytes": data, "path": None} for data in pictures], "plain": pictures, "n": [0, 1, 2]}
    pyarrow.parquet.write_table(pyarrow.table(table), tmp_path / "plain.parquet")
    for streaming in (False, True):
        for column in (None, "plain", "struct"):
            images = load_images(str(tmp_path / "plain.parquet"), image_column=column, streaming=streaming)
            assert images.image_column == (column or "struct") and numbers(images) == [0, 1, 2]


# --- samples and batches ----------------------------------------------------------------------------------------


def with_bad_rows(tmp_path, count, bad):
    images = [{"bytes": b"no image" if i in bad else png(i), "path": f"{i}.png"} for i in range(count)]
    data = {"image": images, "label": [i % 2 for i in range(count)]}
    features = datasets.Features(image=datasets.Image(decode=False), label=datasets.ClassLabel(names=["cat", "dog"]))
    datasets.Dataset.from_dict(data, features=features).to_parquet(tmp_path / "some.parquet")
    return load_images(str(tmp_path / "some.parquet"))


@pytest.mark.parametrize("workers", [0, 2])
def test_batches(tmp_path, workers):
    images = with_bad_rows(tmp_path, 10, bad=())
    loader = torch.utils.data.DataLoader(
        CanvasDataset(images, 8), batch_size=4, num_workers=workers, collate_fn=CanvasCollator()
    )
    batches = list(loader)
    assert [len(batch["canvases"]) for batch in batches] == [4, 4, 2]
    for batch in batches:
        assert set(batch) == {"canvases", "aspects", "labels", "ids", "skipped"} and batch["skipped"] == []
        assert batch["canvases"].dtype == torch.uint8 and batch["canvases"].shape[1:] == (3, 8, 8)
        assert batch["aspects"].dtype == torch.float32 and (batch["aspects"] == 1.5).all()
        assert batch["labels"].dtype == torch.int64
    assert [number_of(canvas) for batch in batches for canvas in batch["canvases"]] == list(range(10))
    assert torch.cat([batch["labels"] for batch in batches]).tolist() == [0, 1] * 5
    assert torch.cat([batch["ids"] for batch in batches]).tolist() == list(range(10))


def test_unreadable_images_are_replaced_and_reported(tmp_path):
    images = with_bad_rows(tmp_path, 6, bad={2, 3, 5})
    dataset = CanvasDataset(images, 4)
    samples = [dataset[i] for i in range(6)]
    assert [number_of(sample["canvas"]) for sample in samples] == [0, 1, 4, 4, 4, 0]  # the last wraps around
    assert [sample["label"] for sample in samples] == [0, 1, 0, 0, 0, 0]
    assert [sample["id"] for sample in samples] == [0, 1, 4, 4, 4, 0]  # of the image that is shown
    assert [len(sample["skipped"]) for sample in samples] == [0, 0, 2, 1, 0, 1]
    for report, row in zip(samples[2]["skipped"], (2, 3), strict=True):
        assert report.startswith(f"row {row} of file ") and f"{row}.png" in report and "cannot identify" in report
    ledger = SkippedLedger()
    ledger.add(CanvasCollator()(samples)["skipped"])
    assert len(ledger) == 3


def test_a_dataset_without_a_readable_image_is_an_error(tmp_path, monkeypatch):
    dataset = CanvasDataset(with_bad_rows(tmp_path, 3, bad={0, 1, 2}), 4)
    with pytest.raises(UnreadableImage, match="not one of these 3 images can be read; the first: row 1"):
        dataset[1]
    monkeypatch.setattr("sp_hf.data.canvas_dataset.MAX_REPLACEMENTS", 1)
    with pytest.raises(UnreadableImage, match="not one of these 2 images"):
        dataset[0]


def test_missing_labels_become_minus_one(tmp_path):
    image = {"bytes": png(0), "path": None}
    features = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=["cat"]))
    dataset = datasets.Dataset.from_dict({"image": [image, image], "label": [0, None]}, features=features)
    dataset.save_to_disk(tmp_path)
    images = load_images(str(tmp_path))
    assert [CanvasDataset(images, 4)[i]["label"] for i in (0, 1)] == [0, -1]


def test_a_stream_is_no_map_style_dataset():
    with pytest.raises(TypeError, match="is a stream"):
        CanvasDataset(load_images("part-scenes?size=32&num_images=2", streaming=True), 8)


# --- the ledger -------------------------------------------------------------------------------------------------


def test_ledger_counts_distinct_images_and_warns_once(tmp_path, caplog):
    ledger = SkippedLedger(tmp_path / "run" / "skipped_images.json")
    assert not (tmp_path / "run").exists()
    ledger.add([])
    for reports in (["a: bad", "b: bad"], ["a: bad"], ["c: bad", "c: bad"]):
        ledger.add(reports)
    assert len(ledger) == 3 and ledger.reports == ["a: bad", "b: bad", "c: bad"]
    assert [record.getMessage().split(": ", 1)[1] for record in caplog.records] == ledger.reports
    assert json.loads(ledger.path.read_text()) == {"count": 3, "images": ledger.reports}
    assert [file.name for file in ledger.path.parent.iterdir()] == ["skipped_images.json"]


def test_ledger_stops_past_its_limit_with_the_list():
    ledger = SkippedLedger(max_skipped=2)
    ledger.add(["a: bad", "b: bad"])
    with pytest.raises(
        TooManySkippedImages, match="(?s)3 images could not be read, and max_skipped is 2.*a: bad.*c: bad"
    ):
        ledger.add(["c: bad"])
    with pytest.raises(TooManySkippedImages, match="1 images could not be read, and max_skipped is 0"):
        SkippedLedger(max_skipped=0).add(["a: bad"])
    with pytest.raises(ValueError, match="max_skipped is -1"):
        SkippedLedger(max_skipped=-1)


def test_ledger_resumes(caplog):
    ledger = SkippedLedger()
    ledger.add(["a: bad"])
    resumed = SkippedLedger(max_skipped=1)
    resumed.load_state_dict(json.loads(json.dumps(ledger.state_dict())))
    caplog.clear()
    resumed.add(["a: bad"])
    assert len(resumed) == 1 and not caplog.records
    with pytest.raises(TooManySkippedImages):
        resumed.add(["b: bad"])
