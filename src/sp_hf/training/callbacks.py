"""Callbacks of the Trainer: schedules around the optimizer step, log files, stopping, progress, probes."""

from __future__ import annotations

import json
import logging
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import torch
from tqdm.auto import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..model.teacher import cosine_schedule
from .data_wait import DataWait

if TYPE_CHECKING:
    from .trainer import PretrainingTrainer

logger = logging.getLogger(__name__)

_STEPS_BETWEEN = 10  # at which the processes of accelerators ask one another whether to stop


class ObjectiveHooks(TrainerCallback):
    """Moves schedules before, and centres and teachers after, each optimizer step: never per forward."""

    def __init__(self, trainer: PretrainingTrainer) -> None:
        self.trainer = trainer

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        self.trainer.begin_step()

    def on_pre_optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        self.trainer.pretraining.before_optimizer_step()

    def on_optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        self.trainer.pretraining.after_optimizer_step(self.trainer.progress())


class WeightDecaySchedule(TrainerCallback):
    """Weight decay on a half cosine from ``--weight_decay`` to ``--weight_decay_end`` (DINO, section 3.2)."""

    def __init__(self, trainer: PretrainingTrainer, end: float) -> None:
        self.trainer, self.end = trainer, end

    def on_step_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        optimizer: Any = None,
        **kwargs: Any,
    ) -> None:
        fraction = min(state.global_step / max(state.max_steps, 1), 1.0)
        weight_decay = cosine_schedule(args.weight_decay, self.end, fraction)
        for number in self.trainer.decayed_groups:  # the others stay at zero
            optimizer.param_groups[number]["weight_decay"] = weight_decay


class MetricsFile(TrainerCallback):
    """Every log line as one JSON object in ``metrics.jsonl``; a resume drops lines from after its checkpoint."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if not state.is_world_process_zero:
            return
        kept = []
        if state.global_step > 0 and self.path.is_file():
            for line in self.path.read_text().splitlines():
                try:
                    record = json.loads(line)
                except json.JSONDecodeError:
                    break  # the line the killed process was writing
                if record["step"] <= state.global_step:
                    kept.append(line)
        self.path.write_text("".join(f"{line}\n" for line in kept))

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        if state.is_world_process_zero:
            with self.path.open("a") as file:
                file.write(json.dumps({"step": state.global_step, **(logs or {})}) + "\n")


class CollapseWatch(TrainerCallback):
    """Ends a run whose embeddings became the same for every image (``--stop_on_collapse``).

    The warning of those embeddings is :class:`~sp_hf.training.diagnosis.Diagnosis`'s.
    """

    def __init__(self, bound: float) -> None:
        self.bound = bound

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        std = (logs or {}).get("embedding_std")
        if std is None or std >= self.bound:
            return
        if state.global_step > args.get_warmup_steps(state.max_steps):
            logger.warning("COLLAPSE: stopping at step %d (--stop_on_collapse).", state.global_step)
            control.should_save = control.should_training_stop = True


class GracefulStop(TrainerCallback):
    """Ctrl-C and SIGTERM finish the step, save a checkpoint and end the run; a second Ctrl-C ends it at once.

    Several processes ask one another whether to stop: on a CPU at every step; on accelerators, which would wait for it,
    every ten, and wherever they wait anyway.

    What comes after the last step, while results are written, waits until they are whole: whoever trains calls
    :meth:`restore` then.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._previous: dict[int, Any] = {}

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        # before the workers fork, so that Ctrl-C does not end them under the last step
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        asked = self.signal or 0
        if args.world_size > 1:  # all ranks must stop at the same step
            waits = args.device.type == "cpu" or control.should_log or control.should_save
            if not waits and state.global_step % _STEPS_BETWEEN:
                return
            flag = torch.tensor(asked, device=args.device)
            torch.distributed.all_reduce(flag, op=torch.distributed.ReduceOp.MAX)
            asked = int(flag)
        if asked:
            self.signal = asked
            control.should_save = control.should_training_stop = True

    def restore(self) -> None:
        """Put the handlers back that were there before."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}


class ProgressBar(TrainerCallback):
    """A bar with images/s, the share of waiting for them, and each objective's loss; without a terminal, a line a log.

    Args:
        images_per_step: of all processes.
        wait: of which the share is shown.
    """

    def __init__(self, images_per_step: int, wait: DataWait) -> None:
        self.images_per_step, self.wait = images_per_step, wait
        self._bar: tqdm | None = None
        self._mark = (0, 0.0)  # step and time of the last log

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._mark = (state.global_step, time.perf_counter())
        if state.is_world_process_zero and not args.disable_tqdm and sys.stderr.isatty():
            self._bar = tqdm(total=state.max_steps, initial=state.global_step, unit="step", dynamic_ncols=True)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self._bar is not None:
            self._bar.update(state.global_step - self._bar.n)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        if not state.is_world_process_zero or not logs or "learning_rate" not in logs:
            return
        now, (step, then) = time.perf_counter(), self._mark
        speed = (state.global_step - step) * self.images_per_step / max(now - then, 1e-9)
        self._mark = (state.global_step, now)
        shown = {"images/s": f"{speed:.0f}"}
        shown |= {} if self.wait.share is None else {"data wait": f"{self.wait.share:.1%}"}
        shown |= {k: f"{v:.3f}" for k, v in logs.items() if k == "loss"}
        shown |= {k.removeprefix("loss/"): f"{v:.3f}" for k, v in logs.items() if k.startswith("loss/")}
        shown |= {k.rpartition("/")[2]: f"{v:.2f}" for k, v in logs.items() if "/r2_" in k}
        if self._bar is not None:
            self._bar.set_postfix(shown, refresh=True)
        else:
            print(f"step {state.global_step}/{state.max_steps} ", *(f"{k}={v}" for k, v in shown.items()), flush=True)

    def on_train_end(self, *args: Any, **kwargs: Any) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class OnlineProbe(TrainerCallback):
    """Runs a probe of the encoder before training, every so many steps and at the end, and logs its metrics."""

    def __init__(self, trainer: PretrainingTrainer, every: int, probe: Callable[[], dict[str, float]]) -> None:
        self.trainer, self.every, self.probe = trainer, every, probe

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.global_step == 0:  # what training is measured against; a resumed run has it
            self._log(state, control)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if state.global_step % self.every == 0 or state.global_step == state.max_steps:
            self._log(state, control)

    def _log(self, state: TrainerState, control: TrainerControl) -> None:
        metrics = self.probe() if state.is_world_process_zero else {}
        self.trainer.accelerator.wait_for_everyone()
        if metrics:
            due = control.should_log
            self.trainer.log({f"probe/{name}": value for name, value in metrics.items()})
            control.should_log = due  # transformers takes any log line for the training step's own
