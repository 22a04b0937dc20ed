import numpy as np
import pytest
import torch

from sp_hf.objectives import build_objective
from sp_hf.objectives.where.relative_position import (
    RelativePositionConfig,
    drop_colours,
    neighbour_classes,
    neighbour_loss,
    project_colours,
)
from sp_hf.views.geometry import mirror
from sp_hf.views.keyed_random import sample_keys

from .harness import Step, TinyEncoder, make_batch

TINY = {
    "name": "relative_position",
    "tiles": {"size": 8, "effective_resolution": None},
    "head_width": 64,
}
DRAWS = True


def build(**options):
    encoder = TinyEncoder()
    return Step(build_objective({**TINY, **options}, encoder), encoder)


def test_default_tiles_are_the_papers():
    grid = RelativePositionConfig().tiles.grid
    stride = 96 / (1 - grid.gap)
    assert stride - 96 == pytest.approx(48)
    assert (stride - 96) / 2 * grid.jitter == pytest.approx(7)


def test_loss_by_hand():
    logits, classes = torch.randn(2, 1, 8, 8, dtype=torch.float64), torch.randint(8, (2, 1, 8))
    expected = 0.0
    for row, label in zip(logits.flatten(0, 2).numpy(), classes.flatten().tolist(), strict=True):
        expected -= np.log(np.exp(row[label]) / np.exp(row).sum()) / 16
    assert neighbour_loss(logits, classes).item() == pytest.approx(expected)


@pytest.mark.parametrize("flip", ["none", "shared"])
def test_classes_are_where_the_boxes_are_seen(flip):
    """By the directions from the middle box to the others, as the view shows them."""
    places = [(-1, -1), (0, -1), (1, -1), (-1, 0), (1, 0), (-1, 1), (0, 1), (1, 1)]  # (x, y), y downwards
    step = build(tiles={"size": 8, "count": 18, "flip": flip, "effective_resolution": None})
    views = make_batch(step.objective, images=8).views["tiles"]
    seen = mirror(views.boxes, views.flips).unflatten(1, (2, 9))  # [B, W, 9, 4]
    classes = neighbour_classes(views.flips.unflatten(1, (2, 9))[:, :, 4])
    assert flip == "none" or 0 < views.flips.sum() < views.flips.numel()
    for b in range(8):
        for w in range(2):
            middle = seen[b, w, 4]
            for n, tile in enumerate([0, 1, 2, 3, 5, 6, 7, 8]):
                step_to = (seen[b, w, tile, :2] - middle[:2]) / middle[2:]
                direction = tuple(int(x) for x in (step_to.abs() > 0.5) * step_to.sign())
                assert places[classes[b, w, n]] == direction


def test_one_channel_is_left_and_noise_tells_nothing():
    pixels = torch.rand(64, 2, 3, 16, 16)
    dropped = drop_colours(pixels, sample_keys(0, 0, 64))
    same = (dropped == pixels).all(-1).all(-1)  # [B, V, 3]
    assert (same.sum(-1) == 1).all()
    assert same.sum((0, 1)).min() > 25  # each channel of 128 tiles
    noise, kept = dropped[~same], pixels[same]  # [2 * 128, 16, 16], [128, 16, 16]
    assert noise.mean() == pytest.approx(0.5, abs=1e-3)
    torch.testing.assert_close(noise.std((-1, -2)), kept.std((-1, -2)).repeat_interleave(2) / 100, rtol=0.3, atol=0)


def test_projection_removes_green_minus_magenta_alone():
    pixels = torch.rand(2, 9, 3, 4, 4, dtype=torch.float64)
    a = np.array([[-1.0, 2.0, -1.0]])
    matrix = np.eye(3) - a.T @ a / (a @ a.T)  # the paper's formula
    expected = np.einsum("dc,bvchw->bvdhw", matrix, pixels.numpy())
    np.testing.assert_allclose(project_colours(pixels).numpy(), expected, atol=1e-7)


def test_every_pair_has_its_middle_tile_first():
    step = build(colour="keep")
    batch = make_batch(step.objective)
    cls = step.encoder(batch.views["tiles"].pixels.flatten(0, 1)).cls.unflatten(0, (4, 9))
    logits = torch.stack([step.objective.head.of_pairs(cls[:, 4], cls[:, t]) for t in (0, 1, 2, 3, 5, 6, 7, 8)], dim=1)
    output = step(batch)
    torch.testing.assert_close(output.loss, neighbour_loss(logits, torch.arange(8).expand(4, 8)))
    accuracy = (logits.argmax(-1) == torch.arange(8)).float().mean()
    torch.testing.assert_close(output.logs["accuracy"], accuracy)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"tiles": {"count": 4, "size": 8, "grid": {"rows": 2, "columns": 2}}}, "a grid of 3 x 3"),
        ({"tiles": {"size": 8, "flip": "own"}}, "use none or shared"),
        ({"colour": "red"}, "colour is 'red'; choose one of"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)
