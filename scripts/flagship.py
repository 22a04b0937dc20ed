"""Put a pair of encoders into the package, for the Space: one pretrained with SP, and its control without.

    python scripts/flagship.py --with_sp runs/mae_sp --control runs/mae \\
        --dataset path/to/caltech101-train.parquet --validation_dataset path/to/caltech101-validation.parquet

Into ``src/sp_hf/space/models`` go the stock weights of both and the configuration of an untrained encoder; probes of
all three, fitted to photographs of ``--dataset``; a benchmark of puzzles of photographs of ``--validation_dataset``;
what each answers to the page's first questions; and a card for each of the pair, made as a push makes it. No photograph
of the datasets does.

    python scripts/flagship.py --only_first        # the first answers anew, e.g. when another photograph comes first
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

import sp_hf
from sp_hf.cards.model_card import write_card
from sp_hf.cli import run
from sp_hf.data.canvas import decode
from sp_hf.errors import InputError
from sp_hf.evaluation.cache import FeatureCache
from sp_hf.evaluation.data import EvaluationData
from sp_hf.evaluation.features import ImageSample
from sp_hf.evaluation.model import EvaluatedModel, open_model
from sp_hf.evaluation.source import DataSource
from sp_hf.evaluation.what.knn import KNN
from sp_hf.evaluation.where.relative_geometry.task import RelativeGeometry
from sp_hf.flags import FlagParser
from sp_hf.quiet import quieten_libraries
from sp_hf.space.jigsaw import Cut, solve
from sp_hf.space.probe_set import JIGSAW, ProbeSet, crop_size, probes_of
from sp_hf.space.score import Benchmark
from sp_hf.space.shipped import EVIDENCE, FIRST, FOLDERS, SEED, UNTRAINED, WITH_SP, WITHOUT, folder, photographs
from sp_hf.space.typical import Asked, first_answers
from sp_hf.space.uploads import Upload, open_upload

REPOSITORY = Path(__file__).parents[1]
LARGEST = 10 * 10**6  # bytes of both encoders' weights
STOCK = ("config.json", "model.safetensors", "preprocessor_config.json")


def main(argv: list[str]) -> int:
    parser = FlagParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--with_sp", type=Path, help="run folder")
    parser.add_argument("--control", type=Path, help="run folder, the same but for SP")
    parser.add_argument("--dataset", help="photographs that probes are fitted to")
    parser.add_argument("--validation_dataset", help="photographs that puzzles are made of")
    parser.add_argument("--title", default="Caltech-101", help="what the page calls these photographs")
    parser.add_argument("--images", type=int, default=3000, help="that probes are fitted to")
    parser.add_argument("--puzzles", type=int, default=500, help="of the benchmark, a photograph each")
    parser.add_argument("--evaluation", type=Path, nargs="*", help="of these weights, for the cards; default: made now")
    parser.add_argument("--license", default="apache-2.0")
    parser.add_argument("--no_run_snippets", action="store_true", help="of the cards")
    parser.add_argument("--no_cards", action="store_true")
    parser.add_argument("--only_first", action="store_true", help="the first answers of models that are there already")
    parser.add_argument("--output_dir", type=Path, default=folder())
    args = parser.parse_args(argv)
    quieten_libraries()
    if args.only_first:
        write_first(asked_there(args.output_dir), args.output_dir)
        return 0
    if None in (args.with_sp, args.control, args.dataset, args.validation_dataset):
        parser.error("--with_sp, --control, --dataset and --validation_dataset are needed, or --only_first")
    runs = {WITH_SP: args.with_sp, WITHOUT: args.control}
    copy_encoders(runs, args.output_dir)
    source = DataSource(args.dataset, validation_dataset=args.validation_dataset, max_images=args.images)
    data = EvaluationData(source, cache=FeatureCache(None))
    asked = fit_all(args.output_dir, data, args.title)
    benchmark = play(asked, data.validation, args.puzzles, args.title)
    for name, (_, probes) in asked.items():
        scores = {f"tiles right of 9, {len(benchmark)} puzzles": round(benchmark.estimates()[name].value, 4)}
        probes.scored(scores).save(probes_of(args.output_dir / FOLDERS[name]))
    write_json(args.output_dir / EVIDENCE, benchmark.to_dict())
    write_first(asked, args.output_dir)
    if not args.no_cards:
        write_cards(runs, args)
    print(f"{benchmark.sentence()}\n{benchmark.verdict(WITH_SP, WITHOUT)}")
    return 0


def copy_encoders(runs: Mapping[str, Path], output: Path) -> None:
    """Stock files of the pair, and an untrained encoder's configuration.

    Raises:
        InputError: they are of different architectures, or too large to be shipped.
    """
    encoders = {name: path / "encoder" for name, path in runs.items()}
    sizes = [(encoder / "model.safetensors").stat().st_size for encoder in encoders.values()]
    if sum(sizes) > LARGEST:
        raise InputError(f"the two encoders have {sum(sizes) / 1e6:.1f} MB; at most {LARGEST / 1e6:.0f} MB are shipped")
    made = [json.loads((encoder / "config.json").read_text()) for encoder in encoders.values()]
    if made[0] != made[1]:
        raise InputError(f"{' and '.join(map(str, runs.values()))} differ in config.json: SP must be all that differs")
    for name, place in FOLDERS.items():
        shutil.rmtree(output / place, ignore_errors=True)
        (output / place).mkdir(parents=True)
        for file in STOCK if name != UNTRAINED else (STOCK[0], STOCK[2]):
            shutil.copyfile(encoders.get(name, encoders[WITHOUT]) / file, output / place / file)


def fit_all(output: Path, data: EvaluationData, title: str) -> Asked:
    """All three with their probes."""
    asked = {}
    for name, place in FOLDERS.items():
        model = opened(name, output / place)
        print(f"{name}: fitting probes to {len(data.train.rows)} photographs", flush=True)
        asked[name] = (model, ProbeSet.fit(model, data, title))
    return asked


def asked_there(output: Path) -> Asked:
    """All three with the probes that were fitted before."""
    models = {name: opened(name, output / place) for name, place in FOLDERS.items()}
    return {name: (one, ProbeSet.load(probes_of(output / FOLDERS[name]), one)) for name, one in models.items()}


def opened(name: str, place: Path) -> EvaluatedModel:
    """A shipped model by the name that the page has for it."""
    model = open_model(str(place), seed=SEED)
    return EvaluatedModel(name, model.encoder, model.preprocess)


def write_first(asked: Asked, output: Path) -> None:
    """Answers about the page's first photograph."""
    write_json(output / FIRST, first_answers(asked, open_upload(photographs()[0])))


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content) + "\n", encoding="utf-8")


def play(asked: Asked, sample: ImageSample, count: int, title: str) -> Benchmark:
    """One puzzle a photograph, with the Space's own code."""
    chosen = sample.select(torch.arange(min(count, len(sample.rows))).mul(len(sample.rows)).div(count).long().numpy())
    column = sample.images.image_column
    uploads = [Upload(decode(row[column])) for row in chosen.rows]
    puzzles = [(upload, Cut.of(seed)) for seed, upload in enumerate(uploads)]
    right = {name: [s.right for s in solve(model, probes, puzzles)] for name, (model, probes) in asked.items()}
    return Benchmark(right, title)


def write_cards(runs: Mapping[str, Path], args: Any) -> None:
    """Of both, as a push writes them, without pictures: these would show photographs of the dataset."""
    with tempfile.TemporaryDirectory(prefix="sp-hf-flagship-") as name:
        workspace = Path(name)
        evaluations = args.evaluation or [evaluate(args, workspace / "evaluation")]
        bare = [bare_results(path, workspace / f"results-{index}") for index, path in enumerate(evaluations)]
        for title, path in runs.items():
            place = args.output_dir / FOLDERS[title]
            shown = place.resolve().relative_to(REPOSITORY) if place.resolve().is_relative_to(REPOSITORY) else place
            copy = workspace / FOLDERS[title]
            shutil.copytree(path, copy, ignore=shutil.ignore_patterns("*.png", "checkpoint-*", "pretraining"))
            made = workspace / f"card-{FOLDERS[title]}"
            options = {"license": args.license, "evaluations": bare, "run_snippets": not args.no_run_snippets}
            write_card(copy, made, str(shown), encoder=place, **options)
            shutil.copyfile(made / "README.md", place / "README.md")


def evaluate(args: Any, output: Path) -> Path:
    """What and where the pair knows, in a minute or two."""
    pair = {name: str(args.output_dir / FOLDERS[name]) for name in (WITH_SP, WITHOUT)}
    size = crop_size(open_model(pair[WITH_SP]))
    tasks = (RelativeGeometry(crop_size=size, mlp=False), JIGSAW, KNN())
    options = {"dataset": args.dataset, "validation_dataset": args.validation_dataset, "max_images": args.images}
    sp_hf.evaluate(pair, tasks=tasks, output_dir=output, cache_dir=output.parent / "features", **options)
    return output


def bare_results(path: Path, output: Path) -> Path:
    """Results without their pictures."""
    output.mkdir()
    return Path(shutil.copyfile(path / "results.json" if path.is_dir() else path, output / "results.json"))


if __name__ == "__main__":
    sys.exit(run(main, sys.argv[1:]))
