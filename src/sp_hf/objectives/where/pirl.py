r"""PIRL: a jigsaw of an image is nearer to the image than to any other image.

Letters: B images, V whole views of one image (1 by default), T tiles of its jigsaw (9), D hidden size, E embedding
size, M negatives.

    f    = W_f z                                                  of each whole view, at norm 1
    g    = W_g [W_t z_1, ..., W_t z_T]                            of the tiles in a random order, at norm 1
    p(q) = softmax(q . m / tau)                                   over the image's own entry m_0 and M negatives m_j
    nce  = - log p_0 - sum over M of log(1 - p_j)
    loss = a nce(g) + (1 - a) nce(f)                              a = 1/2
    m_0 <- (m_0 + f) / 2, at norm 1                               once per optimizer step

Citation: Misra, van der Maaten 2020, "Self-supervised learning of pretext-invariant representations", arXiv:1912.01991,
section 3 (loss, equations 4 and 5; memory), section 3.2 (jigsaw, heads).

Deviations: all images of a batch share one draw of negatives, their own entries left out; with several whole views an
image, each has its term and the entry moves by their mean. The tiles of an image are mirrored together. Of a stream,
whose images nobody can tell from one another, there is no entry an image: a queue of the latest f (MoCo,
arXiv:1911.05722) gives the negatives, g's own entry is f, and f's is g, each without gradient.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import InputError
from ...views.keyed_random import permutation, uniform
from ...views.photometric import Photometric
from ...views.spec import Grid, ViewSpec, as_view_spec
from ..base import Batch, Encode, Objective, ObjectiveConfig, ObjectiveOutput
from ..gather import first_key
from ..memory import MemoryBank, Queue
from ..precision import in_float32
from ..validation import check_at_least, check_choice, check_fraction, check_positive

if TYPE_CHECKING:
    from ...encoders.encoder import Encoder, Encoding

_JITTER = Photometric(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.2, grey_prob=0.2)


def _default_image() -> ViewSpec:
    return ViewSpec(count=1, size=224, area=(0.08, 1.0), flip="own", photometric=_JITTER)


def _default_tiles() -> ViewSpec:
    """A crop of 255 px in 3 x 3 cells of 85, and anywhere in each of them a tile of 64."""
    grid = Grid(3, 3, gap=1 - 64 / 85)
    return ViewSpec(count=9, size=64, area=(0.6, 1.0), flip="shared", photometric=_JITTER, grid=grid)


@dataclasses.dataclass
class PIRLConfig(ObjectiveConfig):
    """Options of :class:`PIRL`.

    Args:
        views: whole views, or a reference to another objective's, such as ``"dino/global"``.
        tiles: of the jigsaw; its count is T. Not a reference: the head has a place for each tile.
        memory: ``"bank"`` (an entry an image), ``"queue"``, or ``"auto"``: a bank where the images can be told apart.
        num_images: entries of the bank; ``None`` leaves it to ``sp-hf pretrain``, which reads it from the dataset,
            unless that is a stream.
        negatives: M, drawn from the bank at random; the length of the queue.
        embedding_size: E.
        temperature: tau.
        memory_momentum: share of an entry that stays when its image is seen.
        jigsaw_weight: a.
    """

    views: ViewSpec | dict | str = dataclasses.field(default_factory=_default_image)
    tiles: ViewSpec | dict = dataclasses.field(default_factory=_default_tiles)
    memory: Literal["auto", "bank", "queue"] = "auto"
    num_images: int | None = None
    negatives: int = 32000
    embedding_size: int = 128
    temperature: float = 0.07
    memory_momentum: float = 0.5
    jigsaw_weight: float = 0.5

    def __post_init__(self) -> None:
        self.views, tiles = as_view_spec(self.views, _default_image()), as_view_spec(self.tiles, _default_tiles())
        if isinstance(tiles, str):
            raise InputError(f"tiles is {tiles!r}; the head has a place for each tile, so give their spec")
        self.tiles = tiles
        check_at_least("tiles.count", tiles.count, 2)
        check_choice("memory", self.memory, ("auto", "bank", "queue"))
        if self.num_images is not None:
            check_at_least("num_images", self.num_images, 2)
        for option in ("negatives", "embedding_size"):
            check_at_least(option, getattr(self, option), 1)
        check_positive("temperature", self.temperature)
        for option in ("memory_momentum", "jigsaw_weight"):
            check_fraction(option, getattr(self, option))

    @property
    def has_bank(self) -> bool:
        return self.memory == "bank" or (self.memory == "auto" and self.num_images is not None)


@in_float32
def similarities(queries: Tensor, own: Tensor, negatives: Tensor, same: Tensor, temperature: float) -> Tensor:
    """Logits [B, 1 + M] of queries [B, E] with their own entries [B, E], and with negatives [M, E] but where ``same``.

    ``same``: bool [B, M], negatives that are the query's own image.
    """
    others = (queries @ negatives.to(queries).T).masked_fill(same, -torch.inf)
    return torch.cat([(queries * own).sum(dim=-1, keepdim=True), others], dim=-1) / temperature


@in_float32
def nce_loss(logits: Tensor) -> Tensor:
    """Equation 5: -log p_0 - sum log(1 - p_j), mean over B. Logits [B, 1 + M]; -inf for negatives that do not count."""
    log_p = F.log_softmax(logits, dim=-1)
    log_rest = torch.log1p(-log_p[:, 1:].exp().clamp(max=1 - 1e-6))  # finite where one negative takes all
    return (-log_p[:, 0] - log_rest.sum(dim=-1)).mean()


class PIRL(Objective):
    """Jigsaw-invariant representations against a memory."""

    config_class = PIRLConfig
    kind = "where"
    title = "PIRL"
    citation = """@inproceedings{misra2020self,
  title     = {Self-Supervised Learning of Pretext-Invariant Representations},
  author    = {Misra, Ishan and van der Maaten, Laurens},
  booktitle = {Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  year      = {2020}
}"""

    def __init__(self, config: PIRLConfig, encoder: Encoder) -> None:
        super().__init__(config, encoder)
        width = config.embedding_size
        if config.has_bank and config.num_images is None:
            raise InputError("memory is 'bank', but num_images is not given; say it, or take memory: queue")
        self.image_head = nn.Linear(encoder.hidden_size, width)
        self.tile_head = nn.Linear(encoder.hidden_size, width)
        self.jigsaw_head = nn.Linear(self.config.tiles.count * width, width)
        self.memory: MemoryBank | Queue = (
            MemoryBank(self.config.num_images, width, config.memory_momentum)
            if config.has_bank
            else Queue(config.negatives, width)
        )

    def view_specs(self) -> dict[str, ViewSpec | str]:
        return {"image": self.config.views, "tiles": self.config.tiles}

    def requests(self, batch: Batch) -> dict[str, Encode]:
        return {"image": Encode("image"), "tiles": Encode("tiles")}

    def forward(self, batch: Batch, encodings: dict[str, Encoding]) -> ObjectiveOutput:
        images = F.normalize(self.image_head(encodings["image"].cls), dim=-1)  # [B, V, E]
        jigsaws = self.jigsaw(encodings["tiles"].cls, permutation(batch.keys, "pirl/order", self.config.tiles.count))
        mean = F.normalize(images.mean(dim=1), dim=-1).detach()  # [B, E]
        if isinstance(self.memory, MemoryBank):
            ids = _ids(batch)
            negatives, same = self._negatives(batch)
            own_of_jigsaw = own_of_image = self.memory.entries[ids]
            self.memory.add(ids, mean)
        else:
            negatives, same = self.memory.entries, torch.zeros((), dtype=torch.bool, device=mean.device)
            own_of_jigsaw, own_of_image = mean, jigsaws.detach()
            self.memory.add(mean)
        tau, share = self.config.temperature, self.config.jigsaw_weight
        logits = similarities(jigsaws, own_of_jigsaw, negatives, same, tau)  # [B, 1 + M]
        of_images = [nce_loss(similarities(image, own_of_image, negatives, same, tau)) for image in images.unbind(1)]
        loss = share * nce_loss(logits) + (1 - share) * torch.stack(of_images).mean()
        accuracy = (logits.detach().argmax(dim=-1) == 0).float().mean()
        return ObjectiveOutput(loss, {"accuracy": accuracy})

    def jigsaw(self, tiles: Tensor, order: Tensor) -> Tensor:
        """Embeddings [B, E] of tiles [B, T, D] in an order int64 [B, T]."""
        embedded = self.tile_head(tiles)  # [B, T, E]
        shuffled = embedded.gather(1, order[..., None].expand_as(embedded))
        return F.normalize(self.jigsaw_head(shuffled.flatten(1)), dim=-1)

    def _negatives(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Entries [M, E] for the whole batch of all processes, and which of them are an image's own, bool [B, M]."""
        entries, wanted = self.memory.entries, self.config.negatives
        if len(entries) <= wanted:
            drawn = torch.arange(len(entries), device=entries.device)
        else:
            drawn = (uniform(first_key(batch.keys), "pirl/negatives", (wanted,))[0] * len(entries)).long()
        return entries[drawn], drawn == _ids(batch)[:, None]

    def after_optimizer_step(self) -> None:
        self.memory.step()


def _ids(batch: Batch) -> Tensor:
    if batch.ids is None:
        raise InputError("the images have no numbers (a stream?), which memory: bank needs; take memory: queue.")
    return batch.ids
