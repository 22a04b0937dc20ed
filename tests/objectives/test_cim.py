import numpy as np
import pytest
import torch
from torch.nn import functional as F

from sp_hf.objectives import build_objective
from sp_hf.objectives.where.cim import correlation_loss, mask_recall
from sp_hf.views.keyed_random import sample_keys
from sp_hf.views.rotated import covered
from sp_hf.views.sampler import ViewSampler
from sp_hf.views.spec import ViewSpec

from .harness import Step, TinyEncoder, make_batch

TINY = {
    "name": "cim",
    "context": {"size": 24},
    "exemplars": {"count": 2, "size": 16},
    "width": 16,
    "attention_heads": 2,
}


def build(**options):
    torch.manual_seed(0)
    encoder = TinyEncoder()
    return Step(build_objective({**TINY, **options}, encoder), encoder)


@pytest.mark.parametrize("rotation", [0.0, 45.0])
def test_masks_cover_what_the_exemplars_show(rotation):
    """By pixels: where each exemplar's own pixels, of a picture of its coordinates, lie in the context."""
    axis = torch.arange(192, dtype=torch.uint8)
    canvas = torch.stack([axis.expand(192, 192), axis[:, None].expand(192, 192), torch.zeros(192, 192).byte()])
    shape = {"flip": "none", "photometric": "none"}
    specs = {
        "context": ViewSpec(count=1, size=96, area=(0.5, 0.8), **shape),
        "exemplars": ViewSpec(count=2, size=96, area=(0.1, 0.4), inside="context", rotation=rotation, **shape),
    }
    aspects = torch.tensor([0.6, 1.0, 1.8, 1.3])
    views = ViewSampler(specs)(canvas.expand(4, -1, -1, -1).contiguous(), aspects, sample_keys(0, 0, 4))
    context, exemplars = views["context"], views["exemplars"]
    frames = context.boxes.expand(-1, 2, -1)
    masks = covered(frames, exemplars.boxes, exemplars.angles, exemplars.aspects, 48)
    for b in range(4):
        for v in range(2):
            shown = (exemplars.pixels[b, v, :2] * 255 + 0.5) / 192  # [2, 96, 96], x and y in the image
            at = (shown.flatten(1).T - frames[b, v, :2]) / frames[b, v, 2:] + 0.5  # in the context
            at = at[((at > 0) & (at < 1)).all(1)]
            cells = (at * 48).long()
            hit = torch.zeros(48, 48, dtype=torch.bool)
            hit[cells[:, 1], cells[:, 0]] = True
            assert (hit & masks[b, v]).sum() > 0.85 * (hit | masks[b, v]).sum()


def test_loss_by_hand():
    logits, masks = torch.randn(2, 2, 3, 3, dtype=torch.float64), torch.rand(2, 3, 3) < 0.5
    p = np.exp(logits.numpy())
    p = p[:, 1] / p.sum(1)
    m = masks.numpy()
    assert correlation_loss(logits, masks).item() == pytest.approx(-np.where(m, np.log(p), np.log(1 - p)).mean())


def test_recall_by_hand():
    masks = torch.zeros(3, 2, 2, dtype=torch.bool)
    masks[0, 0] = masks[1, 0, 0] = True  # two pixels, one, none
    scores = torch.tensor([[[0.9, 0.1], [0.8, 0.2]], [[0.3, 0.1], [0.2, 0.0]], [[1.0, 2.0], [3.0, 4.0]]])
    assert mask_recall(scores, masks).item() == pytest.approx((1 / 2 + 1) / 2)


def test_recall_of_noise_is_that_of_chance():
    masks = torch.rand(64, 20, 20) < 0.3
    assert mask_recall(torch.randn(64, 20, 20), masks).item() == pytest.approx(0.3, abs=0.02)


def test_each_exemplar_is_correlated_with_its_own_context_alone():
    step = build()
    batch = make_batch(step.objective, images=3)
    objective = step.objective
    context = step.teacher(batch.views["context"].pixels[:, 0])
    exemplars = step.encoder(batch.views["exemplars"].pixels.flatten(0, 1)).patches.unflatten(0, (3, 2))
    maps = objective.correlate(context.patches, context.grid, exemplars).unflatten(0, (3, 2))
    one = objective.correlate(context.patches[1:2], context.grid, exemplars[1:2, 1:2])
    torch.testing.assert_close(maps[1, 1], one[0])
    turned = batch.views["exemplars"]
    frames = batch.views["context"].boxes.expand(-1, 2, -1)
    masks = covered(frames, turned.boxes, turned.angles, turned.aspects, 24).flatten(0, 1)
    logits = F.interpolate(maps.flatten(0, 1), size=(24, 24), mode="bilinear")
    output = step(batch)
    torch.testing.assert_close(output.loss, correlation_loss(logits, masks))
    torch.testing.assert_close(output.logs["recall"], mask_recall(logits[:, 1] - logits[:, 0], masks))
    prior = masks.float().mean(0).expand(6, -1, -1)  # a map that is the same for every exemplar
    torch.testing.assert_close(output.logs["recall_prior"], mask_recall(prior, masks))


@pytest.mark.parametrize("freeze", [True, False])
def test_the_patch_projection_is_frozen_where_asked(freeze):
    assert build(freeze_patch_projection=freeze).encoder.projection.weight.requires_grad != freeze


@pytest.mark.parametrize(
    "options, message",
    [
        ({"context": {"size": 24, "flip": "own"}}, "flip: none"),
        ({"exemplars": {"size": 16, "inside": "dino/global"}}, "inside: context"),
        ({"width": 18}, "must be divisible by 4 and by decoder_heads"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)
