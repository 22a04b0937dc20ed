"""Positional embeddings as a vector field over the image, sampled where a view's tokens are.

Letters: B views, h x w the field's grid, R x C the view's grid (rows x columns), D hidden size.

Conventions, stated once.  A table of h x w embeddings is a field over the image's unit square: the entry of
row i, column j sits at the centre of its cell, ``x = (j + 0.5) / w``, ``y = (i + 0.5) / h``
(``align_corners=False`` in torch's words).  Between entries the field is bilinear; beyond the outermost centres
it keeps the edge's value (clamped).  A view with box ``(cx, cy, bw, bh)`` and R x C tokens has the token of row r,
column c at ``x = cx - bw / 2 + bw * (c + 0.5) / C`` and ``y = cy - bh / 2 + bh * (r + 0.5) / R``; in a mirrored
view, column c shows what column ``C - 1 - c`` would show.

Positions that follow the crop: Liu, Suganuma, Okatani, "Content-position" pretraining, 2025 (OpenReview
nf4v09zw6O).  Reconstruction: bilinear sampling at the token centres, without antialiasing.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..views.token_maps import bilinear_weights


def sample_position_field(field: Tensor, boxes: Tensor, grid: tuple[int, int], flips: Tensor | None = None) -> Tensor:
    """Sample the field at the token centres of views.

    Args:
        field: [h, w, D], the table of positional embeddings.
        boxes: [B, 4], (cx, cy, width, height) of each view in the unflipped image, normalised.
        grid: (R, C), rows and columns of tokens in a view.
        flips: bool [B], views that are mirrored left-right; ``None``: none is.

    Returns:
        [B, R * C, D] in ``field``'s dtype, row-major. A full box at the field's own grid gives the table exactly.
    """
    rows, columns = grid
    height, width, _ = field.shape
    boxes = boxes.float()
    row_weights = bilinear_weights(boxes[:, 1], boxes[:, 3], rows, height)  # [B, R, h]
    column_weights = bilinear_weights(boxes[:, 0], boxes[:, 2], columns, width)  # [B, C, w]
    if flips is not None:
        column_weights = torch.where(flips[:, None, None], column_weights.flip(1), column_weights)
    with torch.autocast(boxes.device.type, enabled=False):  # half precision would blur neighbouring positions
        sampled = torch.einsum("brh,hwd->brwd", row_weights, field.float())
        sampled = torch.einsum("bcw,brwd->brcd", column_weights, sampled)
    return sampled.flatten(1, 2).to(field.dtype)


def lay_over_image(field: Tensor, grid: tuple[int, int]) -> Tensor:
    """Positions [1, R * C, D] of the tokens of a view that shows the whole image, from a field [h, w, D]."""
    return sample_position_field(field, field.new_tensor([[0.5, 0.5, 1.0, 1.0]]), grid)
