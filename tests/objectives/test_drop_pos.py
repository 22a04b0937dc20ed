import numpy as np
import pytest
import torch

from sp_hf.objectives import Progress, build_objective
from sp_hf.objectives.where.drop_pos import attentive_weights, position_loss, soft_targets, squared_distances

from .harness import Step, TinyEncoder, make_batch

VIEWS = {"count": 1, "size": 48, "area": [0.2, 1.0]}
TINY = {"name": "drop_pos", "views": VIEWS, "decoder_width": 16, "decoder_depth": 1, "decoder_heads": 2}
DRAWS = True


def build(**options):
    encoder = TinyEncoder()
    return Step(build_objective({**TINY, **options}, encoder), encoder)


@pytest.mark.parametrize("sigma", [1.0, 0.3, 0.0])
def test_loss_equals_a_loop_over_dropped_patches(sigma):
    rows, columns, images, dropped = 2, 3, 4, 5
    logits = torch.randn(images, dropped, 6, dtype=torch.float64)
    true = torch.randint(0, 6, (images, dropped))
    cls, patches = torch.randn(images, 7, dtype=torch.float64), torch.randn(images, dropped, 7, dtype=torch.float64)
    total = 0.0
    for b in range(images):
        affinity = []
        for i in range(dropped):
            x, y = cls[b].numpy(), patches[b, i].numpy()
            affinity.append(np.exp(x @ y / np.sqrt((x @ x) * (y @ y)) / 0.1))
        for i in range(dropped):
            target = np.zeros(6)
            for j in range(6):
                d2 = (j // columns - true[b, i] // columns) ** 2 + (j % columns - true[b, i] % columns) ** 2
                target[j] = float(d2 == 0) if sigma == 0 else np.exp(-float(d2) / sigma**2)
            scores = np.exp(logits[b, i].numpy())
            entropy = -(target / target.sum() * np.log(scores / scores.sum())).sum()
            total += affinity[i] / np.sum(affinity) * entropy / images
    targets = soft_targets(true, squared_distances(rows, columns).double(), torch.tensor(sigma, dtype=torch.float64))
    ours = position_loss(logits, targets, attentive_weights(cls, patches, 0.1))
    assert ours.item() == pytest.approx(total, rel=1e-9)


def test_weights_have_no_gradient():
    cls, patches = torch.randn(2, 7, requires_grad=True), torch.randn(2, 5, 7, requires_grad=True)
    weights = attentive_weights(cls, patches, 0.1)
    assert not weights.requires_grad
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2))


def test_a_quarter_is_visible_and_three_quarters_of_it_lose_their_position():
    step = build()
    batch = make_batch(step.objective, images=3)
    mask = step.objective.requests(batch).encodes["image"].mask
    assert mask.visible.shape == (3, 1, 9)  # of 36
    assert mask.dropped.shape == (3, 1, 36)
    assert (mask.dropped.sum(dim=-1) == 6).all()
    for b in range(3):
        assert set(mask.dropped[b, 0].nonzero().flatten().tolist()) <= set(mask.visible[b, 0].tolist())
    assert mask.position_token is step.objective.position_token


def test_dropped_positions_reach_the_decoder_by_content_only():
    """Two dropped patches of the same content cannot be told apart: their logits are equal."""
    step = build()
    batch = make_batch(step.objective, images=1)
    batch.views["image"].pixels[:] = 0.5
    logits = {}
    step.objective.classifier.register_forward_hook(lambda module, args, output: logits.update(value=output))
    step(batch)
    value = logits["value"][0, 0]
    assert value.shape == (6, 36)
    torch.testing.assert_close(value, value[:1].expand(6, -1))


def test_weights_come_from_the_whole_view_with_all_positions_and_without_gradient():
    step = build()
    batch = make_batch(step.objective, images=2)
    request = step.objective.requests(batch).encodes["whole"]
    assert request.mask is None and not request.receives_gradient
    whole = step.encoder(batch.views["image"].pixels.flatten(0, 1))  # all 36 patches
    true = step.objective.visible_patches(batch)[..., : step.objective.dropped][:, 0]  # [B, m]
    patches = torch.stack([whole.patches[b, true[b]] for b in range(2)])
    weights = attentive_weights(whole.cls, patches, 0.1)
    step.objective.set_progress(Progress(1, 1, 1))  # one-hot targets
    logits = torch.randn(2, 1, 6, 36)
    step.objective.classifier.forward = lambda x: logits
    cross_entropy = torch.stack(
        [torch.nn.functional.cross_entropy(logits[b, 0], true[b], reduction="none") for b in (0, 1)]
    )
    torch.testing.assert_close(step(batch).loss, (weights * cross_entropy).sum(dim=1).mean())


def test_classifier_is_asked_about_the_dropped_patches():
    """A classifier that answers with the patches' true places scores full accuracy; one that is off, none."""
    step = build()
    objective = step.objective
    batch = make_batch(objective, images=2)
    dropped = objective.requests(batch).encodes["image"].mask.dropped
    true = objective.visible_patches(batch)[..., : objective.dropped]
    assert (dropped.gather(-1, true)).all()
    objective.classifier.forward = lambda x: 50 * torch.nn.functional.one_hot(true, 36).float()
    objective.set_progress(Progress(1, 1, 1))
    output = step(batch)
    assert output.logs["accuracy"] == 1 and output.loss < 1e-4
    objective.classifier.forward = lambda x: 50 * torch.nn.functional.one_hot((true + 1) % 36, 36).float()
    assert step(batch).logs["accuracy"] == 0


@pytest.mark.parametrize("fraction, sigma", [(0.0, 1.0), (0.25, 0.75), (1.0, 0.0)])
def test_sigma_falls_linearly_to_zero(fraction, sigma):
    objective = build().objective
    objective.set_progress(Progress(int(fraction * 100), 100, 10))
    assert objective.sigma.item() == pytest.approx(sigma)
    assert "sigma" in objective.state_dict()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"views": "dino/global"}, "drop_pos cannot share the views 'dino/global'"),
        ({"visible_ratio": 0}, "visible_ratio is 0; it must be above 0 and below 1"),
        ({"sigma": [1, -1]}, "sigma is -1.0; it must be at least 0"),
        ({"views": {**VIEWS, "size": 50}}, "50 is not divisible by 8"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)
