"""transformers' Trainer, made to feed views to :class:`~sp_hf.model.modeling.SPForPreTraining`.

What it adds: views sampled on the device from keys that depend only on (seed, running number of the sample); the
objectives' hooks around the optimizer step; per-objective losses in the log. Checkpoints are
:mod:`sp_hf.training.checkpointing`'s.
"""

from __future__ import annotations

import logging
import math
from typing import Any

from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from ..data.skipped import SkippedLedger
from ..data.streaming import StreamPosition, streaming_dataloader
from ..errors import InputError
from ..model.modeling import SPForPreTraining
from ..objectives.base import Progress
from ..optimisation.clipping import clip_each_gradient
from ..optimisation.parameter_groups import groups_holding, rate_factors, split_groups
from ..run.arguments import PretrainingArguments
from ..views.keyed_random import sample_keys
from ..views.sampler import ViewSampler
from .checkpointing import CheckpointingTrainer
from .data_wait import DataWait
from .health import Health, finite_or_zero, leave_out
from .health_watch import HealthWatch
from .labels import check_range, label_limits
from .monitoring import RunningMeans, embedding_std, rankme
from .workers import OutlivesSignals

logger = logging.getLogger(__name__)

STREAM_LAYOUT = ("dataset", "dataset_config", "dataset_split", "dataset_revision", "seed", "data_seed", "shuffle_block")
"""Options that a position in a stream depends on."""
SCALER_STEPS = 32  # in a row, in which fp16 may look for its loss scale


class PretrainingTrainer(CheckpointingTrainer):
    """Trainer of a what + where pretraining run.

    Args:
        model: the model to train.
        ledger: :class:`~sp_hf.data.skipped.SkippedLedger` of unreadable images.
        stream: keyword arguments of :func:`~sp_hf.data.streaming.streaming_dataloader` when the data is a stream, in
            which case ``train_dataset`` only has to be something that is not ``None``.
        images_per_epoch: length of a stream's epoch, for schedules that count epochs.
        **kwargs: transformers' own.
    """

    args: PretrainingArguments

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
        self.wait = DataWait()
        self.add_callback(self.wait)
        self.images_per_epoch = images_per_epoch
        self._stream = stream
        self._position: StreamPosition | None = None
        self._resumed: dict[str, Any] = {}
        self.contract: dict[str, Any] = {}
        self.changes: list[str] = []
        searches = 0 if self.accelerator.scaler is None else SCALER_STEPS
        self.health = Health(self.args.device, self.args.max_bad_steps + searches)
        self._losses: dict[str, Tensor] = {}
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
            inner.worker_init_fn = OutlivesSignals(inner.worker_init_fn)
            return loader
        loader = streaming_dataloader(
            **self._stream,
            batch_size=self.args.train_batch_size,
            num_workers=self.args.dataloader_num_workers,
            seed=self.args.data_seed if self.args.data_seed is not None else self.args.seed,
            rank=self.args.process_index,
            world_size=self.args.world_size,
            state=self._stream_state(),
            pin_memory=bool(self.args.dataloader_pin_memory) and self.args.device.type == "cuda",
            prefetch_factor=self.args.dataloader_prefetch_factor,
        )
        loader.worker_init_fn = OutlivesSignals(loader.worker_init_fn)
        stream: Any = loader.dataset
        self._position = StreamPosition(stream)
        return loader

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        """transformers' own: the batches of the next optimizer step; the wait for them is measured."""
        with self.wait.waiting():
            return super().get_batch_samples(*args, **kwargs)

    def _stream_state(self) -> dict[str, Any] | None:
        """Where the stream stood; ``None``: at the start of another one, or of one that is laid out otherwise."""
        if not self.has_changed(*STREAM_LAYOUT):
            return self._resumed.get("stream")
        logger.warning("the stream starts anew: its rows are others, or in another order (--allow_changes).")
        return None

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Canvases to views, on the device and outside of autocast."""
        self.ledger.add(inputs.pop("skipped", []), seen=len(inputs["canvases"]))
        if self._position is not None:
            self._position.update(inputs.pop("stream_state"))
        canvases = inputs["canvases"].to(self.args.device, non_blocking=True)
        aspects = inputs["aspects"].to(self.args.device, non_blocking=True)
        keys = self._keys(len(canvases))
        ids = inputs["ids"].to(self.args.device, non_blocking=True) if "ids" in inputs else None
        boxes = {name: given.to(self.args.device, non_blocking=True) for name, given in inputs.get("boxes", {}).items()}
        boxes |= self.pretraining.propose_boxes(canvases, aspects, ids)
        prepared = {"views": self.sampler(canvases, aspects, keys, boxes), "keys": keys, "ids": ids}
        return prepared | {"labels": self._labels(inputs["labels"])} if self.pretraining.needs_labels else prepared

    def _labels(self, labels: Tensor) -> Tensor:
        """Labels on the device; those of a stream are checked here, as nobody has seen them before."""
        if labels.device.type == "cpu":  # where looking at them waits for nothing
            lowest, highest = (int(end) for end in labels.aminmax())
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
        """The model's weighted sum; keeps each objective's loss and metrics for the next log line."""
        outputs = model(**inputs)
        self.health.add_loss(outputs.loss)
        self._losses = outputs.losses
        metrics = {"loss": outputs.loss, **{f"loss/{k}": v for k, v in outputs.losses.items()}, **outputs.logs}
        self.means.add(metrics)
        self._embeddings = outputs.embeddings
        self._micro_step += 1
        return (outputs.loss, outputs) if return_outputs else outputs.loss

    def create_optimizer(self, model: nn.Module | None = None) -> Optimizer:
        """transformers' own, its groups split where layers or the patch embedding learn at rates of their own."""
        if self.optimizer is not None:
            return super().create_optimizer(model)
        optimizer = super().create_optimizer(model)
        trained: Any = self.model if model is None else model
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

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        """transformers' own; its sum of losses, which it adds to, outlives a bad step."""
        return finite_or_zero(super().training_step(*args, **kwargs))

    def _get_grad_norm(self, model: nn.Module, grad_norm: Tensor | None = None) -> Tensor:
        """Once a step, after clipping: a step whose gradients are no numbers is left out."""
        norm = super()._get_grad_norm(model, grad_norm)
        norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
        self.health.end_step(norm)
        if self.accelerator.scaler is None:  # fp16's scaler leaves such steps out itself
            leave_out(model.parameters(), norm)
        return norm

    def watch_health(self, first_step: int) -> None:
        """Stop if the run diverges; to be called when all callbacks are added.

        Args:
            first_step: that this process goes on from.
        """
        self.watch = HealthWatch(self, first_step)
        self.add_callback(self.watch)

    def describe_bad_step(self) -> str:
        """What is no number in the last step: losses by name, or else the gradients. Waits for the device."""
        losses = [name for name, loss in self._losses.items() if not loss.isfinite().all()]
        if losses:
            return f"the loss of {' and '.join(losses)} is not finite"
        return "gradients, or the loss of another process, are not finite"

    def begin_step(self) -> None:
        """Before the first forward of each optimizer step."""
        self._micro_step = 0
        self.pretraining.set_progress(self.progress())

    def progress(self) -> Progress:
        """Where the run stands, in optimizer steps."""
        total = self.state.max_steps
        if self._stream is None:
            loader: Any = self.callback_handler.train_dataloader
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
        """Adds each objective's metrics, the embedding's spread and the other schedules to a training log line."""
        if "train_runtime" in logs and self.state.global_step == self._initial_global_step:
            return  # a run that was only to be exported: its summary is that of its training
        if "loss" in logs and "learning_rate" in logs:
            logs.update(self.means.pop())
            logs.update(self._metrics_of_embeddings())
            logs["weight_decay"] = max(group["weight_decay"] for group in self.optimizer.param_groups)
        if self._stream is not None:
            self.state.epoch = self.progress().epoch  # transformers would count from the last resume
        super().log({name: value for name, value in logs.items() if math.isfinite(value)}, start_time)

    def _metrics_of_embeddings(self) -> dict[str, float]:
        """Those of the last forward, over all processes; none if they are no numbers."""
        if self._embeddings is None:
            return {}
        gathered = self.accelerator.gather(self._embeddings.contiguous())
        if not gathered.isfinite().all():
            return {}
        return {"embedding_std": embedding_std(gathered).item(), "rankme": rankme(gathered).item()}
