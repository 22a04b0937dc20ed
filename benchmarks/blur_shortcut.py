"""The blur shortcut: how well a crop's sharpness alone tells how large its box is, and what the views do against it.

    python benchmarks/blur_shortcut.py                                   # scale-free noise and PartScenes, 3 minutes
    python benchmarks/blur_shortcut.py --images FOLDER_OR_PARQUET        # and your own photographs
    python benchmarks/blur_shortcut.py --size 96 --canvas 224 256 384

A small box, enlarged from a small canvas, is blurrier than a large one, so a network can regress scale without knowing
what it sees. Here ridge regression on statistics of sharpness (structure function at six lags, Laplacian energy,
power in eight bands of frequency; logs, their squares and products) predicts the log of the box's side, ``single``,
and the log ratio of the sides of two boxes of one image, ``pair``. R2 on images that were not fitted, with the ridge
penalty that does best there, so that leaks are over- rather than underestimated. 0 is no leak.

- *noise* has a 1/f spectrum: it looks the same at any scale, so all that is predicted comes from the pipeline.
- In pictures, sharpness also tells scale by content (distant texture is finer, lenses blur), which is fair to learn.

``detail`` is the mean gradient energy of the defended views beside that of the undefended ones: what the defence costs.
``dino_local`` is the views' usual photometric jitter, half of them blurred.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sp_hf.data.canvas import make_canvas
from sp_hf.views.geometry import log_scale, relation
from sp_hf.views.keyed_random import sample_keys
from sp_hf.views.photometric import Photometric
from sp_hf.views.sampler import ViewSampler
from sp_hf.views.spec import ViewSpec

Range = tuple[float, float] | None
Canvases = Callable[[int], tuple[Tensor, Tensor]]  # canvas side -> uint8 [I, 3, S, S], aspects [I]

_PENALTIES = (3.0, 30.0, 300.0, 3e3, 3e4)
_FOLDS = 4


# -------------------------------------------------------------------------------------------------------- images
def noise_images(count: int, side: int = 1024, seed: int = 0) -> Iterator[Image.Image]:
    """Grey noise with a 1/f amplitude spectrum."""
    generator = torch.Generator().manual_seed(seed)
    frequency = (torch.fft.fftfreq(side)[:, None] ** 2 + torch.fft.rfftfreq(side) ** 2).sqrt()
    frequency[0, 0] = torch.inf  # no mean
    for _ in range(count):
        white = torch.fft.rfft2(torch.randn(side, side, generator=generator))
        field = torch.fft.irfft2(white / frequency, s=(side, side))[: side * 3 // 4, : side * 3 // 4]  # not periodic
        grey = (128 + 45 * (field - field.mean()) / field.std()).clamp(0, 255).byte()
        yield Image.fromarray(grey.numpy()).convert("RGB")


def stored_images(path: Path, limit: int) -> list[Image.Image | bytes | Path]:
    """Of a folder, or of the column ``image`` of a parquet file."""
    if path.is_dir():
        suffixes = {".jpg", ".jpeg", ".png", ".webp"}
        return sorted(file for file in path.rglob("*") if file.suffix.lower() in suffixes)[:limit]
    import pyarrow.parquet as parquet

    return [row["bytes"] for row in parquet.read_table(path, columns=["image"])["image"].slice(0, limit).to_pylist()]


def squashed(images: list) -> Canvases:
    def canvases(side: int) -> tuple[Tensor, Tensor]:
        made = [make_canvas(image, side) for image in images]
        return torch.from_numpy(np.stack([canvas for canvas, _ in made])), torch.tensor([aspect for _, aspect in made])

    return canvases


def part_scenes_canvases(count: int) -> Canvases:
    """PartScenes, drawn at the canvas's own size, so that there is detail to fill it."""
    from sp_hf.data.part_scenes.dataset import render_scene

    def canvases(side: int) -> tuple[Tensor, Tensor]:
        scenes = np.stack([render_scene(0, index, side, difficulty="hard").image for index in range(count)])
        return torch.from_numpy(scenes).permute(0, 3, 1, 2).contiguous(), torch.ones(count)

    return canvases


# -------------------------------------------------------------------------------------------------------- sharpness
def sharpness(pixels: Tensor) -> Tensor:
    """Logs of sharpness statistics of views, each at unit variance: [M, 3, N, N] to [M, 16]."""
    grey = pixels.mean(1)
    grey = grey - grey.mean((1, 2), keepdim=True)
    grey = grey / (grey.square().mean((1, 2), keepdim=True).sqrt() + 1e-4)
    size = grey.shape[1]
    found = [
        (grey[:, dy:, dx:] - grey[:, : size - dy, : size - dx]).square().mean((1, 2))
        for dy, dx in ((0, 1), (1, 0), (0, 2), (2, 0), (0, 4), (4, 0), (1, 1))
    ]
    centre = grey[:, 1:-1, 1:-1]
    laplacian = 4 * centre - grey[:, 2:, 1:-1] - grey[:, :-2, 1:-1] - grey[:, 1:-1, 2:] - grey[:, 1:-1, :-2]
    found.append(laplacian.square().mean((1, 2)))
    window = torch.hann_window(size, periodic=False)
    power = torch.fft.rfft2(grey * window[:, None] * window).abs().square()
    frequency = (torch.fft.fftfreq(size)[:, None] ** 2 + torch.fft.rfftfreq(size) ** 2).sqrt()
    edges = torch.logspace(np.log10(1.5 / size), np.log10(0.5), 9)
    for low, high in zip(edges[:-1], edges[1:], strict=True):
        found.append(power[:, (frequency >= low) & (frequency < high)].mean(1))
    return (torch.stack(found, 1) + 1e-7).log()


def held_out_r2(features: Tensor, targets: Tensor) -> float:
    """Best R2 of ridge regression on features, squares and products. features [I, M, F], targets [I, M]; folds by I."""
    flat = _standardised(features.flatten(0, 1), 4)
    rows, columns = torch.triu_indices(flat.shape[1], flat.shape[1])
    flat = _standardised(torch.cat([flat, flat[:, rows] * flat[:, columns]], 1), 6)
    inputs = flat.double().view(*features.shape[:2], -1)
    fold = torch.arange(len(inputs)) % _FOLDS
    predictions = torch.zeros(len(_PENALTIES), *targets.shape, dtype=torch.float64)
    for k in range(_FOLDS):
        x, y = inputs[fold != k].flatten(0, 1), targets[fold != k].flatten().double()
        gram, cross = x.T @ x, x.T @ (y - y.mean())
        for row, penalty in zip(predictions, _PENALTIES, strict=True):
            weights = torch.linalg.solve(gram + penalty * torch.eye(len(gram), dtype=gram.dtype), cross)
            row[fold == k] = inputs[fold == k] @ weights + y.mean()
    errors = (predictions - targets).square().sum((1, 2))
    return float((1 - errors / (targets - targets.mean()).square().sum()).max())


def _standardised(features: Tensor, bound: float) -> Tensor:
    return ((features - features.mean(0)) / (features.std(0) + 1e-9)).clamp(-bound, bound)


# -------------------------------------------------------------------------------------------------------- measuring
def measure(canvases: Tensor, aspects: Tensor, spec: ViewSpec) -> tuple[float, float, float]:
    """(R2 of single boxes, R2 of pairs, mean gradient energy)."""
    sampler, keys = ViewSampler({"view": spec}), sample_keys(1, 0, len(canvases))
    features, boxes, energy = [], [], 0.0
    for part in torch.arange(len(canvases)).split(64):
        views = sampler(canvases[part], aspects[part], keys[part])["view"]
        features.append(sharpness(views.pixels.flatten(0, 1)).view(len(part), spec.count, -1))
        boxes.append(views.boxes)
        energy += float(views.pixels.diff(dim=-1).square().mean()) * len(part) / len(canvases)
    features, boxes = torch.cat(features), torch.cat(boxes)
    single = held_out_r2(features, boxes[..., 2:].log().mean(-1))
    ratios = log_scale(relation(boxes[:, 0::2], boxes[:, 1::2]))
    return single, held_out_r2(features[:, 1::2] - features[:, 0::2], ratios), energy


def report(name: str, make: Canvases, views: int, options: argparse.Namespace) -> None:
    for side in options.canvas:
        canvases, aspects = make(side)
        plain = None
        for photometric in (Photometric.none(), Photometric.dino_local()):
            for resolution in options.ranges:
                spec = ViewSpec(
                    views, options.size, tuple(options.area), photometric=photometric, effective_resolution=resolution
                )
                single, pair, energy = measure(canvases, aspects, spec)
                plain = plain or energy
                jitter = "dino_local" if photometric.changes_colour else "none"
                defence = "none" if resolution is None else f"{resolution[0]:g} to {resolution[1]:g}"
                print(
                    f"{name:12s} {side:6d}  {jitter:11s} {defence:12s} {single:7.2f} {pair:7.2f} "
                    f"{'' if photometric.changes_colour else f'{100 * energy / plain:6.0f} %'}",
                    flush=True,
                )


def _range(text: str) -> Range:
    if text == "none":
        return None
    low, _, high = text.partition(":")
    return float(low), float(high or low)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="folder of images, or parquet file with a column 'image'")
    parser.add_argument("--only", choices=("noise", "part-scenes", "images"))
    parser.add_argument("--limit", type=int, default=1000, help="how many of the images")
    parser.add_argument("--size", type=int, default=48, help="output side of the views, px")
    parser.add_argument("--area", type=float, nargs=2, default=(0.05, 0.4))
    parser.add_argument("--canvas", type=int, nargs="+", default=[64, 112, 176, 256])
    parser.add_argument("--ranges", type=_range, nargs="+", default=[None, (0.2, 0.5), (0.3, 0.6), (0.3, 1.0)],
                        help="of effective resolution, as 0.2:0.5, or none")  # fmt: skip
    options = parser.parse_args()
    if options.only == "images" and options.images is None:
        parser.error("--only images needs --images FOLDER_OR_PARQUET")
    torch.set_num_threads(1)
    print(f"views of {options.size} px, area {options.area[0]:g} to {options.area[1]:g}; R2 of log scale\n")
    print("images       canvas  photometric resolution    single    pair   detail")
    start = time.time()
    if options.only in (None, "noise"):
        report("noise", squashed(list(noise_images(250))), 8, options)
    if options.only in (None, "part-scenes"):
        report("part-scenes", part_scenes_canvases(500), 4, options)
    if options.images is not None and options.only in (None, "images"):
        report("images", squashed(stored_images(options.images, options.limit)), 4, options)
    print(f"\n{time.time() - start:.0f} s")


if __name__ == "__main__":
    main()
