"""The two probes of frozen features, what and where, with the floors that they must be read against.

*What* is kNN recognition of whole images (:mod:`sp_hf.evaluation.what.knn`), *where* the relative position and scale of
crops (:mod:`sp_hf.evaluation.where.relative_geometry`). Each figure stands beside that of the same architecture at
random initialisation, and of raw pixels: random features already tell a good deal of both.

    data = prepare_probe(load_images("..."), load_images("...", split="validation"), ProbeSettings(size=96))
    print(format_table(probe_with_floor(encoder, data)))
"""

from __future__ import annotations

import copy
import dataclasses
import logging
from collections.abc import Mapping
from typing import Any

import torch

from ..data.datasets import LoadedImages
from ..encoder import Encoder
from ..views import ViewSpec
from .bootstrap import Estimate
from .features import FrozenEncoder, ProbeImages, choose_images, extract_features, read_images
from .raw_pixels import RawPixels
from .what.knn import KNNResult, LabelError, check_labels, evaluate_knn
from .where.relative_geometry import RelativeGeometryProtocol, RelativeGeometryResult, evaluate_relative_geometry

logger = logging.getLogger(__name__)

RANDOM = "random initialisation"
PIXELS = "raw pixels"


@dataclasses.dataclass(frozen=True)
class ProbeSettings:
    """What is measured. Results can be compared only if these are equal.

    Args:
        size: side in px at which whole images are encoded, for kNN.
        crop_size: side in px at which crops are encoded, for relative position and scale; default: ``size``.
        canvas_size: side in px at which images are kept; default: the larger of ``size`` and three times
            ``crop_size``, at which the smallest crops are no blurrier than the protocol makes the others.
        max_images: of each split, chosen at random; ``None`` for all.
        seed: of the choice of images, of the crops, of the held-out images, of the bootstrap and of the random
            initialisation.
        protocol: of relative position and scale.
    """

    size: int
    crop_size: int | None = None
    canvas_size: int | None = None
    max_images: int | None = 1000
    seed: int = 0
    protocol: RelativeGeometryProtocol = dataclasses.field(default_factory=RelativeGeometryProtocol)

    def __post_init__(self) -> None:
        if self.crop_size is None:
            object.__setattr__(self, "crop_size", self.size)
        if self.canvas_size is None:
            object.__setattr__(self, "canvas_size", max(self.size, 3 * self.crop_size))
        self.view_specs()  # refuses sizes below 1

    def view_specs(self) -> dict[str, ViewSpec]:
        """``"whole"``, the image itself, and ``"crops"``."""
        whole = ViewSpec(count=1, size=self.size, area=(1.0, 1.0), aspect=None, flip="none")
        return {"whole": whole, "crops": self.protocol.view_spec(self.crop_size)}

    def check(self, encoder: FrozenEncoder) -> None:
        """Raise ValueError if the encoder cannot take views of these sizes (e.g. smaller than a patch)."""
        for spec in self.view_specs().values():
            encoder.patches_of(spec.size)

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class ProbeData:
    """Images to probe with, read once for all models.

    Args:
        train, validation: samples of the two splits.
        settings: with which they were read.
        knn: whether recognition is measured.
    """

    train: ProbeImages
    validation: ProbeImages
    settings: ProbeSettings
    knn: bool


@dataclasses.dataclass(frozen=True)
class ProbeResults:
    """What one model knows.

    Args:
        knn: recognition; ``None`` if it was left out.
        relative_geometry: relative position and scale.
        settings: what was measured.
        train, validation: the data, in one line each.
        skipped: images that could not be read.
    """

    knn: KNNResult | None
    relative_geometry: RelativeGeometryResult
    settings: ProbeSettings
    train: str
    validation: str
    skipped: int

    def to_dict(self) -> dict[str, Any]:
        """Everything, as JSON can hold it."""
        return dataclasses.asdict(self)

    def figures(self) -> dict[str, float]:
        """The point estimates under flat names, for logs."""
        where = self.relative_geometry
        names = [field.name for field in dataclasses.fields(where) if isinstance(getattr(where, field.name), Estimate)]
        figures = {name: getattr(where, name).value for name in names}
        return figures if self.knn is None else {"knn_accuracy": self.knn.accuracy.value} | figures


def prepare_probe(
    train: LoadedImages,
    validation: LoadedImages,
    settings: ProbeSettings,
    *,
    knn: bool | None = None,
    progress: bool = False,
) -> ProbeData:
    """Choose images of both splits, check their labels, then decode them.

    Args:
        train, validation: from :func:`~sp_hf.data.datasets.load_images`.
        settings: what is to be measured; call :meth:`ProbeSettings.check` with the encoder before.
        knn: measure recognition. ``None``: if the labels allow it (and say so if not).
        progress: show bars.

    Raises:
        LabelError: recognition is asked for, but the labels do not allow it.
        ValueError: no image can be read.
    """
    chosen = [choose_images(images, settings.max_images, settings.seed) for images in (train, validation)]
    if knn or knn is None:
        try:
            check_labels(chosen[0].labels, chosen[1].labels, train.label_names)
        except LabelError as error:
            if knn:
                raise
            logger.warning("recognition is not measured: %s", error)
            knn = False
    read = [
        read_images(sample, settings.canvas_size, seed=settings.seed + which, progress=progress)
        for which, sample in enumerate(chosen)  # other crops of an image that is in both
    ]
    return ProbeData(read[0], read[1], settings, knn is not False)


def probe(
    encoder: FrozenEncoder, data: ProbeData, *, batch_size: int = 64, progress: bool = False
) -> ProbeResults:
    """Measure one model. Neither its mode nor the global random state is changed.

    Args:
        encoder: an :class:`~sp_hf.encoder.Encoder`, on any device, or a control of the same form.
        data: from :func:`prepare_probe`.
        batch_size: images at a time; each is encoded whole, and in ``protocol.crops`` crops.
        progress: show bars.

    Raises:
        ValueError: the encoder cannot take the view sizes, or its features are not finite.
    """
    settings = data.settings
    specs = settings.view_specs()
    if not data.knn:
        del specs["whole"]
    train, validation = (
        extract_features(encoder, images, specs, batch_size=batch_size, progress=progress)
        for images in (data.train, data.validation)
    )
    knn = None
    if data.knn:
        knn = evaluate_knn(
            train["whole"].cls[:, 0],
            data.train.labels,
            validation["whole"].cls[:, 0],
            data.validation.labels,
            seed=settings.seed,
        )
    return ProbeResults(
        knn=knn,
        relative_geometry=evaluate_relative_geometry(train["crops"], validation["crops"], seed=settings.seed),
        settings=settings,
        train=data.train.description,
        validation=data.validation.description,
        skipped=len(data.train.skipped) + len(data.validation.skipped),
    )


def random_initialisation(encoder: Encoder, seed: int) -> Encoder:
    """The same architecture, freshly initialised, on the same device; the global random state is left alone."""
    device = next(encoder.parameters()).device
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = Encoder.from_config(copy.deepcopy(encoder.config), encoder.image_mean, encoder.image_std)
    return fresh.to(device)


def probe_with_floor(
    encoder: Encoder, data: ProbeData, *, name: str = "encoder", batch_size: int = 64, progress: bool = False
) -> dict[str, ProbeResults]:
    """Measure raw pixels, the same architecture at random initialisation, and the model, in this order."""
    models = {PIXELS: RawPixels(), RANDOM: random_initialisation(encoder, data.settings.seed), name: encoder}
    return {name: probe(model, data, batch_size=batch_size, progress=progress) for name, model in models.items()}


def format_table(results: Mapping[str, ProbeResults]) -> str:
    """One row a model, 95 % intervals in brackets, and a line that says on what they were measured.

    Raises:
        ValueError: the results were not measured alike.
    """
    if len({(str(r.settings), r.train, r.validation) for r in results.values()}) != 1:
        raise ValueError("these results cannot stand in one table: their settings or their data differ")
    rows = [["", "what", "where", "", "", "", "", ""]]
    rows += [["", "kNN %", "R2 of position", "R2 of scale", "x", "y", "IoU", "error x, y"]]
    for name, result in results.items():
        where = result.relative_geometry
        knn = "-" if result.knn is None else _interval(result.knn.accuracy.scaled(100), 1)
        position, scale = (_interval(estimate, 3) for estimate in (where.r2_position, where.r2_scale))
        errors = f"{where.mae_x.value:.3f}, {where.mae_y.value:.3f}"
        x, y, iou = (f"{estimate.value:.3f}" for estimate in (where.r2_x, where.r2_y, where.iou))
        rows.append([name, knn, position, scale, x, y, iou, errors])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines + [_legend(next(iter(results.values())))])


def _interval(estimate: Estimate, digits: int) -> str:
    return f"{estimate.value:.{digits}f} [{estimate.low:.{digits}f}, {estimate.high:.{digits}f}]"


def _legend(result: ProbeResults) -> str:
    where, settings = result.relative_geometry, result.settings
    knn = f"; kNN over {result.knn.classes} classes, whole images at {settings.size} px" if result.knn else ""
    return (
        f"{where.images} validation images, {where.pairs} ordered pairs of crops at {settings.crop_size} px;"
        f" probes fitted on {where.train_images} training images{knn}; seed {settings.seed};"
        " brackets: 95 % intervals over images."
    )
