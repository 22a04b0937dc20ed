"""From a run or a checkpoint of it to the stock encoder that ``AutoModel.from_pretrained`` loads."""

from __future__ import annotations

from pathlib import Path

from ..model.modeling import SPForPreTraining
from .checkpoints import last_checkpoint, newest_whole
from .folder import RunFolder


def find_weights(run: str | Path) -> Path:
    """The folder with an ``SPForPreTraining``: ``run`` itself, its ``pretraining/``, or its newest whole checkpoint.

    Raises:
        FileNotFoundError: there is none.
    """
    run = Path(run)
    for find in (lambda: run, lambda: RunFolder(run).pretraining, lambda: newest_whole(run) or last_checkpoint(run)):
        folder = find()
        if folder is not None and (folder / "config.json").is_file() and (folder / "model.safetensors").is_file():
            return folder
    raise FileNotFoundError(
        f"{run} holds no pretraining checkpoint (config.json and model.safetensors), nor does its pretraining/ folder"
        " or a checkpoint-N folder in it."
    )


def export(run: str | Path, directory: str | Path, *, teacher: bool = False) -> Path:
    """Write the encoder of a run as its stock class, with its image processor.

    Args:
        run: run folder, or one checkpoint of it.
        directory: where to write.
        teacher: the EMA teacher's weights instead of the student's.

    Returns:
        The folder the weights were read from.

    Raises:
        FileNotFoundError: no checkpoint there.
        ValueError: ``teacher`` asked for, but the run has none.

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
    source = find_weights(run)
    model = SPForPreTraining.from_pretrained(source)
    if teacher and model.teacher is None:
        raise ValueError(f"{source} has no teacher: none of its objectives {list(model.objectives)} uses one.")
    (model.teacher if teacher else model.encoder).save_stock(directory)
    return source
