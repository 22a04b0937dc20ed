"""Fine-tuning: the model's own stock classifier, trained end to end with transformers' ``Trainer``.

Every model is trained alike: AdamW, layer-wise learning-rate decay (:mod:`sp_hf.optimisation.layer_decay`), cosine
schedule with a linear warm-up, label smoothing; the head starts from the same weights in every model of one
architecture, and so a random initialisation beside them is training from scratch. Nothing is chosen on the validation
images: the weights after the last epoch count. The recipe is that of BEiT and MAE (He et al. 2022, arXiv:2111.06377,
table 9).
Deviations: a tenth of the steps as warm-up, no mixup, cutmix, RandAugment, drop path nor gradient clipping; random
resized crops of 35 to 100 % of the image instead of 8 to 100 %, as a short training has no time to undo the harm.

Training views are random resized crops with random flips, cut by :class:`~sp_hf.views.sampler.ViewSampler` at the size
of the model's image processor from canvases in memory (n 3 S^2 bytes); validation images go through that processor
whole.

Letters: n images, B images of a batch, S side of a canvas, N side of whole images, C classes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import random
import tempfile
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from ....encoders.encoder import Encoder
from ....errors import InputError
from ....optimisation.layer_decay import parameter_groups
from ....views.keyed_random import sample_keys
from ....views.sampler import ViewSampler
from ....views.spec import ViewSpec
from ...accuracy import accuracy_measures, check_labels, known, majority_accuracy
from ...features import ProbeImages
from ...model import EvaluatedModel, Role
from ...task import Task, TaskResult, TaskSkipped, option
from .stock_classifier import stock_classifier

if TYPE_CHECKING:
    from ...data import EvaluationData

_AREA = (0.35, 1.0)
_WARM_UP = 0.1
_BETAS = (0.9, 0.999)


class _TrainingViews(Dataset):
    """index -> (image, epoch); a batch becomes one random resized crop of each image, another in every epoch."""

    def __init__(self, images: ProbeImages, labels: Tensor, encoder: Encoder, size: int, seed: int) -> None:
        self.images, self.labels, self.encoder, self.seed, self.epoch = images, labels, encoder, seed, 0
        self.rows = torch.nonzero(labels >= 0).flatten()
        self.sampler = ViewSampler({"finetune": ViewSpec(count=1, size=size, area=_AREA)})
        self.inputs = encoder.size_kwargs(size, size)

    def set_epoch(self, epoch: int) -> None:
        """Called by the Trainer."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> int:
        return int(self.rows[index])

    def collate(self, chosen: list[int]) -> dict[str, Any]:
        rows = torch.tensor(chosen)
        keys = sample_keys(self.seed, self.epoch * len(self.labels), len(self.labels))[rows]
        views = self.sampler(self.images.canvases[rows], self.images.aspects[rows], keys)["finetune"]
        pixels = self.encoder.normalise(views.pixels[:, 0])  # [B, 3, N, N]
        return {"pixel_values": pixels, "labels": self.labels[rows], **self.inputs}


class _Bar(TrainerCallback):
    """One bar over all steps."""

    def __init__(self, name: str) -> None:
        self.name = name

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.bar = tqdm(total=state.max_steps, desc=f"{self.name}: fine-tuning", unit="step", leave=False)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.bar.update()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.bar.close()


@dataclasses.dataclass(frozen=True)
class Finetune(Task):
    """Recognition by the whole model, trained further end to end."""

    name: ClassVar[str] = "finetune"
    hub_task: ClassVar[str] = "image-classification"
    kind: ClassVar[Literal["what", "where"]] = "what"
    headline: ClassVar[tuple[str, ...]] = ("accuracy", "mean_per_class_accuracy")
    controls: ClassVar[tuple[Role, ...]] = ("random",)

    epochs: int = option(10, "passes over the training images")
    learning_rate: float = option(1e-3, "of the head; of layer l it is times layer_decay ^ (L + 1 - l)")
    layer_decay: float = option(0.75, "in (0, 1]; 1: all layers learn alike")
    weight_decay: float = option(0.05, "of matrices; norms, biases, tokens and positions have none")
    batch_size: int = option(32, "B")
    label_smoothing: float = option(0.1, "in [0, 1)")
    canvas_size: int = option(256, "S, side in px at which training images are kept")

    def __post_init__(self) -> None:
        if min(self.epochs, self.batch_size, self.canvas_size) < 1:
            raise InputError(
                "fine-tuning needs epochs, a batch size and a canvas size of at least 1; got "
                f"{self.epochs}, {self.batch_size} and {self.canvas_size}"
            )
        if self.learning_rate <= 0 or self.weight_decay < 0:
            raise InputError(
                "fine-tuning needs a learning rate above 0 and a weight decay of at least 0; got "
                f"{self.learning_rate} and {self.weight_decay}"
            )
        if not 0 < self.layer_decay <= 1 or not 0 <= self.label_smoothing < 1:
            raise InputError(
                "layer_decay must be in (0, 1] and label_smoothing in [0, 1); got "
                f"{self.layer_decay} and {self.label_smoothing}"
            )

    def prepare(self, data: EvaluationData) -> None:
        data.check_labels()

    def check(self, model: EvaluatedModel, data: EvaluationData) -> None:
        if isinstance(model.encoder, Encoder):
            model.encoder.size_kwargs(model.size, model.size)

    def canvas_sizes(self, model: EvaluatedModel, data: EvaluationData) -> Collection[int]:
        return {self.canvas_size}

    def run(self, model: EvaluatedModel, data: EvaluationData) -> TaskResult:
        stock_classifier(model.encoder, 2, data.seed)  # refuses before anything is decoded
        images = data.canvases(data.train, self.canvas_size)
        validation = data.pixels(model, data.validation)
        check_labels(images.labels, validation.labels)  # of those that could be read
        train_labels, validation_labels = known(images.labels), known(validation.labels)
        classes, asked = torch.unique(train_labels[train_labels >= 0]), validation_labels >= 0
        classifier = stock_classifier(model.encoder, len(classes), data.seed)
        index = torch.searchsorted(classes, train_labels).masked_fill(train_labels < 0, -1)
        views = _TrainingViews(images, index, model.encoder, model.size, data.seed)
        loss = self._train(classifier, views, model, data)
        predicted = classes[predict(classifier, model, validation.pixels[asked], self.batch_size)]
        labels = validation_labels[asked]
        details = {
            "majority_accuracy": majority_accuracy(train_labels, labels),
            "classifier": type(classifier).__name__,
            "train_images": len(views),
            "steps": self.epochs * -(-len(views) // self.batch_size),
            "mean_training_loss": loss,
        }
        return TaskResult(accuracy_measures(predicted, labels), details)

    def _train(
        self, classifier: PreTrainedModel, views: _TrainingViews, model: EvaluatedModel, data: EvaluationData
    ) -> float:
        """Train in place, on the model's device; the mean loss."""
        steps = self.epochs * -(-len(views) // self.batch_size)
        with tempfile.TemporaryDirectory() as folder, own_random_state():
            arguments = TrainingArguments(
                output_dir=folder,
                num_train_epochs=self.epochs,
                per_device_train_batch_size=self.batch_size,
                lr_scheduler_type="cosine",
                warmup_steps=round(_WARM_UP * steps),
                label_smoothing_factor=self.label_smoothing,
                max_grad_norm=0.0,
                seed=data.seed,
                use_cpu=model.device.type == "cpu",
                dataloader_pin_memory=False,
                remove_unused_columns=False,
                save_strategy="no",
                logging_strategy="no",
                report_to=[],
                disable_tqdm=True,
            )
            if arguments.n_gpu > 1:  # or the Trainer would spread each batch over all of them
                arguments._n_gpu = 1
            groups = parameter_groups(classifier, self.learning_rate, self.layer_decay, self.weight_decay)
            trainer = Trainer(
                model=classifier,
                args=arguments,
                train_dataset=views,
                data_collator=views.collate,
                optimizers=(torch.optim.AdamW(groups, betas=_BETAS), None),
                callbacks=[_Bar(model.name)] if data.progress else [],
            )
            trainer.remove_callback(PrinterCallback)
            loss = trainer.train().training_loss
        if not np.isfinite(loss) or not all(bool(value.isfinite().all()) for value in classifier.parameters()):
            raise TaskSkipped(
                f"fine-tuning diverged at a learning rate of {self.learning_rate}: use a smaller finetune_learning_rate"
            )
        return float(loss)


@torch.inference_mode()
def predict(classifier: PreTrainedModel, model: EvaluatedModel, pixels: Tensor, batch_size: int) -> Tensor:
    """Index of the most probable class of whole images.

    Args:
        classifier: from :func:`~.stock_classifier.stock_classifier`.
        model: whose encoder it was made of.
        pixels: uint8 [n, 3, N, N], as the model sees them.
        batch_size: B.

    Returns:
        int64 [n] on the CPU.
    """
    classifier.eval().to(model.device)
    inputs = model.encoder.size_kwargs(*pixels.shape[-2:])
    classes = [
        classifier(model.encoder.normalise(batch.to(model.device).float() / 255), **inputs).logits.argmax(-1).cpu()
        for batch in pixels.split(batch_size)
    ]
    return torch.cat(classes)


@contextlib.contextmanager
def own_random_state() -> Iterator[None]:
    """Give Python's, numpy's and torch's global random states back as they were: the Trainer seeds all of them."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
