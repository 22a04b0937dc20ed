import copy

import numpy as np
import pytest
import torch

from sp_hf.encoders.encoder import Encoder
from sp_hf.model.configuration import SPConfig
from sp_hf.model.modeling import SPForPreTraining
from sp_hf.objectives import Progress, build_objective
from sp_hf.objectives.what.ibot import patch_loss, patch_weights

from .harness import Step, TinyEncoder, make_batch, part_of

VIEWS = {"count": 2, "size": 32, "area": [0.3, 1.0]}
TINY = {
    "name": "ibot",
    "global_views": VIEWS,
    "local_views": {**VIEWS, "count": 2, "size": 16},
    "prototypes": 16,
    "head_width": 16,
    "head_bottleneck": 8,
    "student_temperature": 0.2,
    "teacher_temperature": [0.05, 0.05],
    "patch_temperature": [0.05, 0.1],
    "mask_ratio": [0.3, 0.5],
}
DRAWS = True


def build(**options):
    torch.manual_seed(0)
    encoder = TinyEncoder()
    return Step(build_objective({**TINY, **options}, encoder), encoder)


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


def test_patch_loss_is_the_mean_over_views_of_the_mean_over_their_masked_patches():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 2, 5, 3, dtype=torch.float64, generator=generator)
    targets = torch.randn(2, 2, 5, 3, dtype=torch.float64, generator=generator).softmax(-1)
    masked = torch.rand(2, 2, 5, generator=generator) < 0.5
    masked[1, 0] = False  # a view without a mask counts as 0
    assert masked[0].any()
    expected = 0.0
    for b in range(2):
        for g in range(2):
            terms = []
            for i in range(5):
                if masked[b, g, i]:
                    p = softmax(logits[b, g, i].numpy() / 0.3)
                    terms.append(-(targets[b, g, i].numpy() * np.log(p)).sum())
            expected += np.mean(terms) / 4 if terms else 0.0
    loss = patch_loss(logits[masked], targets[masked], patch_weights(masked)[masked].double(), 0.3)
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_forward_equals_the_two_losses_by_loops():
    step = build()
    step.objective.set_progress(Progress(0, 10, 1))
    with torch.no_grad():
        step.objective.class_centre.centre.copy_(torch.linspace(-0.2, 0.2, 16))
        step.objective.patch_centre.centre.copy_(torch.linspace(0.3, -0.3, 16))
        for p in step.objective.teacher_head.parameters():
            p.add_(0.1)
    batch = make_batch(step.objective)
    masked = step.objective.draw_masks(batch)  # [B, G, N]
    assert masked.any() and not masked.all()
    x = {name: v.pixels for name, v in batch.views.items()}
    seen = step.encoder(x["global"].flatten(0, 1), masked=masked.flatten(0, 1))
    local = step.encoder(x["local"].flatten(0, 1))
    teacher = step.teacher(x["global"].flatten(0, 1))
    head = lambda h, z: h(z).detach().double().numpy()  # noqa: E731
    s_cls = np.concatenate(
        [head(step.objective.head, e.cls).reshape(4, 2, 16) for e in (seen, local)], axis=1
    )  # [B, V, K]
    s_patch = head(step.objective.head, seen.patches).reshape(4, 2, 16, 16)
    t_cls = head(step.objective.teacher_head, teacher.cls).reshape(4, 2, 16)
    t_patch = head(step.objective.teacher_head, teacher.patches).reshape(4, 2, 16, 16)
    c, c_patch = (m.centre.double().numpy() for m in (step.objective.class_centre, step.objective.patch_centre))
    of_classes = of_patches = 0.0
    for b in range(4):
        for g in range(2):
            target = softmax((t_cls[b, g] - c) / 0.05)
            for v in range(4):
                if v != g:
                    of_classes -= (target * np.log(softmax(s_cls[b, v] / 0.2))).sum() / (4 * 6)
            hidden = np.flatnonzero(masked[b, g].numpy())
            for i in hidden:
                target = softmax((t_patch[b, g, i] - c_patch) / 0.05)
                of_patches -= (target * np.log(softmax(s_patch[b, g, i] / 0.2))).sum() / len(hidden) / 8
    output = step(batch)
    assert output.logs["class_loss"].item() == pytest.approx(of_classes, rel=1e-4)
    assert output.logs["patch_loss"].item() == pytest.approx(of_patches, rel=1e-4)
    assert output.loss.item() == pytest.approx(of_classes + of_patches, rel=1e-4)


def test_the_weights_of_the_two_losses():
    batch = make_batch(build().objective)
    plain, weighted = build()(batch), build(class_weight=0.5, patch_weight=2.0)(batch)
    expected = 0.5 * plain.logs["class_loss"] + 2.0 * plain.logs["patch_loss"]
    torch.testing.assert_close(weighted.loss.detach(), expected)


def test_half_of_the_views_are_masked_within_the_range():
    step = build(global_views={**VIEWS, "size": 64})
    masked = step.objective.draw_masks(make_batch(step.objective, images=60))
    share = masked.float().mean(-1).flatten()
    assert 0.3 < (share > 0).float().mean() < 0.7
    assert share.max() <= 0.5
    assert share[share > 0].mean() > 0.25  # of 0.4 asked for


def test_without_any_mask_the_patch_loss_is_zero_and_all_parameters_are_in_the_graph():
    step = build(mask_probability=0.0)
    output = step(make_batch(step.objective))
    assert output.logs["patch_loss"] == 0 and output.logs["patch_accuracy"] == 0
    output.loss.backward()
    assert all(p.grad is not None for p in step.parameters() if p.requires_grad)


def test_centres_of_accumulated_parts_equal_those_of_the_whole_batch():
    whole = build()
    parts = copy.deepcopy(whole)
    batch = make_batch(whole.objective, images=6)
    whole(batch)
    parts(part_of(batch, slice(0, 2)))
    parts(part_of(batch, slice(2, 6)))
    assert (whole.objective.patch_centre.centre == 0).all()
    outputs = whole.objective.teacher_head(whole.teacher(batch.views["global"].pixels.flatten(0, 1)).patches)
    for step in (whole, parts):
        step.objective.after_optimizer_step()
    for name in ("class_centre", "patch_centre"):
        ours, theirs = (getattr(step.objective, name).centre for step in (parts, whole))
        torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(whole.objective.patch_centre.centre, 0.1 * outputs.mean((0, 1)))  # masked or not


def test_temperatures_warm_up_apart_and_the_last_layer_is_frozen_at_first():
    step = build(teacher_temperature=[0.1, 0.3], patch_temperature=[0.2, 0.6], warmup_epochs=10)
    objective = step.objective
    objective.set_progress(Progress(step=50, total_steps=1000, steps_per_epoch=10))
    assert objective.class_temperature.item() == pytest.approx(0.2)
    assert objective.patch_temperature.item() == pytest.approx(0.4)
    for number, frozen in ((9, True), (10, False)):
        objective.set_progress(Progress(number, 1000, 10))
        step.zero_grad()
        step(make_batch(objective)).loss.backward()
        objective.before_optimizer_step()
        assert all((p.grad is None) == frozen for p in objective.head.last_layer.parameters())


def test_class_and_patch_tokens_share_one_head():
    objective = build().objective
    assert objective.ema_heads() == [(objective.head, objective.teacher_head)]
    assert objective.teacher_momentum() == (0.996, 1.0)
    assert objective.head.last_layer.norm is not None  # norm_last_layer false, as for ViT-S


def test_an_encoder_without_masks_is_refused_by_name():
    from transformers import ConvNextConfig

    config = ConvNextConfig(hidden_sizes=[8, 16], depths=[1, 1], num_stages=2, patch_size=4, image_size=32)
    with pytest.raises(ValueError, match="'ibot' puts a mask token in place of patches, which 'convnext'.*vit"):
        SPForPreTraining(SPConfig(config, [TINY]))
    with pytest.raises(ValueError, match="cannot put a mask token"):
        Encoder.from_config(config).train_mask_token()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"global_views": {**VIEWS, "count": 1}}, "global_views.count is 1; it must be at least 2"),
        ({"mask_probability": 2}, "mask_probability is 2; it must be from 0 to 1"),
        ({"mask_ratio": 0.3}, "mask_ratio is 0.3; give two numbers"),
        ({"patch_temperature": [0, 1]}, "temperature is 0.0; it must be greater than 0"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)
