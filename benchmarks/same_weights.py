"""Whether every recipe trains to the very same weights as it did at another commit.

    python benchmarks/same_weights.py                                  # what is not committed yet changed nothing
    python benchmarks/same_weights.py REF                              # a commit, a branch, a tag
    python benchmarks/same_weights.py REF --recipes demo drop_pos_vit_base --steps 3
    python benchmarks/same_weights.py REF --recipes_of_ref             # the code alone: REF's recipes under both

REF is checked out in a temporary worktree. Each recipe that both trees have is trained for a few steps under both, each
by its own code, on a small encoder, narrow heads and a few pictures of noise, with the views, losses, schedules
and precision of the recipe. Then every weight and buffer is compared bit by bit. Exit code 1 if any differs.

Cost: some five seconds a recipe and tree on one core.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[1]
NARROW = {
    "prototypes": 64, "head_width": 32, "head_bottleneck": 16, "embedding_size": 16, "negatives": 32,
    "decoder_width": 32, "decoder_depth": 1, "decoder_heads": 2,
}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ref", nargs="?", default="HEAD", help="commit to compare with; default: the last one")
    parser.add_argument("--recipes", nargs="+", help="names without .yaml; default: all")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--recipes_of_ref", action="store_true", help="train REF's recipes in both trees")
    parser.add_argument("--train", type=Path, help=argparse.SUPPRESS)  # a subprocess: train into this folder
    options = parser.parse_args()
    if options.train is not None:
        images = write_images(options.train / "images")
        for name in options.recipes:
            recipe = Path(options.ref) / "recipes" / f"{name}.yaml"
            train(recipe, images, options.train / name, options.steps, options.batch)
        return 0
    with worktree(options.ref) as before, tempfile.TemporaryDirectory() as results:
        trees = {"before": before, "now": REPOSITORY}
        shipped = {key: {path.stem for path in (tree / "recipes").glob("*.yaml")} for key, tree in trees.items()}
        names = sorted(options.recipes or shipped["now"] | shipped["before"])
        both = [name for name in names if all(name in found for found in shipped.values())]
        for key, tree in trees.items():
            recipes = before if options.recipes_of_ref else tree
            run_tree(tree, recipes, Path(results) / key, both, options)
        verdicts = {name: compare(*(Path(results) / key / name for key in trees)) for name in both}
    for name in sorted(set(names) - set(both)):
        verdicts[name] = f"only {'now' if name in shipped['now'] else 'before'}"
    print(f"\n| recipe | against {options.ref} |\n|---|---|")
    for name in names:
        print(f"| `{name}` | {verdicts[name]} |")
    return int(any(not verdict.startswith(("equal", "only")) for verdict in verdicts.values()))


@contextlib.contextmanager
def worktree(ref: str) -> Iterator[Path]:
    """REF's files in a folder of their own, for as long as they are needed."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        git = ["git", "-C", str(REPOSITORY), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", str(tree), ref], check=True)
        try:
            yield tree
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], check=True)


def run_tree(tree: Path, recipes: Path, output: Path, names: list[str], options: argparse.Namespace) -> None:
    """Train the recipes of one tree by the code of another (or its own), in one process."""
    command = [sys.executable, str(Path(__file__).resolve()), str(recipes), "--train", str(output), "--recipes", *names]
    command += ["--steps", str(options.steps), "--batch", str(options.batch)]
    environment = {**os.environ, "PYTHONPATH": str(tree / "src"), "OMP_NUM_THREADS": "1"}
    subprocess.run(command, check=True, cwd=tree, env=environment, stdout=subprocess.DEVNULL)


def write_images(folder: Path) -> Path:
    """16 pictures of smooth noise in two classes, the same whatever the tree makes of its own images."""
    import numpy as np
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 256, size=(16, 8, 8, 3), dtype=np.uint8)
    for index, pixels in enumerate(noise):
        file = folder / "train" / f"class_{index % 2}" / f"{index:02}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).resize((64, 64), Image.Resampling.BICUBIC).save(file)
    return folder


def train(recipe: Path, images: Path, output: Path, steps: int, batch: int) -> None:
    """A few steps of a recipe, made small; a failure is told on the way and shows in the table."""
    import yaml

    from sp_hf.cli import main as command

    output.mkdir(parents=True)
    small = {**read(recipe), **{
        "dataset": str(images), "canvas_size": 64, "max_steps": steps, "use_cpu": True,
        "per_device_train_batch_size": batch, "dataloader_num_workers": 0, "logging_steps": 1, "save_steps": 1000,
        "output_dir": str(output / "run"),
    }}  # fmt: skip
    small["encoder"] = small_encoder(small.get("encoder", "vit-small-16"), output)
    small["objectives"] = [narrowed(entry) for entry in small["objectives"]]
    file = output / "small.yaml"
    file.write_text(yaml.safe_dump(small))
    print(f"{recipe.stem} ...", file=sys.stderr, flush=True)
    command(["pretrain", "--recipe", str(file)])


def read(recipe: Path) -> dict[str, Any]:
    """A recipe by the tree's own reader."""
    try:
        from sp_hf.run.recipe import read_recipe
    except ImportError:  # before the room was there
        from sp_hf.training.recipe import read_recipe
    return read_recipe(recipe)


def small_encoder(name: str, folder: Path) -> str:
    """The smallest preset with the same patches; of a checkpoint, a fresh small DINOv2."""
    if name.startswith("vit-"):
        return f"vit-micro-{name.rpartition('-')[2]}"
    from transformers import Dinov2Config

    config = Dinov2Config(hidden_size=48, num_hidden_layers=2, num_attention_heads=2, patch_size=14, image_size=224)
    config.save_pretrained(folder / "encoder")
    return str(folder / "encoder" / "config.json")


def narrowed(entry: dict[str, Any] | str) -> dict[str, Any]:
    """An objective's entry with narrow heads."""
    from sp_hf.objectives import OBJECTIVES

    entry = {"name": entry} if isinstance(entry, str) else entry
    known = {field.name for field in dataclasses.fields(OBJECTIVES[entry["name"]].config_class)}
    return {**entry, **{option: value for option, value in NARROW.items() if option in known}}


def compare(before: Path, now: Path) -> str:
    """A verdict on two finished runs."""
    from safetensors.torch import load_file

    files = [folder / "run" / "pretraining" / "model.safetensors" for folder in (before, now)]
    missing = [which for which, file in zip(("before", "now"), files, strict=True) if not file.is_file()]
    if missing:
        return f"**failed** {' and '.join(missing)}"
    old, new = map(load_file, files)
    problems = []
    for label, names in (("gone", old.keys() - new.keys()), ("new", new.keys() - old.keys())):
        if names:
            problems.append(f"{len(names)} {label}, such as {min(names)}")
    shared = sorted(old.keys() & new.keys())
    different = [name for name in shared if old[name].shape != new[name].shape or not old[name].equal(new[name])]
    if different:
        problems.append(f"{len(different)} of {len(shared)} differ, such as {different[0]}")
    return f"**{'; '.join(problems)}**" if problems else f"equal ({len(shared)} tensors)"


if __name__ == "__main__":
    sys.exit(main())
