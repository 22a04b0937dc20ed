import copy

import numpy as np
import pytest
import torch
from torch import nn

from sp_hf.objectives import build_objective
from sp_hf.objectives.heads import SyncBatchNorm
from sp_hf.objectives.what.moco_v3 import contrastive_loss, similarities

from .harness import Step, TinyEncoder, make_batch

VIEWS = {"count": 2, "size": 32, "area": [0.2, 1.0]}
TINY = {"name": "moco_v3", "views": VIEWS, "head_width": 32, "embedding_size": 8}


def build(**options):
    encoder = TinyEncoder()
    return Step(build_objective({**TINY, **options}, encoder), encoder)


@pytest.mark.parametrize("temperature", [0.2, 1.0])
def test_loss_equals_a_loop_over_queries(temperature):
    queries = torch.randn(4, 6, dtype=torch.float64)
    keys = torch.randn(9, 6, dtype=torch.float64)
    positives = torch.tensor([3, 4, 5, 6])
    expected = 0.0
    for query, positive in zip(queries.numpy(), positives.tolist(), strict=True):
        cosines = [query @ key / np.sqrt((query @ query) * (key @ key)) for key in keys.numpy()]
        scores = np.exp(np.array(cosines) / temperature)
        expected -= 2 * temperature * np.log(scores[positive] / scores.sum()) / 4
    ours = contrastive_loss(similarities(queries, keys, temperature), positives, temperature)
    assert ours.item() == pytest.approx(expected, rel=1e-10)


def test_forward_is_the_symmetrised_loss_of_heads_applied_view_by_view():
    step = build()
    batch = make_batch(step.objective)
    objective, pixels = step.objective, batch.views["views"].pixels
    q = [objective.predictor(objective.projector(step.encoder(pixels[:, v]).cls)) for v in (0, 1)]
    k = [objective.teacher_projector(step.teacher(pixels[:, v]).cls) for v in (0, 1)]
    expected = 0.0
    for query, key in ((q[0], k[1]), (q[1], k[0])):
        logits = nn.functional.cosine_similarity(query[:, None], key[None], dim=-1) / 0.2
        expected -= 0.4 * logits.log_softmax(dim=1).diagonal().mean()
    torch.testing.assert_close(step(batch).loss, expected)


def test_batch_norm_of_one_process_is_pytorchs():
    ours, theirs = SyncBatchNorm(5).double(), nn.BatchNorm1d(5).double()
    with torch.no_grad():
        for norm in (ours, theirs):
            norm.weight.copy_(torch.linspace(0.5, 2, 5))
            norm.bias.copy_(torch.linspace(-1, 1, 5))
    x = torch.randn(7, 5, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(ours(x), theirs(x))
    weights = torch.randn(7, 5, dtype=torch.float64)
    ours_gradient = torch.autograd.grad((ours(x) * weights).sum(), x)
    torch.testing.assert_close(ours_gradient, torch.autograd.grad((theirs(x) * weights).sum(), x))


def test_heads_have_the_papers_layers():
    objective = build().objective
    assert [m.out_features for m in objective.projector if isinstance(m, nn.Linear)] == [32, 32, 8]
    assert [m.out_features for m in objective.predictor if isinstance(m, nn.Linear)] == [32, 8]
    assert objective.projector[-1].weight is None and objective.predictor[-1].weight is None  # not affine
    assert all(m.bias is None for m in objective.modules() if isinstance(m, nn.Linear))


def test_one_image_is_refused():
    step = build()
    with pytest.raises(ValueError, match="at least 2 images"):
        step(make_batch(step.objective, images=1))


def test_accuracy_is_one_when_every_query_finds_its_key():
    step = build()
    step.objective.predictor = nn.Identity()  # queries are then the other view's keys, if the views are the same
    batch = make_batch(step.objective)
    batch.views["views"].pixels[:, 1] = batch.views["views"].pixels[:, 0]
    assert step(batch).logs["accuracy"].item() == 1.0


@pytest.mark.parametrize("freeze", [True, False])
def test_patch_projection_is_frozen_by_default(freeze):
    step = build(freeze_patch_projection=freeze)
    assert all(p.requires_grad != freeze for p in step.encoder.projection.parameters())
    assert step.objective.config.__class__().freeze_patch_projection


def test_only_the_projector_has_a_teacher():
    objective = build().objective
    ((student, teacher),) = objective.ema_heads()
    assert student is objective.projector and teacher is objective.teacher_projector
    assert copy.deepcopy(objective).teacher_momentum() == (0.99, 1.0)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"views": {**VIEWS, "count": 3}}, "compares 2 views, but its view set has 3"),
        ({"temperature": -1}, "temperature is -1; it must be greater than 0"),
        ({"momentum": [0.9, 2]}, "momentum is 2.0; it must be from 0 to 1"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)
