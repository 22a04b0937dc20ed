"""A whole run in this process: its folder, its export, and the mistakes that it refuses before the first step."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import warm
import yaml
from PIL import Image
from safetensors.torch import load_file

from sp_hf.cli import main
from sp_hf.encoders.encoder import Encoder
from sp_hf.objectives.where.spatial_prediction import SpatialPredictionConfig
from sp_hf.run import checkpoints as checkpointing
from sp_hf.run.checkpoints import last_checkpoint
from sp_hf.run.environment import processor_name


def pretrain(recipe: Path, output: Path, *flags: str) -> int:
    return main(["pretrain", "--recipe", str(recipe), "--output_dir", str(output), *flags])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Path) -> Path:
    """A finished run of 8 steps with both probes online."""
    from .conftest import tiny_options

    folder = tmp_path_factory.mktemp("run")
    options = {**tiny_options(tiny_encoder), "probe_steps": 4, "probe_images": 16, "logging_steps": 2}
    (folder / "tiny.yaml").write_text(json.dumps(options))
    assert pretrain(folder / "tiny.yaml", folder / "out") == 0
    return folder / "out"


def test_run_folder_is_whole(finished: Path) -> None:
    names = {path.name for path in finished.iterdir()}
    assert names >= {
        *("encoder", "pretraining", "checkpoint-6", "checkpoint-8"),
        *("metrics.jsonl", "recipe.yaml", "environment.json", "views.png", "curves.png"),
    }
    assert "checkpoint-4" not in names  # rotated: two are kept
    assert not any(name.startswith(".incomplete") for name in names)
    for picture in ("views.png", "curves.png"):
        assert min(Image.open(finished / picture).size) > 100


def test_the_processor_has_its_makers_name(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nmodel name\t: Fast CPU 9000\nflags\t\t: fpu\n")
    assert processor_name(cpuinfo) == "Fast CPU 9000"
    cpuinfo.write_text("processor\t: 0\nBogoMIPS\t: 243.75\n")
    assert processor_name(cpuinfo) == processor_name(tmp_path / "none") != ""


def test_metrics_hold_every_logged_value(finished: Path) -> None:
    records = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    training = [r for r in records if "learning_rate" in r]
    assert [r["step"] for r in training] == [2, 4, 6, 8]
    for name in ("loss", "loss/dino", "loss/spatial_prediction", "embedding_std", "rankme", "weight_decay"):
        assert all(np.isfinite(r[name]) for r in training), name
    weight = SpatialPredictionConfig.weight
    for r in training:
        assert r["loss"] == pytest.approx(r["loss/dino"] + weight * r["loss/spatial_prediction"], rel=1e-5)
        assert 1 <= r["rankme"] <= 4.01
    decay = [r["weight_decay"] for r in training]
    assert decay == sorted(decay) and decay[-1] > decay[0]
    probes = [r for r in records if "probe/r2_position" in r]
    assert [r["step"] for r in probes] == [0, 4, 8]
    assert "probe/knn_accuracy" in probes[0]


def test_resolved_recipe_gives_the_same_run(finished: Path, tmp_path: Path) -> None:
    recipe = yaml.safe_load((finished / "recipe.yaml").read_text())
    assert recipe["objectives"][0]["centre_momentum"] == 0.9  # defaults are spelled out
    assert pretrain(finished / "recipe.yaml", tmp_path / "again", "--probe_steps", "0") == 0
    ours, theirs = (load_file(f / "pretraining" / "model.safetensors") for f in (tmp_path / "again", finished))
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]), name


def test_encoder_loads_where_sp_hf_cannot_be_imported(finished: Path, tmp_path: Path) -> None:
    pixels = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    encoder = Encoder.load(finished / "encoder").eval()
    with torch.no_grad():
        ours = encoder(pixels)
        torch.save({"pixels": encoder.normalise(pixels), "cls": ours.cls, "patches": ours.patches}, tmp_path / "x.pt")
    script = f"""
import sys
sys.modules["sp_hf"] = None
import torch
from transformers import AutoImageProcessor, AutoModel
model = AutoModel.from_pretrained({str(finished / "encoder")!r}).eval()
assert type(model).__name__ == "ViTModel" and type(model).__module__.startswith("transformers.")
AutoImageProcessor.from_pretrained({str(finished / "encoder")!r})
x = torch.load({str(tmp_path / "x.pt")!r}, weights_only=True)
with torch.no_grad():
    tokens = model(x["pixels"]).last_hidden_state
assert torch.equal(tokens[:, 0], x["cls"]) and torch.equal(tokens[:, 1:], x["patches"])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_export_of_any_checkpoint(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["export", str(finished), str(tmp_path / "final")]) == 0
    assert main(["export", str(finished / "checkpoint-6"), str(tmp_path / "early")]) == 0
    assert main(["export", str(finished), str(tmp_path / "teacher"), "--teacher"]) == 0
    weights = {f.name: load_file(f / "model.safetensors") for f in tmp_path.iterdir() if f.is_dir()}
    stock = load_file(finished / "encoder" / "model.safetensors")
    assert all(torch.equal(stock[name], value) for name, value in weights["final"].items())
    for other in ("early", "teacher"):
        assert any(not torch.equal(stock[name], value) for name, value in weights[other].items()), other
    assert main(["export", str(tmp_path / "nowhere"), str(tmp_path / "y")]) == 1
    assert "nowhere" in capsys.readouterr().err


def test_a_finished_run_is_not_overwritten(finished: Path, tiny_recipe: Path, capsys: pytest.CaptureFixture) -> None:
    assert pretrain(tiny_recipe, finished) == 1
    assert "--resume auto" in capsys.readouterr().err


def test_resume_refuses_another_model(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    recipe = yaml.safe_load((finished / "recipe.yaml").read_text())
    recipe["objectives"][1]["beta"] = 0.25
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(recipe))
    assert pretrain(tmp_path / "other.yaml", copy, "--resume_from_checkpoint", "last") == 1
    error = capsys.readouterr().err
    assert "objectives.spatial_prediction.beta: 1.0 before, 0.25 now" in error


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--dataset", "/no/such/folder"), ["/no/such/folder"]),
        (("--dataset_split", "trian"), ["trian", "train"]),
        (("--encoder", "vit-tinny-16"), ["vit-tinny-16"]),
        (("--encoder", "vit-micro-8", "--objectives", "mae"), ["224"]),
        (("--resume_from_checkpoint", "last"), ["nothing to resume"]),
        (("--resume_from_checkpoint", "checkpoint-7"), ["checkpoint-7", "trainer_state.json"]),
        (("--streaming", "--max_steps", "-1"), ["--max_steps"]),
        (("--per_device_train_batch_size", "64"), ["16 images", "--per_device_train_batch_size"]),
        (("--image_column", "picture"), ["picture", "image"]),
    ],
)
def test_a_mistake_is_one_clear_line_before_any_training(
    tiny_recipe: Path, tmp_path: Path, flags: tuple, words: list, capsys: pytest.CaptureFixture
) -> None:
    if "mae" in flags:
        flags = (*flags, "--image_size", "20")
        words = ["20", "8"]
    assert pretrain(tiny_recipe, tmp_path / "out", *flags) == 1
    error = capsys.readouterr().err
    assert error.count("sp-hf: error:") == 1 and "Traceback" not in error
    for word in words:
        assert word in error
    assert not list(tmp_path.glob("out/checkpoint-*"))


@pytest.mark.fault("the disk is full, or fills up")
def test_a_disk_too_small_is_refused_at_once(
    tiny_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(checkpointing.shutil, "disk_usage", lambda _: usage)
    assert pretrain(tiny_recipe, tmp_path / "out") == 1
    assert "free" in capsys.readouterr().err


@pytest.mark.fault("the disk is full, or fills up")
def test_a_disk_that_fills_up_loses_nothing(tiny_recipe: Path, tmp_path: Path) -> None:
    """A real write error in the middle of a checkpoint: a limit on the size of files, set after the first one."""
    script = """
import resource, sys
from sp_hf.cli import main
from sp_hf.training.trainer import PretrainingTrainer
save = PretrainingTrainer._save_checkpoint
def limited(self, model, trial):
    if self.state.global_step > 2:
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
        import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    save(self, model, trial)
PretrainingTrainer._save_checkpoint = limited
sys.exit(main(sys.argv[1:]))
"""
    (tmp_path / "limited.py").write_text(script)
    command = ["pretrain", "--recipe", str(tiny_recipe), "--output_dir", str(tmp_path / "out")]
    running = warm.start(command, tmp_path / "log", tmp_path / "limited.py")
    assert running.wait() == 1, running.said
    assert "no room" in running.said and "checkpoint-2" in running.said and "Traceback" not in running.said
    assert [p.name for p in (tmp_path / "out").glob("*checkpoint*")] == ["checkpoint-2"]
    assert pretrain(tiny_recipe, tmp_path / "out", "--resume_from_checkpoint", "last") == 0


@pytest.mark.fault("killed while a checkpoint is written or replaced")
def test_a_half_written_checkpoint_is_never_taken_for_a_whole_one(tmp_path: Path) -> None:
    (tmp_path / ".incomplete-checkpoint-9" / "checkpoint-9").mkdir(parents=True)
    (tmp_path / ".incomplete-views.png").touch()
    (tmp_path / "checkpoint-4").mkdir()
    (tmp_path / "checkpoint-10").mkdir()
    (tmp_path / "checkpoint-ten").mkdir()
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-10"
    checkpointing.remove_leftovers(tmp_path)
    assert not list(tmp_path.glob(".incomplete*"))


@pytest.mark.fault("killed while a checkpoint is written or replaced")
def test_what_was_about_to_be_replaced_is_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed between the two renames of a replacement, the old folder is the only whole one."""
    for folder, text in (("checkpoint-4", "old"), (".incomplete-checkpoint-4/checkpoint-4", "new")):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "weights").write_text(text)
    rename = Path.rename

    def killed(self: Path, target: Path) -> Path:
        if self.parent.name.startswith(".incomplete"):
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", killed)
    with pytest.raises(KeyboardInterrupt):
        checkpointing.publish(tmp_path / ".incomplete-checkpoint-4" / "checkpoint-4", tmp_path / "checkpoint-4")
    monkeypatch.setattr(Path, "rename", rename)
    assert last_checkpoint(tmp_path) is None
    checkpointing.put_back_replaced(tmp_path)
    checkpointing.remove_leftovers(tmp_path)
    assert (tmp_path / "checkpoint-4" / "weights").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-4"]


def _image_folder(folder: Path, broken: int) -> Path:
    folder.mkdir()
    generator = np.random.default_rng(0)
    for i in range(12):
        path = folder / f"{i:02}.png"
        Image.fromarray(generator.integers(0, 255, (24, 32, 3), dtype=np.uint8)).save(path)
        if i < broken:
            path.write_bytes(path.read_bytes()[:200])
    return folder


@pytest.mark.fault("images that cannot be read")
def test_broken_images_are_skipped_counted_and_reported(tiny_recipe: Path, tmp_path: Path) -> None:
    photos = _image_folder(tmp_path / "photos", broken=2)
    assert pretrain(tiny_recipe, tmp_path / "out", "--dataset", str(photos), "--max_skipped", "0.2") == 0
    report = json.loads((tmp_path / "out" / "skipped_images.json").read_text())
    assert report["count"] == 2
    assert any("00.png" in line for line in report["images"])


@pytest.mark.fault("images that cannot be read")
def test_too_many_broken_images_stop_the_run(tiny_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    photos = _image_folder(tmp_path / "photos", broken=3)
    flags = ("--dataset", str(photos), "--max_skipped", "1")
    assert pretrain(tiny_recipe, tmp_path / "out", *flags) == 1
    error = capsys.readouterr().err
    assert "max_skipped is 1" in error and ".png" in error


def test_collapse_stops_the_run_when_asked(tiny_recipe: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    flags = ("--collapse_std", "5", "--stop_on_collapse", "--logging_steps", "1")
    assert pretrain(tiny_recipe, tmp_path / "out", *flags) == 0
    assert "COLLAPSE" in caplog.text
    assert not (tmp_path / "out" / "encoder").exists()
    assert last_checkpoint(tmp_path / "out").name == "checkpoint-3"  # the first step after the warm-up


@pytest.mark.fault("killed after the last step, before or in the midst of the export")
def test_the_encoder_is_whole_or_absent(tiny_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed while it is written, a run has none, and resumed it writes it."""
    save = Encoder.save_stock

    def killed(self: Encoder, directory: Path, *args: object, **options: object) -> None:
        save(self, directory, *args, **options)
        (Path(directory) / "preprocessor_config.json").unlink()
        raise KeyboardInterrupt

    monkeypatch.setattr(Encoder, "save_stock", killed)
    assert pretrain(tiny_recipe, tmp_path / "out", "--max_steps", "2") == 130
    assert not (tmp_path / "out" / "encoder").exists()
    monkeypatch.setattr(Encoder, "save_stock", save)
    assert pretrain(tiny_recipe, tmp_path / "out", "--max_steps", "2", "--resume_from_checkpoint", "last") == 0
    assert (tmp_path / "out" / "encoder" / "preprocessor_config.json").is_file()
    assert not list((tmp_path / "out").glob(".incomplete*"))
