r"""Patch alignment: local views keep, patch by patch, the structure that the initial encoder sees in the whole view.

Letters: B images, G global views, V local views, each inside a global one, n patches of a local view, D hidden size.

    X     = student's patch tokens of a local view [n, D]
    Y     = initial encoder's tokens of its global view, read at the same places [n, D]
    CKA   = |X'Y|^2 / (|X'X| |Y'Y|)           Frobenius norms, X and Y centred over the n patches
    loss  = mean over B and V of  1 - CKA

The initial encoder is a frozen copy of what the run began with; it sees global views without jitter.

Citation: "PaKA: patch-level kernel alignment", arXiv:2509.05606, section 3; linear CKA: Kornblith et al. 2019,
"Similarity of neural network representations revisited", arXiv:1905.00414, section 3.

Choices: no heads, as CKA is blind to rotation and scale and both encoders are of one kind (the paper: three layers on
each side, and a moving teacher); local views lie wholly inside their global one (the paper: by 90 %).
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from ...errors import InputError
from ...views.photometric import Photometric
from ...views.spec import ViewSpec, as_view_spec
from ...views.token_maps import tokens_at
from ..base import Batch, Encode, Objective, ObjectiveConfig, ObjectiveOutput
from ..precision import in_float32

if TYPE_CHECKING:
    from ...encoders.encoder import Encoding


def _default_global() -> ViewSpec:
    return ViewSpec(count=2, size=224, area=(0.32, 1.0), flip="own", photometric=Photometric.none())


def _default_local() -> ViewSpec:
    photometric = Photometric.dino_local()
    return ViewSpec(count=8, size=96, area=(0.1, 0.6), flip="own", photometric=photometric, inside="global")


@dataclasses.dataclass
class PatchAlignmentConfig(ObjectiveConfig):
    """Options of :class:`PatchAlignment`.

    Args:
        global_views: seen by the initial encoder; no references.
        local_views: seen by the student, inside the global ones (``area`` is of those); a multiple of their count.
    """

    global_views: ViewSpec | dict = dataclasses.field(default_factory=_default_global)
    local_views: ViewSpec | dict = dataclasses.field(default_factory=_default_local)

    def __post_init__(self) -> None:
        self.global_views = whole = _own_spec("global_views", self.global_views, _default_global())
        self.local_views = parts = _own_spec("local_views", self.local_views, _default_local())
        if parts.inside != "global" or parts.count % whole.count:
            raise InputError(
                f"local_views are {parts.count}, inside {parts.inside!r}; they must be a multiple of {whole.count},"
                " the count of global_views, and inside: global."
            )


def _own_spec(option: str, views: ViewSpec | dict, default: ViewSpec) -> ViewSpec:
    spec = as_view_spec(views, default)
    if isinstance(spec, str):
        raise InputError(f"{option} is {spec!r}; local views must lie inside global ones, so give their spec.")
    return spec


@in_float32
def linear_cka(first: Tensor, second: Tensor) -> Tensor:
    """Centred kernel alignment of tokens [..., n, D] with others [..., n, E] of the same places: [...], from 0 to 1."""
    kernels = []
    for tokens in (first, second):
        centred = tokens - tokens.mean(dim=-2, keepdim=True)
        kernels.append((centred @ centred.transpose(-1, -2)).flatten(-2))  # [..., n * n]
    return F.cosine_similarity(kernels[0], kernels[1], dim=-1)


class PatchAlignment(Objective):
    """Patch tokens of local views aligned with the initial encoder's of the whole."""

    config_class = PatchAlignmentConfig
    kind = "what"
    title = "Patch alignment"
    needs_initial = True
    citation = """@article{paka2025,
  title   = {{PaKA}: Patch-Level Kernel Alignment for Self-Supervised Dense Representation Learning},
  journal = {arXiv preprint arXiv:2509.05606},
  year    = {2025}
}"""

    def view_specs(self) -> dict[str, ViewSpec | str]:
        return {"global": self.config.global_views, "local": self.config.local_views}

    def requests(self, batch: Batch) -> dict[str, Encode]:
        return {"student": Encode("local"), "initial": Encode("global", tower="initial")}

    def forward(self, batch: Batch, encodings: dict[str, Encoding]) -> ObjectiveOutput:
        tokens = encodings["student"].patches  # [B, V, n, D]
        wanted = self.read(batch, encodings["initial"], encodings["student"].grid)
        alignment = linear_cka(tokens, wanted).mean()
        with torch.no_grad():
            chance = linear_cka(tokens, wanted.roll(1, dims=0)).mean()  # with another image's
        return ObjectiveOutput(1 - alignment, {"cka": alignment.detach(), "cka_of_others": chance})

    @torch.no_grad()
    def read(self, batch: Batch, initial: Encoding, grid: tuple[int, int]) -> Tensor:
        """The initial encoder's tokens at the patches of local views: [B, V, n, D]."""
        boxes, flips = batch.views["global"].drawn
        places, mirrored = batch.views["local"].drawn
        each = places.shape[1] // boxes.shape[1]  # the first ones lie in the first global view
        tokens, boxes, flips = (x.repeat_interleave(each, dim=1) for x in (initial.patches, boxes, flips))
        return tokens_at(tokens, initial.grid, boxes, flips, places, grid, mirrored).tokens
