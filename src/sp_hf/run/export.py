"""From a run or a checkpoint of it to the stock encoder that ``AutoModel.from_pretrained`` loads."""

from __future__ import annotations

from pathlib import Path

from ..model.modeling import SPForPreTraining
from .checkpoints import last_checkpoint


def find_weights(run: str | Path) -> Path:
    """The folder with a whole ``SPForPreTraining``: ``run`` itself, its ``pretraining/``, or its newest checkpoint.

    Raises:
        FileNotFoundError: there is none.
    """
    run = Path(run)
    candidates = [run, run / "pretraining", last_checkpoint(run) if run.is_dir() else None]
    for folder in candidates:
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
    """
    source = find_weights(run)
    model = SPForPreTraining.from_pretrained(source)
    if teacher and model.teacher is None:
        raise ValueError(f"{source} has no teacher: none of its objectives {list(model.objectives)} uses one.")
    (model.teacher if teacher else model.encoder).save_stock(directory)
    return source
