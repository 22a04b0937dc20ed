"""Which where-probe tells an encoder that learnt *where* from one that did not, at equally many images?

    python benchmarks/where_probes.py --control runs/mae --taught runs/mae_sp       # PartScenes, a few minutes
    python benchmarks/where_probes.py --control runs/mae --taught runs/mae_sp SP=runs/sp \\
        --dataset TRAIN.parquet --validation_dataset VALIDATION.parquet --crop_size 32

Protocols, all with ridge regression, countermeasures and the same crops, but for the last:

    all pairs        every ordered pair of an image's four crops: R2
    beyond cues      what features add to the R2 of low-level cues, cross-fitted
    gap              only pairs that leave a strip of 5 % of the image between them
    matched cues     only pairs whose relation the cues do not tell: those for which a ridge regression on the cues
                     (cross-fitted) predicts a difference within a fifth of its own spread; for position and for scale
    objects          the relation of two parts of PartScenes, four-way: accuracy of an attentive and of a pooled probe

A row a metric, a column an encoder: low-level cues, the control at random initialisation, the control, the taught ones.
Then how far apart encoders are, in standard errors of the paired difference (95 % interval / 3.92, which covers images
and, of ridge probes, training images): taught - untrained, taught - control, taught - cues. A protocol is good if these
are large and the cues' own value is small.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from sp_hf.evaluation.data import EvaluationData
from sp_hf.evaluation.features import Features
from sp_hf.evaluation.measure import Measure, paired_difference, with_refits
from sp_hf.evaluation.model import EvaluatedModel, open_model, random_initialisation
from sp_hf.evaluation.probes.hold_out import hold_out
from sp_hf.evaluation.probes.refits import random_halves
from sp_hf.evaluation.probes.ridge import fit_ridge, solve_ridge
from sp_hf.evaluation.probes.standardise import spread
from sp_hf.evaluation.source import DataSource
from sp_hf.evaluation.where.relative_geometry.beyond_cues import FOLDS, beyond_cues
from sp_hf.evaluation.where.relative_geometry.crops import crops_of, cues_of
from sp_hf.evaluation.where.relative_geometry.measures import relation_measures
from sp_hf.evaluation.where.relative_geometry.own_pixels import detail_of
from sp_hf.evaluation.where.relative_geometry.probe import PROBE, RelationProbe, embedding
from sp_hf.evaluation.where.relative_geometry.protocol import RelativeGeometryProtocol
from sp_hf.evaluation.where.relative_geometry.task import ridge_relations
from sp_hf.evaluation.where.spatial_relation.task import SpatialRelation
from sp_hf.views.geometry import log_scale, relation
from sp_hf.views.pairs import ordered_pairs

GAP = 0.05  # of the image, between the two boxes
CALIPER = 0.2  # of the spread of what cues predict
Sides = tuple[Features, Features]
Counted = tuple[Tensor, Tensor]  # bool [n, P], of both sides
Found = dict[tuple[str, str], dict[str, Measure]]  # (protocol, metric): by encoder


class Pairs(NamedTuple):
    """Features' differences [n, P, D] and relations [n, P, 4] of all ordered pairs."""

    x: Tensor
    y: Tensor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--control", required=True, help="[NAME=]run folder or Hub id")
    parser.add_argument("--taught", required=True, nargs="+", help="the same of encoders that learnt where")
    parser.add_argument("--dataset", default="part-scenes")
    parser.add_argument("--validation_dataset")
    parser.add_argument("--images", type=int, default=500, help="of each side, in every protocol")
    parser.add_argument("--crop_size", type=int, default=32)
    parser.add_argument("--refits", type=int, default=20)
    options = parser.parse_args()
    opened = [open_model(name) for name in (options.control, *options.taught)]
    untrained = random_initialisation(opened[0], seed=0, name="untrained")
    source = DataSource(options.dataset, validation_dataset=options.validation_dataset, max_images=options.images)
    data = EvaluationData(source, refits=options.refits)
    scenes = EvaluationData(DataSource("part-scenes", max_images=options.images), refits=options.refits)
    values: Found = {}
    of_crops(values, [untrained, *opened], data, options.crop_size, options.images)
    of_objects(values, [untrained, *opened], scenes, options.images)
    report(values, ["low-level cues", "untrained", *(model.name for model in opened)], opened[0].name)


# ---------------------------------------------------------------------------------------------------------- protocols
def of_crops(values: Found, models: list[EvaluatedModel], data: EvaluationData, size: int, images: int) -> None:
    """All protocols of crops, of the cues and of every encoder."""
    detail = detail_of(data, size, images)
    spec, canvas = detail.spec(RelativeGeometryProtocol()), detail.canvas
    cues = cues_of(data, spec, canvas, images)
    matched = {name: matched_pairs(cues, columns, data.seed) for name, columns in COLUMNS.items()}
    apart = (has_gap(cues[0].boxes), has_gap(cues[1].boxes))
    kept = {"gap": apart, **{f"matched ({name})": counted for name, counted in matched.items()}}
    for name, counted in kept.items():
        shares = [float(side.double().mean()) for side in counted]
        print(f"{name}: {100 * shares[0]:.0f} % of the training pairs, {100 * shares[1]:.0f} % of the validation pairs")
    encoded: dict[str, Sides] = {"low-level cues": cues}
    encoded |= {model.name: crops_of(model, data, spec, canvas, images) for model in models}
    for name, sides in encoded.items():
        everything = ridge_relations(*sides, seed=data.seed, refits=data.refits)[0]
        of_gap = on_pairs(sides, apart, data)
        for target in COLUMNS:
            add(values, "all pairs", f"R2 {target}", name, everything[f"r2_{target}"])
            add(values, "gap", f"R2 {target}", name, of_gap[f"r2_{target}"])
            of_matched = on_pairs(sides, matched[target], data)
            add(values, "matched cues", f"R2 {target}", name, of_matched[f"r2_{target}"])
            if name != "low-level cues":
                beyond = beyond_cues(cues, sides, data.seed, data.refits)
                add(values, "beyond cues", f"R2 {target}", name, beyond[f"r2_{target}_beyond_cues"])


def of_objects(values: Found, models: list[EvaluatedModel], data: EvaluationData, images: int) -> None:
    """The relation of two parts."""
    task = SpatialRelation(images=images)
    task.prepare(data)
    for model in models:
        measures = task.run(model, data).measures
        for metric in task.headline:
            add(values, "objects", metric.replace("_", " "), model.name, measures[metric])


def add(values: Found, protocol: str, metric: str, model: str, measure: Measure) -> None:
    values.setdefault((protocol, metric), {})[model] = measure


# -------------------------------------------------------------------------------------------------------------- pairs
def _position(relations: Tensor) -> Tensor:
    return relations[..., :2]


def _scale(relations: Tensor) -> Tensor:
    return log_scale(relations)[..., None]


COLUMNS: dict[str, Callable[[Tensor], Tensor]] = {"position": _position, "scale": _scale}


def has_gap(boxes: Tensor) -> Tensor:
    """bool [n, P]: a strip of GAP lies between the two boxes [n, V, 4], along one of the axes."""
    first, second = ordered_pairs(boxes.shape[1])
    distance = (boxes[:, first, :2] - boxes[:, second, :2]).abs()
    return ((distance - (boxes[:, first, 2:] + boxes[:, second, 2:]) / 2) >= GAP).any(-1)


def pairs_of(features: Tensor, boxes: Tensor, scale: Tensor) -> Pairs:
    """Of features [n, V, D] and boxes [n, V, 4]."""
    first, second = ordered_pairs(boxes.shape[1])
    x = (features[:, second] - features[:, first]).double() / scale
    return Pairs(x, relation(boxes[:, first].double(), boxes[:, second].double()))


def matched_pairs(cues: Sides, columns: Callable[[Tensor], Tensor], seed: int) -> Counted:
    """Pairs of both sides for which the cues predict next to no difference; of training images by other folds."""
    train, validation = cues
    known, asked = embedding(train), embedding(validation)
    first, second = ordered_pairs(train.boxes.shape[1])
    fold = torch.randperm(len(known), generator=torch.Generator().manual_seed(seed)) % FOLDS
    predicted = torch.empty(len(known), len(first), 4, dtype=torch.float64)
    for k in range(FOLDS):
        probe = RelationProbe.fit(known[fold != k], train.boxes[fold != k], seed=seed)
        predicted[fold == k] = probe.predict(known[fold == k][:, first], known[fold == k][:, second])
    probe = RelationProbe.fit(known, train.boxes, seed=seed)
    ours, theirs = columns(predicted), columns(probe.predict(asked[:, first], asked[:, second]))
    reach = CALIPER * ours.square().mean((0, 1)).sqrt()  # differences have mean 0
    return (ours.abs() <= reach).all(-1), (theirs.abs() <= reach).all(-1)


def on_pairs(sides: Sides, counted: Counted, data: EvaluationData) -> dict[str, Measure]:
    """Ridge regression on the counted pairs of the training side, metrics of those of the validation side."""
    train, validation = sides
    scale = spread(embedding(train).double())
    known, asked = (pairs_of(embedding(side), side.boxes, scale) for side in sides)
    first, second = ordered_pairs(train.boxes.shape[1])
    boxes, rows = validation.boxes.double(), counted[0]

    def measured(weights: Tensor) -> dict[str, Measure]:
        return relation_measures(boxes[:, first], boxes[:, second], asked.x @ weights, counted[1])

    held_out = hold_out(len(rows), data.seed, PROBE)[:, None].expand_as(rows)[rows]
    weights, penalties = fit_ridge(known.x[rows], known.y[rows], held_out)
    refitted = []
    for half in random_halves(len(rows), data.refits, data.seed):
        mine = rows[half]
        refitted.append(measured(solve_ridge(known.x[half][mine], known.y[half][mine], penalties)))
    return with_refits(measured(weights), refitted)


# ------------------------------------------------------------------------------------------------------------- report
def report(values: Found, names: list[str], control: str) -> None:
    """The two tables, in Markdown."""
    taught = [name for name in names if name not in ("low-level cues", "untrained", control)]
    print(f"\n| protocol | metric | {' | '.join(names)} |\n|{'---|' * (len(names) + 2)}")
    for (protocol, metric), by_model in values.items():
        cells = [f"{by_model[name].estimate()}" if name in by_model else "-" for name in names]
        print(f"| {protocol} | {metric} | {' | '.join(cells)} |")
    compared = [(name, other) for name in taught for other in ("untrained", control, "low-level cues")]
    titles = [f"{name} - {other}" for name, other in compared]
    print(f"\n| protocol | metric | {' | '.join(titles)} |\n|{'---|' * (len(titles) + 2)}")
    for (protocol, metric), by_model in values.items():
        cells = [separation(by_model, name, other) for name, other in compared]
        print(f"| {protocol} | {metric} | {' | '.join(cells)} |")


def separation(by_model: dict[str, Measure], name: str, other: str) -> str:
    """The paired difference in standard errors."""
    if other not in by_model:
        return "-"
    difference = paired_difference(by_model[name], by_model[other])
    return f"{3.92 * difference.value / (difference.high - difference.low):.1f}"


if __name__ == "__main__":
    main()
