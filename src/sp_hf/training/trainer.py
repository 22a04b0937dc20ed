"""transformers' Trainer, made to feed views to :class:`~sp_hf.model.modeling.SPForPreTraining`.

What it adds: views sampled on the device from keys that depend only on (seed, running number of the sample); the
objectives' hooks around the optimizer step; per-objective losses in the log; checkpoints that are whole or absent and
hold everything an exact resume needs.
"""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader
from transformers import Trainer
from transformers.trainer_utils import rotate_checkpoints

from ..data.skipped import SkippedLedger
from ..data.streaming import StreamPosition, streaming_dataloader
from ..errors import InputError
from ..model.modeling import SPForPreTraining
from ..objectives.base import Progress
from ..optimisation.clipping import clip_each_gradient
from ..optimisation.parameter_groups import groups_holding, rate_factors, split_groups
from ..run.checkpoints import as_disk_full, publish
from ..run.folder import RunFolder
from ..views.keyed_random import sample_keys
from ..views.sampler import ViewSampler
from .labels import check_range, label_limits
from .monitoring import RunningMeans, embedding_std, rankme
from .optimizer_state import complete_state
from .workers import OutlivesSigterm

STATE_FILE = "pretraining_state.json"


class PretrainingTrainer(Trainer):
    """Trainer of a what + where pretraining run.

    Args:
        model: the model to train.
        ledger: :class:`~sp_hf.data.skipped.SkippedLedger` of unreadable images.
        stream: keyword arguments of :func:`~sp_hf.data.streaming.streaming_dataloader` when the data is a stream, in
            which case ``train_dataset`` only has to be something that is not ``None``.
        images_per_epoch: length of a stream's epoch, for schedules that count epochs.
        **kwargs: transformers' own.
    """

    def __init__(
        self,
        model: SPForPreTraining,
        *,
        ledger: SkippedLedger,
        stream: dict[str, Any] | None = None,
        images_per_epoch: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(model=model, **kwargs)
        if self.args.n_gpu > 1:
            raise InputError(
                f"{self.args.n_gpu} GPUs are visible to one process; start one process a GPU with"
                " `accelerate launch scripts/pretrain.py ...`, or choose one with CUDA_VISIBLE_DEVICES=0."
            )
        self.model_accepts_loss_kwargs = False
        self.pretraining = model
        self.sampler = ViewSampler(model.view_specs)
        self._label_limits = label_limits({name: objective.config for name, objective in model.objectives.items()})
        self.ledger = ledger
        self.means = RunningMeans()
        self.images_per_epoch = images_per_epoch
        self._stream = stream
        self._position: StreamPosition | None = None
        self._resumed: dict[str, Any] = {}
        self._staging: Path | None = None
        self._embeddings: Tensor | None = None
        self._micro_step = 0  # forwards since the last optimizer step
        self.decayed_groups: list[int] = []  # numbers of the optimizer's groups with weight decay
        if self.args.grad_clipping == "per_parameter" and not self._grads_are_whole():
            raise InputError(
                "--grad_clipping per_parameter needs each weight's own gradient, which DeepSpeed and FSDP of version 1"
                " do not hand out: use --grad_clipping global, or fsdp_version 2."
            )

    # Data -----------------------------------------------------------------------------------------------------

    def get_train_dataloader(self) -> DataLoader:
        """transformers' own for a map-style dataset; for a stream one that starts where the run stopped."""
        if self._stream is None:
            loader = super().get_train_dataloader()
            inner = getattr(loader, "base_dataloader", loader)  # accelerate's wrapper hands on what it reads only
            inner.worker_init_fn = OutlivesSigterm(inner.worker_init_fn)
            return loader
        loader = streaming_dataloader(
            **self._stream,
            batch_size=self.args.train_batch_size,
            num_workers=self.args.dataloader_num_workers,
            seed=self.args.data_seed if self.args.data_seed is not None else self.args.seed,
            rank=self.args.process_index,
            world_size=self.args.world_size,
            state=self._resumed.get("stream"),
            pin_memory=self.args.dataloader_pin_memory and self.args.device.type == "cuda",
            prefetch_factor=self.args.dataloader_prefetch_factor,
        )
        loader.worker_init_fn = OutlivesSigterm(loader.worker_init_fn)
        self._position = StreamPosition(loader.dataset)
        return loader

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Canvases to views, on the device and outside of autocast."""
        self.ledger.add(inputs.pop("skipped", []))
        if self._position is not None:
            self._position.update(inputs.pop("stream_state"))
        canvases = inputs["canvases"].to(self.args.device, non_blocking=True)
        aspects = inputs["aspects"].to(self.args.device, non_blocking=True)
        keys = self._keys(len(canvases))
        ids = inputs["ids"].to(self.args.device, non_blocking=True) if "ids" in inputs else None
        boxes = {name: given.to(self.args.device) for name, given in inputs.get("boxes", {}).items()}
        boxes |= self.pretraining.propose_boxes(canvases, aspects, ids)
        prepared = {"views": self.sampler(canvases, aspects, keys, boxes), "keys": keys, "ids": ids}
        return prepared | {"labels": self._labels(inputs["labels"])} if self.pretraining.needs_labels else prepared

    def _labels(self, labels: Tensor) -> Tensor:
        """Labels on the device; those of a stream are checked here, as nobody has seen them before."""
        if labels.device.type == "cpu":  # where looking at them waits for nothing
            lowest, highest = (end.item() for end in labels.aminmax())
            source = self._stream["images"].description if self._stream is not None else "the training set"
            check_range(lowest, highest, self._label_limits, source)
        return labels.to(self.args.device, non_blocking=True)

    def _keys(self, count: int) -> Tensor:
        """One key an image, from the running number of the sample: the same after a resume."""
        forward = self.state.global_step * self.args.gradient_accumulation_steps + self._micro_step
        first = (forward * self.args.world_size + self.args.process_index) * self.args.train_batch_size
        return sample_keys(self.args.seed, first, count, device=self.args.device)

    # One step -------------------------------------------------------------------------------------------------

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The model's weighted sum; keeps each objective's loss and figures for the next log line."""
        outputs = model(**inputs)
        figures = {"loss": outputs.loss, **{f"loss/{k}": v for k, v in outputs.losses.items()}, **outputs.logs}
        self.means.add(figures)
        self._embeddings = outputs.embeddings
        self._micro_step += 1
        return (outputs.loss, outputs) if return_outputs else outputs.loss

    def create_optimizer(self, model: nn.Module | None = None) -> Optimizer:
        """transformers' own, its groups split where layers or the patch embedding learn at rates of their own."""
        if self.optimizer is not None:
            return super().create_optimizer(model)
        optimizer, trained = super().create_optimizer(model), self.model if model is None else model
        decay, patches = self.args.layer_decay, self.args.patch_embedding_factor
        if (decay, patches) != (1.0, 1.0):
            split_groups(optimizer, trained, rate_factors(self.pretraining.encoder, decay, patches))
        self.decayed_groups = groups_holding(optimizer, trained, set(self.get_decay_parameter_names(trained)))
        return optimizer

    def _grads_are_whole(self) -> bool:
        return not self.is_deepspeed_enabled and (not self.is_fsdp_enabled or self.accelerator.is_fsdp2)

    def _clip_grad_norm(self, model: nn.Module) -> Tensor:
        """As ``--grad_clipping`` says; returns the norm of all gradients together, before clipping."""
        if self.args.grad_clipping == "global":
            return super()._clip_grad_norm(model)
        norm = self.accelerator.clip_grad_norm_(model.parameters(), float("inf"))  # also undoes fp16's scaling
        clip_each_gradient(model.parameters(), self.args.max_grad_norm)
        return norm

    def begin_step(self) -> None:
        """Before the first forward of each optimizer step."""
        self._micro_step = 0
        self.pretraining.set_progress(self.progress())

    def progress(self) -> Progress:
        """Where the run stands, in optimizer steps."""
        total = self.state.max_steps
        if self._stream is None:
            loader = self.callback_handler.train_dataloader
            steps = math.ceil(len(loader) / self.args.gradient_accumulation_steps)
        else:
            images = self.args.train_batch_size * self.args.world_size * self.args.gradient_accumulation_steps
            steps = max(self.images_per_epoch // images, 1) if self.images_per_epoch else max(total // 100, 1)
        return Progress(self.state.global_step, total, steps)

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """Weight decay on matrices only: none on norms, biases and other vectors."""
        return [name for name, parameter in model.named_parameters() if parameter.ndim > 1]

    # Logging --------------------------------------------------------------------------------------------------

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds each objective's figures, the embedding's spread and the other schedules to a training log line."""
        if "loss" in logs and "learning_rate" in logs:
            logs.update(self.means.pop())
            if self._embeddings is not None:
                gathered = self.accelerator.gather(self._embeddings.contiguous())
                logs["embedding_std"] = embedding_std(gathered).item()
                logs["rankme"] = rankme(gathered).item()
            logs["weight_decay"] = max(group["weight_decay"] for group in self.optimizer.param_groups)
        if self._stream is not None:
            self.state.epoch = self.progress().epoch  # transformers would count from the last resume
        super().log(logs, start_time)

    # Checkpoints ----------------------------------------------------------------------------------------------

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._staging) if self._staging is not None else super()._get_output_dir(trial)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Write beside the final place, then rename."""
        run = Path(super()._get_output_dir(trial))
        final = RunFolder(run).checkpoint(self.state.global_step)
        staging = RunFolder(run).staged(final.name)
        if self.args.should_save:
            shutil.rmtree(staging, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        self._staging = staging
        try:
            super()._save_checkpoint(model, trial)
            self._save_own_state(staging / final.name)
            self.accelerator.wait_for_everyone()
            if self.args.should_save:
                publish(staging / final.name, final)
        except Exception as error:
            full = as_disk_full(error, run)
            if full is not None:
                raise full from error
            raise
        finally:
            self._staging = None
            if self.args.should_save:
                shutil.rmtree(staging, ignore_errors=True)
        if self.args.should_save:
            rotate_checkpoints(output_dir=str(run), save_total_limit=self.args.save_total_limit, use_mtime=False)

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

    def restore_own_state(self, checkpoint: Path) -> None:
        """Read what :meth:`_save_own_state` wrote; call before ``train(resume_from_checkpoint=checkpoint)``.

        Raises:
            ValueError: the checkpoint was written with another number of processes.
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

    def _state_name(self) -> str:
        if self.args.world_size == 1:
            return STATE_FILE
        return f"{self.args.process_index}_of_{self.args.world_size}_{STATE_FILE}"

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        """Every weight and buffer, or an error: a resume that silently starts a head anew is no resume."""
        if model is not None:  # FSDP and DeepSpeed load into their own wrappers
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        self.pretraining.load_checkpoint(resume_from_checkpoint)

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """Left to :class:`~sp_hf.training.hub_push.HubPush`, as is the pushing: its layout is the stock encoder's."""

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """See :meth:`init_hf_repo`."""

    def save_final(self, run: RunFolder) -> None:
        """The finished run's two results: ``pretraining/``, everything, and ``encoder/``, the stock class.

        The encoder comes last and whole: where it is, the run is finished.
        """
        self.accelerator.wait_for_everyone()
        self.save_model(str(run.pretraining), _internal_call=True)
        if self.args.should_save:
            staged = run.staged(run.encoder.name)
            SPForPreTraining.from_pretrained(run.pretraining).encoder.save_stock(staged)
            publish(staged, run.encoder)
        self.accelerator.wait_for_everyone()  # launchers stop all processes when one ends badly: not while this writes
