"""``sp_hf.export``: writes the encoder of a run, or of a checkpoint of it, as its stock class."""

from __future__ import annotations

import json
import os
from pathlib import Path

from ..boundary import reading_checkpoint
from ..encoders.onnx_export import check_packages, export_onnx
from ..encoders.timm_export import check_architecture, export_timm
from ..errors import FolderTakenError, InputError, NotFoundError
from ..model.configuration import SPConfig
from ..model.modeling import SPForPreTraining
from ..preconditions import check_folder
from .checkpoints import last_checkpoint, newest_whole
from .folder import RunFolder


def find_weights(run: str | os.PathLike[str]) -> Path:
    """The folder with an ``SPForPreTraining``: ``run`` itself, its ``pretraining/``, or its newest whole checkpoint.

    Raises:
        FileNotFoundError: there is none.
    """
    run = Path(run)
    for find in (lambda: run, lambda: RunFolder(run).pretraining, lambda: newest_whole(run) or last_checkpoint(run)):
        folder = find()
        if folder is None or not (folder / "model.safetensors").is_file():
            continue
        if _model_type(folder) == SPConfig.model_type:
            return folder
    kind = _model_type(run)
    if kind not in (None, SPConfig.model_type):
        raise InputError(f"{run} is an encoder of type {kind!r} and no run: load it with AutoModel.from_pretrained")
    raise NotFoundError(
        f"{run} holds no pretraining checkpoint (config.json and model.safetensors), nor does its pretraining/ folder"
        " or a checkpoint-N folder in it."
    )


def _model_type(folder: Path) -> str | None:
    """What a folder's config.json says it is; ``None``: there is none."""
    file = folder / "config.json"
    if not file.is_file():
        return None
    with reading_checkpoint(str(folder)):
        return json.loads(file.read_text(encoding="utf-8")).get("model_type")


def export(
    run: str | os.PathLike[str],
    directory: str | os.PathLike[str],
    *,
    teacher: bool = False,
    onnx: bool = False,
    timm: bool = False,
) -> Path:
    """Write the encoder of a run as its stock class, with its image processor.

    Args:
        run: run folder, or one checkpoint of it.
        directory: where to write.
        teacher: the EMA teacher's weights instead of the student's.
        onnx: write ``onnx/model.onnx`` too, checked against torch (:mod:`sp_hf.encoders.onnx_export`).
        timm: make it loadable with timm, too (:mod:`sp_hf.encoders.timm_export`).

    Returns:
        The folder the weights were read from.

    Raises:
        FileNotFoundError: no checkpoint there.
        FileExistsError: ``directory`` is a file, or holds a pretraining checkpoint.
        ValueError: ``teacher`` asked for, but the run has none; its weights are damaged; ``timm`` of an encoder that
            timm's vision transformer cannot be.
        PackageError, RunError: see :func:`~sp_hf.encoders.onnx_export.export_onnx`.

    Example:
        >>> import sp_hf
        >>> from transformers import AutoModel
        >>> where = {"name": "spatial_prediction", "views": {"count": 2, "size": 16, "area": [0.2, 0.8]}}
        >>> run = sp_hf.pretrain(
        ...     "vit-micro-8", [where], "part-scenes?size=32&num_images=8", output_dir="runs/mine", image_size=16,
        ...     max_steps=1, per_device_train_batch_size=4, dataloader_num_workers=0, use_cpu=True,
        ... )
        >>> _ = sp_hf.export(run, "mine")
        >>> type(AutoModel.from_pretrained("mine")).__name__
        'ViTModel'
    """
    if onnx:
        check_packages()
    source = find_weights(run)
    check_folder("directory", directory)
    if _model_type(Path(directory)) == SPConfig.model_type:
        raise FolderTakenError(
            f"{directory} holds a pretraining checkpoint, which the encoder would write over: choose another folder"
        )
    model = SPForPreTraining.from_pretrained(source)
    if teacher and model.teacher is None:
        raise InputError(f"{source} has no teacher: none of its objectives {list(model.objectives)} uses one.")
    encoder = model.teacher if teacher else model.encoder
    if timm:
        check_architecture(encoder.model.config)
    encoder.save_stock(directory)
    if onnx:
        export_onnx(directory)
    if timm:
        export_timm(directory)
    return source
