"""``--check``: all that a run does before its first step, one batch of it, and nothing that stays."""

from __future__ import annotations

import logging
from typing import Any

from torch import nn

from ..data.datasets import LoadedImages
from ..errors import DivergedError
from ..model.modeling import SPForPreTraining
from ..objectives.base import Progress
from ..run.checkpoints import checkpoint_bytes
from ..run.resume import Start
from ..views.photometric import Photometric
from ..views.spec import ViewSpec
from .trainer import PretrainingTrainer

logger = logging.getLogger(__name__)


def check_first_batch(trainer: PretrainingTrainer) -> float:
    """The loss of a first batch, through the data, the views, the model and back; no weight is moved.

    Raises:
        SpHfError: as the first step of the run would.
        DivergedError: the loss is not finite.
    """
    args, model = trainer.args, trainer.pretraining
    module: nn.Module = model
    module.to(args.device).train()
    model.set_progress(Progress(0, max(trainer.state.max_steps, 1), 1))
    inputs: Any = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    with trainer.compute_loss_context_manager():
        loss = trainer.compute_loss(model, inputs)
    loss.backward()
    model.zero_grad(set_to_none=True)
    if not loss.isfinite():
        raise DivergedError(f"{trainer.describe_bad_step()} in the very first batch: look at the data, or the encoder.")
    return loss.item()


def tell_plan(trainer: PretrainingTrainer, images: LoadedImages, steps: int, start: Start) -> None:
    """Log what a run would do: its encoder, images, objectives with their views, steps, and where it would begin."""
    args, model = trainer.args, trainer.pretraining
    logger.info("%s on %s", model.encoder.describe(), images.description)
    for line in describe_objectives(model):
        logger.info(line)
    batch = args.train_batch_size * args.world_size * args.gradient_accumulation_steps
    size = checkpoint_bytes(model) / 1e6
    logger.info("%d steps of %d images; a checkpoint takes %.0f MB", steps, batch, size)
    logger.info(args.describe_learning_rate())
    if start.checkpoint is not None:
        logger.info("it would go on from %s", start.checkpoint)


def describe_objectives(model: SPForPreTraining) -> list[str]:
    """A line for each objective: its weight and its views, as they came out."""
    lines = []
    for name, objective in model.objectives.items():
        views = [f"{view}: {describe_views(spec)}" for view, spec in objective.view_specs().items()]
        lines.append(f"{name}, weight {objective.config.weight:g}; {'; '.join(views)}")
    return lines


def describe_views(spec: ViewSpec | str) -> str:
    """A view set in short: count, size and area, and what jitters it; or the other set that it is."""
    if isinstance(spec, str):
        return f"those of {spec}"
    low, high = spec.area
    whole = f" of {spec.inside}" if spec.inside else " of the image"
    plain = ", no photometric jitter" if spec.photometric == Photometric.none() else ""
    return f"{spec.count} x {spec.size} px, {low:g} to {high:g}{whole}{plain}"
