"""The part of the Trainer that saves and resumes: checkpoints that are whole or absent, that hold everything an exact
resume needs, and never weights that are no numbers.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import Trainer
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME

from ..data.skipped import SkippedLedger
from ..data.streaming import StreamPosition
from ..errors import CheckpointError, InputError
from ..model.modeling import SPForPreTraining
from ..run.checkpoints import as_disk_full, publish, rotate
from ..run.contract import write_contract
from ..run.finished import write_finished
from ..run.folder import RunFolder
from ..run.manifest import write_manifest
from .changed_optimizer import load_optimizer, load_schedule
from .health import Health, gives_numbers, not_finite
from .health_watch import HealthWatch
from .monitoring import RunningMeans
from .optimizer_state import complete_state
from .processes import in_first_process

STATE_FILE = "pretraining_state.json"


class CheckpointingTrainer(Trainer):
    """Writes and reads the checkpoints and the results of a run; what is trained, and how, is left to its heir.

    Attributes:
        pretraining: the model, unwrapped.
        contract: see :mod:`sp_hf.run.contract`; recorded in every checkpoint.
        changes: in what it differs from the contract of the checkpoint that is resumed.
        ledger, means: unreadable images; the half-full log interval.
    """

    model: Any
    optimizer: Any
    lr_scheduler: Any
    pretraining: SPForPreTraining
    contract: dict[str, Any]
    changes: list[str]
    ledger: SkippedLedger
    means: RunningMeans
    _position: StreamPosition | None
    _resumed: dict[str, Any]
    _staging: Path | None = None
    health: Health
    watch: HealthWatch | None = None

    def total_steps(self) -> int:
        """Optimizer steps of the whole run."""
        if self.args.max_steps > 0:
            return self.args.max_steps
        return self.set_initial_training_values(self.args, self.get_train_dataloader())[-1]

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        """transformers' own; of a run that is resumed at its last step not even one step."""
        if self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True  # a stream has epochs without end
            return
        super()._run_epoch(*args, **kwargs)

    # Writing --------------------------------------------------------------------------------------------------

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._staging) if self._staging is not None else super()._get_output_dir(trial)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Write beside the final place, the manifest last, then rename.

        Older checkpoints beyond ``--save_total_limit`` go before, not after: by now steps from them were good, and of
        the new one nobody knows yet.
        """
        if not self._is_good(self.state.global_step):
            return
        run = RunFolder(Path(super()._get_output_dir(trial)))
        final = run.checkpoint(self.state.global_step)
        staging = run.staged(final.name)
        if self.args.should_save:
            rotate(run.path, self.args.save_total_limit, self.state.global_step - 1)
            shutil.rmtree(staging, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        self._staging = staging
        try:
            super()._save_checkpoint(model, trial)
            self._save_own_state(staging / final.name)
            self.accelerator.wait_for_everyone()
            if self.args.should_save:
                write_contract(staging / final.name, self.contract)
                write_manifest(staging / final.name)
                publish(staging / final.name, final)
        except Exception as error:
            full = as_disk_full(error, run.path)
            if full is not None:
                raise full from error
            raise
        finally:
            self._staging = None
            if self.args.should_save:
                shutil.rmtree(staging, ignore_errors=True)

    def _is_good(self, step: int) -> bool:
        """Whether the state may be saved.

        Raises:
            DivergedError: it is not finite, and will not be again.
        """
        if self.watch is None:
            return True
        culprit = self._anywhere(not_finite(self.model, self.optimizer))
        if culprit is not None:
            raise self.watch.error(f"{culprit} is not finite", step - self.health.read())
        return self.watch.may_save(step)

    def _anywhere(self, problem: str | None) -> str | None:
        """What any process found; every process must call it."""
        if self.args.world_size == 1:
            return problem
        everything: list[str | None] = [None] * self.args.world_size
        torch.distributed.all_gather_object(everything, problem)
        return next((one for one in everything if one is not None), None)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if self.is_fsdp_enabled:
            complete_state(self.optimizer)
        super()._save_optimizer_and_scheduler(output_dir)

    def _save_own_state(self, folder: Path) -> None:
        """Each rank's half-full log interval, stream position and ledger."""
        state = {"means": self.means.state_dict(), "ledger": self.ledger.state_dict()}
        if self._position is not None:
            state["stream"] = self._position.state_dict()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / self._state_name()).write_text(json.dumps(state))

    def _state_name(self) -> str:
        if self.args.world_size == 1:
            return STATE_FILE
        return f"{self.args.process_index}_of_{self.args.world_size}_{STATE_FILE}"

    def save_final(self, run: RunFolder) -> None:
        """The finished run's two results: ``pretraining/``, everything, and ``encoder/``, the stock class.

        Each comes whole, the encoder last: where it is, the run is finished.
        """
        self.accelerator.wait_for_everyone()
        staged = run.staged(run.pretraining.name)
        self.save_model(str(staged), _internal_call=True)
        self.accelerator.wait_for_everyone()
        in_first_process(self.args, lambda: self._publish_results(run, staged))

    def _publish_results(self, run: RunFolder, staged: Path) -> None:
        stock = run.staged(run.encoder.name)
        try:
            model = SPForPreTraining.from_pretrained(staged)
            self._check_results(model)
            model.encoder.save_stock(stock)
            publish(staged, run.pretraining)
            publish(stock, run.encoder)
            write_finished(run, self.state.global_step, self.contract)
        except Exception as error:
            full = as_disk_full(error, run.path)
            if full is not None:
                raise full from error
            raise
        rotate(run.path, self.args.save_total_limit, self.state.global_step)

    def _check_results(self, model: SPForPreTraining) -> None:
        """Raise ``DivergedError`` if the encoder is of no use: nobody has seen it work since the last step."""
        culprit = not_finite(model)
        if culprit is None:
            side = min(spec.size for spec in model.view_specs.values())
            culprit = None if gives_numbers(model.encoder, side) else "the encoder's output"
        if culprit is not None and self.watch is not None:
            raise self.watch.error_here(f"{culprit} is not finite", self.state.global_step)

    # Reading --------------------------------------------------------------------------------------------------

    def restore_own_state(self, checkpoint: Path) -> None:
        """Read what :meth:`_save_own_state` wrote; call before ``train(resume_from_checkpoint=checkpoint)``.

        Raises:
            InputError: the checkpoint was written with another number of processes.
        """
        path = checkpoint / self._state_name()
        if not path.is_file():
            raise InputError(
                f"{checkpoint} holds no {path.name}: it was written by another number of processes than"
                f" {self.args.world_size}. Resume with that number."
            )
        self._resumed = json.loads(path.read_text())
        self.means.load_state_dict(self._resumed["means"])
        self.ledger.load_state_dict(self._resumed["ledger"])

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        """Every weight and buffer, or an error: a resume that silently starts a head anew is no resume."""
        if model is not None:  # FSDP and DeepSpeed load into their own wrappers
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        try:
            self.pretraining.load_checkpoint(resume_from_checkpoint)
        except RuntimeError as error:  # of load_state_dict: names every weight
            text = " ".join(str(error).split())
            raise CheckpointError(f"{resume_from_checkpoint} does not fit this model: {text}") from error

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """transformers' own; of a run whose options were changed, moments and steps with the options of now."""
        if checkpoint is None or not self.changes or self.is_fsdp_enabled:
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        states = [torch.load(Path(checkpoint) / f, "cpu", weights_only=True) for f in (OPTIMIZER_NAME, SCHEDULER_NAME)]
        load_optimizer(self.optimizer, states[0], same_kind=not self.has_changed("optim"))
        load_schedule(self.lr_scheduler, states[1])

    def has_changed(self, *options: str) -> bool:
        """Whether one of them differs from the checkpoint that is resumed."""
        return not {change.partition(":")[0] for change in self.changes}.isdisjoint(options)

    # The Hub --------------------------------------------------------------------------------------------------

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """Left to :class:`~sp_hf.training.hub_push.HubPush`, as is the pushing: its layout is the stock encoder's."""

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """See :meth:`init_hf_repo`."""
