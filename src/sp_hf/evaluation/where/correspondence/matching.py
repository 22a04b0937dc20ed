"""Keypoints of one image found in another, by the most similar patch token.

A keypoint's descriptor is the source's map of tokens, each of unit length, interpolated bilinearly at the keypoint. Its
cosine similarities with the target's tokens, interpolated bilinearly between the tokens' middles at 64 x 64 points,
have their largest value at the answer. Nothing is trained.

Letters: K keypoints, h, w rows and columns of tokens, N = h w, D feature size.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

FINE = 64  # points a side among which the answer is looked for


def match(source: Tensor, target: Tensor, grid: tuple[int, int], points: Tensor) -> Tensor:
    """Where the keypoints of one image are in another.

    Args:
        source, target: [N, D] patch tokens of the two images.
        grid: (h, w).
        points: [K, 2], (x, y) in widths and heights of the source.

    Returns:
        float32 [K, 2], (x, y) in widths and heights of the target.
    """
    source, target = (F.normalize(tokens.float(), dim=-1) for tokens in (source, target))
    described = F.grid_sample(
        source.T.unflatten(1, grid)[None],
        2 * points.float()[None, None] - 1,
        padding_mode="border",
        align_corners=False,
    )[0, :, 0]  # [D, K]
    similarity = (F.normalize(described, dim=0).T @ target.T).unflatten(1, grid)  # [K, h, w]
    fine = F.interpolate(similarity[None], size=(FINE, FINE), mode="bilinear", align_corners=True)[0]
    best = fine.flatten(1).argmax(1)
    cells = torch.tensor([grid[1], grid[0]])
    between = torch.stack([best % FINE, best // FINE], dim=-1) / (FINE - 1)  # 0: first token's middle, 1: the last's
    return (0.5 + between * (cells - 1)) / cells


def is_near(answer: Tensor, truth: Tensor, aspect: float, reach: float) -> Tensor:
    """Whether answers lie within ``reach`` of the truth: bool [K].

    Args:
        answer, truth: [K, 2], (x, y) in image widths and heights.
        aspect: width / height of the image.
        reach: in image heights.
    """
    return ((answer - truth) * torch.tensor([aspect, 1.0])).norm(dim=-1) <= reach
