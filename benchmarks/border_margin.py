"""How wide a margin the where-probe's crops should keep from an image's borders.

    python benchmarks/border_margin.py                             # PartScenes, which have no frames
    python benchmarks/border_margin.py --dataset TRAIN.parquet --validation_dataset VALIDATION.parquet
    python benchmarks/border_margin.py ... --model RUN             # and what a margin takes from a model

Frames, vignettes and scanning edges along a photograph's borders tell where a crop lies. A strip is cut off all images,
so that they are gone, and crops are drawn from what is left: R2 of relative position from the statistics of the crops'
own edges (``borders``) and from all low-level cues, without countermeasures. Scenes without frames lose too, as their
composition goes; what photographs lose beyond that is frames. With ``--model``: R2 of position and of scale of that
model under the protocol with each margin.
"""

from __future__ import annotations

import argparse
import dataclasses

import torch
from torch.nn import functional as F

from sp_hf.evaluation.controls.low_level_cues import LowLevelCues
from sp_hf.evaluation.data import EvaluationData
from sp_hf.evaluation.features import Features, ProbeImages, extract_features
from sp_hf.evaluation.model import open_model
from sp_hf.evaluation.source import DataSource
from sp_hf.evaluation.where.relative_geometry.protocol import CANVAS, RelativeGeometryProtocol
from sp_hf.evaluation.where.relative_geometry.task import RelativeGeometry
from sp_hf.evaluation.where.shortcut_audit.task import audit

_CANVAS = 400  # px, from which strips are cut
_BATCH = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="part-scenes?num_images=1000&size=128&difficulty=hard")
    parser.add_argument("--validation_dataset")
    parser.add_argument("--images", type=int, default=1000, help="of each side")
    parser.add_argument("--crop_size", type=int, default=48)
    parser.add_argument("--strips", type=float, nargs="+", default=(0, 0.02, 0.05, 0.08, 0.12))
    parser.add_argument("--model", help="run folder or Hub id")
    parser.add_argument("--margins", type=float, nargs="+", default=(0, 0.02, 0.05, 0.1))
    options = parser.parse_args()
    source = DataSource(options.dataset, validation_dataset=options.validation_dataset, max_images=options.images)
    data = EvaluationData(source)
    print("strip   R2 of position from borders   from all cues")
    for strip in options.strips:
        train, validation = (
            cut_strip(data.canvases(sample, _CANVAS), strip, CANVAS * options.crop_size)
            for sample in (data.train, data.validation)
        )
        found = audit(*(cue_features(images, options.crop_size) for images in (train, validation)))
        borders, everything = (found[f"r2_position_{cue}"].estimate() for cue in ("borders", "all_cues"))
        print(f"{100 * strip:4.0f} %  {borders!s:28}  {everything}", flush=True)
    if options.model:
        of_model(options.model, options, data)


def cut_strip(images: ProbeImages, strip: float, side: int) -> ProbeImages:
    """The images without a strip of that fraction of width and height, as canvases of another side."""
    width = round(strip * _CANVAS)
    inner = images.canvases[:, :, width : _CANVAS - width, width : _CANVAS - width]
    resized = [
        F.interpolate(batch.float(), size=(side, side), mode="bilinear", antialias=True).round().clamp(0, 255).byte()
        for batch in inner.split(_BATCH)
    ]
    return dataclasses.replace(images, canvases=torch.cat(resized))


def cue_features(images: ProbeImages, size: int) -> Features:
    """Low-level statistics of crops without countermeasures."""
    spec = RelativeGeometryProtocol().without_countermeasures().view_spec(size)
    return extract_features(LowLevelCues(), images, {"crops": spec})["crops"]


def of_model(name: str, options: argparse.Namespace, data: EvaluationData) -> None:
    model = open_model(name)
    print(f"\n{name}\nmargin  R2 of position               R2 of scale")
    for margin in options.margins:
        task = RelativeGeometry(
            crop_size=options.crop_size, mlp=False, protocol=RelativeGeometryProtocol(margin=margin)
        )
        measures = task.run(model, data).measures
        position, scale = (measures[name].estimate() for name in ("r2_position", "r2_scale"))
        print(f"{100 * margin:4.0f} %  {position!s:28}  {scale}", flush=True)


if __name__ == "__main__":
    main()
