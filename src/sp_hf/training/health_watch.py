"""Stops a run that has diverged, and keeps it from saving itself over what was good.

After the forward of step k + 1 was good, the weights of step k are known to be: so a checkpoint is known to be good one
step after it was written, and not before.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..errors import DivergedError
from ..run.checkpoints import set_aside
from ..run.folder import RunFolder
from .processes import in_first_process

if TYPE_CHECKING:
    from .trainer import PretrainingTrainer

logger = logging.getLogger(__name__)

PAGE = "docs/troubleshooting.md#loss-is-nan"
_STEPS_BETWEEN = 20  # readings of an accelerator's counter; that of a CPU costs nothing


class HealthWatch(TrainerCallback):
    """Reads the count of bad steps now and then, at every log line and before every save. To be added last.

    Args:
        trainer: whose :class:`~sp_hf.training.health.Health` it reads.
        first_step: that this process goes on from.
    """

    def __init__(self, trainer: PretrainingTrainer, first_step: int) -> None:
        self.trainer, self.first_step = trainer, first_step
        self._every = 1 if trainer.args.device.type == "cpu" else _STEPS_BETWEEN
        self._save_is_due = False
        self._told = False

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        asked = control.should_save or control.should_log or control.should_training_stop or self._save_is_due
        if not asked and state.global_step % self._every:
            return
        bad = self.trainer.health.read()
        if bad >= self.trainer.health.limit or (bad and control.should_training_stop):
            raise self.error(self.trainer.describe_bad_step(), state.global_step - bad)
        if bad:
            self._tell(state.global_step)
            self._save_is_due |= control.should_save
            control.should_save = False
        elif self._save_is_due:
            control.should_save, self._save_is_due = True, False

    def may_save(self, step: int) -> bool:
        """Whether the last step was good; if not, the save is put off until one is."""
        if self.trainer.health.read() == 0:
            return True
        self._tell(step)
        self._save_is_due = True
        return False

    def error(self, what: str, last_good_step: int) -> DivergedError:
        """The run's end, in words; every process must call it. Checkpoints that are not known to be good are set aside.

        Args:
            what: is not finite.
            last_good_step: the last one whose loss and gradients were finite.
        """
        return in_first_process(self.trainer.args, lambda: self.error_here(what, last_good_step))

    def error_here(self, what: str, last_good_step: int) -> DivergedError:
        """:meth:`error` in the first process alone."""
        args, run = self.trainer.args, RunFolder(self.trainer.args.folder)
        for path in run.checkpoints():
            if RunFolder.step_of(path) >= max(last_good_step, self.first_step + 1):
                logger.warning("%s was written after the last good step; it is kept as %s.", path,
                               set_aside(path, "diverged").name)  # fmt: skip
        kept = run.checkpoints()
        rest = f"the last good checkpoint is {kept[-1]}" if kept else "there is no good checkpoint"
        return DivergedError(
            f"{what}; the last good step is {last_good_step}, and {rest}. Lower --learning_rate (now"
            f" {args.learning_rate:g}), lengthen --warmup_steps, clip harder (--max_grad_norm) or train without --fp16;"
            f" go on with --resume auto --allow_changes. See {PAGE}."
        )

    def _tell(self, step: int) -> None:
        if not self._told:
            logger.warning(
                "step %d: %s; the step is left out, and nothing is saved before the next good one.",
                *(step, self.trainer.describe_bad_step()),
            )
            self._told = True
