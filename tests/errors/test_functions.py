"""The functions of the package raise errors of the family, which are also the built-in ones that Python expects."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import sp_hf
from sp_hf import errors

QUICK = {"output_dir": "out", "use_cpu": True, "dataloader_num_workers": 0}
IMAGES = "part-scenes?size=32&num_images=16"


@pytest.mark.parametrize(
    ("call", "kind", "built_in", "said"),
    [
        (lambda _: sp_hf.pretrain(per_device_train_batch_size=0), errors.RecipeError, ValueError, "batch_size is 0"),
        (lambda _: sp_hf.pretrain(learnin_rate=1), errors.RecipeError, ValueError, "did you mean 'learning_rate'"),
        (lambda _: sp_hf.pretrain(recipe="nowhere.yaml"), errors.RecipeError, ValueError, "nowhere.yaml"),
        (lambda _: sp_hf.pretrain("./nowhere", **QUICK), errors.NotFoundError, FileNotFoundError, "nowhere"),
        (lambda _: sp_hf.pretrain(object(), dataset=IMAGES, **QUICK), errors.InputTypeError, TypeError, "object"),
        (lambda _: sp_hf.pretrain(dataset=3, **QUICK), errors.InputTypeError, TypeError, "not int"),
        (lambda _: sp_hf.pretrain(dataset="./nowhere", **QUICK), errors.DataError, ValueError, "nowhere"),
        (lambda _: sp_hf.pretrain(objectives=int), errors.RecipeError, ValueError, "int is neither"),
        (lambda _: sp_hf.pretrain(report_to="wandb", **QUICK), errors.PackageError, ImportError, "pip install"),
        (lambda _: sp_hf.pretrain(resume=True, **QUICK), errors.NotFoundError, FileNotFoundError, "nothing to resume"),
        (
            lambda here: sp_hf.pretrain(**{**QUICK, "output_dir": here / "file"}),
            errors.FolderTakenError,
            FileExistsError,
            "is a file",
        ),
        (lambda _: sp_hf.evaluate("vit-smal-16"), errors.InputError, ValueError, "vit-smal-16"),
        (lambda _: sp_hf.evaluate([]), errors.InputError, ValueError, "no model"),
        (
            lambda _: sp_hf.evaluate("vit-micro-8", knn_neighbors=1),
            errors.InputTypeError,
            TypeError,
            "did you mean 'knn_neighbours'",
        ),
        (lambda _: sp_hf.evaluate("vit-micro-8", device="gpu"), errors.DeviceError, RuntimeError, "gpu"),
        (lambda here: sp_hf.evaluate(here / "truncated"), errors.CheckpointError, ValueError, "truncated"),
        (lambda _: sp_hf.Results.load("nowhere"), errors.NotFoundError, FileNotFoundError, "nowhere"),
        (lambda here: sp_hf.export(here / "empty", "out"), errors.NotFoundError, FileNotFoundError, "empty"),
        (lambda here: sp_hf.export(here / "cut-run", "out"), errors.CheckpointError, ValueError, "damaged"),
        (lambda here: sp_hf.push(here / "vit", "a/b"), errors.InputError, ValueError, "no run"),
        (lambda here: sp_hf.sweep(here / "sweep.yaml", jobs=0), errors.InputError, ValueError, "0"),
        (lambda here: sp_hf.sweep(here / "sweep-runs.yaml"), errors.RecipeError, ValueError, "runs"),
    ],
)
def test_what_they_raise(
    call: Callable[[Path], Any],
    kind: type[sp_hf.SpHfError],
    built_in: type[Exception],
    said: str,
    broken: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(built_in, match=said) as caught:
        call(broken)
    assert isinstance(caught.value, kind)
    assert list(tmp_path.iterdir()) == []
