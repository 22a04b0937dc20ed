"""The views' share of a training step, and what that step costs beyond the bare encoder's.

    python benchmarks/training_step.py                  # on a GPU where there is one; else tiny, on the CPU

The sampler beside the forward and backward of a ViT-S/16 student on all views and the forward of its teacher on the
global ones, bf16, without heads, losses and optimizer, which would only make the step longer; on a CPU, a smaller one
on smaller views. ``added`` is what a step with the sampler in it takes longer than one that reuses its views.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from sp_hf.views.keyed_random import sample_keys
from sp_hf.views.photometric import Photometric
from sp_hf.views.sampler import ViewSampler
from sp_hf.views.spec import ViewSpec

GLOBAL_AREA, LOCAL_AREA = (0.4, 1.0), (0.05, 0.4)


def dino_specs(sizes: tuple[int, int], local_views: int) -> dict[str, ViewSpec]:
    return {
        "global": ViewSpec(2, sizes[0], GLOBAL_AREA, photometric=Photometric.dino_global()),
        "local": ViewSpec(local_views, sizes[1], LOCAL_AREA, photometric=Photometric.dino_local()),
    }


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
    fast = torch.cuda.is_available()
    parser.add_argument("--device", default="cuda" if fast else "cpu")
    parser.add_argument("--batch", type=int, default=64 if fast else 8, help="images")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--canvas", type=int, default=256 if fast else 128, help="side in px")
    sizes, vit = ([224, 96], [384, 12, 6]) if fast else ([64, 32], [128, 4, 4])
    parser.add_argument("--sizes", type=int, nargs=2, default=sizes, help="of global and local views, px")
    parser.add_argument("--local-views", type=int, default=8)
    parser.add_argument("--vit", type=int, nargs=3, default=vit, help="width, depth, heads")
    parser.add_argument("--steps", type=int, default=5, help="in each round")
    time_step(parser.parse_args())


if __name__ == "__main__":
    main()
