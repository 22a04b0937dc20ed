"""Speed of the views: beside lightly's and kornia's pipelines on one CPU thread, and as a share of a training step.

    python benchmarks/views.py                        # one CPU thread; skips the peers that are not installed
    python benchmarks/views.py --device cuda          # the share of a ViT-S DINO step, at most 5 % wanted
    python benchmarks/views.py --step --batch 2 --vit 64 2 2 --sizes 32 16   # the same code on a CPU, tiny

The peers want torchvision of torch's own release (``pip install torch torchvision lightly kornia``); sp_hf's views need
torch alone, so this file also runs with ``PYTHONPATH=src`` in an environment that has no transformers.

**On a CPU**: images a second for DINO's views of one image, 2 x 96 px (area 0.4 to 1) and 6 x 48 px (0.05 to 0.4), with
flips, colour jitter, grey, blur and solarise, from photographs of 112 px (shorter side), decoded beforehand for all.
Counted:

- sp_hf: from a batch of uint8 canvases to pixels; ``with canvas`` also squashing each PIL image to its canvas.
- lightly: ``DINOTransform`` from a PIL image to eight normalised tensors, one image after the other.
- kornia: the same augmentations by ``kornia.augmentation``, one image after the other, from float tensors.

One thread, CPU time (a busy machine disturbs it less than it does wall time), interleaved rounds of at least 0.3 s
each, medians.

**With ``--device cuda``**: the sampler beside the forward and backward of a ViT-S/16 student on all views and the
forward of its teacher on the global ones, bf16, without heads, losses and optimizer, which would only make the step
longer. ``added`` is what a step with the sampler in it takes longer than one that reuses its views.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from sp_hf.views.keyed_random import sample_keys
from sp_hf.views.photometric import Photometric
from sp_hf.views.sampler import ViewSampler
from sp_hf.views.spec import ViewSpec

GLOBAL_AREA, LOCAL_AREA = (0.4, 1.0), (0.05, 0.4)
JITTER = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.2, "hue": 0.1}


def dino_specs(sizes: tuple[int, int], local_views: int) -> dict[str, ViewSpec]:
    return {
        "global": ViewSpec(2, sizes[0], GLOBAL_AREA, photometric=Photometric.dino_global()),
        "local": ViewSpec(local_views, sizes[1], LOCAL_AREA, photometric=Photometric.dino_local()),
    }


# ------------------------------------------------------------------------------------------------ one CPU thread
def photographs(count: int, side: int = 112) -> list[Image.Image]:
    """Smooth random pictures of a photograph's size; what they show does not matter to the time."""
    generator = np.random.default_rng(0)
    sizes = [(side, side * 4 // 3), (side * 4 // 3, side), (side, side * 3 // 2)]
    blocks = generator.integers(0, 256, (count, 12, 12, 3), dtype=np.uint8)
    return [Image.fromarray(block).resize(sizes[i % 3], Image.Resampling.BICUBIC) for i, block in enumerate(blocks)]


def squash(images: list[Image.Image], side: int) -> Tensor:
    squares = [np.asarray(image.resize((side, side), Image.Resampling.BICUBIC)).transpose(2, 0, 1) for image in images]
    return torch.from_numpy(np.stack(squares))


def our_pipelines(images: list[Image.Image], side: int) -> dict[str, Callable[[], object]]:
    sampler = ViewSampler(dino_specs((96, 48), 6))
    canvases = squash(images, side)
    aspects = torch.tensor([image.width / image.height for image in images])
    keys = sample_keys(0, 0, len(images))
    return {
        "sp_hf": lambda: sampler(canvases, aspects, keys),
        "sp_hf, with canvas": lambda: sampler(squash(images, side), aspects, keys),
    }


def lightly_pipeline(images: list[Image.Image]) -> Callable[[], object]:
    from lightly.transforms import DINOTransform

    transform = DINOTransform(global_crop_size=96, local_crop_size=48, n_local_views=6)
    return lambda: [transform(image) for image in images]


def kornia_pipeline(images: list[Image.Image]) -> Callable[[], object]:
    from kornia import augmentation as ka

    def views_of(size: int, area: tuple[float, float], blur: float, solarise: float) -> nn.Module:
        return ka.AugmentationSequential(
            ka.RandomResizedCrop((size, size), scale=area),
            ka.RandomHorizontalFlip(),
            ka.ColorJitter(*JITTER.values(), p=0.8),
            ka.RandomGrayscale(p=0.2),
            ka.RandomGaussianBlur((9, 9), (0.1, 2.0), p=blur),
            ka.RandomSolarize(0.5, 0.0, p=solarise),
        )

    first, second = views_of(96, GLOBAL_AREA, 1.0, 0.0), views_of(96, GLOBAL_AREA, 0.1, 0.2)
    local = views_of(48, LOCAL_AREA, 0.5, 0.0)
    tensors = [torch.from_numpy(np.asarray(image).transpose(2, 0, 1)[None] / np.float32(255)) for image in images]
    return lambda: [[transform(x) for transform in (first, second, *[local] * 6)] for x in tensors]


def _cpu_seconds(work: Callable[[], object], calls: int) -> float:
    """Of one call, in a row of calls."""
    start = time.process_time()
    for _ in range(calls):
        work()
    return (time.process_time() - start) / calls


def compare(options: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    images = photographs(options.batch)
    pipelines = our_pipelines(images, options.canvas)
    for name, build in (("lightly", lightly_pipeline), ("kornia", kornia_pipeline)):
        try:
            pipelines[name] = build(images)
        except ImportError as error:
            print(f"{name}: not importable here, left out ({error})")
    calls = {name: max(1, round(0.3 / _cpu_seconds(pipeline, 2))) for name, pipeline in pipelines.items()}
    seconds: dict[str, list[float]] = {name: [] for name in pipelines}
    for _ in range(options.rounds):
        for name, pipeline in pipelines.items():
            seconds[name].append(_cpu_seconds(pipeline, calls[name]) / options.batch)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    print(
        f"\n2 x 96 + 6 x 48 px, canvas {options.canvas}, {options.batch} images, {options.rounds} rounds, one thread\n"
    )
    print(f"{'':20s} images/s   best   ms an image   sp_hf is faster by   with canvas")
    for name, median in medians.items():
        ratios = "".join(f"{median / medians[ours]:12.1f}x" for ours in ("sp_hf", "sp_hf, with canvas"))
        ratios = "" if name.startswith("sp_hf") else "      " + ratios
        print(f"{name:20s} {1 / median:8.0f} {1 / min(seconds[name]):6.0f} {1e3 * median:13.2f} {ratios}")


# ------------------------------------------------------------------------------------------------ a training step
class VisionTransformer(nn.Module):
    """Plain pre-norm ViT/16 without a class token; positions are resized to the view."""

    def __init__(self, width: int, depth: int, heads: int, size: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 16, 16)
        self.positions = nn.Parameter(0.02 * torch.randn(1, width, size // 16, size // 16))
        layer = nn.TransformerEncoderLayer(width, heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.patches(pixels)
        x = x + nn.functional.interpolate(self.positions, size=x.shape[-2:], mode="bicubic")
        return self.blocks(x.flatten(2).transpose(1, 2)).mean(1)


def time_step(options: argparse.Namespace) -> None:
    device = torch.device(options.device)
    specs = dino_specs(tuple(options.sizes), options.local_views)
    generator = torch.Generator().manual_seed(0)
    canvases = torch.randint(0, 256, (options.batch, 3, options.canvas, options.canvas), generator=generator)
    canvases, aspects = canvases.to(torch.uint8).to(device), torch.full((options.batch,), 4 / 3, device=device)
    keys, sampler = sample_keys(0, 0, options.batch, device), ViewSampler(specs)
    student, teacher = (VisionTransformer(*options.vit, options.sizes[0]).to(device) for _ in range(2))

    def sample() -> dict[str, Tensor]:
        return {name: views.pixels.flatten(0, 1) for name, views in sampler(canvases, aspects, keys).items()}

    def train(pixels: dict[str, Tensor]) -> None:
        student.zero_grad()
        with torch.autocast(device.type, torch.bfloat16):
            with torch.no_grad():
                target = teacher(pixels["global"]).mean()
            outputs = [student(views) for views in pixels.values()]
        sum((output.float() - target).square().mean() for output in outputs).backward()

    def seconds_of(work: Callable[[], object]) -> float:
        if device.type == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(options.steps):
            work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return (time.perf_counter() - start) / options.steps

    kept = sample()
    works = {"sampler": sample, "step": lambda: train(kept), "both": lambda: train(sample())}
    times: dict[str, list[float]] = {name: [] for name in works}
    for round_ in range(options.rounds + 1):
        for name, work in works.items():
            seconds = seconds_of(work)
            if round_:
                times[name].append(1e3 * seconds)
    sampler_ms, step_ms, both_ms = (statistics.median(times[name]) for name in works)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    views = f"2 x {options.sizes[0]} + {options.local_views} x {options.sizes[1]} px"
    print(f"{name}; {views}, canvas {options.canvas}, {options.batch} images, ViT {options.vit}, bf16")
    print(f"sampler alone {sampler_ms:8.2f} ms   {100 * sampler_ms / step_ms:6.2f} % of the step")
    print(f"step alone    {step_ms:8.2f} ms   {1e3 * options.batch / step_ms:6.0f} images/s")
    print(f"added         {both_ms - step_ms:8.2f} ms   {100 * (both_ms / step_ms - 1):6.2f} % of the step")
    if device.type == "cuda":
        print(f"peak memory   {torch.cuda.max_memory_allocated() / 2**30:8.2f} GiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="cuda times the sampler beside a training step")
    parser.add_argument("--step", action="store_true", help="beside a training step, also on a CPU")
    parser.add_argument("--batch", type=int, default=64, help="images")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--canvas", type=int, help="side in px; default 112, beside a step 256")
    parser.add_argument("--sizes", type=int, nargs=2, default=[224, 96], help="of a step's global and local views, px")
    parser.add_argument("--local-views", type=int, default=8, help="of a step")
    parser.add_argument("--vit", type=int, nargs=3, default=[384, 12, 6], help="width, depth, heads")
    parser.add_argument("--steps", type=int, default=5, help="in each round")
    options = parser.parse_args()
    step = options.step or options.device != "cpu"
    options.canvas = options.canvas or (256 if step else 112)
    time_step(options) if step else compare(options)


if __name__ == "__main__":
    main()
