r"""SelfPatch: DINO, and each patch as the teacher's summary of its most similar neighbours.

Letters: B images, G global views, V global and local views, N patch tokens of a view, D hidden size, K and K'
prototypes.

    y(v)       pool(tokens of view v)                  two blocks in which a learned query attends to the tokens; a norm
    y'(v, i)   pool'(the 4 of patch i's 8 neighbours whose tokens are nearest to its own, by cosine)      the teacher's
    L_cls    = mean over B and g != v of          - p_t(y'(g)) . log p_s(y(v))             DINO's, of pooled tokens
    L_patch  = mean over B, all v and i of        - q_t(y'(v, i)) . log q_s(norm(z(v, i)))          a head of its own
    loss     = L_cls + patch_weight L_patch

Citation: Yun, Lee, Kim, Shin 2022, "Patch-level representation learning for self-supervised vision transformers"
(SelfPatch), arXiv:2206.07990, section 3 (neighbours, aggregation) and 4.1, and its code (patches of all crops, local
ones too; neighbours wrap round the border; 4096 prototypes of patches); DINO: Caron et al. 2021, arXiv:2104.14294.

Choices and deviations: the paper's encoder has no class token; here it has, and uses it as every encoder does, but no
loss is of it: evaluate the mean of the patch tokens. LayerScale starts at 0.1. With gradient accumulation the centres
move once, by the mean over the whole effective batch.
"""

from __future__ import annotations

import copy
import dataclasses
from typing import TYPE_CHECKING, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...views.photometric import Photometric
from ...views.spec import ViewSpec
from ..base import Batch, Encode, ObjectiveOutput, Progress
from ..centring import sinkhorn
from ..heads import DINOHead
from ..precision import in_float32
from ..prior import most_frequent_share
from ..running_centre import RunningCentre
from ..self_distillation import SelfDistillation, SelfDistillationConfig
from ..transformer import ClassAttention
from ..validation import check_at_least, check_choice, check_count, check_fraction, check_heads
from ..what.dino import Centring, dino_loss, teacher_probabilities

if TYPE_CHECKING:
    from ...encoders.encoder import Encoder, Encoding

STEPS = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))  # to the neighbours, down and across


def _default_global() -> ViewSpec:
    return ViewSpec(count=2, size=224, area=(0.25, 1.0), flip="own", photometric=Photometric.dino_global())


def _default_local() -> ViewSpec:
    return ViewSpec(count=8, size=96, area=(0.05, 0.25), flip="own", photometric=Photometric.dino_local())


@dataclasses.dataclass
class SelfPatchConfig(SelfDistillationConfig):
    """Options of :class:`SelfPatch`, besides those of every :class:`SelfDistillationConfig`.

    Teacher and student see global and local views; temperatures and momenta are of both losses.

    Args:
        patch_prototypes: K'.
        pool_depth, pool_heads: blocks and attention heads of the pooling; the latter must divide the hidden size.
        neighbours: how many of the 8 a patch is taught by.
        patch_weight: of the second loss.
        centring: ``"mean"``, the paper's running means of the teacher's outputs, or ``"sinkhorn"``, Sinkhorn-Knopp of
            each forward, of pooled tokens and of patches.
    """

    global_views: ViewSpec | dict | str = dataclasses.field(default_factory=_default_global)
    local_views: ViewSpec | dict | str | None = dataclasses.field(default_factory=_default_local)
    norm_last_layer: bool = False
    patch_prototypes: int = 4096
    pool_depth: int = 2
    pool_heads: int = 4
    neighbours: int = 4
    patch_weight: float = 0.1
    centring: Centring = "mean"

    def __post_init__(self) -> None:
        super().__post_init__()
        for option in ("patch_prototypes", "pool_depth", "neighbours"):
            check_count(option, getattr(self, option), 1)
        check_fraction("neighbours / 8", self.neighbours / len(STEPS))
        check_at_least("patch_weight", self.patch_weight, 0)
        check_choice("centring", self.centring, get_args(Centring))


def neighbour_index(grid: tuple[int, int], device: torch.device | None = None) -> Tensor:
    """The 8 neighbours of each patch, round the border: int64 [N, 8]."""
    rows, columns = grid
    index = torch.arange(rows * columns, device=device)[:, None]
    steps = torch.tensor(STEPS, device=device)
    return (index // columns + steps[:, 0]) % rows * columns + (index % columns + steps[:, 1]) % columns


@torch.no_grad()
@in_float32
def nearest_neighbours(patches: Tensor, grid: tuple[int, int], count: int) -> Tensor:
    """Of each patch's 8 neighbours the ``count`` of the highest cosine: tokens [M, N, D] to int64 [M, N, count]."""
    index = neighbour_index(grid, patches.device)  # [N, 8]
    normed = F.normalize(patches, dim=-1)
    cosines = torch.einsum("mnd,mnkd->mnk", normed, normed[:, index])
    chosen = cosines.topk(count, dim=-1).indices
    return index.expand(len(patches), -1, -1).gather(2, chosen)


@in_float32
def patch_loss(logits: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of each patch, mean over all: the student's logits [..., K'], probabilities [..., K']."""
    return -(targets * F.log_softmax(logits / temperature, dim=-1)).sum(dim=-1).mean()


class Pool(nn.Module):
    """A learned query that attends to tokens in some blocks, and a norm, which patches share.

    Args:
        width: D. depth: blocks. heads: of their attention.
    """

    def __init__(self, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.empty(width))
        nn.init.trunc_normal_(self.query, std=0.02)
        self.blocks = nn.ModuleList(ClassAttention(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, tokens: Tensor) -> Tensor:
        """[M, N, D] to [M, D]."""
        query = self.query.to(tokens.dtype).expand(len(tokens), 1, -1)
        for block in self.blocks:
            query = block(query, tokens)
        return self.norm(query[:, 0])


class SelfPatch(SelfDistillation):
    """Patches alike to their neighbours, beside DINO of pooled patches."""

    config_class = SelfPatchConfig
    config: SelfPatchConfig
    teacher_temperature: Tensor
    kind = "where"
    title = "SelfPatch"
    remedies = ("centring: sinkhorn",)
    own_metric = ("patch_accuracy", "patches whose neighbours' prototype is found")
    citation = """@inproceedings{yun2022patch,
  title     = {Patch-Level Representation Learning for Self-Supervised Vision Transformers},
  author    = {Yun, Sukmin and Lee, Hankook and Kim, Jaehyung and Shin, Jinwoo},
  booktitle = {Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  year      = {2022}
}"""

    def __init__(self, config: SelfPatchConfig, encoder: Encoder) -> None:
        super().__init__(config, encoder)
        width = encoder.hidden_size
        check_heads("pool_heads", config.pool_heads, width)
        self.pool = Pool(width, config.pool_depth, config.pool_heads)
        self.patch_head = DINOHead(
            width, config.patch_prototypes, config.head_width, config.head_bottleneck, config.norm_last_layer
        )
        self.teacher_pool = copy.deepcopy(self.pool).requires_grad_(False)
        self.teacher_patch_head = copy.deepcopy(self.patch_head).requires_grad_(False)
        self.centre = RunningCentre(config.prototypes, config.centre_momentum)
        self.patch_centre = RunningCentre(config.patch_prototypes, config.centre_momentum)
        self.register_buffer("teacher_temperature", torch.tensor(config.teacher_temperature[0]))

    def warming_temperatures(self) -> list[tuple[tuple[float, float], Tensor]]:
        return [(self.config.teacher_temperature, self.teacher_temperature)]

    def requests(self, batch: Batch) -> dict[str, Encode]:
        student = {f"student_{view}": Encode(view) for view in batch.views}
        return {**student, **{f"teacher_{view}": Encode(view, tower="teacher") for view in batch.views}}

    def forward(self, batch: Batch, encodings: dict[str, Encoding]) -> ObjectiveOutput:
        pooled, of_patches, hits, priors = [], [], [], []
        for view in self.view_specs():
            seen, taught = encodings[f"student_{view}"], encodings[f"teacher_{view}"]
            lead = seen.cls.shape[:2]
            pooled.append(self.pool(seen.patches.flatten(0, 1)).unflatten(0, lead))  # [B, v, D]
            logits = self.patch_head(self.pool.norm(seen.patches))  # [B, v, N, K']
            targets = self._patch_targets(taught)
            of_patches.append(patch_loss(logits, targets, self.config.student_temperature))
            answers = targets.argmax(dim=-1)  # [B, v, N]
            hits.append((logits.detach().argmax(dim=-1) == answers).float().mean())
            priors.append(most_frequent_share(answers, self.config.patch_prototypes))
        counts = of_patches[0].new_tensor([views.shape[1] for views in pooled])
        weights = counts / counts.sum()  # a view counts like any other, however many patches it has
        patch = (torch.stack(of_patches) * weights).sum()
        with torch.no_grad():
            whole = encodings["teacher_global"].patches  # [B, G, N, D]
            outputs = self.teacher_head(self.teacher_pool(whole.flatten(0, 1))).unflatten(0, whole.shape[:2])
            targets = self._targets(outputs, self.centre)
            entropy = torch.special.entr(targets).sum(dim=-1).mean()
        of_views = dino_loss(self.head(torch.cat(pooled, dim=1)), targets, self.config.student_temperature)
        logs = {
            "class_loss": of_views.detach(),
            "patch_loss": patch.detach(),
            "patch_accuracy": (torch.stack(hits) * weights).sum(),
            "patch_accuracy_prior": (torch.stack(priors) * weights).sum(),
            "teacher_entropy": entropy,
        }
        return ObjectiveOutput(of_views + self.config.patch_weight * patch, logs)

    @torch.no_grad()
    def _patch_targets(self, taught: Encoding) -> Tensor:
        """Probabilities [B, v, N, K'] of the summaries of each patch's neighbours, from the teacher's tokens."""
        patches = taught.patches.flatten(0, 1)  # [M, N, D]
        index = nearest_neighbours(patches, taught.grid, self.config.neighbours)  # [M, N, k]
        images = torch.arange(len(patches), device=patches.device)[:, None, None]
        summaries = self.teacher_pool(patches[images, index].flatten(0, 1))  # [M N, D]
        outputs = self.teacher_patch_head(summaries).view(*taught.patches.shape[:3], -1)
        return self._targets(outputs, self.patch_centre)

    def _targets(self, outputs: Tensor, centre: RunningCentre) -> Tensor:
        """The teacher's outputs [..., K] to probabilities."""
        if self.config.centring == "sinkhorn":
            return sinkhorn(outputs.flatten(0, -2), self.teacher_temperature).view_as(outputs)
        probabilities = teacher_probabilities(outputs, centre.centre, self.teacher_temperature)
        centre.add(outputs)
        return probabilities

    def ema_heads(self) -> list[tuple[nn.Module, nn.Module]]:
        own = [(self.pool, self.teacher_pool), (self.patch_head, self.teacher_patch_head)]
        return [*super().ema_heads(), *own]

    def set_progress(self, progress: Progress) -> None:
        super().set_progress(progress)
        self.centre.begin()
        self.patch_centre.begin()

    def after_optimizer_step(self) -> None:
        self.centre.step()
        self.patch_centre.step()
