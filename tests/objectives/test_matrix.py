"""Every objective of *what* beside every one of *where*: two steps, saved, loaded, resumed to the same weights.

A few pairs stand for all in the default tests; all of them, and the pages made from the classes, are slow.
"""

from __future__ import annotations

import runpy
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import ViTConfig

import sp_hf
from sp_hf.encoders.encoder import Encoder
from sp_hf.errors import InputError
from sp_hf.objectives import OBJECTIVES, wants_checkpoint
from sp_hf.run.folder import RunFolder

from .test_protocol import tiny

ROOT = Path(__file__).parents[2]
WHAT, WHERE = ([name for name in OBJECTIVES.own if OBJECTIVES[name].kind == kind] for kind in ("what", "where"))
SOME = [("simclr", "spatial_prediction"), ("dinov2", "drop_pos"), ("ijepa", "lorot"), ("gram_anchoring", "pirl")]
ALL = [(what, where) for what in WHAT for where in WHERE]
SIZES = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """A ViT with weights: what guards need, and all others take."""
    folder = tmp_path_factory.mktemp("matrix") / "encoder"
    torch.manual_seed(0)
    Encoder.from_config(ViTConfig(**SIZES, image_size=48, patch_size=8)).save_stock(folder)
    return folder


def pretrain(encoder: Path, names: tuple[str, ...], output: Path, **options):
    given = [tiny(name) for name in names]
    entries = [{k: v for k, v in entry.items() if k != "num_labels"} for entry in given]  # read from the dataset
    momentum = [0.99, 1.0] if sum("momentum" in vars(OBJECTIVES[n].config_class()) for n in names) > 1 else []
    return sp_hf.pretrain(
        str(encoder),
        entries,
        "part-scenes?size=48&num_images=8",
        output_dir=output,
        canvas_size=48,
        per_device_train_batch_size=4,
        max_steps=2,
        save_steps=1,
        logging_steps=1,
        dataloader_num_workers=0,
        use_cpu=True,
        teacher_momentum=momentum,
        **options,
    )


def check_pair(encoder: Path, pair: tuple[str, str], folder: Path) -> None:
    """Two steps, then the second one again from the checkpoint of the first."""
    whole = RunFolder(pretrain(encoder, pair, folder / "whole").output_dir)
    model = sp_hf.SPForPreTraining.from_pretrained(whole.pretraining)
    assert list(model.objectives) == list(pair)
    resumed = RunFolder(folder / "resumed")
    shutil.copytree(whole.path, resumed.path)
    for later in (resumed.checkpoint(2), resumed.encoder, resumed.pretraining):
        shutil.rmtree(later)
    pretrain(encoder, pair, resumed.path, resume_from_checkpoint="last")
    ours, theirs = (load_file(run.pretraining / "model.safetensors") for run in (whole, resumed))
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert not any(torch.isnan(value).any() for value in ours.values())


@pytest.mark.parametrize("pair", SOME, ids="+".join)
def test_a_pair_trains_and_resumes(pair, checkpoint, tmp_path):
    check_pair(checkpoint, pair, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("pair", [pair for pair in ALL if pair not in SOME], ids="+".join)
def test_every_pair_trains_and_resumes(pair, checkpoint, tmp_path):
    check_pair(checkpoint, pair, tmp_path)


@pytest.mark.parametrize("name", [name for name in OBJECTIVES.own if wants_checkpoint({"name": name})])
def test_a_guard_of_a_fresh_encoder_is_refused_before_anything_is_written(name, tmp_path):
    with pytest.raises(InputError, match=f"'{name}' keeps what the checkpoint .*, but vit-micro-8 starts fresh"):
        pretrain("vit-micro-8", (name,), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_the_page_of_objectives_is_what_the_classes_say():
    made = runpy.run_path(str(ROOT / "scripts" / "objectives.py"))["page"]()
    assert made == (ROOT / "docs" / "objectives.md").read_text(encoding="utf-8"), "run python scripts/objectives.py"
