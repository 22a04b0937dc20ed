"""``sp-hf probe MODEL [MODEL ...]``: the two probes, models side by side with their floors, as a table and as JSON."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from ..data.datasets import LoadedImages, load_images
from ..data.sources import DatasetLoadError
from ..encoder import Encoder
from ..encoder_loading import resolve_encoder
from .probe import (
    PIXELS,
    RANDOM,
    ProbeResults,
    ProbeSettings,
    format_table,
    prepare_probe,
    probe,
    random_initialisation,
)
from .raw_pixels import RawPixels

VALIDATION_SPLITS = ("validation", "val", "test")


def probe_models(argv: list[str]) -> int:
    """Entry point of ``sp-hf probe``; returns the exit status."""
    args = _parser().parse_args(argv)
    device = torch.device(args.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    encoders = {name: _open(name) for name in dict.fromkeys(args.models)}
    settings = ProbeSettings(
        size=args.size or _native_size(next(iter(encoders.values()))),
        crop_size=args.crop_size,
        canvas_size=args.canvas_size,
        max_images=args.max_images or None,
        seed=args.seed,
    )
    for encoder in encoders.values():
        settings.check(encoder)
    train = load_images(args.dataset, split=args.split, label_column=args.label_column)
    validation = open_validation(
        args.validation_dataset or args.dataset, args.validation_split, label_column=args.label_column
    )
    data = prepare_probe(train, validation, settings, progress=True)
    results = {PIXELS: probe(RawPixels(), data, batch_size=args.batch_size)}
    floors: dict[str, Encoder] = {}
    for encoder in encoders.values():  # one floor an architecture
        architecture = encoder.describe()
        if architecture not in floors:
            floors[architecture] = random_initialisation(encoder, args.seed).to(device)
            name = RANDOM if len(floors) == 1 else f"{RANDOM} ({architecture})"
            results[name] = probe(floors[architecture], data, batch_size=args.batch_size, progress=True)
    for name, encoder in encoders.items():
        results[name] = probe(encoder.to(device), data, batch_size=args.batch_size, progress=True)
    print(format_table(results))
    if args.output:
        write_results(args.output, results)
    return 0


def open_validation(dataset: str, split: str | None = None, label_column: str | None = None) -> LoadedImages:
    """The validation side: the named split, or the first there is of validation, val and test.

    Raises:
        DatasetLoadError: there is none; says which splits there are.
    """
    if split is not None:
        return load_images(dataset, split=split, label_column=label_column)
    reason: DatasetLoadError | None = None
    for name in VALIDATION_SPLITS:
        try:
            return load_images(dataset, split=name, label_column=label_column)
        except DatasetLoadError as error:
            reason = error
    raise DatasetLoadError(
        f"{dataset} has no split named {', '.join(VALIDATION_SPLITS)}; name one with --validation_split, or another"
        f" dataset with --validation_dataset. ({reason})"
    )


def write_results(path: str | Path, results: dict[str, ProbeResults]) -> None:
    """All figures with their intervals, as JSON."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(json.dumps({name: r.to_dict() for name, r in results.items()}, indent=2) + "\n")


def _open(name: str) -> Encoder:
    """A model by Hub id, folder or run folder (its ``encoder/``)."""
    inside = Path(name) / "encoder"
    return resolve_encoder(inside if inside.is_dir() else name)


def _native_size(encoder: Encoder) -> int:
    size = getattr(encoder.config, "image_size", 224)
    return size if isinstance(size, int) else size[0]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sp-hf probe", description=__doc__)
    parser.add_argument("models", nargs="+", metavar="MODEL", help="Hub id, folder, or run folder")
    parser.add_argument("--dataset", default="part-scenes", help="training side: as for sp-hf pretrain")
    parser.add_argument("--split", help="its split; default: train")
    parser.add_argument("--validation_dataset", help="validation side; default: --dataset")
    parser.add_argument("--validation_split", help="its split; default: validation, val or test")
    parser.add_argument("--label_column", help="labels for kNN; default: found by type")
    parser.add_argument("--size", type=int, help="side in px of whole images; default: the first model's own")
    parser.add_argument("--crop_size", type=int, help="side in px of crops; default: --size")
    parser.add_argument("--canvas_size", type=int, help="side in px at which images are kept")
    parser.add_argument("--max_images", type=int, default=1000, help="images a side; 0 for all (default: 1000)")
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", help="default: cuda where there is one")
    parser.add_argument("--output", help="JSON file for all figures with their intervals")
    return parser
