"""Speed of views and canvases beside other packages, on one CPU thread, from JPEG bytes.

    python benchmarks/views.py                          # skips the packages that are not installed
    python benchmarks/views.py --write docs/performance.md

DINO's views of one image (Caron et al. 2021): two of area 0.4 to 1, others of 0.05 to 0.4, with flips, colour jitter,
grey, blur and solarise, to float tensors, at two sizes: **paper**, 2 x 224 + 8 x 96 px through canvases of 448 px, and
**desk**, 2 x 64 + 4 x 32 px through canvases of 128 px. Counted of each package, from JPEG bytes and from decoded
images: what its own pipeline does with a batch. kornia takes the whole batch as one tensor; the others an image at a
time, in a loop. albumentations reduces without antialiasing (OpenCV's INTER_LINEAR) unless it is told INTER_AREA; sp_hf
and the others with it. **Canvas** is what a worker of sp_hf does: JPEG to a square of the canvas's size.

Peers: ``pip install simplejpeg albumentations opencv-python-headless kornia``; lightly, stable-pretraining and
torchvision want torchvision of torch's own release.

One thread, CPU seconds (a busy machine disturbs them less than the clock's), all pipelines in turn in every round; of
each the least of all rounds is told, as whatever else runs can only add to it, and the median over rounds of the ratio.
"""

from __future__ import annotations

import argparse
import io
import statistics
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from view_peers import PEERS, Sizes

from sp_hf.data import jpeg
from sp_hf.data.canvas import make_canvas
from sp_hf.markdown import table
from sp_hf.run.environment import processor_name
from sp_hf.views.keyed_random import sample_keys
from sp_hf.views.photometric import Photometric
from sp_hf.views.sampler import ViewSampler
from sp_hf.views.spec import ViewSpec

SCALES = {
    "paper": (Sizes(globals=224, locals=96, local_count=8), 448, (500, 375), 4),  # canvas, JPEG's size, images
    "desk": (Sizes(globals=64, locals=32, local_count=4), 128, (150, 112), 16),
}
PACKAGES = ("sp-hf", "torch", "pillow", "simplejpeg", "albumentations", "opencv-python-headless", "kornia", "lightly",
            "torchvision", "stable-pretraining")  # fmt: skip
BEGIN, END = "<!-- views: benchmarks/views.py -->", "<!-- /views -->"

Work = Callable[[], object]


class Row(NamedTuple):
    """One pipeline's time."""

    what: str
    name: str
    milliseconds: float  # an image, the least of all rounds
    ratio: float  # its time over sp_hf's, the median over rounds


def photographs(count: int, size: tuple[int, int]) -> list[bytes]:
    """JPEGs of smooth random pictures with some grain, of a photograph's bytes a pixel."""
    generator = np.random.default_rng(0)
    files = []
    for _ in range(count):
        blocks = Image.fromarray(generator.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        grain = generator.normal(0, 9, (size[1], size[0], 1))
        picture = np.asarray(blocks.resize(size, Image.Resampling.BICUBIC)) + grain
        buffer = io.BytesIO()
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
        files.append(buffer.getvalue())
    return files


def our_pipelines(files: list[bytes], sizes: Sizes, canvas: int) -> dict[str, Work]:
    """Views from JPEG bytes, and from canvases that are made."""
    sampler = ViewSampler(
        {
            "global": ViewSpec(2, sizes.globals, (0.4, 1.0), photometric=Photometric.dino_global()),
            "local": ViewSpec(sizes.local_count, sizes.locals, (0.05, 0.4), photometric=Photometric.dino_local()),
        }
    )
    keys = sample_keys(0, 0, len(files))

    def canvases() -> tuple[torch.Tensor, torch.Tensor]:
        made = [make_canvas(file, canvas) for file in files]
        return torch.from_numpy(np.stack([one for one, _ in made])), torch.tensor([aspect for _, aspect in made])

    kept = canvases()
    return {
        "views from JPEG": lambda: sampler(*canvases(), keys),
        "views from decoded": lambda: sampler(*kept, keys),
        "JPEG to canvas": lambda: [make_canvas(file, canvas) for file in files],
    }


def canvas_peers(files: list[bytes], canvas: int) -> dict[str, Work]:
    """The same square by others."""
    side = (canvas, canvas)

    def pillow() -> object:
        images = [Image.open(io.BytesIO(file)).convert("RGB") for file in files]
        return [np.asarray(image.resize(side, Image.Resampling.BICUBIC)).transpose(2, 0, 1).copy() for image in images]

    found: dict[str, Work] = {"Pillow": pillow}
    try:
        import cv2
        import simplejpeg
    except ImportError as error:
        print(f"simplejpeg + OpenCV: left out ({error})")
        return found
    cv2.setNumThreads(1)

    def opencv() -> object:
        decoded = [simplejpeg.decode_jpeg(file, "RGB") for file in files]
        return [cv2.resize(one, side, interpolation=cv2.INTER_AREA).transpose(2, 0, 1).copy() for one in decoded]

    return {**found, "simplejpeg + OpenCV": opencv}


def pipelines_of(files: list[bytes], sizes: Sizes, canvas: int) -> dict[tuple[str, str], Work]:
    """Every pipeline, by what it does and who does it."""
    found = {(what, "sp_hf"): work for what, work in our_pipelines(files, sizes, canvas).items()}
    found |= {("JPEG to canvas", name): work for name, work in canvas_peers(files, canvas).items()}
    decoded = [Image.open(io.BytesIO(file)).convert("RGB") for file in files]
    for name, build in PEERS.items():
        try:
            peer = build(sizes)
        except ImportError as error:
            print(f"{name}: left out ({error})")
            continue
        kept = peer.prepare(decoded)
        found["views from JPEG", name] = lambda peer=peer: peer.views(peer.decode(files))
        found["views from decoded", name] = lambda peer=peer, kept=kept: peer.views(kept)
    return found


def measured(pipelines: dict[tuple[str, str], Work], images: int, rounds: int) -> list[Row]:
    """Times of all pipelines in turn, round by round; the first round, which warms up, does not count."""
    seconds: dict[tuple[str, str], list[float]] = {key: [] for key in pipelines}
    for round_ in range(rounds + 1):
        for key, work in pipelines.items():
            start = time.process_time()
            work()
            if round_:
                seconds[key].append((time.process_time() - start) / images)
    rows = []
    for (what, name), times in seconds.items():
        ratio = statistics.median(t / own for t, own in zip(times, seconds[what, "sp_hf"], strict=True))
        rows.append(Row(what, name, 1e3 * min(times), ratio))
    return sorted(rows, key=lambda row: (row.what, row.milliseconds))


def report(options: argparse.Namespace) -> str:
    """Markdown: one table a size."""
    lines = []
    for scale in options.scales:
        sizes, canvas, size, count = SCALES[scale]
        files = photographs(count, size)
        rows = measured(pipelines_of(files, sizes, canvas), len(files), options.rounds)
        lines += [
            f"**{scale}**: 2 x {sizes.globals} + {sizes.local_count} x {sizes.locals} px, canvas {canvas} px, images of"
            f" {size[0]} x {size[1]} px",
            "",
            *table(
                [
                    ("", "", "ms an image", "images/s", "its time over sp_hf's"),
                    *(
                        (r.what, r.name, f"{r.milliseconds:.2f}", f"{1e3 / r.milliseconds:.0f}", f"{r.ratio:.2f}")
                        for r in rows
                    ),
                ]
            ),
            "",
        ]
    versions = ", ".join(f"{name} {version}" for name in PACKAGES if (version := _version(name)))
    lines.append(
        f"One thread of {processor_name()}, {options.rounds} rounds, JPEGs by {jpeg.DECODER}; {versions}."
        " `python benchmarks/views.py --write docs/performance.md`"
    )
    return "\n".join(lines)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--scales", nargs="+", choices=tuple(SCALES), default=list(SCALES))
    parser.add_argument("--write", type=Path, help="page between whose marks the tables go")
    options = parser.parse_args()
    torch.set_num_threads(1)
    made = report(options)
    print(made)
    if options.write is not None:
        before, _, rest = options.write.read_text(encoding="utf-8").partition(BEGIN)
        _, _, after = rest.partition(END)
        options.write.write_text(f"{before}{BEGIN}\n{made}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
