import pytest
import torch

from sp_hf.objectives import Progress, build_objective
from sp_hf.objectives.centring import sinkhorn
from sp_hf.objectives.koleo import koleo_loss
from sp_hf.objectives.what.dinov2 import spread_ratios
from sp_hf.views.keyed_random import sample_keys

from .harness import Step, TinyEncoder, make_batch
from .test_ibot import TINY as IBOT_TINY

TINY = {**IBOT_TINY, "name": "dinov2", "koleo_weight": 0.0}  # KoLeo is of one process's images
DRAWS = BATCH_WIDE = True


def build(**options):
    torch.manual_seed(0)
    encoder = TinyEncoder()
    step = Step(build_objective({**TINY, **options}, encoder), encoder)
    step.objective.set_progress(Progress(0, 10, 1))
    return step


@pytest.mark.parametrize("images, share", [(40, 0.5), (8, 0.25)])
def test_a_share_of_the_views_is_masked_one_in_each_equal_part_of_the_range(images, share):
    ratios = spread_ratios(sample_keys(0, 0, images), 2, share, 0.1, 0.5)
    masked = ratios[ratios > 0].sort().values
    bins = int(2 * images * share)
    assert len(masked) == bins
    edges = torch.linspace(0.1, 0.5, bins + 1)
    assert ((masked >= edges[:-1] - 1e-6) & (masked <= edges[1:] + 1e-6)).all()
    assert len(set(ratios.argmax(0).tolist())) == 2  # in no order of images or views


def test_blocks_may_be_as_small_as_four_patches():
    view = {**TINY["global_views"], "size": 96}
    step = build(global_views=view, mask_ratio=[0.03, 0.06])  # of 144: less than (12 / 3)^2
    assert step.objective.draw_masks(make_batch(step.objective, images=20)).any()


def test_loss_is_ibots_of_the_same_masks_and_koleo_of_each_view():
    step, batch = build(koleo_weight=0.3), make_batch(build().objective)
    seen = step.encoder(
        batch.views["global"].pixels.flatten(0, 1), masked=step.objective.draw_masks(batch).flatten(0, 1)
    )
    views = seen.cls.unflatten(0, (4, 2))
    output = step(batch)
    expected = output.logs["class_loss"] + output.logs["patch_loss"]
    expected = expected + 0.3 * (koleo_loss(views[:, 0]) + koleo_loss(views[:, 1]))
    torch.testing.assert_close(output.loss, expected)
    plain = build(koleo_weight=0)
    torch.testing.assert_close(plain(batch).loss, output.logs["class_loss"] + output.logs["patch_loss"])


def test_sinkhorn_is_over_all_views_and_over_the_masked_patches():
    step = build(centring="sinkhorn")
    batch = make_batch(step.objective)
    masked = step.objective.draw_masks(batch).flatten()
    teacher = step.teacher(batch.views["global"].pixels.flatten(0, 1))
    head = step.objective.teacher_head
    classes = step.objective.class_targets(head(teacher.cls).unflatten(0, (4, 2)))
    torch.testing.assert_close(classes.flatten(0, 1), sinkhorn(head(teacher.cls), 0.05))
    patches = head(teacher.patches).flatten(0, 1)
    found = step.objective.patch_targets(patches, masked.nonzero()[:, 0])
    torch.testing.assert_close(found, sinkhorn(patches[masked], step.objective.patch_temperature))
    assert step(batch).loss.isfinite()
    assert not step.objective.class_centre.centre.any()


def test_separate_heads_both_learn_both_have_teachers_and_both_last_layers_wait():
    step = build(separate_heads=True)
    objective = step.objective
    assert len(objective.ema_heads()) == 2 and objective.patch_heads() == objective.ema_heads()[1]
    step(make_batch(objective)).loss.backward()
    assert all(p.grad is not None for p in objective.patch_head.parameters())
    objective.before_optimizer_step()
    for head, _ in objective.ema_heads():
        assert all(p.grad is None for p in head.last_layer.parameters())


def test_bad_options_are_named():
    with pytest.raises(ValueError, match="centring is 'median'; choose one of 'mean', 'sinkhorn'"):
        build(centring="median")
    with pytest.raises(ValueError, match="koleo_weight is -1"):
        build(koleo_weight=-1)
