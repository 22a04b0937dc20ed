"""``make demo``: pretrain a small ViT on PartScenes with DINO alone and with DINO + SP, then ask both what and where.

One table: random initialisation, DINO, DINO + SP; kNN accuracy (what), R2 of relative position and of scale (where).
Same data, budget, seed and views for both runs: the recipe is one, and ``--objectives dino`` is its control.

    python scripts/demo.py                    # one seed, under 10 minutes on two CPU cores
    python scripts/demo.py --seeds 0 1 2      # with the spread over seeds
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from sp_hf.cli import run
from sp_hf.evaluation.demo_table import collect, format_demo_table
from sp_hf.training.pretrain import pretrain
from sp_hf.training.recipe import parse_run

RECIPE = Path(__file__).parent.parent / "recipes" / "demo.yaml"
RUNS = {"DINO": ["dino"], "DINO + SP": ["dino", "spatial_prediction"]}


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--output_dir", type=Path, default=Path("runs/demo"))
    args, flags = parser.parse_known_args(argv)
    started = time.perf_counter()
    results = []
    for seed in args.seeds:
        for name, objectives in RUNS.items():
            folder = args.output_dir / f"{'_'.join(objectives)}-seed{seed}"
            results.append(collect(name, seed, folder, lambda o=objectives, s=seed, f=folder: train(o, s, f, flags)))
    table = format_demo_table(results)
    (args.output_dir / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    (args.output_dir / "table.txt").write_text(table + "\n")
    print(f"\n{table}\n\n{time.perf_counter() - started:.0f} s. Everything is in {args.output_dir}/")
    print("Look at views.png and curves.png in a run folder. Then try:")
    print("  .venv/bin/sp-hf pretrain --recipe recipes/demo.yaml --dataset path/to/your/images --output_dir runs/mine")
    return 0


def train(objectives: list[str], seed: int, folder: Path, flags: list[str]) -> None:
    """One run of the recipe; goes on where an interrupted one stopped, does nothing where one finished."""
    argv = ["--recipe", str(RECIPE), "--objectives", *objectives, "--seed", str(seed), "--output_dir", str(folder)]
    pretrain(*parse_run(argv + flags))


if __name__ == "__main__":
    sys.exit(run(main, sys.argv[1:]))
