"""What the linear probe takes at ImageNet's size, from a measured slope.

    python benchmarks/linear_probe.py                       # CPU, a few minutes; memory only needs few steps
    python benchmarks/linear_probe.py --device cuda         # and the seconds of a step on a GPU

Features are a float32 file on disk, memory-mapped as those of an evaluation are, of 2 x 768 numbers an image. A process
for each number of images fits the probe for a few steps (24 candidates, then the chosen one, then 20 refits) and tells
its peak of memory, without the pages of the file, which the system may drop, and the device's. Memory is a straight
line in the number of images; steps take the same time however many there are. Both are extrapolated to 1.28 M images.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from sp_hf.evaluation.probes.linear import LEARNING_RATES, WEIGHT_DECAYS, fit_linear

IMAGENET = 1_281_167
EPOCHS, BATCH = 30, 256
REFITS = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=(5_000, 10_000, 20_000))
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--features", type=int, default=1536)
    parser.add_argument("--steps", type=int, default=4, help="of each training")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--one", help=argparse.SUPPRESS)  # the file that this process measures
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measured(Path(options.one), options)))
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for images in options.images:
            file = Path(folder) / f"{images}.npy"
            np.save(file, np.random.default_rng(0).standard_normal((images, options.features), np.float32))
            line = [sys.executable, __file__, "--one", str(file), *sys.argv[1:]]
            output = subprocess.run(line, check=True, capture_output=True, text=True).stdout
            rows.append((images, *json.loads(output.splitlines()[-1])))
            file.unlink()
    report(rows, options)


def measured(file: Path, options: argparse.Namespace) -> tuple[float, float, float]:
    """Peak memory of the process, but for the file's pages, and of the device, in bytes; and seconds.

    They are the processor's own where it is the device.
    """
    features = torch.from_numpy(np.load(file, mmap_mode="c"))
    labels = torch.arange(len(features)) % options.classes
    clock = time.process_time if options.device == "cpu" else time.perf_counter  # the processor may be shared
    before, started = anonymous_peak(), clock()
    fit_linear(features, labels, epochs=0, steps=options.steps, refits=REFITS, device=options.device)
    device = torch.cuda.max_memory_allocated() if options.device.startswith("cuda") else 0
    return anonymous_peak() - before, device, clock() - started


def anonymous_peak() -> int:
    """Peak of what is not a file's: VmHWM less what is now mapped from files."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return 1024 * (int(status["VmHWM"].split()[0]) - int(status["RssFile"].split()[0]))


def report(rows: list[tuple[int, float, float, float]], options: argparse.Namespace) -> None:
    images, host, device, seconds = map(np.array, zip(*rows, strict=True))
    for row in rows:
        print(f"{row[0]:8d} images: {row[1] / 2**30:6.2f} GiB, device {row[2] / 2**30:5.2f} GiB, {row[3]:6.1f} s")
    slope, start = np.polyfit(images, host, 1)
    print(f"\nHost: {start / 2**30:.2f} GiB and {slope:.0f} bytes an image; at {IMAGENET}:"
          f" {(start + slope * IMAGENET) / 2**30:.1f} GiB, beside the features on disk"
          f" ({4 * options.features * IMAGENET / 2**30:.1f} GiB)")  # fmt: skip
    of_image, of_steps = np.polyfit(images, seconds, 1)  # statistics and held-out images; steps of all three trainings
    candidates = len(LEARNING_RATES) * len(WEIGHT_DECAYS)
    share = (0.8 * candidates + 1 + REFITS) / (candidates + 1 + REFITS)  # the first training sees 80 % of the images
    steps = share * EPOCHS * IMAGENET / BATCH
    hours = (of_image * IMAGENET + of_steps / options.steps * steps) / 3600
    print(f"Time: {of_steps / options.steps:.2f} s for a step of all three trainings; {EPOCHS} epochs: {hours:.1f} h")


if __name__ == "__main__":
    main()
