"""Streaming: every row once an epoch for any number of readers, and a resumed run that continues bit for bit."""

import io
import itertools
import json
import tarfile
from collections import Counter

import datasets
import pytest
import torch
from PIL import Image

from sp_hf.data.canvas import UnreadableImage
from sp_hf.data.datasets import LoadedImages, load_images
from sp_hf.data.streaming import StreamingCanvases, StreamPosition, streaming_dataloader

ROWS = 53
BAD = {5, 6, 30}  # rows whose image cannot be read


pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("cache")))
    datasets.disable_progress_bars()


def picture(number):
    if number in BAD:
        return b"no image %d" % number
    buffer = io.BytesIO()
    Image.new("RGB", (4 + number % 3, 4), (number, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def rows(numbers):
    features = datasets.Features(image=datasets.Image(decode=False), label=datasets.Value("int64"))
    images = [{"bytes": picture(i), "path": f"{i}.png"} for i in numbers]
    return datasets.Dataset.from_dict({"image": images, "label": list(numbers)}, features=features)


def write_parquet(folder, edges, row_group):
    for part, (start, stop) in enumerate(itertools.pairwise(edges)):
        rows(range(start, stop)).to_parquet(folder / f"{part}.parquet", batch_size=row_group)
    return f"{folder}/*.parquet"


def write_tars(folder, edges):
    for part, (start, stop) in enumerate(itertools.pairwise(edges)):
        with tarfile.open(folder / f"{part}.tar", "w") as archive:
            for number in range(start, stop):
                for suffix, data in (("png", picture(number)), ("cls", b"%d" % number)):
                    info = tarfile.TarInfo(f"{number:03}.{suffix}")
                    info.size = len(data)
                    archive.addfile(info, io.BytesIO(data))
    return f"{folder}/*.tar"


def write_folder(folder):
    for number in range(ROWS):
        path = folder / f"{number:03}" / "x.png"
        path.parent.mkdir()
        path.write_bytes(picture(number))
    return str(folder)


def write_saved(folder):
    rows(range(ROWS)).save_to_disk(folder)
    return str(folder)


SOURCES = {
    "one parquet file": lambda folder: write_parquet(folder, [0, ROWS], row_group=7),
    "four parquet files": lambda folder: write_parquet(folder, [0, 9, 11, 40, ROWS], row_group=5),
    "six parquet files": lambda folder: write_parquet(folder, [0, 3, 14, 20, 33, 47, ROWS], row_group=64),
    "tars": lambda folder: write_tars(folder, [0, 20, ROWS]),
    "image folder": write_folder,
    "saved to disk": write_saved,
}


@pytest.fixture(params=SOURCES)
def images(request, tmp_path):
    return load_images(SOURCES[request.param](tmp_path), streaming=True)


@pytest.fixture
def four_files(tmp_path):
    return load_images(SOURCES["four parquet files"](tmp_path), streaming=True)


def content(batch):
    return {
        "numbers": batch["canvases"][:, 0, 0, 0].tolist(),
        "labels": batch["labels"].tolist(),
        "aspects": batch["aspects"].tolist(),
        "skipped": batch["skipped"],
        "worker": batch["stream_state"]["worker"],
    }


def one_reader(images, worker, workers, **options):
    """The stream of one logical worker, read by this process: the one from which a batch is due first."""
    dataset = StreamingCanvases(images, workers=workers, canvas_size=4, **options)
    state = {"layout": dataset.layout, "batches": worker, "workers": [None] * workers}
    return iter(StreamingCanvases(images, workers=workers, canvas_size=4, state=state, **options))


def epochs_of(reader, count):
    """Numbers shown in each of a reader's first epochs; ``reader`` yields batches of one image."""
    epochs = [[] for _ in range(count)]
    for batch in reader:
        epoch = batch["stream_state"]["epoch"]
        if epoch >= count:
            return epochs
        epochs[epoch] += content(batch)["numbers"]


@pytest.mark.parametrize("ranks, workers", [(1, 1), (1, 3), (2, 1), (2, 2), (3, 2), (1, 4)])
def test_all_readers_together_show_every_row_once_an_epoch(images, ranks, workers):
    shown = [Counter() for _ in range(3)]
    for rank, worker in itertools.product(range(ranks), range(workers)):
        options = {"batch_size": 1, "rank": rank, "world_size": ranks, "shuffle_block": 6}
        for epoch, numbers in enumerate(epochs_of(one_reader(images, worker, workers, **options), 3)):
            shown[epoch].update(numbers)
    assert shown == [Counter(set(range(ROWS)) - BAD)] * 3


@pytest.mark.parametrize("num_workers", [0, 1, 2, 3])
def test_dataloaders_of_two_ranks(four_files, num_workers):
    epochs = [Counter(), Counter()]
    for rank in range(2):
        loader = streaming_dataloader(
            four_files, batch_size=1, canvas_size=4, num_workers=num_workers, rank=rank, world_size=2, shuffle_block=5
        )
        position = StreamPosition(loader.dataset)
        for place, batch in enumerate(loader):
            position.update(batch["stream_state"])
            if position.epoch == 2:
                break
            shown = content(batch)
            assert shown["worker"] == place % max(1, num_workers)
            assert shown["labels"] == shown["numbers"] and shown["aspects"] == [(4 + shown["numbers"][0] % 3) / 4]
            if batch["stream_state"]["epoch"] < 2:
                epochs[batch["stream_state"]["epoch"]].update(shown["numbers"])
    assert epochs == [Counter(set(range(ROWS)) - BAD)] * 2


def without_encoding(state):
    """A position without the stream's own state: equal places of a parquet stream can be written in several ways."""
    return {**state, "workers": [worker and {**worker, "stream": None} for worker in state["workers"]]}


def check_resume(images, num_workers, batches, compare, cuts):
    """Batches after a resume at each cut equal those of the uninterrupted run."""
    options = {"batch_size": 4, "canvas_size": 4, "num_workers": num_workers, "seed": 3, "shuffle_block": 10}
    loader = streaming_dataloader(images, **options)
    position = StreamPosition(loader.dataset)
    whole, states = [], [position.state_dict()]
    for batch in itertools.islice(loader, batches):
        position.update(batch["stream_state"])
        whole.append(content(batch))
        states.append(json.loads(json.dumps(position.state_dict())))
    assert states[-1]["workers"][0]["epoch"] >= 1  # the run crosses the border of an epoch
    for cut in cuts:
        loader = streaming_dataloader(images, state=states[cut], **options)
        resumed = StreamPosition(loader.dataset)
        expected = whole[cut : cut + compare]
        for number, batch in enumerate(itertools.islice(loader, len(expected))):
            resumed.update(batch["stream_state"])
            assert content(batch) == expected[number], (cut, number)
            assert without_encoding(resumed.state_dict()) == without_encoding(states[cut + number + 1])


def test_resume_at_every_cut_from_every_source(images):
    check_resume(images, num_workers=0, batches=28, compare=28, cuts=range(28))


def test_resume_of_a_resumed_run(images):
    options = {"batch_size": 4, "canvas_size": 4, "seed": 3, "shuffle_block": 10}
    whole = [content(batch) for batch in itertools.islice(streaming_dataloader(images, **options), 30)]
    state, resumed = None, []
    while len(resumed) < 30:  # killed after every second batch
        loader = streaming_dataloader(images, state=state, **options)
        position = StreamPosition(loader.dataset)
        for batch in itertools.islice(loader, 2):
            position.update(batch["stream_state"])
            resumed.append(content(batch))
        state = json.loads(json.dumps(position.state_dict()))
    assert resumed == whole


@pytest.mark.parametrize("num_workers", [1, 2, 3])
def test_resume_at_every_cut_with_worker_processes(four_files, num_workers):
    batches = 12 + 4 * num_workers
    check_resume(four_files, num_workers, batches, compare=4, cuts=range(0, batches - 4, 1 if num_workers == 2 else 4))


def test_resume_of_part_scenes():
    images = load_images("part-scenes?size=32&num_images=30", streaming=True)
    check_resume(images, num_workers=0, batches=10, compare=3, cuts=range(0, 10, 3))


def test_zero_workers_and_one_are_the_same_stream(four_files):
    streams = []
    for num_workers in (0, 1):
        loader = streaming_dataloader(four_files, batch_size=4, canvas_size=4, num_workers=num_workers)
        streams.append([content(batch) for batch in itertools.islice(loader, 20)])
    assert streams[0] == streams[1]


def numbers_of(images, count=40, **options):
    reader = one_reader(images, 0, 1, **{"batch_size": 1, **options})
    return [content(batch)["numbers"][0] for batch in itertools.islice(reader, count)]


def test_shuffling(tmp_path):
    images = load_images(write_tars(tmp_path, [0, ROWS]), streaming=True)
    readable = [number for number in range(ROWS) if number not in BAD]
    assert numbers_of(images, shuffle_block=1) == readable[:40]
    shuffled = numbers_of(images, 50, shuffle_block=20)
    assert shuffled != readable and sorted(shuffled) == readable
    assert set(shuffled[:13]) < set(range(32))  # a block is the next 20 rows, rounded up to chunks of 16
    assert numbers_of(images, 50, shuffle_block=20) == shuffled
    assert numbers_of(images, 50, shuffle_block=20, seed=1) != shuffled
    two_epochs = numbers_of(images, 100, shuffle_block=1000)
    assert sorted(two_epochs[:50]) == sorted(two_epochs[50:]) and two_epochs[:50] != two_epochs[50:]


def test_order_of_shards_changes_with_the_epoch(tmp_path):
    images = load_images(SOURCES["six parquet files"](tmp_path), streaming=True)
    readable = {number for number in range(ROWS) if number not in BAD}
    epochs = epochs_of(one_reader(images, 0, 1, batch_size=1, shuffle_block=1), 4)
    assert all(set(numbers) == readable for numbers in epochs)
    assert len({tuple(numbers) for numbers in epochs}) == 4
    for numbers in epochs:  # without shuffling rows, the rows of a file stay together
        breaks = sum(b not in {a + 1, a + 2, a + 3} for a, b in itertools.pairwise(numbers))
        assert breaks <= 5


def generated(shards, length, opened):
    """A stream whose rows are made as they are read; ``opened`` gets (shard, row) of each."""

    def generate(shards):
        for shard, row in itertools.product(shards, range(length)):
            opened.append((shard, row))
            yield {"image": {"bytes": picture(shard), "path": None}, "label": shard}

    features = datasets.Features(image=datasets.Image(decode=False), label=datasets.Value("int64"))
    stream = datasets.IterableDataset.from_generator(generate, features, gen_kwargs={"shards": shards})
    return LoadedImages(stream, "image", "label", None, "generated", "", None)


def test_readers_that_divide_the_shards_never_open_each_others():
    opened = []
    epochs_of(one_reader(generated([10, 20, 35, 45], 5, opened), 1, 2, batch_size=1), 1)
    assert {shard for shard, _ in opened} == {20, 45}


@pytest.mark.parametrize("ranks", [1, 3])
def test_the_next_block_is_read_little_by_little(ranks):
    opened = []
    images = generated([1, 2, 3, 4], 600, opened)
    reader = one_reader(images, 0, 1, batch_size=8, shuffle_block=160, world_size=ranks)
    next(reader)
    before = len(opened)
    assert before <= (160 + 2 * 16) * ranks  # the first block, and a beginning
    for _ in range(60):  # 480 rows: over three blocks
        next(reader)
        assert len(opened) - before <= 2 * 16 * ranks
        before = len(opened)


def test_batches_cross_the_border_of_an_epoch(four_files):
    batches = [content(batch) for batch in itertools.islice(one_reader(four_files, 0, 1, batch_size=8), 25)]
    numbers = [number for batch in batches for number in batch["numbers"]]  # 200 = 4 epochs of 50
    assert Counter(numbers) == {number: 4 for number in range(ROWS) if number not in BAD}


def test_unreadable_images_are_reported_with_the_same_name_every_epoch(four_files):
    batches = [content(batch) for batch in itertools.islice(one_reader(four_files, 0, 1, batch_size=5), 40)]
    reports = Counter(report for batch in batches for report in batch["skipped"])
    assert len(reports) == len(BAD) and set(reports.values()) == {4}
    for number in BAD:
        matching = [report for report in reports if report.startswith(f"{number}.png (sha1 ")]
        assert len(matching) == 1 and "four" not in matching[0] and "cannot identify" in matching[0]
        assert f"of {four_files.description}" in matching[0]


def test_a_stream_without_a_readable_image_is_an_error(tmp_path):
    rows(BAD).to_parquet(tmp_path / "bad.parquet")
    images = load_images(str(tmp_path / "bad.parquet"), streaming=True)
    with pytest.raises(UnreadableImage, match="1001 images in a row cannot be read; the last: "):
        next(iter(streaming_dataloader(images, batch_size=2, canvas_size=4)))


def test_fewer_rows_than_readers_is_an_error(tmp_path):
    rows([1, 2]).to_parquet(tmp_path / "two.parquet")
    images = load_images(str(tmp_path / "two.parquet"), streaming=True)
    options = {"batch_size": 1, "canvas_size": 4, "rank": 2, "world_size": 3}
    with pytest.raises(ValueError, match="no rows for reader .* fewer rows than there are readers"):
        next(iter(streaming_dataloader(images, **options)))


def test_a_position_is_resumed_in_the_same_stream_only(four_files, tmp_path):
    options = {"batch_size": 4, "canvas_size": 4, "num_workers": 2}
    loader = streaming_dataloader(four_files, **options)
    state = StreamPosition(loader.dataset).state_dict()
    for change, message in [
        ({"num_workers": 3}, "workers was 2 and is 3"),
        ({"seed": 1}, "seed was 0 and is 1"),
        ({"rank": 1, "world_size": 2}, "rank was 0 and is 1; world_size was 1 and is 2"),
        ({"shuffle_block": 8}, "shuffle_block was 1024 and is 8"),
    ]:
        with pytest.raises(ValueError, match=message):
            streaming_dataloader(four_files, **{**options, **change}, state=state)
    rows(range(9)).to_parquet(tmp_path / "other.parquet")
    other = load_images(str(tmp_path / "other.parquet"), streaming=True)
    with pytest.raises(ValueError, match="dataset was 'files .*' and is 'file .*other.parquet.*shards was 12 and is 1"):
        streaming_dataloader(other, **options, state=state)
    streaming_dataloader(four_files, **{**options, "batch_size": 8}, state=state)  # does not move positions


def test_position_is_updated_with_every_batch_once(four_files):
    loader = streaming_dataloader(four_files, batch_size=4, canvas_size=4, num_workers=2)
    position = StreamPosition(loader.dataset)
    first, second = (batch["stream_state"] for batch in itertools.islice(loader, 2))
    with pytest.raises(ValueError, match="batch 0 is due from worker 0, .* got one of worker 1"):
        position.update(second)
    position.update(first)
    with pytest.raises(ValueError, match="batch 1 is due from worker 1, .* got one of worker 0"):
        position.update(first)
    position.update(second)
    assert (position.batches, position.epoch) == (2, 0)
    with pytest.raises(ValueError, match=r"behind \(0, 0, 4\) .* got one of worker 0, \(0, 0, 4\).* only once"):
        position.update(next(iter(loader))["stream_state"])


def test_epoch_is_that_of_the_slowest_reader(four_files):
    loader = streaming_dataloader(four_files, batch_size=5, canvas_size=4)
    position = StreamPosition(loader.dataset)
    epochs = []
    for batch in itertools.islice(loader, 25):
        position.update(batch["stream_state"])
        epochs.append(position.epoch)
    assert epochs == sorted(epochs) and epochs[8] == 0 and epochs[10] == 1 and epochs[24] == 2


def test_global_random_states_are_left_alone(four_files):
    before = torch.get_rng_state()
    next(iter(streaming_dataloader(four_files, batch_size=4, canvas_size=4, num_workers=2)))
    assert torch.equal(torch.get_rng_state(), before)


def test_arguments_are_checked(four_files, tmp_path):
    for name, value in [("batch_size", 0), ("shuffle_block", 0), ("world_size", 0), ("seed", -1), ("rank", -1)]:
        with pytest.raises(ValueError, match=f"{name} is {value}; it must be at least"):
            streaming_dataloader(four_files, **{"batch_size": 1, "canvas_size": 4, name: value})
    with pytest.raises(ValueError, match="rank is 2; it must be below world_size=2"):
        streaming_dataloader(four_files, batch_size=1, canvas_size=4, rank=2, world_size=2)
    rows([1]).to_parquet(tmp_path / "one.parquet")
    with pytest.raises(TypeError, match="is not a stream"):
        streaming_dataloader(load_images(str(tmp_path / "one.parquet")), batch_size=1, canvas_size=4)
