"""Damaged checkpoints are known, named, and passed over for the newest whole one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from sp_hf.run.manifest import damage, write_manifest
from sp_hf.run.resume import find_start

FILES = ("model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json", "contract.json")


def checkpoint(run: Path, step: int) -> Path:
    """A folder as a run writes it, with bytes of no meaning."""
    folder = run / f"checkpoint-{step}"
    (folder / "shards").mkdir(parents=True)
    for i, name in enumerate((*FILES, "shards/0.distcp")):
        (folder / name).write_bytes(bytes(range(i, i + 64)))
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    write_manifest(folder)
    return folder


def flip_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


KINDS: dict[str, tuple[Callable[[Path], None], str]] = {
    "missing": (Path.unlink, "is missing"),
    "empty": (lambda file: file.write_bytes(b""), "has 0 bytes"),
    "cut short": (lambda file: file.write_bytes(file.read_bytes()[:-1]), "bytes, not"),
    "too long": (lambda file: file.write_bytes(file.read_bytes() + b"x"), "bytes, not"),
    "one bit flipped": (flip_bit, "has other bytes than were written"),
}


@pytest.mark.fault("a file of the newest checkpoint is missing, cut short, too long, or has a bit flipped")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [*FILES, "shards/0.distcp"])
def test_any_damage_to_any_file_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, kind: str
) -> None:
    good, bad = checkpoint(tmp_path, 4), checkpoint(tmp_path, 10)
    assert damage(bad) == [] and find_start("auto", tmp_path).checkpoint == bad
    inflict, words = KINDS[kind]
    inflict(bad / name)
    start = find_start("auto", tmp_path)
    assert (start.checkpoint, start.damaged, start.step) == (good, (bad,), 4)
    (problem,) = damage(bad)
    assert problem.startswith(name) and words in problem
    assert problem in caplog.text and str(bad) in caplog.text and "Going on from checkpoint-4" in caplog.text


@pytest.mark.fault("a file of the newest checkpoint is missing, cut short, too long, or has a bit flipped")
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"files": 3}', b'{"files": {"a": 1}}', b"\xff\xfe"])
def test_a_damaged_manifest_is_damage(tmp_path: Path, content: bytes) -> None:
    good, bad = checkpoint(tmp_path, 4), checkpoint(tmp_path, 10)
    (bad / "a").touch()
    (bad / "manifest.json").write_bytes(content)
    assert damage(bad) == ["its manifest.json cannot be read"]
    assert find_start("last", tmp_path).checkpoint == good


@pytest.mark.fault("all checkpoints are damaged, or of an older version")
def test_where_nothing_is_whole_nothing_is_started(tmp_path: Path) -> None:
    for step in (4, 10):
        (checkpoint(tmp_path, step) / "optimizer.pt").unlink()
    for resume in ("auto", "last"):
        with pytest.raises(ValueError, match="checkpoint-10: optimizer.pt is missing; checkpoint-4: optimizer.pt is"):
            find_start(resume, tmp_path)
    with pytest.raises(ValueError, match=r"checkpoint-10 is damaged: optimizer.pt is missing"):
        find_start(str(tmp_path / "checkpoint-10"), tmp_path)
    with pytest.raises(FileExistsError, match="already holds a run"):
        find_start(None, tmp_path)


@pytest.mark.fault("all checkpoints are damaged, or of an older version")
def test_a_checkpoint_of_an_older_version_is_taken_when_asked(tmp_path: Path) -> None:
    old = checkpoint(tmp_path, 4)
    (old / "manifest.json").unlink()
    for resume in ("auto", "last", str(old)):
        with pytest.raises(ValueError, match="written by an older version of sp-hf, or is not whole.*--allow_changes"):
            find_start(resume, tmp_path)
        assert find_start(resume, tmp_path, trust=True).checkpoint == old


def test_a_damaged_checkpoint_is_kept_under_another_name(tmp_path: Path) -> None:
    checkpoint(tmp_path, 4)
    for _ in range(2):  # also the second time
        (checkpoint(tmp_path, 10) / "optimizer.pt").unlink()
        find_start("auto", tmp_path).set_damaged_aside()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-4", "damaged-checkpoint-10"]


@pytest.mark.fault("killed while a checkpoint is written or replaced")
def test_a_checkpoint_that_was_about_to_be_replaced_is_found(tmp_path: Path) -> None:
    checkpoint(tmp_path, 4).rename(tmp_path / ".incomplete-replaced-checkpoint-4")
    assert find_start("auto", tmp_path).checkpoint == tmp_path / "checkpoint-4"


def test_auto_starts_where_there_is_nothing(tmp_path: Path) -> None:
    assert find_start("auto", tmp_path / "new").checkpoint is None
    with pytest.raises(FileNotFoundError, match="nothing to resume.*--resume auto starts where there is none"):
        find_start("last", tmp_path / "new")
    shutil.copytree(checkpoint(tmp_path / "elsewhere", 6), tmp_path / "mine")
    assert find_start(str(tmp_path / "mine"), tmp_path / "new").step == 6
