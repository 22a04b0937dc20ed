"""What the app sends back."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("gradio", reason="the Space needs Gradio: pip install 'sp-hf[demo]'")
from sp_hf.space.controls import picture_box  # noqa: E402


def test_a_picture_that_is_being_sent_is_not_written_to(tmp_path):
    box = picture_box("A picture", "picture")
    box.GRADIO_CACHE = str(tmp_path)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    path = Path(box.postprocess(picture).path)
    whole, being_sent = path.read_bytes(), tmp_path / "being-sent"
    os.link(path, being_sent)  # the same file, as the one who sends it has it open
    being_sent.write_bytes(b"mark")
    assert box.postprocess(picture).path == str(path)  # to a second visitor
    assert being_sent.read_bytes() == b"mark" and path.read_bytes() == whole
    assert (np.asarray(Image.open(path)) == np.asarray(picture)).all()


def test_no_picture_is_no_picture():
    assert picture_box("A picture", "picture").postprocess(None) is None
