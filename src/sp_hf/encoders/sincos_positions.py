"""Fixed two-dimensional sine-cosine positions, as MAE and MoCo v3 use them."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import InputError


def sincos_positions(rows: int, columns: int, width: int, device: torch.device | None = None) -> Tensor:
    """Fixed two-dimensional sine-cosine positions, [rows * columns, width], row by row.

    The first half of the channels encodes the column, the second half the row; each half is the sines, then the
    cosines, of ``index / 10000^(k / (width / 4))`` (the encoding of arXiv:1706.03762 an axis, as MAE uses it).

    Raises:
        ValueError: ``width`` is not divisible by 4.
    """
    if width % 4:
        raise InputError(f"sine-cosine positions need a width divisible by 4; got {width}.")
    frequencies = 10000.0 ** (-torch.arange(width // 4, device=device) / (width // 4))
    row, column = torch.meshgrid(torch.arange(rows, device=device), torch.arange(columns, device=device), indexing="ij")
    angles = [axis.flatten()[:, None] * frequencies for axis in (column, row)]  # 2 x [N, width / 4]
    return torch.cat([part for angle in angles for part in (angle.sin(), angle.cos())], dim=-1)
