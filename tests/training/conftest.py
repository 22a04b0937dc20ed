"""A tiny run: a 2-layer ViT on a handful of embedded scenes, every step logged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

SPEC = {"count": 2, "size": 16, "area": [0.3, 1.0], "photometric": "none", "effective_resolution": None}
OBJECTIVES = {
    "dino": {"global_views": SPEC, "local_views": {**SPEC, "size": 8}, "prototypes": 32, "head_width": 16},
    "spatial_prediction": {"views": {**SPEC, "count": 3, "flip": "shared"}, "head_width": 16},
    "moco_v3": {"views": SPEC, "head_width": 16, "embedding_size": 8},
}


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the config.json of a very small ViT."""
    from transformers import ViTConfig

    folder = tmp_path_factory.mktemp("tiny-vit")
    ViTConfig(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48, image_size=16, patch_size=4
    ).save_pretrained(folder)
    return folder


def tiny_options(tiny_encoder: Path) -> dict:
    """DINO + SP: 8 steps of 4 images, a checkpoint every 2."""
    return {
        "encoder": str(tiny_encoder / "config.json"),
        "objectives": [{"name": name, **OBJECTIVES[name]} for name in ("dino", "spatial_prediction")],
        "dataset": "part-scenes?size=32&num_images=16",
        "canvas_size": 32,
        "per_device_train_batch_size": 4,
        "max_steps": 8,
        "logging_steps": 3,
        "save_steps": 2,
        "use_cpu": True,
        "dataloader_num_workers": 0,
        "warmup_steps": 2,
        "weight_decay_end": 0.4,
        "seed": 3,
    }


@pytest.fixture
def tiny_recipe(tmp_path: Path, tiny_encoder: Path) -> Path:
    """A file with :func:`tiny_options`."""
    path = tmp_path / "tiny.yaml"
    path.write_text(json.dumps(tiny_options(tiny_encoder)))
    return path
