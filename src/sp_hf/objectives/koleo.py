r"""KoLeo: keep the embeddings of a batch apart from each other.

Letters: B images, D embedding size.

    loss = - mean over B of  log( min over j != i of |x_i - x_j| + 1e-8 )        x at norm 1

The Kozachenko-Leonenko estimator of entropy, up to constants: low where embeddings are spread evenly over the sphere.

Citation: Sablayrolles et al. 2018, "Spreading vectors for similarity search", arXiv:1806.03198, section 3; as DINOv2
uses it: Oquab et al. 2023, arXiv:2304.07193, section 4 (on the backbone's class tokens, each global view apart).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import InputError
from .precision import in_float32

_EPS = 1e-8


@in_float32
def koleo_loss(embeddings: Tensor) -> Tensor:
    """Loss of embeddings [B, D], one an image: of one view, lest two views of an image be driven apart.

    Neighbours are looked for among the images of this process alone, as in DINOv2.

    Raises:
        ValueError: fewer than two images.
    """
    if len(embeddings) < 2:
        raise InputError(f"KoLeo of {len(embeddings)} image(s) is undefined, as none has a neighbour; use 2 or more.")
    x = F.normalize(embeddings, dim=-1)
    with torch.no_grad():
        nearest = (x @ x.T).fill_diagonal_(-torch.inf).argmax(dim=1)  # [B]
    return -(torch.linalg.vector_norm(x - x[nearest], dim=-1) + _EPS).log().mean()
