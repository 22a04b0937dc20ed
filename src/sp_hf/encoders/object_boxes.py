"""Boxes around what stands out in an image, from the patch tokens of any encoder.

Letters: B images, N = R x C patch tokens of a whole image (rows x columns), D their size, K boxes.

    d_i      = mean over the 5 nearest of the border's tokens b of  |t_i - t_b|            (itself left out)
    object   = patches with  d_i > mean(d) + std(d)  that hang together by their edges
    boxes    = around the objects, those with the largest sum of d_i - mean(d) first

What lies along the border of a picture is mostly ground, so an object is what resembles no part of it: the boundary
prior of Wei et al. 2012, "Geodesic saliency using background priors" (ECCV), and Yang et al. 2013, "Saliency detection
via graph-based manifold ranking" (CVPR), with an encoder's tokens for the colours of superpixels, and plain distances
for paths on a graph. An object that covers half the image or more is not found.

On 60 PartScenes of 96 px and patches of 8 px, the share of the first box's area that lies on an object, beside that of
boxes of the same sizes anywhere (their standard deviation over draws is 0.02 to 0.03)::

    tokens                                              easy            hard
    vit-micro-8, random weights (Xavier)                0.64, 0.48      0.54, 0.39
    vit-micro-8 after short runs of DINO, MoCo v3, SP   0.63 to 0.72    0.49 to 0.57
    mean colours of patches                             0.83, 0.47      0.65, 0.38
    noise                                               0.33, 0.43      0.22, 0.32

Normalised cuts (TokenCut, Wang et al. 2022, arXiv:2209.00383) on the same tokens were no better than boxes anywhere,
but for a threshold that had to be found for each encoder and each difficulty.
"""

from __future__ import annotations

import torch
from scipy import ndimage
from torch import Tensor

from ..errors import InputError

NEIGHBOURS = 5


def object_boxes(tokens: Tensor, grid: tuple[int, int], count: int = 1) -> Tensor:
    """Boxes of the objects of whole images.

    Args:
        tokens: [B, N, D], row by row.
        grid: (R, C).
        count: K, at most so many an image.

    Returns:
        float32 [B, K, 4] (cx, cy, width, height) in the image, on the tokens' device; zeros for none.

    Raises:
        ValueError: a grid that is all border.
    """
    distances = border_distances(tokens.detach().float(), grid)  # [B, N]
    excess = distances - distances.mean(dim=1, keepdim=True)
    stands_out = excess > distances.std(dim=1, correction=0, keepdim=True)
    boxes_by_image = [
        _objects(m, e, count) for m, e in zip(*(x.cpu().unflatten(1, grid) for x in (stands_out, excess)), strict=True)
    ]
    return around(torch.stack(boxes_by_image)).to(tokens.device)


def border_distances(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """How far each token is from those of the border that are nearest to it: [B, N, D] to [B, N].

    Raises:
        ValueError: a grid that is all border.
    """
    if min(grid) < 3:
        raise InputError(
            f"a grid of {grid[0]} x {grid[1]} patches is all border; take images of 3 patches a side or more"
        )
    on_border = torch.ones(grid, dtype=torch.bool)
    on_border[1:-1, 1:-1] = False
    border = on_border.flatten().nonzero()[:, 0].to(tokens.device)
    distances = torch.cdist(tokens, tokens[:, border], compute_mode="donot_use_mm_for_euclid_dist")
    distances[:, border, torch.arange(len(border), device=border.device)] = torch.inf
    return distances.topk(NEIGHBOURS, dim=-1, largest=False).values.mean(dim=-1)


def around(masks: Tensor) -> Tensor:
    """The boxes of masks [..., R, C]: [..., 4] cxcywh as fractions of the grid, zeros where a mask is empty."""
    edges = []
    for side in (masks.any(dim=-2), masks.any(dim=-1)):  # [..., C], [..., R]
        first, length = side.int().argmax(dim=-1), side.shape[-1]
        last = length - side.flip(-1).int().argmax(dim=-1)
        edges.append((first / length, last / length))
    (left, right), (top, bottom) = edges
    boxes = torch.stack([(left + right) / 2, (top + bottom) / 2, right - left, bottom - top], dim=-1)
    return boxes * masks.flatten(-2).any(dim=-1, keepdim=True)


def _objects(stands_out: Tensor, excess: Tensor, count: int) -> Tensor:
    """bool [K, R, C], the connected parts of a mask [R, C] with the largest sums; empty ones where there are fewer."""
    labels, number = ndimage.label(stands_out.numpy())
    sums = ndimage.sum(excess.numpy(), labels, range(1, number + 1)) if number else []
    ranked = sorted(range(number), key=lambda index: -sums[index])[:count]
    objects = torch.zeros(count, *stands_out.shape, dtype=torch.bool)
    for place, index in enumerate(ranked):
        objects[place] = torch.from_numpy(labels == index + 1)
    return objects
