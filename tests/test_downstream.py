"""docs/downstream.md runs as it stands, without sp_hf: a classifier and a segmenter learn what is to be seen."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageClassification, ViTConfig, ViTModel

from sp_hf.encoders.encoder import Encoder

PAGE = (Path(__file__).parents[1] / "docs" / "downstream.md").read_text(encoding="utf-8")


def code_of(example: str) -> str:
    """Its blocks, one after another."""
    blocks = re.findall(rf"<!-- {example} -->\n```python\n(.*?)```", PAGE, re.DOTALL)
    assert blocks, example
    return "\n".join(blocks)


def test_no_block_is_left_out() -> None:
    assert PAGE.count("```python") == len(re.findall(r"<!-- (?:classify|segment) -->\n```python", PAGE))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With a run's encoder."""
    fields = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "layer_norm_eps": 1e-6}
    torch.manual_seed(0)
    model = ViTModel(ViTConfig(hidden_size=32, image_size=32, patch_size=8, **fields))
    Encoder(model).save_stock(tmp_path / "runs" / "mine" / "encoder")
    return tmp_path


def run(code: str, folder: Path) -> str:
    environment = os.environ | {
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_CACHE": str(folder / "cache"),
        "OMP_NUM_THREADS": "1",
    }
    script = 'import sys; sys.modules["sp_hf"] = None\n' + code
    options = {"cwd": folder, "env": environment, "capture_output": True, "text": True, "timeout": 300}
    done = subprocess.run([sys.executable, "-c", script], **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def half_bright(index: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise, bright on one side of a column, and which pixels are."""
    draws = np.random.default_rng(index)
    pixels = draws.integers(0, 90, (40, 48, 3))
    bright = np.broadcast_to(np.arange(48) >= 16 * draws.integers(1, 3), (40, 48))
    return (pixels + 150 * bright[..., None]).astype(np.uint8), bright.astype(np.uint8)


@pytest.mark.slow
def test_classify(folder: Path) -> None:
    for index in range(48):
        name = ("red", "blue")[index % 2]
        pixels = np.random.default_rng(index).integers(0, 120, (40, 48, 3)).astype(np.uint8)
        pixels[..., 2 * (index % 2)] += 120
        place = folder / "photos" / ("train" if index < 32 else "test") / name
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(place / f"{index}.jpg")
    said = run(code_of("classify"), folder)
    assert float(re.search(r"^accuracy ([\d.]+)$", said, re.MULTILINE)[1]) > 0.9
    assert re.search(r"'label': 'blue'", said)  # the first of test/, whose folders are in alphabetical order
    saved = AutoModelForImageClassification.from_pretrained(folder / "classifier")
    assert saved.config.id2label == {0: "blue", 1: "red"}


@pytest.mark.slow
def test_segment(folder: Path) -> None:
    for name in ("images", "masks"):
        (folder / "scenes" / name).mkdir(parents=True)
    for index in range(32):
        image, mask = half_bright(index)
        Image.fromarray(image).save(folder / "scenes" / "images" / f"{index}.png")
        Image.fromarray(mask).save(folder / "scenes" / "masks" / f"{index}.png")
    said = run(code_of("segment"), folder)
    assert float(re.search(r"^mIoU ([\d.]+)$", said, re.MULTILINE)[1]) > 0.8
