import numpy as np
import pytest
import torch
from torch.nn import functional as F

from sp_hf.objectives import build_objective
from sp_hf.objectives.what.dino import dino_loss
from sp_hf.objectives.where.self_patch import nearest_neighbours, neighbour_index, patch_loss

from .harness import Step, TinyEncoder, make_batch

TINY = {
    "name": "self_patch",
    "global_views": {"count": 2, "size": 24, "area": [0.4, 1.0]},
    "local_views": {"count": 1, "size": 16, "area": [0.1, 0.4]},
    "prototypes": 12,
    "patch_prototypes": 10,
    "head_width": 16,
    "head_bottleneck": 8,
    "pool_depth": 1,
    "pool_heads": 2,
    "freeze_last_layer_epochs": 0,
    "patch_weight": 1.0,
}


def build(**options):
    torch.manual_seed(0)
    encoder = TinyEncoder()
    return Step(build_objective({**TINY, **options}, encoder), encoder)


def test_neighbours_wrap_round_the_border():
    index = neighbour_index((3, 4))
    assert sorted(index[5].tolist()) == [0, 1, 2, 4, 6, 8, 9, 10]
    assert sorted(index[0].tolist()) == [1, 3, 4, 5, 7, 8, 9, 11]


def test_the_nearest_neighbours_are_those_of_the_highest_cosines():
    patches = torch.randn(2, 12, 5)
    chosen = nearest_neighbours(patches, (3, 4), 3)
    for m in range(2):
        x = patches[m].numpy() / np.linalg.norm(patches[m].numpy(), axis=1, keepdims=True)
        for n in range(12):
            around = neighbour_index((3, 4))[n].tolist()
            expected = sorted(around, key=lambda other: -float(x[n] @ x[other]))[:3]
            assert sorted(chosen[m, n].tolist()) == sorted(expected)


def test_patch_loss_by_hand():
    logits, targets = torch.randn(2, 3, 4, dtype=torch.float64), torch.rand(2, 3, 4, dtype=torch.float64).softmax(-1)
    p = np.exp(logits.numpy() / 0.1)
    expected = -(targets.numpy() * np.log(p / p.sum(-1, keepdims=True))).sum(-1).mean()
    assert patch_loss(logits, targets, 0.1).item() == pytest.approx(expected)


def test_forward_equals_the_formula_patch_by_patch():
    step = build(patch_weight=0.5)
    batch = make_batch(step.objective, images=2)
    own = step.objective
    for teacher in (own.teacher_pool, own.teacher_head, own.teacher_patch_head):  # student and teacher apart
        for p in teacher.parameters():
            p.add_(0.1 * torch.randn_like(p))
    pooled, globals_taught, losses = [], [], []
    for view in ("global", "local"):
        pixels = batch.views[view].pixels
        for v in range(pixels.shape[1]):
            seen, taught = step.encoder(pixels[:, v]), step.teacher(pixels[:, v])
            pooled.append(own.head(own.pool(seen.patches)))
            if view == "global":
                globals_taught.append(own.teacher_head(own.teacher_pool(taught.patches)))
            index = nearest_neighbours(taught.patches, taught.grid, 4)
            logits = own.patch_head(own.pool.norm(seen.patches))
            of_view = []
            for b in range(2):
                for n in range(len(index[b])):
                    summary = own.teacher_pool(taught.patches[b, index[b, n]][None])
                    target = F.softmax(own.teacher_patch_head(summary)[0] / 0.04, dim=-1)
                    of_view.append(-(target * F.log_softmax(logits[b, n] / 0.1, dim=-1)).sum())
            losses.append(torch.stack(of_view).mean())
    targets = F.softmax(torch.stack(globals_taught, dim=1) / 0.04, dim=-1)
    of_classes = dino_loss(torch.stack(pooled, dim=1), targets, 0.1)
    patch = torch.stack(losses).mean()
    output = step(batch)
    torch.testing.assert_close(output.logs["patch_loss"], patch.detach())
    torch.testing.assert_close(output.loss, of_classes + 0.5 * patch)


def test_centres_move_once_a_step_by_all_views():
    step = build()
    step(make_batch(step.objective))
    assert (step.objective.patch_centre.centre == 0).all()
    step.objective.after_optimizer_step()
    assert step.objective.patch_centre.centre.abs().sum() > 0 and step.objective.centre.centre.abs().sum() > 0


def test_sinkhorn_gives_every_prototype_the_same_share():
    step = build(centring="sinkhorn", prototypes=3, patch_prototypes=5)
    outputs = 0.02 * torch.randn(4, 2, 9, 5) + torch.tensor([0.0, 0.03, 0.06, 0.09, 0.12])  # the last is likeliest
    targets = step.objective._targets(outputs, step.objective.patch_centre).flatten(0, 2)
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(72))
    torch.testing.assert_close(targets.mean(dim=0), torch.full((5,), 1 / 5), atol=0.03, rtol=0)
    step(make_batch(step.objective)).loss.backward()
    step.objective.after_optimizer_step()
    assert (step.objective.patch_centre.centre == 0).all() and (step.objective.centre.centre == 0).all()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"neighbours": 9}, "neighbours / 8 is 1.125; it must be from 0 to 1"),
        ({"global_views": {"count": 1, "size": 16}}, "global_views.count is 1; it must be at least 2"),
        ({"pool_heads": 3}, "must divide the width of the attention, 16"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)
