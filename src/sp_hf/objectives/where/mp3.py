r"""MP3: patches without positions tell where they belong, from few others that all may look at.

Letters: B images, V views of one image (1 by default), N patch tokens of a view, n of them context, D hidden size.

    context   n = 25 % of the patches: in every block, keys and values come from them (and the class token) alone
    o_i       = W z_i + b                                                          [N], for every patch; no positions
    loss      = mean over B, V, N of cross-entropy(o_i, i)

Citation: Zhai et al. 2022, "Position prediction as an effective pretraining strategy", arXiv:2207.07611, section 3
(context, loss over all patches), section 4.1 (a mask ratio of 75 % on ImageNet, 50 % on CIFAR-100).

The encoder's own table of positions takes no part, so it learns nothing here; objectives beside this one, and what is
done with the encoder later, may use it. Choices made here: DeiT's augmentation is taken to be colour jitter of 0.4,
without RandAugment, mixup, cutmix and smoothing.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import InputError
from ...views.keyed_random import uniform
from ...views.photometric import Photometric
from ...views.spec import ViewSpec, as_view_spec
from ..base import Batch, Encode, Objective, ObjectiveConfig, ObjectiveOutput, TokenMask
from ..masks import lowest
from ..precision import in_float32
from ..validation import check_fraction

if TYPE_CHECKING:
    from ...encoders.encoder import Encoder, Encoding


def _default_views() -> ViewSpec:
    photometric = Photometric(brightness=0.4, contrast=0.4, saturation=0.4)
    return ViewSpec(count=1, size=224, area=(0.08, 1.0), flip="own", photometric=photometric)


@dataclasses.dataclass
class MP3Config(ObjectiveConfig):
    """Options of :class:`MP3`.

    Args:
        views: its views. Not a reference: the classifier has one output a patch, so it must know their size.
        mask_ratio: share of the patches that nobody looks at (eta).
    """

    views: ViewSpec | dict = dataclasses.field(default_factory=_default_views)
    mask_ratio: float = 0.75

    def __post_init__(self) -> None:
        views = as_view_spec(self.views, _default_views())
        if isinstance(views, str):
            raise InputError(
                f"mp3 cannot share the views {views!r}: it has one output a patch and must know their size;"
                " give it a view spec of its own."
            )
        self.views = views
        check_fraction("mask_ratio", self.mask_ratio)


@in_float32
def position_loss(logits: Tensor) -> Tensor:
    """Mean cross-entropy of every patch's own index: logits [..., N, N], of patch i in row i."""
    patches = torch.arange(logits.shape[-1], device=logits.device)
    return F.cross_entropy(logits.flatten(0, -2), patches.expand(logits.shape[:-1]).flatten())


class MP3(Objective):
    """Masked patch position prediction."""

    config_class = MP3Config
    no_position: Tensor  # [D]
    kind = "where"
    title = "MP3"
    needs_token_control = True
    own_metric = ("accuracy", "accuracy of patches' places")
    citation = """@inproceedings{zhai2022position,
  title     = {Position Prediction as an Effective Pretraining Strategy},
  author    = {Zhai, Shuangfei and Jaitly, Navdeep and Ramapuram, Jason and Busbridge, Dan and Likhomanenko, Tatiana
               and Cheng, Joseph Y. and Talbott, Walter and Huang, Chen and Goh, Hanlin and Susskind, Joshua M.},
  booktitle = {International Conference on Machine Learning},
  year      = {2022}
}"""

    def __init__(self, config: MP3Config, encoder: Encoder) -> None:
        super().__init__(config, encoder)
        rows, columns = encoder.patches_of(self.config.views.size)
        self.patches = rows * columns  # N
        self.context = max(1, round((1 - config.mask_ratio) * self.patches))  # n
        self.classifier = nn.Linear(encoder.hidden_size, self.patches)
        self.register_buffer("no_position", torch.zeros(encoder.hidden_size))

    def view_specs(self) -> dict[str, ViewSpec | str]:
        return {"image": self.config.views}

    def requests(self, batch: Batch) -> dict[str, Encode]:
        scores = uniform(batch.keys, "mp3/context", (batch.views["image"].pixels.shape[1], self.patches))  # [B, V, N]
        context = lowest(scores, self.context)
        mask = TokenMask(dropped=torch.ones_like(context), position_token=self.no_position, context=context)
        return {"image": Encode("image", mask=mask)}

    def forward(self, batch: Batch, encodings: dict[str, Encoding]) -> ObjectiveOutput:
        logits = self.classifier(encodings["image"].patches)  # [B, V, N, N]
        correct = logits.detach().argmax(dim=-1) == torch.arange(self.patches, device=logits.device)
        return ObjectiveOutput(position_loss(logits), {"accuracy": correct.float().mean()})
