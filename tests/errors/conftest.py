"""A folder of things that are wrong, and a command that is run as a user would."""

from __future__ import annotations

import dataclasses
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from transformers import PreTrainedConfig

from sp_hf.cli import main

SPEC = {"count": 2, "size": 16, "area": [0.3, 1.0]}
RECIPE = {
    "encoder": "{here}/config",
    "objectives": [{"name": "spatial_prediction", "views": {**SPEC, "flip": "shared"}, "head_width": 16}],
    "dataset": "part-scenes?size=32&num_images=16",
    "canvas_size": 32,
    "per_device_train_batch_size": 4,
    "max_steps": 2,
    "use_cpu": True,
    "dataloader_num_workers": 0,
    "warmup_steps": 1,
}

SP, VIEWS = "spatial_prediction", {**SPEC, "flip": "shared"}
ENTRIES = {  # of objectives, each wrong in one thing
    "number": 3,
    "one-view": {"name": SP, "views": {**VIEWS, "count": 1}},
    "half-a-view": {"name": SP, "views": {**VIEWS, "count": 2.5}},
    "grid": {"name": SP, "views": {**VIEWS, "grid": [3, 3]}},
    "inside": {"name": SP, "views": {**VIEWS, "inside": "nowhere"}},
    "boxes": {"name": SP, "views": {**VIEWS, "boxes": "objs"}},
    "photometric": {"name": SP, "views": {**VIEWS, "photometric": "dinoo"}},
    "area": {"name": SP, "views": {**VIEWS, "area": [2, 3]}},
    "sice": {"name": SP, "views": {**VIEWS, "sice": 16}},
    "patches": {"name": SP, "views": {**VIEWS, "size": 15}},
    "reference": {"name": SP, "views": "dino/local"},
    "views": {"name": SP, "views": [1, 2]},
    "weight": {"name": SP, "views": VIEWS, "weight": True},
    "fraction": {"name": "dino", "prototypes": 2.5},
    "truth": {"name": "dino", "norm_last_layer": "no"},
    "momentum": {"name": "dino", "momentum": ["a", "b"]},
    "temperature": {"name": "dino", "teacher_temperature": [0, 0]},
    "ratio": {"name": "mae", "mask_ratio": 1.5},
    "ratios": {"name": "ibot", "mask_ratio": [0.9, 0.1]},
}


@pytest.fixture(scope="session")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder with a good recipe and encoder, and everything that can be wrong with files."""
    from transformers import ViTConfig, ViTModel

    here = tmp_path_factory.mktemp("broken")
    config = ViTConfig(
        hidden_size=24, num_hidden_layers=1, num_attention_heads=2, intermediate_size=48, image_size=16, patch_size=4
    )
    config.save_pretrained(here / "config")
    ViTModel(config, add_pooling_layer=False).save_pretrained(here / "vit")
    _damaged_models(here, (here / "vit" / "model.safetensors").read_bytes(), (here / "vit" / "config.json").read_text())
    _damaged_run(here, config)
    _damaged_images(here)
    (here / "file").write_text("no folder")
    (here / "empty").mkdir()
    _recipes(here)
    return here


def _damaged_models(here: Path, weights: bytes, config: str) -> None:
    for name, (data, text) in {
        "truncated": (weights[: len(weights) // 2], config),
        "garbage": (b"not a safetensors file at all", config),
        "no-weights-at-all": (b"", config),
        "bad-json": (weights, config[:40]),
        "unknown-type": (weights, json.dumps({**json.loads(config), "model_type": "vitt"})),
        "no-type": (weights, json.dumps({"hidden_size": 24})),
        "text-model": (weights, json.dumps({"model_type": "gpt2"})),
        "other-size": (weights, json.dumps({**json.loads(config), "hidden_size": 32})),
        "deeper": (weights, json.dumps({**json.loads(config), "num_hidden_layers": 2})),
    }.items():
        (here / name).mkdir()
        (here / name / "model.safetensors").write_bytes(data)
        (here / name / "config.json").write_text(text)
    (here / "pickled").mkdir()
    (here / "pickled" / "config.json").write_text(config)
    (here / "pickled" / "pytorch_model.bin").write_bytes(b"\x80\x04")


def _damaged_run(here: Path, encoder: PreTrainedConfig) -> None:
    from sp_hf.model.configuration import SPConfig
    from sp_hf.model.modeling import SPForPreTraining

    model = SPForPreTraining(SPConfig(encoder, RECIPE["objectives"]))
    for folder in ("run", "cut-run"):
        model.save_pretrained(here / folder)
    weights = here / "cut-run" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])


def _damaged_images(here: Path) -> None:
    encoded = io.BytesIO()
    Image.new("RGB", (32, 32), "red").save(encoded, "PNG")
    for folder, count in (("one-image", 1), ("images/train", 8)):
        (here / folder).mkdir(parents=True)
        for index in range(count):
            (here / folder / f"{index}.png").write_bytes(encoded.getvalue())
    (here / "all-bad").mkdir()
    for index in range(8):
        (here / "all-bad" / f"{index}.png").write_bytes(b"no picture")
    (here / "bad.parquet").write_bytes(b"PAR1 and then nothing")
    (here / "bad.tar").write_bytes(b"no tar" * 100)
    (here / "words.txt").write_text("words")
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as tar:
        for index in range(8):
            info = tarfile.TarInfo(f"{index}.png")
            info.size = len(encoded.getvalue())
            tar.addfile(info, io.BytesIO(encoded.getvalue()))
    (here / "cut.tar").write_bytes(whole.getvalue()[:5000])


def _recipes(here: Path) -> None:
    good = json.dumps(RECIPE).replace("{here}", str(here))
    (here / "good.yaml").write_text(good)
    for name, text in {
        "list": "- dino\n",
        "syntax": "objectives: [dino\n",
        "twice": "learning_rate: 0.1\nseed: 1\nlearning_rate: 0.2\n",
        "unknown": "learning_rat: 0.1\n",
        "text-rate": "learning_rate: fast\n",
        "number-key": "1: 2\n",
        "nameless": "objectives: [{weight: 1}]\n",
        "typo-option": "objectives: [{name: dino, prototipes: 3}]\n",
        "empty": "",
    }.items():
        (here / f"{name}.yaml").write_text(text)
    for name, entry in ENTRIES.items():
        recipe = json.dumps({**RECIPE, "objectives": [entry]}).replace("{here}", str(here))
        (here / f"entry-{name}.yaml").write_text(recipe)
    (here / "binary.yaml").write_bytes(b"\xff\xfe\x00\x81")
    plan = {"seeds": [0], "runs": {"A": {"recipe": "good.yaml"}}, "evaluate": {"tasks": ["knn"]}}
    plan |= {"evaluations": [["A"]], "measures": {"knn/accuracy": "kNN"}}
    for name, changes in {
        "sweep": {},
        "sweep-runs": {"runs": ["A"]},
        "sweep-seeds": {"seeds": 3},
        "sweep-measures": {"measures": ["knn/accuracy"]},
        "sweep-evaluations": {"evaluations": "A"},
        "sweep-evaluate": {"evaluate": ["knn"]},
        "sweep-names": {"evaluations": [["B"]]},
        "sweep-key": {"evaluatons": []},
        "sweep-recipe": {"runs": {"A": {"recipe": "nowhere.yaml"}}},
    }.items():
        (here / f"{name}.yaml").write_text(json.dumps({**plan, **changes}))


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    status: int
    error: str


@pytest.fixture
def wrong(
    broken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> Callable[[str], Outcome]:
    """Run a line such as ``"pretrain --recipe {good} --seed -1"`` in an empty folder, where it must leave nothing."""
    monkeypatch.chdir(tmp_path)

    def run(line: str) -> Outcome:
        words = line.replace("{good}", f"{broken}/good.yaml").replace("{here}", str(broken)).split()
        words = [word.replace("{space}", " ").replace("{empty}", "") for word in words]
        before = sorted(broken.rglob("*"))
        try:
            status = main(words)
        except SystemExit as stop:
            status = int(stop.code or 0)
        assert sorted(tmp_path.rglob("*")) == [], "something was written"
        assert sorted(broken.rglob("*")) == before, "something was written"
        return Outcome(status, capsys.readouterr().err)

    return run
