"""The Patches tab: which patches of an image a model finds alike.

Similarity is the cosine of patch tokens. The map of principal components shows the first three, of this image's tokens
alone, as red, green and blue (:mod:`sp_hf.evaluation.what.patch_pca` takes those of a data set).

Letters: h, w rows and columns of patch tokens, D feature size.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import InputError
from ..evaluation.model import EvaluatedModel
from ..evaluation.what.patch_pca import Components
from ..evaluation.whole_images import encode_pixels
from .uploads import Upload

_PERCENTILES = (2, 98)


@dataclasses.dataclass(frozen=True)
class PatchMaps:
    """Of one image.

    Args:
        similarity: float32 [h, w], cosine with the chosen patch.
        components: float32 [h, w, 3] in [0, 1].
        chosen: (row, column).
    """

    similarity: Tensor
    components: Tensor
    chosen: tuple[int, int]


def patch_maps(model: EvaluatedModel, upload: Upload, at: tuple[float, float]) -> PatchMaps:
    """Encode an image and compare its patches with one of them.

    Args:
        model: on its device.
        at: (x, y) in the image, each from 0 to 1.

    Raises:
        ValueError: a point outside the image.
    """
    x, y = at
    if not (0 <= x <= 1 and 0 <= y <= 1):
        raise InputError(f"The point is at {100 * x:g}, {100 * y:g}; both must lie between 0 and 100 (percent).")
    encoding = encode_pixels(model, upload.square(model.size)[None])
    (rows, columns), tokens = encoding.grid, encoding.patches[0].float().cpu()
    chosen = min(int(y * rows), rows - 1), min(int(x * columns), columns - 1)
    similarity = F.cosine_similarity(tokens, tokens[chosen[0] * columns + chosen[1]][None], dim=-1)
    return PatchMaps(similarity.view(rows, columns), _coloured(tokens).view(rows, columns, 3), chosen)


def _coloured(tokens: Tensor) -> Tensor:
    """Tokens [h w, D] to colours in [0, 1]."""
    values = Components.fit(tokens).project(tokens).numpy()
    low, high = np.percentile(values, _PERCENTILES, axis=0)
    span = np.where(high > low, high - low, 1)
    return torch.from_numpy(np.clip((values - low) / span, 0, 1).astype(np.float32))
