r"""Relative position, 8-way: from a tile of an image and one of its eight neighbours, tell which neighbour it is.

Letters: B images, W windows of one image (1 by default), V = 9 W tiles, P = 8 W pairs (middle tile, neighbour), D
hidden size.

    class    of a neighbour: its place around the middle one, row by row, as the tiles show the image      0 .. 7
    loss   = mean over B, P of cross-entropy(MLP([z_middle; z_neighbour]), class)

Citation: Doersch, Gupta, Efros 2015, "Unsupervised visual representation learning by context prediction",
arXiv:1505.05192, section 3 (tiles, late fusion) and 3.1 (trivial solutions).

Choices made here: a window of 3 x 3 cells, of 40 % to all of the image's area, holds all nine tiles, and all eight
pairs of it are classified, not one: eight targets from nine encodings. As in the paper, the gap between tiles is half a
tile and each moves by up to 7 of 96 pixels. Late fusion is an MLP, as the paper's layers fc7 to fc9.

Against reading the place from how lenses and codecs treat colours and edges (section 3.1): ``colour: drop`` leaves each
tile one channel, drawn at random, and fills the others with noise of 1/100 of its standard deviation; ``project`` takes
the direction green minus magenta out of its colours. Some of the paper's tiles are sampled down to 10 x 10 pixels; here
each is low-passed to a resolution drawn from ``effective_resolution``.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from ...errors import InputError
from ...views.keyed_random import normal, uniform
from ...views.photometric import Photometric
from ...views.spec import Grid, ViewSpec, as_view_spec
from ..base import Batch, Encode, Objective, ObjectiveConfig, ObjectiveOutput, Requests
from ..pair_head import PairHead
from ..precision import in_float32
from ..validation import check_choice, check_count

if TYPE_CHECKING:
    from ...encoders.encoder import Encoder, Encoding

TILES, MIDDLE, NEIGHBOURS = 9, 4, 8
GREEN_MAGENTA = (-1.0, 2.0, -1.0)


def _default_tiles() -> ViewSpec:
    """Tiles of 96 px, 48 px apart, that move by up to 7 px to each side: a share of 7/24 of the room."""
    grid = Grid(3, 3, gap=1 / 3, jitter=7 / 24)
    return ViewSpec(
        count=9, size=96, area=(0.4, 1.0), flip="none", photometric=Photometric.none(), grid=grid,
        effective_resolution=(0.3, 1.0),
    )  # fmt: skip


@dataclasses.dataclass
class RelativePositionConfig(ObjectiveConfig):
    """Options of :class:`RelativePosition`.

    Args:
        tiles: 3 x 3 of each window; not turned, and with one flip an image, if any.
        colour: ``"drop"``, ``"project"`` or ``"keep"``.
        head_width: hidden width of the MLP.
        head_depth: its linear layers, at least 2.
    """

    tiles: ViewSpec | dict = dataclasses.field(default_factory=_default_tiles)
    colour: Literal["drop", "project", "keep"] = "drop"
    head_width: int = 1024
    head_depth: int = 3

    def __post_init__(self) -> None:
        tiles = as_view_spec(self.tiles, _default_tiles())
        if isinstance(tiles, str) or tiles.grid is None or (tiles.grid.rows, tiles.grid.columns) != (3, 3):
            raise InputError(f"tiles is {self.tiles!r}; the classes are of a grid of 3 x 3, so give a spec with one")
        if tiles.flip == "own":
            raise InputError("tiles has flip: own, which leaves no neighbour where it was; use none or shared")
        self.tiles = tiles
        check_choice("colour", self.colour, ("drop", "project", "keep"))
        check_count("head_width", self.head_width, 1)
        check_count("head_depth", self.head_depth, 2)


def neighbour_classes(flips: Tensor) -> Tensor:
    """Classes of the eight tiles around the middle one, as they are seen: bool [...] flips to int64 [..., 8].

    Tiles are numbered row by row in the unflipped image; mirrored ones have their columns the other way round.
    """
    index = torch.arange(TILES, device=flips.device)
    mirrored = index // 3 * 3 + 2 - index % 3
    seen = torch.where(flips[..., None], mirrored, index)[..., index != MIDDLE]
    return seen - (seen > MIDDLE).long()


def drop_colours(pixels: Tensor, keys: Tensor) -> Tensor:
    """One channel of each tile, and noise about mid-grey for the others: [B, V, 3, H, W] in [0, 1], keys int64 [B]."""
    count = pixels.shape[1]
    kept = (3 * uniform(keys, "relative_position/channel", (count,))).long()  # [B, V]
    index = kept[:, :, None, None, None].expand(-1, -1, 1, *pixels.shape[-2:])
    spread = pixels.gather(2, index).std(dim=(-1, -2), keepdim=True, correction=0)  # [B, V, 1, 1, 1]
    noise = 0.5 + spread / 100 * normal(keys, "relative_position/noise", tuple(pixels.shape[1:])).to(pixels)
    is_kept = torch.arange(3, device=pixels.device)[:, None, None] == kept[:, :, None, None, None]
    return torch.where(is_kept, pixels, noise)


def project_colours(pixels: Tensor) -> Tensor:
    """Colours without their part along green minus magenta: [..., 3, H, W] likewise."""
    axis = F.normalize(pixels.new_tensor(GREEN_MAGENTA), dim=0)
    along = torch.einsum("...chw,c->...hw", pixels, axis)
    return pixels - axis[:, None, None] * along[..., None, :, :]


@in_float32
def neighbour_loss(logits: Tensor, classes: Tensor) -> Tensor:
    """Mean cross-entropy: logits [..., 8], classes int64 [...]."""
    return F.cross_entropy(logits.flatten(0, -2), classes.flatten())


class RelativePosition(Objective):
    """Which of the eight neighbours of a tile another one is."""

    config_class = RelativePositionConfig
    kind = "where"
    title = "Relative position"
    own_metric = ("accuracy", "accuracy of the neighbour's place, of 8")
    citation = """@inproceedings{doersch2015unsupervised,
  title     = {Unsupervised Visual Representation Learning by Context Prediction},
  author    = {Doersch, Carl and Gupta, Abhinav and Efros, Alexei A.},
  booktitle = {Proceedings of the IEEE International Conference on Computer Vision},
  year      = {2015}
}"""

    def __init__(self, config: RelativePositionConfig, encoder: Encoder) -> None:
        super().__init__(config, encoder)
        self.head = PairHead(encoder.hidden_size, config.head_width, config.head_depth, NEIGHBOURS)

    def view_specs(self) -> dict[str, ViewSpec | str]:
        return {"tiles": self.config.tiles}

    def requests(self, batch: Batch) -> Requests | dict[str, Encode]:
        tiles = batch.views["tiles"]
        if self.config.colour == "keep":
            return {"tiles": Encode("tiles")}
        drops = self.config.colour == "drop"
        pixels = drop_colours(tiles.pixels, batch.keys) if drops else project_colours(tiles.pixels)
        return Requests({"tiles": Encode("recoloured")}, {"recoloured": tiles._replace(pixels=pixels)})

    def forward(self, batch: Batch, encodings: dict[str, Encoding]) -> ObjectiveOutput:
        tiles = encodings["tiles"].cls.unflatten(1, (-1, TILES))  # [B, W, 9, D]
        middle = tiles[:, :, MIDDLE, None].expand(-1, -1, NEIGHBOURS, -1)
        around = torch.cat([tiles[:, :, :MIDDLE], tiles[:, :, MIDDLE + 1 :]], dim=2)  # [B, W, 8, D]
        logits = self.head.of_pairs(middle, around)  # [B, W, 8, 8]
        flips = batch.views["tiles"].drawn[1].unflatten(1, (-1, TILES))[:, :, MIDDLE]  # [B, W]
        classes = neighbour_classes(flips)
        accuracy = (logits.detach().argmax(dim=-1) == classes).float().mean()
        return ObjectiveOutput(neighbour_loss(logits, classes), {"accuracy": accuracy})
