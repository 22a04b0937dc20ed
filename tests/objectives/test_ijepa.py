import numpy as np
import pytest
import torch

from sp_hf.objectives import build_objective
from sp_hf.objectives.multi_block import block_sides, multi_block
from sp_hf.objectives.what.ijepa import explained_variance, prediction_loss
from sp_hf.views.keyed_random import sample_keys

from .harness import Step, TinyEncoder, make_batch

VIEWS = {"count": 1, "size": 48, "area": [0.3, 1.0]}
TINY = {
    "name": "ijepa",
    "views": VIEWS,
    "target_blocks": 2,
    "least_context": 4,
    "decoder_width": 16,
    "decoder_depth": 1,
    "decoder_heads": 2,
}
DRAWS = BATCH_WIDE = True
PAPER = (4, (0.15, 0.2), (0.75, 1.5), (0.85, 1.0), 10)


def build(**options):
    torch.manual_seed(0)
    encoder = TinyEncoder()
    return Step(build_objective({**TINY, **options}, encoder), encoder)


@pytest.mark.parametrize("seed", range(3))
def test_blocks_are_rectangles_and_the_context_shares_no_patch_with_them(seed):
    context, targets = multi_block(sample_keys(seed, 0, 50), "test", 1, (14, 14), *PAPER)
    assert context.shape[:2] == (50, 1) and targets.shape[:3] == (50, 1, 4)
    size = targets.shape[-1]
    assert 0.15 * 0.8 < size / 196 < 0.2 * 1.2
    shapes, corners = set(), set()
    for image in range(50):
        rows, columns = np.divmod(context[image, 0].numpy(), 14)
        assert len({*zip(rows, columns, strict=True)}) == context.shape[-1] >= 10
        assert np.ptp(rows) < 14 and np.ptp(columns) < 14
        for block in targets[image, 0].numpy():
            rows, columns = np.divmod(block, 14)
            sides = np.ptp(rows) + 1, np.ptp(columns) + 1
            assert sides[0] * sides[1] == size == len(set(block))  # filled
            shapes.add(sides)
            corners.add((rows.min(), columns.min()))
        assert not set(context[image, 0].tolist()) & set(targets[image].flatten().tolist())
    assert len(shapes) == 1 and len(corners) > 20  # of one size in a forward, anywhere


def test_sizes_are_within_their_ranges_over_many_forwards():
    sides = {block_sides(area, aspect, (14, 14)) for area in (0.15, 0.2) for aspect in (0.75, 1.0, 1.5)}
    assert sides == {(5, 6), (5, 5), (7, 4), (5, 7), (6, 6), (8, 5)}  # 29 and 39 patches, by hand
    assert block_sides(1.0, 1.0, (14, 14)) == (13, 13)
    drawn = [multi_block(sample_keys(seed, 0, 1), "test", 1, (14, 14), *PAPER)[1].shape[-1] for seed in range(40)]
    assert min(drawn) <= 30 and max(drawn) >= 36


def test_an_image_without_context_is_refused():
    with pytest.raises(ValueError, match="9 target blocks of up to 0.9 of 4 x 4 patches leave an image no context"):
        multi_block(sample_keys(0, 0, 4), "test", 1, (4, 4), 9, (0.9, 0.9), (1.0, 1.0), (0.5, 0.5), 1)


def test_loss_and_r2_by_numpy():
    predictions, targets = np.random.default_rng(0).normal(0, 2, size=(2, 3, 1, 4, 5, 6))
    distance = np.abs(predictions - targets)
    expected = np.where(distance < 1, distance**2 / 2, distance - 0.5).mean()
    assert prediction_loss(torch.tensor(predictions), torch.tensor(targets)).item() == pytest.approx(expected)
    centred = targets - targets.reshape(-1, 6).mean(axis=0)
    r2 = 1 - (distance**2).sum() / (centred**2).sum()
    assert explained_variance(torch.tensor(predictions), torch.tensor(targets)).item() == pytest.approx(r2)


def test_forward_predicts_each_block_alone_of_the_whole_images_tokens():
    step = build()
    batch = make_batch(step.objective)
    blocks = step.objective.draw_blocks(batch)
    pixels = batch.views["image"].pixels[:, 0]
    seen = step.encoder(pixels, visible=blocks.context[:, 0])
    whole = step.teacher(pixels).patches.detach().double().numpy()
    seen = type(seen)(seen.cls[:, None], seen.patches[:, None], seen.grid)
    losses = []
    for block in range(2):
        alone = blocks._replace(targets=blocks.targets[:, :, block : block + 1])
        predicted = step.objective.predict(seen, alone)[:, 0, 0].detach().double().numpy()
        for image, numbers in enumerate(alone.targets[:, 0, 0].numpy()):
            for place, number in enumerate(numbers):
                y = whole[image, number]
                y = (y - y.mean()) / np.sqrt(y.var() + 1e-5)
                distance = np.abs(predicted[image, place] - y)
                losses.append(np.where(distance < 1, distance**2 / 2, distance - 0.5).mean())
    assert step(batch).loss.item() == pytest.approx(np.mean(losses), rel=1e-4)


def test_noise_moves_the_positions_that_are_asked_for_alone():
    batch = make_batch(build().objective)
    plain, noisy = build()(batch).loss, build(position_noise=0.25)(batch).loss
    assert plain != noisy
    step = build(position_noise=0.25)
    with torch.no_grad():
        step.objective.embed.weight.zero_()  # the matrix through which it goes
    silent = build()
    with torch.no_grad():
        silent.objective.embed.weight.zero_()
    torch.testing.assert_close(step(batch).loss, silent(batch).loss)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"target_area": [0.2, 2]}, "target_area is 2.0; it must be from 0 to 1"),
        ({"target_blocks": 0}, "target_blocks is 0; it must be at least 1"),
        ({"decoder_width": 18}, "decoder_width is 18"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)
