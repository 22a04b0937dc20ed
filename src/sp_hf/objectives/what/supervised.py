r"""Supervised classification: the ceiling beside self-supervised runs, on the same data and in the same loop.

Letters: B images, V views of one image (1 by default), D hidden size, C classes; s is the label smoothing.

    q_b    = (1 - s) onehot(y_b) + s / C
    loss   = mean over V and the labelled of B of  - sum over C of  q_b log softmax(W z_bv + a)

Images with the label -1 are left out; a batch without any label has a loss of 0 (and gradients of 0).

Citation: Touvron et al. 2021, "Training data-efficient image transformers & distillation through attention",
arXiv:2012.12877, section 6 and table 9 (cross-entropy of a linear layer on the class token, smoothing of 0.1);
Szegedy et al. 2015, arXiv:1512.00567, section 7 (label smoothing).

Deviations: views, not the paper's recipe: no mixing of images, RandAugment, erasing or repeated augmentation, so that a
supervised run differs from the self-supervised ones beside it in its loss and as little else as possible. The mean is
over the labelled images of one forward of one process: where some have no label, those of a batch with few weigh more.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import InputError
from ...views.photometric import Photometric
from ...views.spec import ViewSpec, as_view_spec
from ..base import Batch, Encode, Objective, ObjectiveConfig, ObjectiveOutput
from ..precision import in_float32
from ..validation import check_at_least, check_fraction

if TYPE_CHECKING:
    from ...encoders.encoder import Encoder, Encoding

UNLABELLED = -1


def _default_views() -> ViewSpec:
    light = Photometric(brightness=0.3, contrast=0.3, saturation=0.3)
    return ViewSpec(count=1, size=224, area=(0.2, 1.0), flip="own", photometric=light)


@dataclasses.dataclass
class SupervisedConfig(ObjectiveConfig):
    """Options of :class:`Supervised`.

    Args:
        views: its views, or a reference to another objective's, such as ``"dino/global"``.
        num_labels: C; ``None`` leaves it to ``sp-hf pretrain``, which reads it from the dataset.
        label_smoothing: s, from 0 to 1.
    """

    views: ViewSpec | dict | str = dataclasses.field(default_factory=_default_views)
    num_labels: int | None = None
    label_smoothing: float = 0.1

    def __post_init__(self) -> None:
        self.views = as_view_spec(self.views, _default_views())
        if self.num_labels is not None:
            check_at_least("num_labels", self.num_labels, 2)
        check_fraction("label_smoothing", self.label_smoothing)


@in_float32
def classification_loss(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Mean smoothed cross-entropy of the labelled: logits [B, V, C], labels int64 [B], -1 for none."""
    labels = labels[:, None].expand(logits.shape[:-1]).flatten()  # [B * V]
    total = F.cross_entropy(
        logits.flatten(0, 1), labels, ignore_index=UNLABELLED, label_smoothing=label_smoothing, reduction="sum"
    )
    return total / (labels != UNLABELLED).sum().clamp(min=1)


def accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    """Share of the labelled views whose class is found, 0 if there are none: logits [B, V, C], labels int64 [B]."""
    labels = labels[:, None].expand(logits.shape[:-1])
    return (logits.argmax(dim=-1) == labels).sum() / (labels != UNLABELLED).sum().clamp(min=1)


class Supervised(Objective):
    """A linear classifier on the embedding, trained with the encoder."""

    config_class = SupervisedConfig
    kind = "what"
    needs_labels = True
    citation = """@inproceedings{touvron2021training,
  title     = {Training Data-Efficient Image Transformers \\& Distillation Through Attention},
  author    = {Touvron, Hugo and Cord, Matthieu and Douze, Matthijs and Massa, Francisco and Sablayrolles, Alexandre
               and J{\\'e}gou, Herv{\\'e}},
  booktitle = {International Conference on Machine Learning},
  year      = {2021}
}"""

    def __init__(self, config: SupervisedConfig, encoder: Encoder) -> None:
        super().__init__(config, encoder)
        if config.num_labels is None:
            raise InputError(
                "num_labels is not given: write the number of classes into the objective's entry (sp-hf pretrain reads"
                " it from the dataset)."
            )
        self.head = nn.Linear(encoder.hidden_size, config.num_labels)
        nn.init.trunc_normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def view_specs(self) -> dict[str, ViewSpec | str]:
        return {"views": self.config.views}

    def requests(self, batch: Batch) -> dict[str, Encode]:
        return {"views": Encode("views")}

    def forward(self, batch: Batch, encodings: dict[str, Encoding]) -> ObjectiveOutput:
        if batch.labels is None:
            raise InputError("the batch has no labels: pass labels, int64 [B], -1 for none, beside its views.")
        logits = self.head(encodings["views"].cls)  # [B, V, C]
        loss = classification_loss(logits, batch.labels, self.config.label_smoothing)
        return ObjectiveOutput(loss, {"accuracy": accuracy(logits.detach(), batch.labels)})
