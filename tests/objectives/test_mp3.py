import numpy as np
import pytest
import torch

from sp_hf.objectives import build_objective
from sp_hf.objectives.where.mp3 import MP3Config, position_loss

from .harness import Step, TinyEncoder, make_batch

TINY = {"name": "mp3", "views": {"count": 2, "size": 16, "area": [0.2, 1.0]}, "mask_ratio": 0.5}
DRAWS = True


def build(**options):
    encoder = TinyEncoder()
    return Step(build_objective({**TINY, **options}, encoder), encoder)


def test_loss_by_hand():
    logits = torch.randn(2, 1, 4, 4, dtype=torch.float64)
    rows = logits.numpy()
    expected = -np.mean([np.log(np.exp(r[i, i]) / np.exp(r[i]).sum()) for r in rows[:, 0] for i in range(4)])
    assert position_loss(logits).item() == pytest.approx(expected)


@pytest.mark.parametrize("ratio, context", [(0.75, 1), (0.5, 2), (0.0, 4), (1.0, 1)])
def test_all_positions_are_dropped_and_so_many_patches_are_context(ratio, context):
    step = build(mask_ratio=ratio)
    batch = make_batch(step.objective, images=32)
    mask = step.objective.requests(batch)["image"].mask
    assert mask.dropped.all() and (mask.position_token == 0).all() and mask.visible is None
    assert (mask.context.sum(-1) == context).all()
    if context < 4:
        assert mask.context.float().mean((0, 1)).min() > 0.5 * context / 4  # any patch may be


def test_every_patch_is_asked_for_its_own_place():
    step = build()
    batch = make_batch(step.objective)
    mask = step.objective.requests(batch)["image"].mask
    encoding = step.encoder(
        batch.views["image"].pixels.flatten(0, 1),
        dropped=mask.dropped.flatten(0, 1),
        position_token=mask.position_token,
        context=mask.context.flatten(0, 1),
    )
    logits = step.objective.classifier(encoding.patches)
    output = step(batch)
    torch.testing.assert_close(output.loss, -logits.log_softmax(-1).diagonal(dim1=1, dim2=2).mean())
    torch.testing.assert_close(output.logs["accuracy"], (logits.argmax(-1) == torch.arange(4)).float().mean())


def test_the_defaults_are_imagenets():
    assert MP3Config().mask_ratio == 0.75


@pytest.mark.parametrize(
    "options, message",
    [({"views": "dino/local"}, "must know their size"), ({"mask_ratio": 1.5}, "mask_ratio is 1.5; it must be from 0")],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)
