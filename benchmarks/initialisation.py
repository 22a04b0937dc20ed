"""Do fresh encoders learn, at every width? SP alone, from each initialisation, at equal budget.

    python benchmarks/initialisation.py --dataset path/to/train.parquet --validation_dataset path/to/validation.parquet

For each preset and each of ``--initialisation``'s schemes: SP alone (four 32-px views, batches of 32), and then

- the first step at which SP's own R2 of position, a mean over 25 training batches, is above 0.1 (``-``: never);
- that R2 over the last 25 batches;
- 20-NN of the validation images, beside that of the same encoder untrained.

About 8 minutes of one core for ``vit-micro-8`` and ``vit-tiny-8`` (on a CPU with AMX), 40 with the wider two.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

SCHEMES = ("stock", "xavier")
VIEWS = {
    "count": 4, "size": 32, "area": [0.05, 0.4], "flip": "shared", "photometric": "byol",
    "effective_resolution": [0.3, 0.7],
}  # fmt: skip


def train(preset: str, scheme: str, folder: Path, args: argparse.Namespace) -> None:
    """A run of SP alone."""
    recipe = {
        "encoder": preset,
        "image_size": 64,
        "initialisation": scheme,
        "dataset": args.dataset,
        "canvas_size": 112,
        "objectives": [{"name": "spatial_prediction", "weight": 1.0, "views": VIEWS, "head_width": 512}],
        "max_steps": args.steps,
        "per_device_train_batch_size": 32,
        "learning_rate": 5e-4 if preset.startswith(("vit-small", "vit-base")) else 1e-3,
        "max_grad_norm": 1.0,
        "dataloader_num_workers": 0,
        "logging_steps": 25,
        "save_steps": 1.0,
        "seed": args.seed,
        "bf16": args.bf16,
        "use_cpu": args.cpu,
        "attn_implementation": "eager",
    }
    file = folder.with_suffix(".yaml")
    file.write_text(yaml.safe_dump(recipe))
    run("pretrain", "--recipe", str(file), "--output_dir", str(folder))


def accuracies(folders: dict[str, Path], out: Path, args: argparse.Namespace) -> tuple[dict[str, float], float]:
    """20-NN in per cent by scheme, and that of the untrained encoders by scheme."""
    trained, untrained = {}, {}
    for scheme, folder in folders.items():
        run(
            *("evaluate", f"{scheme}={folder}", "--tasks", "knn", "--dataset", args.dataset),
            *("--validation_dataset", args.validation_dataset, "--num_workers", "0", "--output_dir", str(out / scheme)),
        )
        results = json.loads((out / scheme / "results.json").read_text())["tasks"]["knn"]["results"]
        trained[scheme] = 100 * results[scheme]["measures"]["accuracy"]["value"]
        untrained[scheme] = 100 * results["random initialisation"]["measures"]["accuracy"]["value"]
    return trained, untrained


def run(*argv: str) -> None:
    subprocess.run([sys.executable, "-m", "sp_hf.cli", *argv], check=True, stdout=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--validation_dataset", required=True)
    parser.add_argument("--presets", nargs="+", default=["vit-micro-8", "vit-tiny-8", "vit-small-8", "vit-base-8"])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bf16", action="store_true", help="fast on GPUs, and on CPUs with AMX")
    parser.add_argument("--cpu", action="store_true")
    args = parser.parse_args()
    print("| encoder | initialisation | R2 above 0.1 after | R2 at the end | kNN % | untrained kNN % |")
    print("|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        for preset in args.presets:
            folders = {scheme: Path(temporary) / preset / scheme for scheme in SCHEMES}
            for scheme, folder in folders.items():
                folder.parent.mkdir(exist_ok=True)
                train(preset, scheme, folder, args)
            trained, untrained = accuracies(folders, Path(temporary) / preset / "evaluation", args)
            for scheme, folder in folders.items():
                lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
                curve = {line["step"]: line["spatial_prediction/r2_position"] for line in lines if "loss" in line}
                passed = next((f"{step} steps" for step, r2 in curve.items() if r2 > 0.1), "-")
                print(
                    f"| {preset} | {scheme} | {passed} | {curve[max(curve)]:.3f}"
                    f" | {trained[scheme]:.1f} | {untrained[scheme]:.1f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
