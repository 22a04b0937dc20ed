"""What visitors upload is decoded within bounds, or refused in a sentence."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from sp_hf.space.uploads import MAX_BYTES, SHOWN, UploadError, fit_within, open_upload

from .hostile import REFUSED, TAKEN


@pytest.mark.parametrize("kind", REFUSED)
def test_refused_with_a_reason(tmp_path, kind):
    name, content, reason = REFUSED[kind]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UploadError, match=reason):
        open_upload(tmp_path / name)


@pytest.mark.parametrize("kind", TAKEN)
def test_odd_but_fine(tmp_path, kind):
    name, content = TAKEN[kind]
    (tmp_path / name).write_bytes(content)
    upload = open_upload(tmp_path / name)
    assert upload.image.mode == "RGB"
    assert max(upload.shape) == SHOWN


def test_the_first_frame_of_an_animation(tmp_path):
    name, content = TAKEN["animation"]
    (tmp_path / name).write_bytes(content)
    assert np.asarray(open_upload(tmp_path / name).image).std() > 10  # the others are red all over


def test_no_file_and_too_large_a_file(tmp_path):
    with pytest.raises(UploadError, match="no image yet"):
        open_upload(None)
    huge = tmp_path / "huge.png"
    with huge.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(UploadError, match="the limit is 20 MB"):
        open_upload(huge)


def test_large_photographs_are_kept_small_and_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    Image.new("RGB", (3000, 2000), "white").save(tmp_path / "phone.jpg", exif=exif)
    upload = open_upload(tmp_path / "phone.jpg")
    assert upload.image.size == (640, 960) and upload.shape == (320, 480)


def test_squashed_and_back(tmp_path):
    ramp = np.broadcast_to(np.linspace(0, 255, 300, dtype=np.uint8)[None, :, None], (100, 300, 3))
    Image.fromarray(ramp.copy()).save(tmp_path / "ramp.png")
    upload = open_upload(tmp_path / "ramp.png")
    square = upload.square(60)
    assert tuple(square.shape) == (3, 60, 60)
    expected = (np.arange(60) + 0.5) / 60 * 255
    assert np.abs(square[0, 30].numpy() - expected).max() < 2  # all of the image, from edge to edge
    assert upload.unsquash(square).size == (480, 160)


def test_fit_within():
    assert fit_within((100, 50), 480) == (480, 240)
    assert fit_within((1000, 1), 480) == (480, 1)
