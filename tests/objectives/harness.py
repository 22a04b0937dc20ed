"""A tiny encoder that obeys token masks, and one step of one objective on it.

Letters: B images, V views of one image, N patch tokens, n of them visible, D hidden size.
"""

import copy
import dataclasses
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sp_hf.model.encoding import mask_options
from sp_hf.objectives.base import Batch, Encode, Objective, ObjectiveOutput
from sp_hf.views.keyed_random import sample_keys
from sp_hf.views.sampler import ViewSampler

PATCH = 8


class TinyEncoding(NamedTuple):
    cls: Tensor
    patches: Tensor
    grid: tuple[int, int]


class TinyEncoder(nn.Module):
    """One transformer block over patches of 8 pixels; positions are linear in the patch's coordinates."""

    patch_size, image_side = PATCH, 48
    supports_token_control = supports_content_mask = True

    def __init__(self, hidden_size: int = 16) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.projection = nn.Linear(3 * PATCH**2, hidden_size)
        self.position = nn.Linear(2, hidden_size)
        self.class_token = nn.Parameter(torch.randn(hidden_size))
        self.block = nn.TransformerEncoderLayer(hidden_size, 2, 32, dropout=0.0, batch_first=True, norm_first=True)
        self.norm = nn.LayerNorm(hidden_size)
        self.mask_token = nn.Parameter(torch.linspace(-1, 1, hidden_size), requires_grad=False)

    def train_mask_token(self) -> None:
        self.mask_token.requires_grad_(True)

    def patches_of(self, size: int) -> tuple[int, int]:
        if size % PATCH:
            raise ValueError(f"{size} is not divisible by {PATCH}")
        return size // PATCH, size // PATCH

    def nearest_size(self, size: float) -> int:
        return max(round(size / PATCH), 1) * PATCH

    def patch_projection(self) -> nn.Module:
        return self.projection

    def fix_sincos_positions(self) -> bool:
        return False  # they are learned

    def forward(
        self, pixels, *, visible=None, dropped=None, position_token=None, masked=None, context=None
    ) -> TinyEncoding:
        grid = self.patches_of(pixels.shape[-1])
        blocks = pixels.unfold(2, PATCH, PATCH).unfold(3, PATCH, PATCH)  # [B, 3, rows, columns, p, p]
        content = self.projection(blocks.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2))  # [B, N, D]
        if masked is not None:
            content = torch.where(masked[..., None], self.mask_token, content)
        coordinates = torch.stack(
            torch.meshgrid(*(torch.linspace(-1, 1, side, dtype=pixels.dtype) for side in grid), indexing="ij"), -1
        )
        positions = self.position(coordinates.flatten(0, 1)).expand_as(content)
        if dropped is not None:
            positions = torch.where(dropped[..., None], position_token, positions)
        tokens = content + positions
        if visible is not None:
            tokens = tokens.gather(1, visible[..., None].expand(-1, -1, tokens.shape[-1]))
        tokens = torch.cat([self.class_token.to(tokens.dtype).expand(len(tokens), 1, -1), tokens], dim=1)
        hidden = None
        if context is not None:
            assert visible is None
            hidden = torch.cat([torch.zeros_like(context[:, :1]), ~context], dim=1)  # True: no key
        tokens = self.norm(self.block(tokens, src_key_padding_mask=hidden))
        return TinyEncoding(tokens[:, 0], tokens[:, 1:], grid)


class Step(nn.Module):
    """An objective, its encoder, teacher and initial encoder, with a forward that DDP can wrap."""

    def __init__(self, objective: Objective, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        if objective.needs_content_mask:
            encoder.train_mask_token()
        self.teacher = copy.deepcopy(encoder).requires_grad_(False)
        self.initial = copy.deepcopy(self.teacher)
        self.objective = objective
        objective.prepare_encoder(encoder)

    def forward(self, batch: Batch) -> ObjectiveOutput:
        batch, requests = self.objective.prepared(batch)
        return self.objective(batch, {name: self._encode(batch, request) for name, request in requests.items()})

    def _encode(self, batch: Batch, request: Encode) -> TinyEncoding:
        tower = {"student": self.encoder, "teacher": self.teacher, "initial": self.initial}[request.tower]
        pixels = batch.views[request.view].pixels  # [B, V, 3, H, H]
        with torch.set_grad_enabled(torch.is_grad_enabled() and request.receives_gradient):
            encoding = tower(pixels.flatten(0, 1), **mask_options(request.mask))
        lead = pixels.shape[:2]
        return TinyEncoding(encoding.cls.unflatten(0, lead), encoding.patches.unflatten(0, lead), encoding.grid)


def make_batch(objective: Objective, images: int = 4, canvas: int = 48, start: int = 0) -> Batch:
    """Views of images number ``start`` onwards: smooth colours with some noise, from keys alone."""
    keys = sample_keys(7, start, images)
    colours = torch.stack(
        [torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(start + i)) for i in range(images)]
    )
    canvases = nn.functional.interpolate(colours, size=(canvas, canvas), mode="bicubic").clamp(0, 1)
    aspects = torch.linspace(0.8, 1.5, 8)[(start + torch.arange(images)) % 8]
    specs = objective.view_specs()
    specs = {k: dataclasses.replace(s, inside=f"test/{s.inside}") if s.inside in specs else s for k, s in specs.items()}
    sampler = ViewSampler({f"test/{name}": spec for name, spec in specs.items()})
    views = sampler((canvases * 255).to(torch.uint8), aspects, keys)
    ids = start + torch.arange(images)
    labels = ids % 3 if objective.needs_labels else None
    return Batch({name.removeprefix("test/"): value for name, value in views.items()}, keys, labels, ids)


ROUNDING = 2.0**-8  # autocast to bfloat16 rounds a layer's input, weight and output, each by up to 2^-9 of itself
DRAWS = 8


def rounding_error(step: Step, batch: Batch) -> float:
    """What bfloat16 in the network alone does to a loss, root mean square: the loss's own sensitivity.

    Everything is computed in float32, but each module's output (the encoder's, the heads', those within them) is off by
    as much as rounding would make it, at random. A loss of a low temperature is off by much, and no loss can help it; a
    mean of squares by next to nothing. What a loss adds by rounding its own sums is not in it.
    """
    generator = torch.Generator().manual_seed(0)

    def rounded(x):
        if isinstance(x, Tensor) and x.is_floating_point():
            return x * (1 + ROUNDING * (2 * torch.rand(x.shape, generator=generator) - 1))
        if isinstance(x, tuple):
            return type(x)(*map(rounded, x)) if hasattr(x, "_fields") else tuple(map(rounded, x))
        return x

    with torch.no_grad():
        exact = step(batch).loss
        layers = [m for m in step.modules() if m not in (step, step.objective)]
        hooks = [layer.register_forward_hook(lambda _, __, output: rounded(output)) for layer in layers]
        errors = torch.stack([step(batch).loss - exact for _ in range(DRAWS)])
    for hook in hooks:
        hook.remove()
    return errors.square().mean().sqrt().item()


def check_autocast(step: Step, batch: Batch) -> Tensor:
    """The loss under autocast is float32 and off by no more than rounding in the network explains; returns it."""
    with torch.no_grad():
        exact = step(batch).loss
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = step(batch).loss
    assert loss.dtype == torch.float32
    limit = 6 * rounding_error(step, batch)
    error = (loss.detach() - exact).abs().item()
    assert error <= limit, f"off by {error:.2g}, rounding in encoder and heads explains {limit:.2g}"
    return loss


def part_of(batch: Batch, images: slice) -> Batch:
    """Some of a batch's images."""
    labels = None if batch.labels is None else batch.labels[images]
    views = {name: views.each(lambda x: x[images]) for name, views in batch.views.items()}
    return Batch(views, batch.keys[images], labels, batch.ids[images])
