import numpy as np
import pytest
import torch

from sp_hf.objectives import build_objective
from sp_hf.objectives.where.pix_pro import consistency_loss, matching, propagate, same_places

from .harness import Step, TinyEncoder, make_batch

TINY = {
    "name": "pix_pro",
    "views": {"count": 2, "size": 24, "area": [0.3, 1.0]},
    "head_width": 16,
    "embedding_size": 8,
    "momentum": [0.9, 1.0],
}


def build(**options):
    torch.manual_seed(0)
    encoder = TinyEncoder()
    return Step(build_objective({**TINY, **options}, encoder), encoder)


def cosine(a, b):
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


def test_propagation_equals_the_formula():
    x, g = torch.randn(2, 5, 3, dtype=torch.float64), torch.randn(2, 5, 3, dtype=torch.float64)
    for b in range(2):
        for i in range(5):
            own = x[b].numpy()
            expected = sum(max(cosine(own[i], own[j]), 0) ** 2 * g[b, j].numpy() for j in range(5))
            np.testing.assert_allclose(propagate(x, g, 2.0)[b, i].numpy(), expected, atol=1e-12)


def test_places_by_hand():
    first = torch.tensor([[[0.30, 0.30, 0.06, 0.08]]])  # diagonal 0.1
    second = torch.tensor([[[0.34, 0.35, 0.03, 0.04], [0.38, 0.30, 0.03, 0.04], [0.42, 0.30, 0.12, 0.16]]])
    assert same_places(first, second, 0.7).tolist() == [[[True, False, True]]]  # 0.064, 0.08 of 0.07, 0.12 of 0.14


def test_loss_is_the_mean_over_images_of_the_mean_over_their_positives():
    y, x = torch.randn(3, 4, 5, dtype=torch.float64), torch.randn(3, 6, 5, dtype=torch.float64)
    positive = torch.rand(3, 4, 6) < 0.3
    positive[1] = False
    own = []
    for b in range(3):
        distances = [1 - cosine(y[b, i].numpy(), x[b, j].numpy()) for i, j in positive[b].nonzero().tolist()]
        own.append(np.mean(distances) if distances else 0)
    assert consistency_loss(y, x, positive).item() == pytest.approx(np.mean(own))


def test_matching_and_its_prior():
    targets = torch.eye(4)[None]
    propagated = targets[:, [0, 2, 1, 3]]
    positive = torch.zeros(1, 4, 4, dtype=torch.bool)
    positive[0, 0, 0] = positive[0, 1, 1] = positive[0, 1, 3] = True  # 0 is found, 1 is not; 2 and 3 are not asked
    accuracy, prior = matching(propagated, targets, positive)
    assert accuracy == 0.5 and prior == 0.5  # of one image nothing is known from others: always the first patch
    assert matching(*(x.expand(3, -1, -1) for x in (propagated, targets, positive)))[1] == 1
    everywhere = torch.ones(1, 4, 4, dtype=torch.bool)
    assert matching(propagated, targets, everywhere) == (1, 1)


def test_the_same_view_twice_has_every_patch_at_its_own_place():
    step = build()
    batch = make_batch(step.objective, images=8)
    views = batch.views["views"].each(lambda x: x[:, :1].expand(-1, 2, *x.shape[2:]))
    from sp_hf.views.pairs import patch_boxes

    boxes = patch_boxes(*views.drawn, (3, 3))
    assert torch.equal(same_places(boxes[:, 0], boxes[:, 1], 0.3), torch.eye(9).bool().expand(8, -1, -1))


def test_both_directions_count_and_the_teacher_gets_no_gradient():
    step = build()
    batch = make_batch(step.objective)
    objective, views = step.objective, batch.views["views"]
    from sp_hf.views.pairs import patch_boxes

    boxes = patch_boxes(*views.drawn, (3, 3))
    positive = same_places(boxes[:, 0], boxes[:, 1], 0.7)
    patches = step.encoder(views.pixels.flatten(0, 1)).patches.unflatten(0, (4, 2))
    taught = step.teacher(views.pixels.flatten(0, 1)).patches.unflatten(0, (4, 2))
    x, t = objective.project(objective.projector, patches), objective.project(objective.teacher_projector, taught)
    y = propagate(x, objective.transform(x), 2.0)
    expected = consistency_loss(y[:, 0], t[:, 1], positive) + consistency_loss(y[:, 1], t[:, 0], positive.mT)
    output = step(batch)
    torch.testing.assert_close(output.loss, expected / 2)
    output.loss.backward()
    assert all(p.grad is None for p in objective.teacher_projector.parameters())


@pytest.mark.parametrize(
    "options, message",
    [
        ({"views": {"count": 3, "size": 16, "area": [0.3, 1.0]}}, "compares 2 views, but its view set has 3"),
        ({"threshold": 0}, "threshold is 0; it must be greater than 0"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)
