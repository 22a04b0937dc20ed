"""Out-of-distribution detection: are images from elsewhere farther from the training images than validation images?

Score of an image: the distance of its class token, at unit length, to its k-th nearest training image (Sun et al. 2022,
"Out-of-distribution detection with deep nearest neighbors", arXiv:2204.06507, section 3). Nothing is trained, and no
labels are needed.

    AUROC    P(score elsewhere > score here) + P(equal) / 2,  over pairs of a validation image and one from elsewhere
    FPR@95   share of the images from elsewhere that pass where 95 % of the validation images do

``auroc`` and ``fpr_at_95`` are means over the datasets, ``auroc_<name>`` of one. Chance is 50 % and 95 %.

The interval of AUROC is that of its two-sample U-statistic (DeLong et al. 1988): both kinds of images are resampled. It
is kept as two groups, the validation images' placements and the others'; each is an average that equals the AUROC, and
its parts count twice their distance from it, so that the mean of both varies as the statistic does.

PartScenes brings its own: new textures, new backgrounds, silhouettes, jumbled parts.

Letters: n training images, m validation images, o images from elsewhere, k neighbours.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from scipy.stats import rankdata
from torch import Tensor
from torch.nn import functional as F

from ...errors import InputError
from ..features import ImageSample
from ..measure import Measure
from ..model import EvaluatedModel
from ..part_scenes import images_elsewhere
from ..task import Task, TaskResult, option

if TYPE_CHECKING:
    from ..data import EvaluationData

NEIGHBOURS = 10
_ACCEPTED = 0.95
_BATCH = 1024


def neighbour_distance(train: Tensor, asked: Tensor, k: int) -> Tensor:
    """Distance to the k-th nearest training image, of features at unit length: [n, D] and [m, D] to float32 [m]."""
    train = F.normalize(train.float(), dim=-1)
    kth = [
        (batch @ train.T).topk(k, dim=-1).values[:, -1] for batch in F.normalize(asked.float(), dim=-1).split(_BATCH)
    ]
    return (2 - 2 * torch.cat(kth)).clamp(min=0).sqrt()


def placements(here: Tensor, elsewhere: Tensor) -> tuple[Tensor, Tensor]:
    """Shares of the other kind that lie on the right side of each image: float64 [m] and [o]; the mean of either is the
    AUROC.

    Args:
        here, elsewhere: scores [m] and [o]; those from elsewhere should be larger.
    """
    m, o = len(here), len(elsewhere)
    ranks = torch.from_numpy(rankdata(torch.cat([here, elsewhere]).double().numpy()))  # ties share their mean rank
    below = (ranks[m:] - torch.from_numpy(rankdata(elsewhere.double().numpy()))) / m
    above = 1 - (ranks[:m] - torch.from_numpy(rankdata(here.double().numpy()))) / o
    return above, below


def auroc(here: Tensor, elsewhere: dict[str, Tensor]) -> Measure:
    """Mean AUROC over datasets: scores [m] of validation images, and [o] by dataset."""
    rows = len(here) + sum(map(len, elsewhere.values()))
    numerators, denominators = torch.zeros(2, rows, 2 * len(elsewhere), dtype=torch.float64)
    start = len(here)
    for index, scores in enumerate(elsewhere.values()):
        kinds = (slice(0, len(here)), slice(start, start + len(scores)))
        for column, (part, shares) in enumerate(zip(kinds, placements(here, scores), strict=True)):
            numerators[part, 2 * index + column] = 2 * shares - shares.mean()
            denominators[part, 2 * index + column] = 1
        start += len(scores)
    return Measure(numerators, denominators, percent=True, chance=0.5)


def false_positives(here: Tensor, elsewhere: dict[str, Tensor]) -> Measure:
    """Mean FPR@95 over datasets; arguments as for :func:`auroc`. The threshold is that of the validation images."""
    threshold = here.double().quantile(_ACCEPTED)
    passed = torch.cat(list(elsewhere.values())).double() <= threshold
    of_dataset = torch.block_diag(*(torch.ones(len(scores), 1) for scores in elsewhere.values()))  # [o, datasets]
    numerators = of_dataset * passed[:, None]
    return Measure(numerators, of_dataset, percent=True, higher_is_better=False, chance=_ACCEPTED)


@dataclasses.dataclass(frozen=True)
class OODDetection(Task):
    """Whether images from elsewhere are told by their distance to the training images."""

    name: ClassVar[str] = "ood-detection"
    kind: ClassVar[Literal["what", "where"]] = "what"
    headline: ClassVar[tuple[str, ...]] = ("auroc", "fpr_at_95")

    neighbours: int = option(NEIGHBOURS, "k, of the nearest training image that counts")
    dataset: tuple[str, ...] = option((), "images from elsewhere, as --dataset")
    split: str | None = option(None, "their split; default: validation, val, test, or the only one")
    images: int = option(500, "images of each, at most")

    def __post_init__(self) -> None:
        object.__setattr__(self, "dataset", tuple(self.dataset))
        if self.neighbours < 1 or self.images < 1:
            raise InputError(
                f"ood-detection needs k >= 1 and one image or more; got neighbours = {self.neighbours}, images ="
                f" {self.images}"
            )

    def prepare(self, data: EvaluationData) -> None:
        if not self._elsewhere(data):
            raise InputError("ood-detection needs images from elsewhere: name some with --ood_detection_dataset")
        if self.neighbours > len(data.train.rows):
            raise InputError(
                f"ood-detection: k = {self.neighbours} is more than the {len(data.train.rows)} training images; lower"
                " --ood_detection_neighbours"
            )

    def _elsewhere(self, data: EvaluationData) -> dict[str, ImageSample]:
        return images_elsewhere(data, self.images, self.dataset, self.split, with_variants=not self.dataset)

    def run(self, model: EvaluatedModel, data: EvaluationData) -> TaskResult:
        train = data.features(model, data.train).cls

        def score(sample: ImageSample) -> Tensor:
            return neighbour_distance(train, data.features(model, sample).cls, min(self.neighbours, len(train)))

        here = score(data.validation)
        elsewhere = {name: score(sample) for name, sample in self._elsewhere(data).items()}
        measures = {"auroc": auroc(here, elsewhere), "fpr_at_95": false_positives(here, elsewhere)}
        if len(elsewhere) > 1:
            measures |= {f"auroc_{name}": auroc(here, {name: scores}) for name, scores in elsewhere.items()}
        distances = {"validation": here, **elsewhere}
        details = {
            "train_images": len(train),
            "median_distance": {name: float(scores.median()) for name, scores in distances.items()},
            "images": {name: len(scores) for name, scores in distances.items()},
        }
        return TaskResult(measures, details)
