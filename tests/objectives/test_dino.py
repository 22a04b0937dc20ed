import copy
import math

import numpy as np
import pytest
import torch

from sp_hf.objectives import Progress, build_objective
from sp_hf.objectives.centring import sinkhorn
from sp_hf.objectives.koleo import koleo_loss
from sp_hf.objectives.what.dino import dino_loss, teacher_probabilities

from .harness import Step, TinyEncoder, make_batch, part_of

VIEW = {"count": 2, "size": 32, "area": [0.4, 1.0]}
TINY = {
    "name": "dino",
    "global_views": VIEW,
    "local_views": {**VIEW, "count": 3, "size": 16},
    "prototypes": 24,
    "head_width": 32,
    "head_bottleneck": 8,
}


def build(**options):
    encoder = TinyEncoder()
    return Step(build_objective({**TINY, **options}, encoder), encoder)


def softmax(x):
    exponents = np.exp(x - x.max())
    return exponents / exponents.sum()


@pytest.mark.parametrize("views, teacher_views", [(2, 2), (5, 2), (7, 3)])
def test_loss_equals_a_loop_over_pairs_of_views(views, teacher_views):
    student = torch.randn(3, views, 11, dtype=torch.float64)
    teacher = torch.randn(3, teacher_views, 11, dtype=torch.float64)
    centre = torch.randn(11, dtype=torch.float64)
    total, pairs = 0.0, 0
    for g in range(teacher_views):
        for v in range(views):
            if v == g:
                continue
            pairs += 1
            for b in range(3):
                target = softmax((teacher[b, g] - centre).numpy() / 0.04)
                total -= (target * np.log(softmax(student[b, v].numpy() / 0.1))).sum() / 3
    ours = dino_loss(student, teacher_probabilities(teacher, centre, 0.04), 0.1)
    assert ours.item() == pytest.approx(total / pairs, rel=1e-10)


def test_the_last_layer_has_rows_of_norm_one_whatever_its_weight():
    layer = build().objective.head.last_layer
    with torch.no_grad():
        layer.weight.mul_(torch.linspace(0.1, 9, 24)[:, None])
    x = torch.randn(5, 8)
    expected = x @ (layer.weight / layer.weight.norm(dim=1, keepdim=True)).T
    torch.testing.assert_close(layer(x), expected)
    torch.testing.assert_close(copy.deepcopy(layer)(x), expected)


def test_a_learned_norm_starts_at_one_and_receives_gradient():
    step = build(norm_last_layer=False)
    norm = step.objective.head.last_layer.norm
    assert (norm == 1).all()
    step(make_batch(step.objective)).loss.backward()
    assert norm.grad.abs().sum() > 0


def test_centre_moves_once_a_step_towards_the_teachers_mean():
    step = build()
    batch = make_batch(step.objective)
    step(batch)
    assert (step.objective.centre == 0).all()  # never in a forward
    logits = step.objective.teacher_head(step.teacher(batch.views["global"].pixels.flatten(0, 1)).cls)
    step.objective.after_optimizer_step()
    torch.testing.assert_close(step.objective.centre, 0.1 * logits.mean(dim=0))
    after = step.objective.centre.clone()
    step.objective.after_optimizer_step()  # nothing seen since
    assert torch.equal(step.objective.centre, after)


def test_centre_of_two_accumulated_parts_equals_that_of_the_whole_batch():
    whole, parts = build(), None
    parts = copy.deepcopy(whole)
    batch = make_batch(whole.objective, images=6)
    whole(batch)
    parts(part_of(batch, slice(0, 2)))
    parts(part_of(batch, slice(2, 6)))  # unequal on purpose: the mean is over images, not over forwards
    for step in (whole, parts):
        step.objective.after_optimizer_step()
    torch.testing.assert_close(parts.objective.centre, whole.objective.centre)


def test_evaluation_leaves_the_centre_alone():
    step = build().eval()
    step(make_batch(step.objective))
    step.objective.after_optimizer_step()
    assert (step.objective.centre == 0).all()


@pytest.mark.parametrize("epoch, expected", [(0, 0.04), (15, 0.055), (30, 0.07), (80, 0.07)])
def test_teacher_temperature_warms_up_linearly(epoch, expected):
    objective = build().objective
    objective.set_progress(Progress(step=epoch * 10, total_steps=1000, steps_per_epoch=10))
    assert objective.teacher_temperature.item() == pytest.approx(expected)
    assert "teacher_temperature" in objective.state_dict()


def test_without_warm_up_the_end_temperature_holds_from_the_start():
    objective = build(warmup_epochs=0).objective
    objective.set_progress(Progress(0, 100, 10))
    assert objective.teacher_temperature.item() == pytest.approx(0.07)


def test_last_layer_is_frozen_in_the_first_epoch_only():
    step = build()
    batch = make_batch(step.objective)
    for number, frozen in ((0, True), (9, True), (10, False)):
        step.zero_grad()
        step.objective.set_progress(Progress(number, 100, 10))
        step(batch).loss.backward()
        assert step.objective.head.last_layer.weight.grad is not None
        step.objective.before_optimizer_step()
        assert (step.objective.head.last_layer.weight.grad is None) == frozen
        assert step.objective.head.mlp[0].weight.grad is not None


def test_teacher_head_starts_as_the_students_and_is_paired_with_it():
    objective = build().objective
    ((student, teacher),) = objective.ema_heads()
    assert student is objective.head and teacher is objective.teacher_head
    for ours, theirs in zip(student.parameters(), teacher.parameters(), strict=True):
        assert torch.equal(ours, theirs) and not theirs.requires_grad
    assert objective.teacher_momentum() == (0.996, 1.0)


def test_a_uniform_teacher_has_the_entropy_of_its_prototypes():
    step = build()
    with torch.no_grad():
        step.objective.teacher_head.last_layer.weight[:] = step.objective.teacher_head.last_layer.weight[0]
    logs = step(make_batch(step.objective)).logs
    assert logs["teacher_entropy"].item() == pytest.approx(math.log(24), rel=1e-5)


def test_without_local_views_only_the_global_ones_are_asked_for():
    step = build(local_views=None)
    assert set(step.objective.view_specs()) == {"global"}
    assert step(make_batch(step.objective)).loss.isfinite()


def test_sinkhorn_targets_come_from_all_global_views_of_the_batch_together():
    step = build(centring="sinkhorn")
    batch = make_batch(step.objective)
    views = {name: batch.views[name].pixels for name in ("global", "local")}
    encode = {name: step.encoder(x.flatten(0, 1)).cls.unflatten(0, x.shape[:2]) for name, x in views.items()}
    teacher_logits = step.objective.teacher_head(encode["global"])  # the teacher is still the student
    targets = sinkhorn(teacher_logits.flatten(0, 1), 0.04).unflatten(0, (4, 2))
    expected = dino_loss(step.objective.head(torch.cat([encode["global"], encode["local"]], dim=1)), targets, 0.1)
    torch.testing.assert_close(step(batch).loss, expected)


def test_sinkhorn_keeps_no_centre():
    step = build(centring="sinkhorn")
    step(make_batch(step.objective)).loss.backward()
    step.objective.after_optimizer_step()
    assert dict(step.objective.named_buffers()).keys() == {"teacher_temperature"}


@pytest.mark.parametrize("centring", ["mean", "sinkhorn"])
def test_koleo_is_added_for_each_global_view_apart_before_the_head(centring):
    plain, step = build(centring=centring), build(centring=centring, koleo_weight=0.1)
    step.load_state_dict(plain.state_dict())
    batch = make_batch(step.objective)
    cls = step.encoder(batch.views["global"].pixels.flatten(0, 1)).cls.unflatten(0, (4, 2))
    terms = torch.stack([koleo_loss(cls[:, 0]), koleo_loss(cls[:, 1])])
    output, without = step(batch), plain(batch)
    torch.testing.assert_close(output.loss - without.loss, 0.1 * terms.sum(), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(output.logs["koleo"], terms.mean())
    torch.testing.assert_close(output.logs["divergence"], without.logs["divergence"])
    assert "koleo" not in without.logs


def test_koleo_and_sinkhorn_give_every_trained_weight_a_gradient_under_bfloat16():
    step = build(centring="sinkhorn", koleo_weight=0.1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = step(make_batch(step.objective))
    output.loss.backward()
    assert output.loss.dtype == torch.float32 and output.loss.isfinite()
    trained = [p for p in step.parameters() if p.requires_grad]
    assert trained and all(p.grad is not None and p.grad.isfinite().all() for p in trained)
    assert all(p.grad is None for p in step.teacher.parameters())


@pytest.mark.parametrize(
    "options, message",
    [
        ({"global_views": {**VIEW, "count": 1}}, "global_views.count is 1; it must be at least 2"),
        ({"student_temperature": 0}, "student_temperature is 0; it must be greater than 0"),
        ({"teacher_temperature": 0.04}, "teacher_temperature is 0.04; give two numbers"),
        ({"centre_momentum": 1.5}, "centre_momentum is 1.5; it must be from 0 to 1"),
        ({"centring": "median"}, "centring is 'median'; choose one of 'mean', 'sinkhorn'"),
        ({"koleo_weight": -1}, "koleo_weight is -1; it must be at least 0"),
        ({"prototypes": "many"}, "prototypes is 'many'; it must be a number"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)
