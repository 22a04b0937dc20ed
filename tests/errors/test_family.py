"""The family itself, and what other libraries raise put into it."""

from __future__ import annotations

import ast
import errno
import inspect
import logging
import pickle
from pathlib import Path

import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors import SafetensorError
from torch._utils import ExceptionWrapper

import sp_hf
from sp_hf import boundary, errors
from sp_hf.boundary import reading_checkpoint
from sp_hf.data.canvas import UnreadableImage
from sp_hf.errors import HubError, SpHfError
from sp_hf.exit import DEFECT, report, take_traceback

PACKAGE = Path(sp_hf.__file__).parent
KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, SpHfError)]
BUILT_IN = ("ValueError", "TypeError", "OSError", "FileNotFoundError", "FileExistsError", "RuntimeError", "KeyError")
ALONE = {"jigsaw", "relative_geometry", "mean_corruption_error", "shape_bias"}  # evaluate.load reads them by themselves


def test_every_error_is_of_the_family() -> None:
    """A ``raise ValueError`` would be taken for a defect."""
    found = []
    for file in PACKAGE.rglob("*.py"):
        if file.parent.parent.name == "metrics" and file.parent.name in ALONE:
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and isinstance(node.exc.func, ast.Name):
                if node.exc.func.id in BUILT_IN:
                    found.append(f"{file.relative_to(PACKAGE)}:{node.lineno} raises {node.exc.func.id}")
    assert found == []


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_kinds_travel_between_processes(kind: type[SpHfError]) -> None:
    told = pickle.loads(pickle.dumps(kind("lr is nan")))
    assert type(told) is kind and str(told) == "lr is nan"


@pytest.mark.parametrize("error", [errors.DataError("shard 3 is cut"), UnreadableImage("cat.jpg", "is cut")])
def test_an_error_of_a_worker_is_told_without_its_traceback(error: SpHfError) -> None:
    try:
        raise error
    except SpHfError:
        wrapped = ExceptionWrapper(where="in DataLoader worker process 0")
    with pytest.raises(type(error)) as caught:
        wrapped.reraise()
    assert "Traceback" in str(caught.value)
    assert errors.sentence(caught.value) == str(error)


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "out/x"), errors.DiskFullError, "out/x: no room"),
        (PermissionError(errno.EACCES, "Permission denied", "out"), errors.FileError, "out: you may not"),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "a/b"), errors.FileError, "a/b: a part"),
        (FileNotFoundError(errno.ENOENT, "No such file", "cat.jpg"), errors.NotFoundError, "cat.jpg"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried 2 GiB"), errors.DeviceError, "lower the batch size"),
        (MemoryError(), errors.DeviceError, "lower the batch size"),
        (ModuleNotFoundError("No module named 'timm'", name="timm"), errors.PackageError, "pip install timm"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_errors_that_can_come_from_anywhere(error: Exception, kind: type[SpHfError], said: str) -> None:
    ours = boundary.as_ours(error)
    assert type(ours) is kind and said in str(ours)


@pytest.mark.parametrize("error", [ValueError("x"), KeyError("x"), ModuleNotFoundError(name="sp_hf.x"), OSError("x")])
def test_anything_else_is_a_defect(error: Exception, capsys: pytest.CaptureFixture) -> None:
    try:
        raise error
    except Exception as raised:
        assert report(raised) == DEFECT
    told = capsys.readouterr().err
    assert "Traceback" in told and "please report" in told


def test_a_traceback_on_demand(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.delenv("SP_HF_TRACEBACK", raising=False)
    assert take_traceback(["--traceback", "a"]) == (["a"], True)
    assert take_traceback(["a"]) == (["a"], False)
    monkeypatch.setenv("SP_HF_TRACEBACK", "1")
    assert take_traceback(["a"]) == (["a"], True)
    assert report(errors.InputError("lr is nan"), with_traceback=True) == 1
    told = capsys.readouterr().err
    assert "Traceback" not in told.splitlines()[-1] and told.endswith("sp-hf: error: lr is nan\n")


def test_what_reads_a_checkpoint() -> None:
    for error in (SafetensorError("header too large"), OSError("no file named x"), KeyError("y")):
        with pytest.raises(errors.CheckpointError, match="mine"), boundary.reading_checkpoint("mine"):
            raise error
    with pytest.raises(errors.InputError, match="as it was"), boundary.reading_checkpoint("mine"):
        raise errors.InputError("as it was")
    with pytest.raises(RuntimeError, match="a defect"), boundary.reading_checkpoint("mine"):
        raise RuntimeError("a defect")


def test_what_reads_images_names_the_innermost_cause() -> None:
    with pytest.raises(errors.DataError, match="folder x cannot be read .*outer.*inner"):
        with boundary.reading_images("folder x"):
            try:
                raise EOFError("inner")
            except EOFError as error:
                raise ArithmeticError("outer") from error


def test_the_hubs_retries_are_not_told_one_by_one(caplog: pytest.LogCaptureFixture) -> None:
    notes = logging.getLogger("huggingface_hub.utils._http")
    level = notes.level
    with pytest.raises(HubError), reading_checkpoint("nobody/nothing"):
        notes.warning("Retrying in 1s [Retry 1/5].")
        raise LocalEntryNotFoundError("offline")
    assert not caplog.records and notes.level == level
    notes.warning("of another step")
    assert [record.getMessage() for record in caplog.records] == ["of another step"]
