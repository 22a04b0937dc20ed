import numpy as np
import pytest
import torch
from torch import nn

from sp_hf.objectives import build_objective
from sp_hf.objectives.what.byol import regression_loss

from .harness import Step, TinyEncoder, make_batch

VIEWS = {"count": 2, "size": 32, "area": [0.2, 1.0]}
TINY = {"name": "byol", "views": VIEWS, "head_width": 32, "embedding_size": 8}


def build(**options):
    encoder = TinyEncoder()
    return Step(build_objective({**TINY, **options}, encoder), encoder)


def test_loss_is_the_squared_distance_at_norm_one():
    predictions, targets = np.random.default_rng(0).normal(size=(2, 7, 5))
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (predictions, targets)]
    expected = ((unit[0] - unit[1]) ** 2).sum(axis=1).mean()
    assert regression_loss(torch.tensor(predictions), torch.tensor(targets)).item() == pytest.approx(expected)


def test_forward_compares_each_view_with_the_teachers_other_view():
    step = build()
    with torch.no_grad():
        for p in step.objective.teacher_projector.parameters():
            p.add_(0.1)
    batch = make_batch(step.objective)
    objective, pixels = step.objective, batch.views["views"].pixels
    q = [objective.predictor(objective.projector(step.encoder(pixels[:, v]).cls)) for v in (0, 1)]
    k = [objective.teacher_projector(step.teacher(pixels[:, v]).cls) for v in (0, 1)]
    expected = regression_loss(q[0], k[1]) + regression_loss(q[1], k[0])
    torch.testing.assert_close(step(batch).loss, expected)


def test_collapse_is_seen_in_the_metrics():
    step = build()
    batch = make_batch(step.objective)
    healthy = step(batch).logs
    for heads in (step.objective.teacher_projector, step.objective.predictor):
        nn.init.zeros_(heads[-1].weight)  # the same for every image
        nn.init.ones_(heads[-1].bias)
    collapsed = step(batch)
    assert collapsed.loss < 1e-5  # nothing but the metrics tells
    assert collapsed.logs["target_std"] < 1e-3 < 0.1 < healthy["target_std"] <= 1
    assert collapsed.logs["accuracy"] == 0.25  # chance among 4


def test_heads_have_the_papers_layers():
    objective = build().objective
    for head, sizes in ((objective.projector, (32, 8)), (objective.predictor, (32, 8))):
        assert tuple(m.out_features for m in head if isinstance(m, nn.Linear)) == sizes
        assert isinstance(head[-1], nn.Linear) and head[-1].bias is not None  # no norm at the end
    assert objective.ema_heads() == [(objective.projector, objective.teacher_projector)]


def test_bad_options_are_named():
    with pytest.raises(ValueError, match="byol compares 2 views, but its view set has 1"):
        build(views={**VIEWS, "count": 1})
    with pytest.raises(ValueError, match="momentum is 2.0; it must be from 0 to 1"):
        build(momentum=[0.9, 2])
