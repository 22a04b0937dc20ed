"""``make demo``: pretrain a small ViT on PartScenes with one framework, and with SP beside it; then ask what and where.

Same data, budget, seed and views of the framework for both: the recipe is one, and its control leaves SP out. The two
are trained side by side, each in a process of its own with half of the cores, or one after the other on a single core.
Then one table: raw pixels, low-level cues, the untrained encoder, the control and SP; kNN of the object's class
(what), R2 of relative position and of scale of two crops (where). The last sentence says what the numbers show, also
where they do not.

    python scripts/demo.py                    # one seed, some minutes on two CPU cores
    python scripts/demo.py --seeds 0 1 2      # with the spread over seeds
"""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import statistics
import sys
import time
from argparse import RawDescriptionHelpFormatter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

import sp_hf
from sp_hf.cli import run
from sp_hf.evaluation.model import CUES, PIXELS, RANDOM
from sp_hf.evaluation.what.knn import KNN
from sp_hf.evaluation.where.relative_geometry.task import RelativeGeometry
from sp_hf.flags import FlagParser
from sp_hf.quiet import quieten_libraries
from sp_hf.run.flags import read_flags
from sp_hf.run.folder import RunFolder
from sp_hf.run.recipe_file import read_recipe

RECIPE = Path(__file__).parents[1] / "recipes" / "demo.yaml"
CONTROL, WITH_SP = "MoCo v3", "MoCo v3 + SP"
RUNS = {CONTROL: ["moco_v3"], WITH_SP: ["moco_v3", "spatial_prediction"]}
PHOTOGRAPHS = "recipes/caltech101_moco_v3_sp.yaml"
TASKS = (RelativeGeometry(crop_size=32, mlp=False), KNN())
WHAT, WHERE = (KNN.name, "accuracy"), (RelativeGeometry.name, "r2_position")
METRICS = {  # title: task and metric
    "kNN (what)": WHAT,
    "R2 of position (where)": WHERE,
    "R2 of scale (where)": (RelativeGeometry.name, "r2_scale"),
}
PICTURE = "relative-geometry.png"


def main(argv: list[str]) -> int:
    parser = FlagParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--output_dir", type=Path, default=Path("runs/demo"))
    parser.add_argument("--images", type=int, default=500, help="of each side, to evaluate with")
    args, flags = parser.parse_known_args(argv)
    options = read_flags(flags)  # any other is one of sp-hf pretrain
    quieten_libraries()
    started = time.perf_counter()
    found = {}
    for seed in args.seeds:
        folders = {name: args.output_dir / f"{'-'.join(which)}-seed{seed}" for name, which in RUNS.items()}
        train_all(seed, folders, options)
        print("\nWhat do they know, and where?\n")
        found[seed] = measure(seed, folders, args.output_dir / f"evaluation-seed{seed}", args.images, options)
        print(found[seed])
    if len(found) > 1:
        table = spread_table(found)
        (args.output_dir / "table.txt").write_text(table + "\n")
        print(f"\n{table}")
    picture = args.output_dir / f"evaluation-seed{args.seeds[0]}" / PICTURE
    print(f"\n{time.perf_counter() - started:.0f} s. Where each says that one crop lies, seen from another: {picture}")
    print("Next, your own photographs:")
    print(f"  .venv/bin/sp-hf pretrain --recipe {PHOTOGRAPHS} --dataset path/to/images --output_dir runs/mine")
    print(f"\n{verdict(found)}")
    return 0


def train_all(seed: int, folders: Mapping[str, Path], options: dict[str, Any]) -> None:
    """Both runs of a seed, side by side where that takes less time.

    Raises:
        KeyboardInterrupt: one was stopped; it has a checkpoint.
        RuntimeError: one failed; it has said why.
    """
    left = {name: folder for name, folder in folders.items() if not RunFolder(folder).finished}
    for name in folders.keys() - left.keys():
        print(f"{folders[name]} is finished; remove it to run it again.")
    cores = os.cpu_count() or 1
    if len(left) < 2 or cores < 2:
        for name, folder in left.items():
            train(name, seed, folder, options)
        return
    sp_hf.load_images(options.get("dataset", read_recipe(RECIPE)["dataset"]))  # drawn once, for both
    spawn = multiprocessing.get_context("spawn")
    each = [
        spawn.Process(target=train_beside, args=(name, seed, folder, options, cores // len(left)))
        for name, folder in left.items()
    ]
    for process in each:
        process.start()
    for process in each:
        process.join()
    codes = [process.exitcode for process in each]
    if 130 in codes:
        raise KeyboardInterrupt
    if any(codes):
        raise RuntimeError("a run of the demo failed; see above")


def train_beside(name: str, seed: int, folder: Path, options: dict[str, Any], threads: int) -> None:
    """:func:`train` in a process of its own, whose lines begin with the run's name."""
    torch.set_num_threads(threads)
    with contextlib.redirect_stdout(_Named(sys.stdout, name)):
        sys.exit(run(lambda _: train(name, seed, folder, {"disable_tqdm": True, **options}), []))


def train(name: str, seed: int, folder: Path, options: dict[str, Any]) -> int:
    """One run of the recipe, or the rest of one that was interrupted."""
    run_of = {"recipe": RECIPE, "objectives": RUNS[name], "seed": seed, "output_dir": folder}
    result = sp_hf.pretrain(**{**run_of, **options}, resume="auto")
    if result.stopped_by is not None:
        raise KeyboardInterrupt
    return 0


def measure(
    seed: int, folders: Mapping[str, Path], output: Path, images: int, options: dict[str, Any]
) -> sp_hf.Results:
    """What and where the runs of a seed know, beside the controls."""
    dataset = options.get("dataset", read_recipe(RECIPE)["dataset"])
    return sp_hf.evaluate(
        dict(folders),
        tasks=TASKS,
        dataset=dataset,
        seed=seed,
        output_dir=output,
        max_images=images,
    )


def spread_table(found: Mapping[int, sp_hf.Results]) -> str:
    """Mean and standard deviation over seeds."""
    lines = [" " * 24 + "".join(f"{title:>26}" for title in METRICS)]
    for model in (PIXELS, CUES, RANDOM, *RUNS):
        values = [_values(found, metric, model) for metric in METRICS.values()]
        lines.append(f"{model:24}" + "".join(f"{_spread(value):>26}" for value in values))
    both = [(_values(found, m, CONTROL), _values(found, m, WITH_SP)) for m in METRICS.values()]
    gains = [[after - before for before, after in zip(*pair, strict=True)] for pair in both]
    lines.append(f"{'gain by SP, paired':24}" + "".join(f"{_spread(gain, '+'):>26}" for gain in gains))
    return "\n".join([*lines, f"mean +- standard deviation over seeds {', '.join(map(str, found))}"])


def _values(found: Mapping[int, sp_hf.Results], metric: tuple[str, str], model: str) -> list[float]:
    """One for each seed; none of a model that the task has no result of."""
    task, name = metric
    return [
        results.metric(task, name, model).value
        for results in found.values()
        if model in results.data["tasks"][task]["results"]
    ]


def _spread(values: list[float], sign: str = "") -> str:
    return f"{statistics.mean(values):{sign}.3f} +- {statistics.stdev(values):.3f}" if values else "-"


def verdict(found: Mapping[int, sp_hf.Results]) -> str:
    """One sentence: whether both learnt what, and SP where; so it is if in every seed it is clear of the intervals."""
    what, where = (
        {model: statistics.mean(values) for model in models if (values := _values(found, metric, model))}
        for metric, models in ((WHAT, (PIXELS, RANDOM, *RUNS)), (WHERE, (CUES, RANDOM, *RUNS)))
    )
    told_what = ", ".join(f"{model} {100 * value:.0f} %" for model, value in what.items())
    told_where = ", ".join(f"{model} {value:.2f}" for model, value in where.items())
    failed = sorted({claim for results in found.values() for claim, holds in claims(results).items() if not holds})
    if failed:
        return f"This does not show it: {'; '.join(failed)} (kNN: {told_what}; R2 of position: {told_where})."
    return f"Both learnt what (kNN: {told_what}), and where was learnt by SP (R2 of position: {told_where})."


def claims(results: sp_hf.Results) -> dict[str, bool]:
    """What the demo is to show, by how a failure reads."""

    def above(metric: tuple[str, str], model: str, floor: str) -> bool:
        return results.metric(*metric, model).low > results.metric(*metric, floor).high

    wanted = {
        f"{model} is not clear of {floor} in kNN": above(WHAT, model, floor)
        for model in RUNS
        for floor in (PIXELS, RANDOM)
    }
    wanted |= {f"{WITH_SP} is not clear of {floor} in where": above(WHERE, WITH_SP, floor) for floor in (CUES, RANDOM)}
    wanted[f"{WITH_SP} is not clear of its control in where"] = results.difference(*WHERE, WITH_SP).low > 0
    return wanted


class _Named(io.TextIOBase):
    """Text with a name before each line."""

    def __init__(self, stream: Any, name: str) -> None:
        self.stream, self.name, self.begins = stream, name, True

    def write(self, text: str) -> int:
        for line in text.splitlines(keepends=True):
            self.stream.write(f"{self.name:8} | {line}" if self.begins else line)
            self.begins = line.endswith("\n")
        self.stream.flush()
        return len(text)


if __name__ == "__main__":
    sys.exit(run(main, sys.argv[1:]))
