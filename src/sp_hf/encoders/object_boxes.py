"""Boxes around what stands out in an image, from the patch tokens of any encoder: normalised cuts.

Letters: B images, N = R x C patch tokens of a whole image (rows x columns), D their size, K boxes.

    w_ij       = 1 where cos(t_i, t_j) > threshold, 1e-5 elsewhere            t: tokens less their image's mean
    (D - W) x  = lambda D x                       x of the second smallest lambda, D the diagonal of W's row sums
    two sides  = x above its mean, and the rest;  the object is the one with fewer of its patches on the image's border
    box        = around the connected patches of the object that hold its largest |x - mean|

Citation: Wang et al. 2022, "TokenCut: segmenting objects in images and videos with self-supervised transformer and
normalized cut", arXiv:2209.00383, section 3.2; more than one object as MaskCut of CutLER (Wang et al. 2023,
arXiv:2301.11320, section 3.2): found patches are taken out of the graph, and it is cut again.

Deviations: the encoder's last tokens, not the keys of its last attention, which not every encoder has; centred, as
the tokens of most encoders have a large part in common, which alone would take every cosine above the threshold, and
with a threshold of 0.5 for 0.2; and the side is chosen by the border, not by the largest |x| (TokenCut) or the corners
(CutLER). On 60 PartScenes of 96 px (objects: 0.23 of an image), with patches of 8 px, the share of a box's area on an
object was 0.45 with random weights (Xavier) and 0.35 to 0.49 after short pretraining (DINO, MoCo v3, Spatial
Prediction); of boxes of the same sizes anywhere 0.26 to 0.32 (standard deviation 0.03 to 0.04). With a threshold of
0.2, and with patches' colours for tokens, it was no better than that.
"""

from __future__ import annotations

import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

THRESHOLD = 0.5
_APART = 1e-5


def object_boxes(tokens: Tensor, grid: tuple[int, int], count: int = 1, threshold: float = THRESHOLD) -> Tensor:
    """Boxes of the objects of whole images.

    Args:
        tokens: [B, N, D], row by row.
        grid: (R, C).
        count: K, at most so many an image.
        threshold: cosine above which two patches are alike.

    Returns:
        float32 [B, K, 4] (cx, cy, width, height) in the image, on the tokens' device; zeros for none.
    """
    tokens = tokens.detach().float()
    alike = F.normalize(tokens - tokens.mean(dim=1, keepdim=True), dim=-1)
    affinities = torch.where(alike @ alike.transpose(1, 2) > threshold, 1.0, _APART)  # [B, N, N]
    boxes = tokens.new_zeros(len(tokens), count, 4)
    for k in range(count):
        objects = cut_out(affinities, grid)  # [B, N]
        boxes[:, k] = around(objects.unflatten(1, grid))
        affinities = affinities.masked_fill(objects[:, :, None] | objects[:, None, :], _APART)
    return boxes


def cut_out(affinities: Tensor, grid: tuple[int, int]) -> Tensor:
    """The patches of one object an image.

    Args:
        affinities: [B, N, N], symmetric and positive.
        grid: (R, C).

    Returns:
        bool [B, N]; none where nothing stands out.
    """
    vectors = second_eigenvectors(affinities)  # [B, N]
    vectors = vectors - vectors.mean(dim=1, keepdim=True)
    border = torch.ones(grid, dtype=torch.bool, device=vectors.device)
    border[1:-1, 1:-1] = False
    above = vectors > 0
    on_border = [(side & border.flatten()).sum(1) / side.sum(1).clamp(min=1) for side in (above, ~above)]
    objects = torch.where((on_border[0] < on_border[1])[:, None], above, ~above)
    objects &= affinities.diagonal(dim1=1, dim2=2) > _APART  # a patch like none, not even itself, is no part of one
    strength = vectors.abs().masked_fill(~objects, -1.0)
    kept = [_component(o, s, grid) for o, s in zip(objects.cpu(), strength.cpu(), strict=True)]
    return torch.stack(kept).to(affinities.device)


def second_eigenvectors(affinities: Tensor) -> Tensor:
    """[B, N], those of the normalised cut of graphs [B, N, N]: x of the second smallest lambda."""
    scale = affinities.sum(dim=-1).rsqrt()  # [B, N], of D^(-1/2)
    normalised = scale[:, :, None] * affinities.double() * scale[:, None, :]
    vectors = torch.linalg.eigh(normalised).eigenvectors[..., -2]  # largest of D^(-1/2) W D^(-1/2): smallest lambda
    return (vectors * scale).float()


def around(masks: Tensor) -> Tensor:
    """The boxes of masks [B, R, C]: [B, 4] cxcywh as fractions of the grid, zeros where a mask is empty."""
    rows, columns = masks.any(dim=2), masks.any(dim=1)  # [B, R], [B, C]
    edges = []
    for side in (columns, rows):
        first = side.int().argmax(dim=1)
        last = side.shape[1] - side.flip(1).int().argmax(dim=1)
        edges.append((first / side.shape[1], last / side.shape[1]))
    (left, right), (top, bottom) = edges
    boxes = torch.stack([(left + right) / 2, (top + bottom) / 2, right - left, bottom - top], dim=-1)
    return boxes * masks.flatten(1).any(dim=1, keepdim=True)


def _component(side: Tensor, strength: Tensor, grid: tuple[int, int]) -> Tensor:
    """Of one side [N] of a cut, the patches that hang together (by their edges) with its strongest."""
    if not side.any():
        return side
    labels = torch.from_numpy(ndimage.label(side.unflatten(0, grid).numpy())[0]).flatten()
    return labels == labels[strength.argmax()]
