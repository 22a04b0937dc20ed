"""Files of a folder: counted by format, read where anything installed can, and never left out in silence."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sp_hf.data.canvas import make_canvas
from sp_hf.data.datasets import load_images
from sp_hf.data.image_formats import count_files
from sp_hf.data.skipped import SkippedLedger, TooManySkippedImages

AVIF = pytest.mark.skipif(".avif" not in Image.registered_extensions(), reason="this Pillow has no AVIF")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Six images that can be read, and seven files that cannot."""
    folder = tmp_path / "photos"
    (folder / "deep").mkdir(parents=True)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (24, 32, 3), dtype=np.uint8))
    for name in ("a.jpg", "b.JPG", "deep/c.png", "d.avif", "e.avif", "deep/f.webp"):
        image.save(folder / name)
    for name in ("g.heic", "h.heic", "noname", "notes.txt", "i.xyz", "metadata-of-mine.txt"):
        (folder / name).write_bytes(b"x")
    (folder / "j.jpg").symlink_to(folder / "gone.jpg")
    (folder / ".DS_Store").touch()
    return folder


@AVIF
def test_files_are_counted_by_format(photos: Path) -> None:
    found = count_files(photos)
    assert found.images == {".jpg": 2, ".png": 1, ".avif": 2, ".webp": 1}
    assert found.unused == {".heic": 2, "without a suffix": 1, ".txt": 2, ".xyz": 1, "broken links": 1}


@AVIF
@pytest.mark.parametrize("streaming", [False, True])
def test_what_is_there_but_not_used_is_said_and_avif_is_read(
    photos: Path, caplog: pytest.LogCaptureFixture, streaming: bool
) -> None:
    with caplog.at_level(logging.INFO):
        images = load_images(str(photos), streaming=streaming)
    rows = list(images.dataset)
    assert len(rows) == 6
    assert {make_canvas(row[images.image_column], 16)[0].shape for row in rows} == {(3, 16, 16)}
    assert "6 images (2 .jpg, 2 .avif, 1 " in caplog.text
    (said,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "7 files are NOT used" in said and "2 .heic" in said and "1 broken links" in said
    assert "1 without a suffix" in said and "pip install pillow-heif" in said


# How many may be left out ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("most", "images", "limit"),
    [(0.01, 12, 1), (0.01, 150, 2), (0.01, 10_000, 100), (7, 12, 7), (0, 12, 0), (1, 12, 1)],
)
def test_a_share_of_the_images(most: float, images: int, limit: int) -> None:
    ledger = SkippedLedger(max_skipped=most, images=images)
    ledger.add(f"{i}: bad" for i in range(limit))
    with pytest.raises(
        TooManySkippedImages, match=f"{limit + 1} images could not be read, and max_skipped is {most:g}"
    ):
        ledger.add(["last: bad"])


def test_of_a_stream_the_images_so_far() -> None:
    ledger = SkippedLedger(max_skipped=0.01)
    ledger.add((f"{i}: bad" for i in range(10)), seen=64)  # of a thousand, until there were as many
    for _ in range(10):
        ledger.add([], seen=200)
    ledger.add((f"{i}: bad" for i in range(20)), seen=0)
    with pytest.raises(TooManySkippedImages, match="max_skipped is 0.01, 21 of the 2064 so far"):
        ledger.add(["x: bad", "y: bad"])


def test_a_resume_does_not_count_an_image_twice() -> None:
    ledger = SkippedLedger(max_skipped=2, images=100)
    ledger.add(["a: bad", "b: bad"], seen=4)
    for _ in range(3):
        state = json.loads(json.dumps(ledger.state_dict()))
        ledger = SkippedLedger(max_skipped=2, images=100)
        ledger.load_state_dict(state)
        ledger.add(["b: bad", "a: bad"], seen=4)
    assert len(ledger) == 2 and ledger.state_dict()["seen"] == 16
    ledger.load_state_dict({"reports": ["a: bad"]})  # of an older version


@pytest.mark.parametrize("most", [-1, 1.5, -0.1])
def test_what_is_no_number_and_no_share(most: float) -> None:
    with pytest.raises(ValueError, match=f"max_skipped is {most}"):
        SkippedLedger(max_skipped=most)
