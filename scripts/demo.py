"""``make demo``: pretrain a small ViT on PartScenes with DINO alone and with DINO + SP, then ask both what and where.

One table: random initialisation, DINO, DINO + SP; kNN accuracy (what), R2 of relative position and of scale (where).
Same data, budget, seed and DINO views for both runs: the recipe is one, and ``--objectives dino`` is its control.

    python scripts/demo.py                    # one seed, under 10 minutes on two CPU cores
    python scripts/demo.py --seeds 0 1 2      # with the spread over seeds
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

from sp_hf.cli import run
from sp_hf.data.datasets import load_images
from sp_hf.encoder import Encoder
from sp_hf.evaluation.probe import RANDOM, ProbeSettings, format_table, prepare_probe, probe, random_initialisation
from sp_hf.training.checkpointing import last_checkpoint
from sp_hf.training.pretrain import pretrain
from sp_hf.training.recipe import parse_run

RECIPE = Path(__file__).parents[1] / "recipes" / "demo.yaml"
RUNS = {"DINO": ["dino"], "DINO + SP": ["dino", "spatial_prediction"]}
FIGURES = {"knn_accuracy": "kNN (what)", "r2_position": "R2 of position (where)", "r2_scale": "R2 of scale (where)"}


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--output_dir", type=Path, default=Path("runs/demo"))
    parser.add_argument("--probe_images", type=int, default=1000)
    args, flags = parser.parse_known_args(argv)
    started = time.perf_counter()
    folders = {
        (name, seed): args.output_dir / f"{'-'.join(objectives)}-seed{seed}"
        for seed in args.seeds
        for name, objectives in RUNS.items()
    }
    for (name, seed), folder in folders.items():
        train(RUNS[name], seed, folder, flags)
    results = measure(folders, args.probe_images, flags)
    table = report(results, args.seeds)
    (args.output_dir / "results.json").write_text(
        json.dumps([{"name": n, "seed": s, **r.to_dict()} for (n, s), r in results.items()], indent=2) + "\n"
    )
    (args.output_dir / "table.txt").write_text(table + "\n")
    print(f"\n{table}\n\n{time.perf_counter() - started:.0f} s.")
    print(f"Look at views.png and curves.png in the folders of {args.output_dir}.")
    print("Next, your own images:")
    print("  .venv/bin/sp-hf pretrain --recipe recipes/demo.yaml --dataset path/to/images --output_dir runs/mine")
    return 0


def train(objectives: list[str], seed: int, folder: Path, flags: list[str]) -> None:
    """One run of the recipe; nothing if it is finished, the rest of it if it was interrupted."""
    if (folder / "encoder").is_dir():
        print(f"{folder} is finished; remove it to run it again.")
        return
    argv = ["--recipe", str(RECIPE), "--objectives", *objectives, "--seed", str(seed), "--output_dir", str(folder)]
    resume = ["--resume_from_checkpoint", "last"] if last_checkpoint(folder) else []
    print(f"\n{folder}: {' + '.join(objectives)}")
    result = pretrain(*parse_run(argv + resume + flags))
    if result.stopped_by is not None:
        raise KeyboardInterrupt


def measure(folders: dict[tuple[str, int], Path], images: int, flags: list[str]) -> dict:
    """{(name, seed): ProbeResults}, the random initialisation of each seed first."""
    _, data_args, _ = parse_run(["--recipe", str(RECIPE), *flags])
    settings = ProbeSettings(size=48, crop_size=32, canvas_size=128, max_images=images)
    data = prepare_probe(
        load_images(data_args.dataset), load_images(data_args.dataset, split="validation"), settings, progress=True
    )
    results = {}
    for (name, seed), folder in folders.items():
        encoder = Encoder.load(folder / "encoder")
        if (RANDOM, seed) not in results:
            results[RANDOM, seed] = probe(random_initialisation(encoder, seed), data, progress=True)
        results[name, seed] = probe(encoder, data, progress=True)
    return results


def report(results: dict, seeds: list[int]) -> str:
    """One seed: the table with intervals over images. Several: mean and standard deviation over seeds."""
    names = [RANDOM, *RUNS]
    if len(seeds) == 1:
        return format_table({name: results[name, seeds[0]] for name in names})
    lines = [" " * 24 + "".join(f"{title:>26}" for title in FIGURES.values())]
    for name in names:
        cells = [_spread([results[name, seed].figures()[figure] for seed in seeds]) for figure in FIGURES]
        lines.append(f"{name:24}" + "".join(f"{cell:>26}" for cell in cells))
    gains = [[results["DINO + SP", s].figures()[f] - results["DINO", s].figures()[f] for s in seeds] for f in FIGURES]
    lines.append(f"{'gain by SP, paired':24}" + "".join(f"{_spread(gain, '+'):>26}" for gain in gains))
    lines.append(f"mean +- standard deviation over seeds {', '.join(map(str, seeds))}")
    return "\n".join(lines)


def _spread(values: list[float], sign: str = "") -> str:
    return f"{statistics.mean(values):{sign}.3f} +- {statistics.stdev(values):.3f}"


if __name__ == "__main__":
    sys.exit(run(main, sys.argv[1:]))
