"""``make demo``: pretrain a small ViT on PartScenes with DINO alone and with DINO + SP, then ask both what and where.

One table: random initialisation, DINO, DINO + SP; kNN accuracy (what), R2 of relative position and of scale (where).
Same data, budget, seed and DINO views for both runs: the recipe is one, and ``--objectives dino`` is its control.

    python scripts/demo.py                    # one seed, under 10 minutes on two CPU cores
    python scripts/demo.py --seeds 0 1 2      # with the spread over seeds
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import sp_hf
from sp_hf.cli import run
from sp_hf.evaluation.model import RANDOM
from sp_hf.flags import FlagParser
from sp_hf.quiet import quieten_libraries
from sp_hf.run.flags import read_flags
from sp_hf.run.folder import RunFolder
from sp_hf.run.recipe_file import read_recipe

RECIPE = Path(__file__).parents[1] / "recipes" / "demo.yaml"
RUNS = {"DINO": ["dino"], "DINO + SP": ["dino", "spatial_prediction"]}
TASKS = ("relative-geometry", "knn")
METRICS = {  # title: task, metric
    "kNN (what)": ("knn", "accuracy"),
    "R2 of position (where)": ("relative-geometry", "r2_position"),
    "R2 of scale (where)": ("relative-geometry", "r2_scale"),
}


def main(argv: list[str]) -> int:
    parser = FlagParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--output_dir", type=Path, default=Path("runs/demo"))
    parser.add_argument("--images", type=int, default=1000, help="of each side, to evaluate with")
    args, flags = parser.parse_known_args(argv)
    options = read_flags(flags)  # any other is one of sp-hf pretrain
    quieten_libraries()
    started = time.perf_counter()
    found = {}
    for seed in args.seeds:
        folders = {name: args.output_dir / f"{'-'.join(which)}-seed{seed}" for name, which in RUNS.items()}
        for name, folder in folders.items():
            train(RUNS[name], seed, folder, options)
        print(f"\nWhat do they know? sp-hf evaluate {' '.join(map(str, folders.values()))}\n")
        found[seed] = measure(seed, folders, args.output_dir / f"evaluation-seed{seed}", args.images, options)
        print(found[seed])
    if len(found) > 1:
        table = spread_table(found)
        (args.output_dir / "table.txt").write_text(table + "\n")
        print(f"\n{table}")
    print(f"\n{time.perf_counter() - started:.0f} s. Look at views.png and curves.png in {args.output_dir}/*.")
    print("Next, your own images:")
    print("  .venv/bin/sp-hf pretrain --recipe recipes/demo.yaml --dataset path/to/images --output_dir runs/mine")
    return 0


def train(objectives: list[str], seed: int, folder: Path, options: dict[str, Any]) -> None:
    """One run of the recipe; nothing if it is finished, the rest of it if it was interrupted."""
    if RunFolder(folder).finished:
        print(f"{folder} is finished; remove it to run it again.")
        return
    print(f"\n{folder}: {' + '.join(objectives)}")
    run_of = {"recipe": RECIPE, "objectives": objectives, "seed": seed, "output_dir": folder}
    result = sp_hf.pretrain(**{**run_of, **options}, resume="auto")
    if result.stopped_by is not None:
        raise KeyboardInterrupt


def measure(seed: int, folders: dict[str, Path], output: Path, images: int, options: dict[str, Any]) -> sp_hf.Results:
    """What and where the runs of a seed know, beside their random initialisation."""
    dataset = options.get("dataset", read_recipe(RECIPE)["dataset"])
    return sp_hf.evaluate(
        folders,
        tasks=TASKS,
        dataset=dataset,
        seed=seed,
        output_dir=output,
        max_images=images,
        relative_geometry_crop_size=32,
    )


def spread_table(found: dict[int, sp_hf.Results]) -> str:
    """Mean and standard deviation over seeds."""

    def value(seed: int, model: str, title: str) -> float:
        return found[seed].metric(*METRICS[title], model).value

    seeds, (without, with_sp) = list(found), RUNS
    lines = [" " * 24 + "".join(f"{title:>26}" for title in METRICS)]
    for model in (RANDOM, *RUNS):
        cells = [_spread([value(seed, model, title) for seed in seeds]) for title in METRICS]
        lines.append(f"{model:24}" + "".join(f"{cell:>26}" for cell in cells))
    gains = [[value(s, with_sp, title) - value(s, without, title) for s in seeds] for title in METRICS]
    lines.append(f"{'gain by SP, paired':24}" + "".join(f"{_spread(gain, '+'):>26}" for gain in gains))
    return "\n".join([*lines, f"mean +- standard deviation over seeds {', '.join(map(str, seeds))}"])


def _spread(values: list[float], sign: str = "") -> str:
    return f"{statistics.mean(values):{sign}.3f} +- {statistics.stdev(values):.3f}"


if __name__ == "__main__":
    sys.exit(run(main, sys.argv[1:]))
