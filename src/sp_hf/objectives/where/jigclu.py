r"""JigClu: tiles of all images are shuffled and pasted into montages; tell whose each tile is, and which corner of it.

Letters: B images of this process, M of all processes, 4 tiles of an image and 4 of a montage, N patch tokens of a
montage, D hidden size, E embedding size.

    z_i        mean of the patch tokens of tile i's quarter of its montage                       i = 1 .. 4 M
    e_i        MLP(z_i), at norm 1; batch norm in the MLP
    cluster  = mean over i of  - 1/3 sum over p of  log softmax over j != i (e_i . e_j / tau)_p     p: 3 of i's image
    location = mean over i of cross-entropy(W z_i + b, corner of its image that tile i is from)
    loss     = cluster_weight cluster + location_weight location

Citation: Chen, Liu, Jia 2021, "Jigsaw clustering for unsupervised visual representation learning", arXiv:2104.00323,
section 3 (montages, both losses), section 4.1 and the paper's code (corners of 80 % of a side, tau).

Montages are of the tiles of all processes: their pixels are exchanged, as a process of few images would tell whose
a tile is by what is left. A montage's class token stands for no image.

Deviations: a tile's vector is the mean of its tokens, of a map that is not resized, so a tile is whole patches. The
cluster head has batch norm behind its first layer: the paper's encoder has it throughout, a ViT nowhere, and without,
a vit-micro on PartScenes gave all tiles one embedding and never left it (80 steps: the losses of chance).
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import InputError
from ...views.compose import montage
from ...views.keyed_random import uniform
from ...views.photometric import Photometric
from ...views.sampler import Views
from ...views.spec import Grid, ViewSpec, as_view_spec
from ..base import Batch, Encode, Objective, ObjectiveConfig, ObjectiveOutput, Requests
from ..gather import concat_all_gather, gather_rows
from ..heads import batch_norm_mlp
from ..precision import in_float32
from ..validation import check_at_least, check_count, check_positive

if TYPE_CHECKING:
    from ...encoders.encoder import Encoder, Encoding

TILES = 4
CORNERS = Grid(2, 2, gap=-0.6)  # each 80 % of both sides


def _default_tiles() -> ViewSpec:
    photometric = Photometric(0.4, 0.4, 0.4, 0.1, jitter_prob=0.8, grey_prob=0.2, blur_prob=0.5)
    return ViewSpec(count=4, size=112, area=(0.2, 1.0), flip="own", photometric=photometric, inside="corners")


@dataclasses.dataclass
class JigCluConfig(ObjectiveConfig):
    """Options of :class:`JigClu`.

    Args:
        tiles: four, one inside each corner of the image (``inside: corners``).
        embedding_size: E.
        temperature: tau.
        cluster_weight, location_weight: of the two losses.
    """

    tiles: ViewSpec | dict = dataclasses.field(default_factory=_default_tiles)
    embedding_size: int = 128
    temperature: float = 0.3
    cluster_weight: float = 1.0
    location_weight: float = 1.0

    def __post_init__(self) -> None:
        tiles = as_view_spec(self.tiles, _default_tiles())
        if isinstance(tiles, str) or tiles.count != TILES or tiles.inside != "corners":
            raise InputError(f"tiles is {self.tiles!r}; give a spec of 4 views with inside: corners, one for each")
        self.tiles = tiles
        check_count("embedding_size", self.embedding_size, 1)
        check_positive("temperature", self.temperature)
        for option in ("cluster_weight", "location_weight"):
            check_at_least(option, getattr(self, option), 0)


class Source(NamedTuple):
    """Where the tiles of this process's montages are from; int64 [4 B] each."""

    images: Tensor  # of all processes
    corners: Tensor


@in_float32
def cluster_loss(own: Tensor, everyone: Tensor, own_images: Tensor, images: Tensor, start: int, tau: float) -> Tensor:
    """Supervised contrastive loss with the image for a class, mean over one's own embeddings.

    Args:
        own: [n, E], of any norm, which are ``everyone`` [m, E] from row ``start`` on.
        own_images, images: int64 [n] and [m], whose they are.
        tau: temperature.
    """
    logits = _cosines(own, everyone) / tau  # [n, m]
    itself = _itself(logits, start)
    log_p = F.log_softmax(logits.masked_fill(itself, -torch.inf), dim=-1)
    same = (own_images[:, None] == images) & ~itself
    return -(log_p.masked_fill(~same, 0.0).sum(dim=-1) / same.sum(dim=-1)).mean()


@torch.no_grad()
@in_float32
def cluster_accuracy(own: Tensor, everyone: Tensor, own_images: Tensor, images: Tensor, start: int) -> Tensor:
    """Share of one's own embeddings whose nearest other is of the same image; arguments as :func:`cluster_loss`."""
    similarities = _cosines(own, everyone)
    nearest = similarities.masked_fill(_itself(similarities, start), -torch.inf).argmax(dim=-1)
    return (images[nearest] == own_images).float().mean()


def _cosines(first: Tensor, second: Tensor) -> Tensor:
    return F.normalize(first, dim=-1) @ F.normalize(second, dim=-1).T


def _itself(similarities: Tensor, start: int) -> Tensor:
    """Where [n, m] compares an embedding with itself: bool."""
    return torch.ones_like(similarities, dtype=torch.bool).triu(start).tril(start)


@in_float32
def location_loss(logits: Tensor, corners: Tensor) -> Tensor:
    """Mean cross-entropy: logits [n, 4], corners int64 [n]."""
    return F.cross_entropy(logits, corners)


def tile_vectors(patches: Tensor, grid: tuple[int, int]) -> Tensor:
    """Means over the quarters of montages: tokens [B, N, D] of grids (rows, columns) to [4 B, D]."""
    rows, columns = grid[0] // 2, grid[1] // 2
    field = patches.unflatten(1, (2, rows, 2, columns))  # [B, 2, rows, 2, columns, D]
    return field.mean(dim=(2, 4)).flatten(0, 2)


class JigClu(Objective):
    """Jigsaw clustering: whose tiles, and from where."""

    config_class = JigCluConfig
    kind = "where"
    title = "JigClu"
    own_metric = ("location_accuracy", "accuracy of a tile's corner, of 4")
    citation = """@inproceedings{chen2021jigsaw,
  title     = {Jigsaw Clustering for Unsupervised Visual Representation Learning},
  author    = {Chen, Pengguang and Liu, Shu and Jia, Jiaya},
  booktitle = {Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  year      = {2021}
}"""

    def __init__(self, config: JigCluConfig, encoder: Encoder) -> None:
        super().__init__(config, encoder)
        self.patch_size, width = encoder.patch_size, encoder.hidden_size
        self.cluster_head = batch_norm_mlp([width, width, config.embedding_size], last_norm=False)
        self.location_head = nn.Linear(width, TILES)

    def view_specs(self) -> dict[str, ViewSpec | str]:
        size = self.patch_size  # as small as can be: only their boxes are of use
        corners = ViewSpec(count=TILES, size=size, area=(1.0, 1.0), aspect=None, flip="none", grid=CORNERS)
        return {"corners": corners, "tiles": self.config.tiles}

    def requests(self, batch: Batch) -> Requests:
        tiles, start = concat_all_gather(batch.views["tiles"].pixels.flatten(0, 1))  # [4 M, 3, H, H]
        numbers, _ = concat_all_gather(uniform(batch.keys, "jigclu/order", (TILES,)).flatten())
        images = len(batch.keys)
        order = numbers.argsort(stable=True)[start : start + TILES * images]  # [4 B], of this process's montages
        pixels = montage(tiles[order].unflatten(0, (images, TILES)), 2, 2)[:, None]  # [B, 1, 3, 2 H, 2 H]
        source = Source(order // TILES, order % TILES)
        return Requests({"montage": Encode("montage")}, {"montage": Views(pixels)}, source)

    def forward(self, batch: Batch, encodings: dict[str, Encoding]) -> ObjectiveOutput:
        source, montages = batch.state, encodings["montage"]
        vectors = tile_vectors(montages.patches[:, 0], montages.grid)  # [4 B, D]
        embeddings = self.cluster_head(vectors)  # [4 B, E]
        everyone, start = gather_rows(embeddings)  # [4 M, E]
        images, _ = concat_all_gather(source.images)
        of_clusters = cluster_loss(embeddings, everyone, source.images, images, start, self.config.temperature)
        corners = self.location_head(vectors)  # [4 B, 4]
        of_places = location_loss(corners, source.corners)
        loss = self.config.cluster_weight * of_clusters + self.config.location_weight * of_places
        logs = {
            "cluster_loss": of_clusters.detach(),
            "cluster_accuracy": cluster_accuracy(embeddings, everyone, source.images, images, start),
            "location_accuracy": (corners.detach().argmax(dim=-1) == source.corners).float().mean(),
        }
        return ObjectiveOutput(loss, logs)
