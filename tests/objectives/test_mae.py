import numpy as np
import pytest
import torch

from sp_hf.encoders.sincos_positions import sincos_positions
from sp_hf.objectives import build_objective
from sp_hf.objectives.what.mae import normalise_patches, patchify, reconstruction_loss

from .harness import PATCH, Step, TinyEncoder, make_batch

VIEWS = {"count": 1, "size": 32, "area": [0.2, 1.0]}
TINY = {"name": "mae", "views": VIEWS, "decoder_width": 16, "decoder_depth": 1, "decoder_heads": 2}
DRAWS = True


def build(**options):
    encoder = TinyEncoder()
    return Step(build_objective({**TINY, **options}, encoder), encoder)


def test_loss_equals_a_loop_over_masked_patches():
    predictions, pixels = torch.randn(2, 3, 6, 5, dtype=torch.float64), torch.rand(2, 3, 6, 5, dtype=torch.float64)
    masked = torch.rand(2, 3, 6) < 0.7
    errors = []
    for index in np.ndindex(2, 3, 6):
        if masked[index]:
            patch = pixels[index].numpy()
            target = (patch - patch.mean()) / np.sqrt(patch.var(ddof=1) + 1e-6)
            errors.append(((predictions[index].numpy() - target) ** 2).mean())
    ours = reconstruction_loss(predictions, normalise_patches(pixels), masked)
    assert ours.item() == pytest.approx(np.mean(errors), rel=1e-10)


def test_patches_are_cut_row_by_row():
    pixels = torch.rand(2, 1, 3, 16, 24)
    patches = patchify(pixels, PATCH)
    assert patches.shape == (2, 1, 6, 192)
    for row in range(2):
        for column in range(3):
            block = pixels[1, 0, :, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
            ours = patches[1, 0, 3 * row + column]
            assert torch.equal(ours.view(8, 8, 3), block.permute(1, 2, 0))


def test_positions_of_the_decoder_are_sines_and_cosines():
    table = sincos_positions(2, 3, 8)
    for row in range(2):
        for column in range(3):
            expected = []
            for position in (column, row):
                angles = [position / 10000 ** (k / 2) for k in range(2)]
                expected += [np.sin(a) for a in angles] + [np.cos(a) for a in angles]
            np.testing.assert_allclose(table[3 * row + column].numpy(), expected, atol=1e-6)


def test_loss_ignores_visible_patches_and_sees_each_masked_one():
    step = build()
    batch = make_batch(step.objective, images=2)
    visible = step.objective.visible_patches(batch)  # [B, 1, n]
    predictions = torch.randn(2, 1, 16, 192, requires_grad=True)
    step.objective.decode = lambda encoding, visible: predictions
    step(batch).loss.backward()
    touched = predictions.grad.abs().sum(dim=-1) > 0
    expected = torch.ones(2, 1, 16, dtype=torch.bool)
    for b in range(2):
        expected[b, 0, visible[b, 0]] = False
    assert torch.equal(touched, expected)


def test_encoder_does_not_see_masked_patches():
    step = build()
    batch = make_batch(step.objective, images=2)
    visible = step.objective.visible_patches(batch)
    before = step.objective.decode(step._encode(batch, step.objective.requests(batch).encodes["image"]), visible)
    patches = patchify(batch.views["image"].pixels, PATCH)
    hidden = torch.ones(2, 1, 16, dtype=torch.bool).scatter(-1, visible, False)
    pixels = batch.views["image"].pixels
    for b, _, n in hidden.nonzero().tolist():
        row, column = divmod(n, 4)
        pixels[b, 0, :, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = 0.123
    assert not torch.equal(patches, patchify(pixels, PATCH))
    after = step.objective.decode(step._encode(batch, step.objective.requests(batch).encodes["image"]), visible)
    torch.testing.assert_close(before, after)


def test_visible_tokens_land_where_they_came_from():
    """With positions and blocks taken out of the decoder, each token is what was put in its place."""
    step = build()
    objective = step.objective
    batch = make_batch(objective, images=2)
    visible = objective.visible_patches(batch)
    objective.decoder = torch.nn.Identity()
    encoding = step._encode(batch, objective.requests(batch).encodes["image"])
    decoded = objective.decode(encoding, visible)
    positions = sincos_positions(4, 4, 16)
    for k, n in enumerate(visible[1, 0].tolist()):
        expected = objective.to_pixels(objective.embed(encoding.patches[1, 0, k]) + positions[n])
        torch.testing.assert_close(decoded[1, 0, n], expected)
    masked = next(n for n in range(16) if n not in visible[1, 0].tolist())
    torch.testing.assert_close(decoded[1, 0, masked], objective.to_pixels(objective.mask_token + positions[masked]))


@pytest.mark.parametrize("ratio, expected", [(0.75, 4), (0.5, 8), (0.99, 1), (0.001, 15)])
def test_share_of_visible_patches(ratio, expected):
    objective = build(mask_ratio=ratio).objective
    visible = objective.visible_patches(make_batch(objective, images=5))
    assert visible.shape == (5, 1, expected)
    assert all(len(set(row)) == expected for row in visible[:, 0].tolist())


def test_pixels_as_they_are():
    step = build(normalise_pixels=False)
    batch = make_batch(step.objective, images=2)
    step.objective.decode = lambda encoding, visible: patchify(batch.views["image"].pixels, PATCH)
    assert step(batch).loss.item() == 0


@pytest.mark.parametrize(
    "options, message",
    [
        ({"mask_ratio": 1.0}, "mask_ratio is 1.0; it must be above 0 and below 1"),
        ({"decoder_heads": 3}, "decoder_width is 16; it must be divisible by 4 and by decoder_heads, 3"),
        ({"decoder_depth": 0}, "decoder_depth is 0; it must be at least 1"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)
