r"""Gram anchoring: which patches of an image resemble each other stays as it was in the checkpoint one starts from.

Letters: B images, V views of one image, N patch tokens, D hidden size.

    G(x)  = cosine similarities [N, N] of the patch tokens x of a view
    loss  = mean over B, V and pairs of patches of  (G(student(view)) - G(initial(view)))^2

The initial encoder is a frozen copy of what the run began with. It sees each view at ``resolution`` times its side, and
its map is resized to the student's grid (bicubic).

Citation: Simeoni et al. 2025, "DINOv3", arXiv:2508.10104, section 4.2.

Choices: the guard of a whole run, where DINOv3 takes an earlier teacher of the same run late in it; views of its own
are not jittered. With ``views: dino/global`` and ``resolution: 1`` the student encodes its views once for both.
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
from ..base import Batch, Encode, Objective, ObjectiveConfig, ObjectiveOutput
from ..precision import in_float32
from ..validation import check_count

if TYPE_CHECKING:
    from ...encoders.encoder import Encoding


def _default_views() -> ViewSpec:
    return ViewSpec(count=2, size=224, area=(0.32, 1.0), flip="own", photometric=Photometric.none())


@dataclasses.dataclass
class GramAnchoringConfig(ObjectiveConfig):
    """Options of :class:`GramAnchoring`.

    Args:
        views: its views, or a reference to another objective's, such as ``"dino/global"``.
        resolution: the initial encoder sees a view at so many times its side; 1 of a reference.
        clip_negative: count similarities below 0 as 0.
    """

    views: ViewSpec | dict | str = dataclasses.field(default_factory=_default_views)
    resolution: int = 2
    clip_negative: bool = False

    def __post_init__(self) -> None:
        self.views = as_view_spec(self.views, _default_views())
        check_count("resolution", self.resolution, 1)
        if isinstance(self.views, str) and self.resolution > 1:
            raise InputError(f"resolution is {self.resolution}, of views {self.views!r} that are shared; set it to 1.")


@in_float32
def gram(tokens: Tensor, clip_negative: bool = False) -> Tensor:
    """Cosine similarities [..., N, N] of tokens [..., N, D]."""
    unit = F.normalize(tokens, dim=-1)
    similarities = unit @ unit.transpose(-1, -2)
    return similarities.clamp(min=0) if clip_negative else similarities


@in_float32
def resized(tokens: Tensor, grid: tuple[int, int], wanted: tuple[int, int]) -> Tensor:
    """A map of tokens [..., h * w, D] on another grid, bicubic: [..., rows * columns, D]."""
    if grid == wanted:
        return tokens
    maps = tokens.reshape(-1, *grid, tokens.shape[-1]).permute(0, 3, 1, 2)
    maps = F.interpolate(maps, size=wanted, mode="bicubic")
    return maps.permute(0, 2, 3, 1).reshape(*tokens.shape[:-2], -1, tokens.shape[-1])


class GramAnchoring(Objective):
    """Similarities between patches kept as the initial encoder has them."""

    config_class = GramAnchoringConfig
    kind = "what"
    title = "Gram anchoring"
    needs_initial = True
    citation = """@article{simeoni2025dinov3,
  title   = {{DINOv3}},
  author  = {Sim{\\'e}oni, Oriane and Vo, Huy V. and Seitzer, Maximilian and Baldassarre, Federico and Oquab, Maxime
             and others},
  journal = {arXiv preprint arXiv:2508.10104},
  year    = {2025}
}"""

    def view_specs(self) -> dict[str, ViewSpec | str]:
        views = self.config.views
        if self.config.resolution == 1:
            return {"views": views}
        size = self.config.resolution * views.size
        whole = dataclasses.replace(views, size=size, area=(1.0, 1.0), aspect=None, inside="views", flip="parent")
        return {"views": views, "enlarged": dataclasses.replace(whole, photometric=Photometric.none())}

    def requests(self, batch: Batch) -> dict[str, Encode]:
        enlarged = "enlarged" if "enlarged" in batch.views else "views"
        return {"student": Encode("views"), "initial": Encode(enlarged, tower="initial")}

    def forward(self, batch: Batch, encodings: dict[str, Encoding]) -> ObjectiveOutput:
        student, initial = encodings["student"], encodings["initial"]
        with torch.no_grad():
            wanted = gram(resized(initial.patches, initial.grid, student.grid), self.config.clip_negative)
        loss = F.mse_loss(gram(student.patches, self.config.clip_negative), wanted)
        return ObjectiveOutput(loss, {"r2": 1 - loss.detach() / wanted.var(correction=0)})
