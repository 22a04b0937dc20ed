"""Resampling beside Pillow's, and its Gaussians beside a plain one."""

import numpy as np
import pytest
import torch
from PIL import Image

from sp_hf.views.crops import crop
from sp_hf.views.resampling import extra_variance, filter_weights, resample_dense

SIDE = 80


def noise_canvas(seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (SIDE, SIDE, 3), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)


def some_boxes() -> torch.Tensor:
    """[1, V, 4] cxcywh: enlarged, reduced, at edges and in corners, the whole image."""
    return torch.tensor([[[0.5, 0.5, 1.0, 1.0], [0.31, 0.62, 0.4, 0.23], [0.15, 0.8, 0.3, 0.4], [0.9, 0.05, 0.2, 0.1]]])


def in_bands(canvases: torch.Tensor, boxes, size: int, flips=None, blur=None) -> torch.Tensor:
    """Views [B, V, 3, N, N] by blocks; boxes [B, V, 4], flips [B, V] along x, blur [B, V]."""
    centres, extents = boxes.movedim(-1, 0).split(2)
    axes = None if flips is None else torch.stack([flips, torch.zeros_like(flips)])
    return crop(canvases, centres, extents, size, axes, None if blur is None else blur.expand(2, -1, -1))


def moments(weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and variance of each row, in canvas pixels."""
    places = torch.arange(weights.shape[-1]) + 0.5
    mean = (weights * places).sum(-1)
    return mean, (weights * (places - mean[..., None]).square()).sum(-1)


@pytest.mark.parametrize("size", [12, 32, 48, 80, 96, 224])
def test_triangle_is_pillows_antialiased_bilinear(size):
    canvas = noise_canvas()
    rows_first = canvas.permute(0, 2, 1)[None].float().contiguous()  # [1, S, 3, S]
    views = in_bands(rows_first, some_boxes(), size)[0]
    for view, (x, y, width, height) in zip(views, some_boxes()[0].tolist(), strict=True):
        box = [SIDE * edge for edge in (x - width / 2, y - height / 2, x + width / 2, y + height / 2)]
        box = tuple(np.clip(box, 0, SIDE))
        expected = Image.fromarray(canvas.numpy()).resize((size, size), Image.Resampling.BILINEAR, box=box)
        difference = view.permute(1, 2, 0).numpy() - np.asarray(expected, np.float32)
        assert np.abs(difference).max() < 1.01  # Pillow rounds to whole grey levels twice
        assert np.abs(difference).mean() < 0.4


@pytest.mark.parametrize("size", [7, 30, 48, 100])  # one block, and several, also of unequal size
@pytest.mark.parametrize("blur", [None, 0.0, 0.7, 9.0])
def test_blocks_are_the_dense_products_without_their_zeros(size, blur):
    canvases = torch.stack([noise_canvas(seed) for seed in range(2)]).permute(0, 1, 3, 2).float().contiguous()
    boxes = some_boxes().expand(2, -1, -1)
    cx, cy, w, h = boxes.unbind(-1)
    flips = torch.tensor([[True, False, True, False]] * 2)
    variance = None if blur is None else torch.full_like(cx, blur)
    rows = filter_weights(cy, h, size, SIDE, blur=variance)
    dense = resample_dense(canvases, rows, filter_weights(cx, w, size, SIDE, flips, variance))
    blocks = in_bands(canvases, boxes, size, flips, variance)
    assert dense.shape == blocks.shape == (2, 4, 3, size, size)
    tolerance = 1e-3 if blur is None else 0.03  # of 255: Gaussians end at four standard deviations
    torch.testing.assert_close(blocks, dense, rtol=0, atol=tolerance)
    assert not torch.allclose(dense[0], dense[1])


@pytest.mark.parametrize("blur", [None, 0.0, 2.0])
def test_rows_sum_to_one_even_at_the_edges(blur):
    cx, _, w, _ = some_boxes().unbind(-1)
    weights = filter_weights(cx, w, 48, SIDE, blur=None if blur is None else torch.full_like(cx, blur))
    assert weights.min() >= 0
    torch.testing.assert_close(weights.sum(-1), torch.ones(1, 4, 48))


@pytest.mark.parametrize("flip", [False, True])
def test_rows_are_centred_on_their_pixels(flip):
    centre, extent = torch.tensor([[0.5]]), torch.tensor([[0.4]])
    for blur, tolerance in ((None, 0.1), (torch.tensor([[1.0]]), 0.01)):  # a narrow triangle feels the pixels' lattice
        mean, _ = moments(filter_weights(centre, extent, 20, SIDE, torch.tensor([[flip]]), blur))
        expected = (0.3 + 0.4 * (torch.arange(20) + 0.5) / 20) * SIDE
        torch.testing.assert_close(mean[0, 0], expected.flip(0) if flip else expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize(("extent", "size"), [(0.5, 20), (0.5, 80), (0.3, 60)])
@pytest.mark.parametrize("sigma", [0.8, 2.0])
def test_gaussian_has_the_variance_of_filter_and_blur(extent, size, sigma):
    centre = torch.tensor([[0.5]])
    weights = filter_weights(centre, torch.tensor([[extent]]), size, SIDE, blur=torch.tensor([[sigma**2]]))
    zoom = extent * SIDE / size
    _, variance = moments(weights[0, 0, size // 3 : -size // 3])
    expected = max(zoom, 1) ** 2 / 6 + (sigma * zoom) ** 2
    torch.testing.assert_close(variance.mean(), torch.tensor(expected), rtol=0.03, atol=0)


def test_blur_is_that_of_a_gaussian_on_the_view():
    """Beside: the unblurred view, then a plain Gaussian of sigma output pixels, pixel by pixel."""
    sigma, size = 2.0, 64
    smooth = Image.fromarray(noise_canvas()[:12, :12].numpy()).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    canvas = torch.from_numpy(np.asarray(smooth).copy()).permute(0, 2, 1)[None].float().contiguous()
    box = torch.tensor([[0.5]]), torch.tensor([[0.7]])
    sharp, blurred = filter_weights(*box, size, SIDE), filter_weights(*box, size, SIDE, blur=torch.tensor([[sigma**2]]))
    sharp, blurred = (resample_dense(canvas, weights, weights)[0, 0].numpy() for weights in (sharp, blurred))
    offsets = np.arange(-8, 9)
    kernel = np.exp(-(offsets**2) / (2 * sigma**2))
    kernel /= kernel.sum()
    expected = sum(k * np.roll(sharp, offset, 1) for k, offset in zip(kernel, offsets, strict=True))
    expected = sum(k * np.roll(expected, offset, 2) for k, offset in zip(kernel, offsets, strict=True))
    inner = slice(8, -8)
    assert np.abs(blurred - expected)[:, inner, inner].max() < 1  # of 255
    assert np.abs(blurred - sharp)[:, inner, inner].max() > 20


@pytest.mark.parametrize("resolution", [0.2, 0.35, 0.5])
def test_every_box_gets_the_same_effective_resolution(resolution):
    """The filter's variance in output pixels is 1 / (6 r^2), whatever the zoom, if the zoom allows it."""
    size = 40
    for extent in (0.3, 0.5, 0.9):  # 0.6, 1 and 1.8 canvas pixels to an output pixel
        zoom = torch.tensor([[extent * SIDE / size]])
        blur = extra_variance(zoom, torch.tensor([[resolution]]))
        weights = filter_weights(torch.tensor([[0.5]]), torch.tensor([[extent]]), size, SIDE, blur=blur)
        _, variance = moments(weights[0, 0, 12:-12])
        expected = torch.tensor(1 / (6 * resolution**2))
        torch.testing.assert_close((variance / zoom[0] ** 2).mean(), expected, rtol=0.04, atol=0)


def test_effective_resolution_never_sharpens():
    zoom = torch.tensor([0.3, 0.5, 1.0, 4.0])
    assert extra_variance(zoom, torch.full((4,), 0.5)).gt(0).tolist() == [False, False, True, True]
    assert extra_variance(zoom, torch.ones(4)).eq(0).all()
