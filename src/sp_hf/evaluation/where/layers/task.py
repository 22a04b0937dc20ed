"""Where by layer: at which depth does an encoder know how two crops lie to each other, and where a patch is?

The ridge probe of relative geometry, on the same crops (``r2_position``, ``r2_scale``), and that of absolute position,
of some patches of whole images (``r2_patch_position``), each fitted to what every layer puts out: layer 0 is the sum
of patch embeddings and positions, the last one what the encoder puts out, which other tasks measure. Features of a crop
are the class token and the mean patch token (in models without a class token twice the mean).

``details.curves`` holds every layer's value with its 95 % interval. The metrics are those of the last layer, and those
of the *chosen* one: the layer with the least squared error on a fifth of the training images, for a probe fitted to the
others. It is never chosen on the images that are reported.

Letters: n images, V crops, K tokens of an image that are asked, L layers, D feature size.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor

from ....encoders.encoder import Encoder
from ....errors import InputError
from ....views.pairs import ordered_pairs
from ...features import Features, ImageSample, evaluating
from ...measure import Measure
from ...model import EvaluatedModel, Role
from ...probes.hold_out import hold_out
from ...task import Picture, Task, TaskResult, TaskSkipped, option
from ...whole_images import encode_pixels
from ..patch_position.probe import (
    PROBE,
    PositionProbe,
    drawn_positions,
    patch_centres,
    position_measures,
    probe_positions,
)
from ..relative_geometry.measures import relation_measures
from ..relative_geometry.own_pixels import detail_of
from ..relative_geometry.probe import RelationProbe, embedding
from ..relative_geometry.protocol import RelativeGeometryProtocol
from ..relative_geometry.task import check_enough_images, ridge_relations
from .curves import TITLES, curve_of, draw_curves
from .layer_stack import LayerStack, NoLayers

if TYPE_CHECKING:
    from ...data import EvaluationData

_TOKENS = 5000  # of a side, that are asked for their place
Places = tuple[Tensor, Tensor]  # tokens [n, K, L, D] and their places [n, K, 2]


@dataclasses.dataclass(frozen=True)
class Layers(Task):
    """Relative and absolute position, by layer."""

    name: ClassVar[str] = "layers"
    kind: ClassVar[Literal["what", "where"]] = "where"
    headline: ClassVar[tuple[str, ...]] = ("r2_position_chosen", "r2_position_last", "r2_patch_position_chosen")
    controls: ClassVar[tuple[Role, ...]] = ("random",)

    images: int = option(300, "images of each side")
    crop_size: int | None = option(None, "side in px of crops; default: the model's own size")
    protocol: RelativeGeometryProtocol = dataclasses.field(default_factory=RelativeGeometryProtocol)

    def __post_init__(self) -> None:
        if self.images < 1 or (self.crop_size is not None and self.crop_size < 1):
            raise InputError(f"layers: images = {self.images} and crop_size = {self.crop_size}; both start at 1")

    def prepare(self, data: EvaluationData) -> None:
        check_enough_images(data, self.images)

    def check(self, model: EvaluatedModel, data: EvaluationData) -> None:
        model.encoder.patches_of(detail_of(data, self.crop_size or model.size, self.images).size)

    def canvas_sizes(self, model: EvaluatedModel, data: EvaluationData) -> Collection[int]:
        return {detail_of(data, self._size(model), self.images).canvas}

    def run(self, model: EvaluatedModel, data: EvaluationData) -> TaskResult:
        if not isinstance(model.encoder, Encoder):
            raise TaskSkipped("it has no layers")
        try:
            stack = LayerStack(model.encoder, model.identity).eval()
        except NoLayers as reason:
            raise TaskSkipped(str(reason)) from reason
        stacked = dataclasses.replace(model, encoder=stack)
        by_layer = self._relations(stacked, data)
        places = [self._places(stacked, data, s, data.seed + i) for i, s in enumerate((data.train, data.validation))]
        by_layer["r2_patch_position"] = _position_by_layer(places[0], places[1], data.seed, data.refits)
        curves, chosen = {}, {}
        measures: dict[str, Measure] = {}
        for name, (of_layers, errors) in by_layer.items():
            curves[name] = curve_of(of_layers, data.seed)
            chosen[name] = min(range(len(errors)), key=errors.__getitem__)
            measures |= {f"{name}_chosen": of_layers[chosen[name]], f"{name}_last": of_layers[-1]}
        details = {
            "curves": curves,
            "chosen_layer": chosen,
            "layers": len(stack.blocks),
            "crop_size": self._size(model),
        }
        return TaskResult(measures, details)

    def _size(self, model: EvaluatedModel) -> int:
        return self.crop_size or model.size

    def _relations(self, model: EvaluatedModel, data: EvaluationData) -> dict[str, tuple[list[Measure], list[float]]]:
        """By metric: the measure of each layer, and its error on held-out training images."""
        detail = detail_of(data, self._size(model), self.images)
        spec = detail.spec(self.protocol)
        train, validation = (
            data.crops(model, sample, spec, detail.canvas, self.images) for sample in (data.train, data.validation)
        )
        held_out = hold_out(len(train.boxes), data.seed, PROBE)
        by_metric: dict[str, tuple[list[Measure], list[float]]] = {"r2_position": ([], []), "r2_scale": ([], [])}
        for layer in range(train.cls.shape[2]):
            known, asked = _layer(train, layer), _layer(validation, layer)
            measures = ridge_relations(known, asked, seed=data.seed, refits=data.refits)[0]
            trial = _held_out_r2(known, held_out, data.seed)
            for name, (of_layers, errors) in by_metric.items():
                of_layers.append(measures[name])
                errors.append(-trial[name].value)
        return by_metric

    def _places(self, model: EvaluatedModel, data: EvaluationData, sample: ImageSample, seed: int) -> Places:
        squashed = model.squashed()
        pixels = data.pixels(squashed, sample, self.images).pixels
        grid = model.encoder.patches_of(squashed.size)
        drawn = drawn_positions(len(pixels), grid, seed, _TOKENS)  # [n, K]
        parts = []
        with evaluating(model.encoder):
            for rows in torch.arange(len(pixels)).split(data.batch_size):
                patches = encode_pixels(squashed, pixels[rows]).patches.transpose(1, 2).cpu()  # [B, N, L, D]
                parts.append(patches[torch.arange(len(rows))[:, None], drawn[rows]])
        return torch.cat(parts), patch_centres(grid)[drawn]

    def draw(self, results: Mapping[str, TaskResult], folder: Path) -> list[Picture]:
        if not results:
            return []
        path = folder / "layers.png"
        draw_curves(path, {name: result.details for name, result in results.items()})
        caption = (
            "By depth, from the embeddings (0) to the encoder's output (1): "
            + "; ".join(TITLES.values())
            + ". Bands: 95 % intervals."
        )
        return [Picture(path, caption)]


def _layer(features: Features, layer: int) -> Features:
    return Features(features.cls[:, :, layer], features.mean_patch[:, :, layer], features.boxes)


def _held_out_r2(train: Features, held_out: Tensor, seed: int) -> dict[str, Measure]:
    """Metrics on the held-out training images of a probe that was fitted to the others."""
    features, boxes = embedding(train), train.boxes.double()
    probe = RelationProbe.fit(features[~held_out], boxes[~held_out], seed=seed)
    first, second = ordered_pairs(boxes.shape[1])
    asked, truth = features[held_out], boxes[held_out]
    predicted = probe.predict(asked[:, first], asked[:, second])
    return relation_measures(truth[:, first], truth[:, second], predicted)


def _position_by_layer(train: Places, validation: Places, seed: int, refits: int) -> tuple[list[Measure], list[float]]:
    held_out = hold_out(len(train[0]), seed, PROBE)
    measures, errors = [], []
    for layer in range(train[0].shape[2]):
        known, asked = ((tokens[:, :, layer], places) for tokens, places in (train, validation))
        measures.append(probe_positions(known, asked, seed=seed, refits=refits)[0]["r2"])
        tokens, places = known
        trial = PositionProbe.fit(tokens[~held_out], places[~held_out], seed)
        errors.append(-position_measures(places[held_out], trial.predict(tokens[held_out]))["r2"].value)
    return measures, errors
