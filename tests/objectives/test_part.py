import numpy as np
import pytest
import torch

from sp_hf.objectives import build_objective
from sp_hf.objectives.where.part import draw_cuts, offset_std
from sp_hf.views.keyed_random import sample_keys

from .harness import PATCH, Step, TinyEncoder, make_batch

TINY = {"name": "part", "views": {"count": 2, "size": 24, "area": [0.2, 1.0]}, "pairs": 6}
DRAWS = True


def build(**options):
    encoder = TinyEncoder()
    return Step(build_objective({**TINY, **options}, encoder), encoder)


def test_cuts_are_anywhere_and_pairs_of_two_patches():
    corners, pairs = draw_cuts(sample_keys(0, 0, 400), 1, 4, 5, 17)
    assert corners.min() == 0 and corners.max() == 16
    assert pairs.min() == 0 and pairs.max() == 3
    both = pairs.flatten(0, 2)
    assert (both[:, 0] != both[:, 1]).all()
    counts = (4 * both[:, 0] + both[:, 1]).bincount(minlength=16)
    assert counts[counts > 0].min() > 100 and (counts > 0).sum() == 12  # of 2000


def test_offsets_have_unit_variance():
    corners, pairs = draw_cuts(sample_keys(0, 0, 4000), 1, 2, 1, 17)
    offsets = (corners[:, 0, pairs[0, 0, 0, 0]] - corners[:, 0, pairs[0, 0, 0, 1]]) / offset_std(17)
    assert offsets.std().item() == pytest.approx(1, abs=0.02)
    assert offset_std(1) == 1  # of one place there is nothing to tell


@pytest.mark.parametrize("head", ["linear", "attention"])
def test_forward_compares_the_patches_that_were_cut(head):
    step = build(head=head)
    batch, requests = step.objective.prepared(make_batch(step.objective))
    corners, pairs = batch.state
    pixels, image = batch.views["patches"].pixels, batch.views["image"].pixels
    for n in range(9):
        x, y = corners[1, 1, n].tolist()
        row, column = n // 3 * PATCH, n % 3 * PATCH
        pasted = pixels[1, 1, :, row : row + PATCH, column : column + PATCH]
        assert torch.equal(pasted, image[1, 1, :, y : y + PATCH, x : x + PATCH])
    mask = requests["patches"].mask
    assert mask.dropped.all() and (mask.position_token == 0).all()
    tokens = step.encoder(
        pixels.flatten(0, 1), dropped=mask.dropped.flatten(0, 1), position_token=mask.position_token
    ).patches.unflatten(0, (4, 2))
    predictions, targets = [], []
    for b in range(4):
        for v in range(2):
            for i, j in pairs[b, v].tolist():
                both = torch.cat([tokens[b, v, i], tokens[b, v, j]])[None]
                if head == "attention":
                    own = tokens[b, v]
                    both, _ = step.objective.head.attention(step.objective.head.query(both), own, own)
                predictions.append(step.objective.head.out(both)[0])
                targets.append((corners[b, v, j] - corners[b, v, i]) / np.sqrt((17**2 - 1) / 6))
    predictions, targets = torch.stack(predictions), torch.stack(targets)
    output = step(make_batch(step.objective))
    torch.testing.assert_close(output.loss, (predictions - targets).square().mean().float())
    residual = (predictions - targets).square().sum(0) / (targets - targets.mean(0)).square().sum(0)
    torch.testing.assert_close(output.logs["r2_position"], (1 - residual).mean().detach().float())


@pytest.mark.parametrize(
    "options, message",
    [
        ({"pairs": 0}, "pairs is 0; it must be at least 1"),
        ({"head": "mlp"}, "head is 'mlp'; choose one of"),
        ({"head": "attention", "attention_heads": 3}, "must divide the width of the attention, 16"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)
