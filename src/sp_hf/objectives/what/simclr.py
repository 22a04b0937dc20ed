r"""SimCLR: two views of an image are nearer to each other than to any other view of the batch.

Letters: B images of this process, M of all processes, D hidden size, E embedding size.

    z_v  = projector(encoder(x_v)), at norm 1
    loss = mean over all 2 B views z of
               - log( exp(z . z' / tau) / sum over the other 2 M - 1 views y of exp(z . y / tau) )

z' is the other view of z's image. Views are gathered from all processes, with gradient.

Citation: Chen et al. 2020, "A simple framework for contrastive learning of visual representations", arXiv:2002.05709,
section 2.1 and algorithm 1 (loss), section 3 (augmentation), section 4.2 (projector), appendix B.

Choices: the projector has batch norm after each layer, as in the authors' code (the paper's text has none). tau is 0.1,
the paper's for batches of 4096; 0.2 to 0.5 suits small ones (its appendix B.10).

Deviations: with gradient accumulation, negatives come from one forward's images. The paper trains by LARS.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from ...views.photometric import Photometric
from ...views.spec import ViewSpec, as_view_spec
from ..base import Batch, Encode, Objective, ObjectiveConfig, ObjectiveOutput
from ..gather import gather_rows
from ..heads import batch_norm_mlp
from ..precision import in_float32
from ..validation import check_at_least, check_positive, check_two_views

if TYPE_CHECKING:
    from ...encoders.encoder import Encoder, Encoding


def _default_views() -> ViewSpec:
    return ViewSpec(count=2, size=224, area=(0.08, 1.0), flip="own", photometric=Photometric.simclr())


@dataclasses.dataclass
class SimCLRConfig(ObjectiveConfig):
    """Options of :class:`SimCLR`.

    Args:
        views: two views, or a reference to another objective's, such as ``"dino/global"``.
        temperature: tau.
        head_width: hidden width of the projector (2 layers).
        embedding_size: E.
    """

    views: ViewSpec | dict | str = dataclasses.field(default_factory=_default_views)
    temperature: float = 0.1
    head_width: int = 2048
    embedding_size: int = 128

    def __post_init__(self) -> None:
        self.views = as_view_spec(self.views, _default_views())
        check_two_views("simclr", self.views)
        check_positive("temperature", self.temperature)
        check_at_least("head_width", self.head_width, 1)
        check_at_least("embedding_size", self.embedding_size, 1)


@in_float32
def similarities(queries: Tensor, keys: Tensor, own: Tensor, temperature: float) -> Tensor:
    """Cosines over the temperature: queries [Q, E] and keys [K, E] to logits [Q, K].

    ``own``: int64 [Q], the key that is the query itself, which counts for nothing.
    """
    cosines = F.normalize(queries, dim=-1) @ F.normalize(keys, dim=-1).T
    return (cosines / temperature).scatter(1, own[:, None], -torch.inf)


class SimCLR(Objective):
    """Contrast of two views with all others of the batch."""

    config_class = SimCLRConfig
    kind = "what"
    title = "SimCLR"
    citation = """@inproceedings{chen2020simple,
  title     = {A Simple Framework for Contrastive Learning of Visual Representations},
  author    = {Chen, Ting and Kornblith, Simon and Norouzi, Mohammad and Hinton, Geoffrey},
  booktitle = {International Conference on Machine Learning},
  year      = {2020}
}"""

    def __init__(self, config: SimCLRConfig, encoder: Encoder) -> None:
        super().__init__(config, encoder)
        self.projector = batch_norm_mlp([encoder.hidden_size, config.head_width, config.embedding_size])

    def view_specs(self) -> dict[str, ViewSpec | str]:
        return {"views": self.config.views}

    def requests(self, batch: Batch) -> dict[str, Encode]:
        return {"views": Encode("views")}

    def forward(self, batch: Batch, encodings: dict[str, Encoding]) -> ObjectiveOutput:
        check_two_views("simclr", batch.views["views"])
        # View by view, as each has batch statistics of its own.
        queries = torch.stack([self.projector(cls) for cls in encodings["views"].cls.unbind(1)], dim=1)  # [B, 2, E]
        keys, start = gather_rows(queries)  # [M, 2, E]
        own = 2 * start + torch.arange(2 * len(queries), device=queries.device)  # [2 B], place among the 2 M
        positives = own ^ 1  # the other view of an image stands beside it
        logits = similarities(queries.flatten(0, 1), keys.flatten(0, 1), own, self.config.temperature)
        accuracy = (logits.detach().argmax(dim=-1) == positives).float().mean()
        return ObjectiveOutput(F.cross_entropy(logits, positives), {"accuracy": accuracy})
