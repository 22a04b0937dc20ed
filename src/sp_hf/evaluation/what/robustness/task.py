"""Robustness: the linear probe on corrupted images, and on images from elsewhere.

Corruptions (Hendrycks & Dietterich 2019, arXiv:1903.12261, section 3). The probe is trained on clean images; the
validation images, as the model's image processor leaves them, are corrupted in 15 ways at 5 severities
(:mod:`.corruptions`), the same for every model of one input size. With E the error rate of a model f,

    unnormalised mCE    mean over c, s of E_f(c, s)
    mCE                 mean over c of  sum_s E_f(c, s)                 /  sum_s E_baseline(c, s)
    relative mCE        mean over c of  sum_s (E_f(c, s) - E_f(clean))  /  sum_s (E_baseline(c, s) - E_baseline(clean))

The paper's baseline is AlexNet on ImageNet. Here it is any model that is named, by default the first of the run, from
which differences are taken too: its own mCE is 100 %. (The random initialisation would not do: its error hardly rises,
so relative mCE would divide by noise.) A corruption under which the baseline makes no error is left out of mCE, one
under which its error rises by less than a point is left out of relative mCE; ``details`` says which.

Elsewhere: accuracy on datasets that share classes with the probe's (:mod:`.label_mapping`), deciding among the shared
classes only, as ImageNet-R (Hendrycks et al. 2021, arXiv:2006.16241) does. PartScenes brings its own.

Letters: n images, C = 15 corruptions, L = 5 severities, B images of a batch, S side in px.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from ....errors import InputError
from ....views.keyed_random import sample_keys
from ...accuracy import LabelError, known
from ...features import ImageSample, evaluating
from ...measure import Measure
from ...model import PIXELS, RANDOM, EvaluatedModel, open_model
from ...once import Once
from ...part_scenes import images_elsewhere
from ...probes.linear import LinearProbe
from ...task import Picture, Task, TaskResult, once_a_task, option
from ...whole_images import WholeImages, encode_pixels
from ..label_mapping import MappingError, class_names, map_names, read_mapping
from .corruptions import CORRUPTIONS, MIN_SIZE, SEVERITIES, corrupt
from .pictures import draw_curves

if TYPE_CHECKING:
    from ...data import EvaluationData

_LEAST_RISE = 0.01  # of the baseline's error, below which relative mCE would divide by noise
_KEPT_BYTES = 3 * 2**29  # of corrupted images, shared by all models of one input size
_EXAMPLE_SEVERITY = 3


class Errors(NamedTuple):
    """1 where an image is misclassified, float64: clean [n], corrupted [n, C, L]."""

    clean: Tensor
    corrupted: Tensor


def mean_corruption_error(errors: Tensor, baseline: Tensor) -> Measure | None:
    """mCE of errors [n, C, L] relative to the baseline's; ``None`` where the baseline makes none."""
    return _ratio(errors.sum(-1), baseline.sum(-1), least=0.0)


def relative_mean_corruption_error(errors: Errors, baseline: Errors) -> Measure | None:
    """The same of what corruption adds to the clean error; ``None`` where it adds too little to the baseline's."""
    ours, theirs = ((e.corrupted - e.clean[:, None, None]).sum(-1) for e in (errors, baseline))  # [n, C] each
    return _ratio(ours, theirs, least=_LEAST_RISE * errors.corrupted.shape[-1])


def _ratio(numerators: Tensor, denominators: Tensor, least: float) -> Measure | None:
    kept = denominators.mean(0) > least  # [C]
    if not kept.any():
        return None
    return Measure(numerators * kept, denominators * kept, percent=True, higher_is_better=False)


@dataclasses.dataclass(frozen=True)
class Robustness(Task):
    """What of recognition is left on corrupted images, and on images from elsewhere."""

    name: ClassVar[str] = "robustness"
    hub_task: ClassVar[str] = "image-classification"
    kind: ClassVar[Literal["what", "where"]] = "what"
    headline: ClassVar[tuple[str, ...]] = ("unnormalised_mce", "mce", "clean_accuracy")

    images: int = option(100, "validation images that are corrupted, each 75 times")
    baseline: str | None = option(
        None, f"what mCE is relative to: Hub id, folder, preset, '{RANDOM}' or '{PIXELS}'; default: the first model"
    )
    ood_dataset: tuple[str, ...] = option((), "datasets with the probe's classes from elsewhere, as --dataset")
    ood_split: str | None = option(None, "their split; default: validation, val, test, or the only one")
    ood_revision: str | None = option(None, "their branch, tag or commit on the Hub")
    ood_label_column: str | None = option(None, "their column of labels; default: found by type")
    ood_mapping: str | None = option(None, "JSON file from their class names to the probe's; default: equal names")
    ood_images: int = option(500, "images of each, at most")
    models: tuple[EvaluatedModel, ...] = dataclasses.field(default=(), repr=False, compare=False)  # of the run

    def __post_init__(self) -> None:
        for name in ("images", "ood_images"):
            if getattr(self, name) < 1:
                raise InputError(f"robustness needs one image or more; got {name} = {getattr(self, name)}")

    def among(self, models: Sequence[EvaluatedModel]) -> Robustness:
        if self.baseline in (RANDOM, PIXELS) and self.baseline not in [model.name for model in models]:
            raise InputError(f"{self.baseline} is not in this run: {', '.join(model.name for model in models)}")
        return dataclasses.replace(self, models=tuple(models))

    def prepare(self, data: EvaluationData) -> None:
        data.check_labels()
        for elsewhere in self._elsewhere(data).values():
            self._counterparts(elsewhere, data)
        if self.baseline is not None and self.baseline not in (RANDOM, PIXELS):
            self._open_baseline(data, self.baseline)

    def check(self, model: EvaluatedModel, data: EvaluationData) -> None:
        if model.size < MIN_SIZE:
            raise InputError(f"{model.name} sees {model.size} px; corruptions need {MIN_SIZE} or more (--size)")

    def run(self, model: EvaluatedModel, data: EvaluationData) -> TaskResult:
        baseline = self._baseline(model, data)
        errors, theirs = self._errors(data, model), self._errors(data, baseline)
        labels = known(data.train.labels)
        classes = len(torch.unique(labels[labels >= 0]))
        of_error: dict[str, Any] = {"percent": True, "higher_is_better": False}
        measures = {
            "clean_accuracy": Measure.of(1 - errors.clean, percent=True, chance=1 / classes),
            "unnormalised_mce": Measure.of(errors.corrupted.mean((1, 2)), chance=1 - 1 / classes, **of_error),
            "mce": mean_corruption_error(errors.corrupted, theirs.corrupted),
            "relative_mce": relative_mean_corruption_error(errors, theirs),
        }
        measures |= {f"accuracy_{name}": m for name, m in self._accuracies_elsewhere(model, data).items()}
        accuracy = (1 - errors.corrupted.mean(0)).tolist()  # [C, L]
        details = {
            "baseline": baseline.name,
            "severities": list(SEVERITIES),
            "accuracy": dict(zip(CORRUPTIONS, accuracy, strict=True)),
            "corruption_error": _by_corruption(measures["mce"]),
            "relative_corruption_error": _by_corruption(measures["relative_mce"]),
        }
        artifacts = {
            "clean": float(1 - errors.clean.mean()),
            "examples": self._examples(model, data),
            "control": model.role != "model",
        }
        return TaskResult({name: m for name, m in measures.items() if m is not None}, details, artifacts)

    def settings(self) -> dict[str, Any]:
        settings = dataclasses.asdict(dataclasses.replace(self, models=()))
        del settings["models"]  # the report names them
        return settings

    def draw(self, results: Mapping[str, TaskResult], folder: Path) -> list[Picture]:
        curves = {
            name: np.column_stack(
                [np.full(len(CORRUPTIONS), r.artifacts["clean"]), list(r.details["accuracy"].values())]
            )
            for name, r in results.items()
        }
        examples = list(results.values())[-1].artifacts["examples"]
        path = folder / "robustness.png"
        draw_curves(path, curves, examples, sum(result.artifacts["control"] for result in results.values()))
        caption = f"Accuracy by corruption and severity (0: clean). Pictures: severity {_EXAMPLE_SEVERITY}."
        return [Picture(path, caption)]

    # Corruptions ------------------------------------------------------------------------------------------------------
    def _baseline(self, model: EvaluatedModel, data: EvaluationData) -> EvaluatedModel:
        if self.baseline is None:
            return next((other for other in self.models if other.role == "model"), model)
        named = next((other for other in self.models if other.name == self.baseline), None)
        if named is not None:
            return named
        opened = self._open_baseline(data, self.baseline)
        opened.encoder.to(model.device)
        return opened

    @once_a_task
    def _open_baseline(self, data: EvaluationData, name: str) -> EvaluatedModel:
        return open_model(name, seed=data.seed)

    def _whole(self, model: EvaluatedModel, data: EvaluationData) -> WholeImages:
        """The labelled ones of the images that are corrupted."""
        whole = data.pixels(model, data.validation, self.images)
        labels = known(whole.labels)
        labelled = labels >= 0
        if not labelled.any():
            raise LabelError(f"not one of {len(labelled)} validation images has a label; raise robustness_images")
        return WholeImages(whole.pixels[labelled], labels[labelled], whole.rows[labelled])

    @once_a_task
    def _errors(self, data: EvaluationData, model: EvaluatedModel) -> Errors:
        probe, whole = data.linear_probe(model), self._whole(model, data)
        labels = known(whole.labels)

        def wrong(pixels: Tensor) -> Tensor:
            return torch.ne(_predict(model, probe, pixels, data.batch_size), labels).double()

        errors = torch.empty(len(labels), len(CORRUPTIONS), len(SEVERITIES), dtype=torch.float64)
        total = errors[0].numel()
        bar = tqdm(total=total, desc=f"{model.name}: corruptions", disable=not data.progress, leave=False)
        with bar, evaluating(model.encoder):
            for c, name in enumerate(CORRUPTIONS):
                for level, severity in enumerate(SEVERITIES):
                    errors[:, c, level] = wrong(self._corrupted(model, data, whole, name, severity))
                    bar.update()
            return Errors(wrong(whole.pixels), errors)

    def _corrupted(
        self, model: EvaluatedModel, data: EvaluationData, whole: WholeImages, name: str, severity: int
    ) -> Tensor:
        """uint8 [n, 3, S, S], kept for the next model where all of them together are not too many."""

        def make() -> Tensor:
            keys = sample_keys(data.seed, 0, len(data.validation.rows))[whole.rows].tolist()
            corrupted = corrupt(whole.pixels.permute(0, 2, 3, 1).numpy(), name, severity, keys)
            return torch.from_numpy(corrupted).permute(0, 3, 1, 2)

        if whole.pixels.numel() * len(CORRUPTIONS) * len(SEVERITIES) > _KEPT_BYTES:
            return make()
        return self._kept(data, model.preprocess.identity).get((name, severity), make)

    @once_a_task
    def _kept(self, data: EvaluationData, transform: str) -> Once[tuple[str, int], Tensor]:
        """Corrupted images by name and severity, for all models that preprocess alike."""
        return Once()

    def _examples(self, model: EvaluatedModel, data: EvaluationData) -> list[np.ndarray]:
        """One image in every corruption, for the picture: C of uint8 [S, S, 3]."""
        whole = self._whole(model, data)
        key = int(sample_keys(data.seed, 0, len(data.validation.rows))[whole.rows[0]])
        image = whole.pixels[0].permute(1, 2, 0).numpy()
        return [corrupt(image, name, _EXAMPLE_SEVERITY, key) for name in CORRUPTIONS]

    # Elsewhere --------------------------------------------------------------------------------------------------------
    def _elsewhere(self, data: EvaluationData) -> dict[str, ImageSample]:
        """Samples of images from elsewhere, by name."""
        return images_elsewhere(
            data,
            self.ood_images,
            self.ood_dataset,
            self.ood_split,
            revision=self.ood_revision,
            label_column=self.ood_label_column,
            variants_label_column=data.source.label_column,
        )

    def _counterparts(self, elsewhere: ImageSample, data: EvaluationData) -> Tensor:
        """The label of the training images that each label elsewhere stands for, -1 for none: int64 [A]."""
        if elsewhere.labels is None or not (elsewhere.labels >= 0).any():
            raise MappingError(
                f"{elsewhere.images.description} has no labels; name their column: --robustness_ood_label_column"
            )
        train = data.train
        labels = known(train.labels)
        ours = torch.unique(labels[labels >= 0])
        theirs = torch.arange(int(elsewhere.labels.max()) + 1)
        if elsewhere.images.label_names is not None:
            theirs = torch.arange(len(elsewhere.images.label_names))
        mapping = read_mapping(self.ood_mapping) if self.ood_mapping else None
        places = map_names(
            class_names(theirs, elsewhere.images.label_names),
            class_names(ours, train.images.label_names),
            mapping,
            elsewhere.images.description,
        )
        if not (places[elsewhere.labels.clamp(min=0)][elsewhere.labels >= 0] >= 0).any():
            raise MappingError(f"{elsewhere.images.description}: not one image is of a class that has a counterpart")
        return torch.where(places >= 0, ours[places], -1)

    def _accuracies_elsewhere(self, model: EvaluatedModel, data: EvaluationData) -> dict[str, Measure]:
        measures = {}
        for name, elsewhere in self._elsewhere(data).items():
            counterparts = self._counterparts(elsewhere, data)
            features = data.features(model, elsewhere)
            theirs = known(features.labels)
            labels = torch.where(theirs >= 0, counterparts[theirs.clamp(min=0)], -1)
            probe = data.linear_probe(model)
            shared = torch.isin(probe.classes, counterparts)  # [classes]
            logits = probe.logits(features.embedding()).masked_fill(~shared, -torch.inf)
            predicted = probe.classes[logits.argmax(-1)]
            asked = labels >= 0
            correct = (predicted == labels)[asked].double()
            measures[name] = Measure.of(correct, percent=True, chance=1 / int(shared.sum()))
        return measures


def _predict(model: EvaluatedModel, probe: LinearProbe, pixels: Tensor, batch_size: int) -> Tensor:
    """Labels int64 [n] of uint8 [n, 3, S, S]."""
    classes = []
    for batch in pixels.split(batch_size):
        encoding = encode_pixels(model, batch)
        embedding = torch.cat([encoding.cls.float(), encoding.patches.float().mean(1)], dim=-1)
        classes.append(probe.predict(embedding))
    return torch.cat(classes)


def _by_corruption(measure: Measure | None) -> dict[str, Any]:
    """The ratio of each corruption; ``None`` where it is left out."""
    ratios = [None] * len(CORRUPTIONS) if measure is None else measure.groups()
    return dict(zip(CORRUPTIONS, ratios, strict=True))
