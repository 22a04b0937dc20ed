"""The where-probe: oracles that know the box, floors that know nothing, and scikit-learn on explicit pairs."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.metrics import mean_absolute_error, r2_score
from torch import nn

from sp_hf.encoder import Encoding
from sp_hf.evaluation.features import Features, ProbeImages, extract_features
from sp_hf.evaluation.ridge import fit_ridge, ridge_path
from sp_hf.evaluation.where import relative_geometry
from sp_hf.evaluation.where.relative_geometry import (
    RelationProbe,
    RelativeGeometryProtocol,
    evaluate_relative_geometry,
)
from sp_hf.geometry import log_scale, relation
from sp_hf.keyed_random import sample_keys
from sp_hf.objectives.where.pairs import ordered_pairs
from sp_hf.photometric import Photometric

BARE = RelativeGeometryProtocol(photometric=Photometric.none(), effective_resolution=None)


class ByHand(nn.Module):
    """An encoder whose class token is a function of the pixels; its patches say nothing."""

    def __init__(self, embed):
        super().__init__()
        self.embed = embed

    def patches_of(self, size):
        return 1, 1

    def forward(self, pixels):
        cls = self.embed(pixels)
        return Encoding(cls, torch.zeros(len(cls), 1, 1), (1, 1))


def box_in_the_colours(pixels):
    """Reads the box off an image whose red is x and whose green is y: means are the centre, slopes the sides."""
    ramp = torch.arange(pixels.shape[-1]) - (pixels.shape[-1] - 1) / 2
    ramp = ramp / ramp.square().sum()
    slopes = torch.stack([(pixels[:, 0].mean(1) * ramp).sum(-1), (pixels[:, 1].mean(2) * ramp).sum(-1)], dim=-1)
    return torch.cat([pixels[:, :2].mean((2, 3)), slopes.clamp(min=1e-6).log()], dim=-1)


def detail(pixels):
    """How sharp a view is: log of the share of its high frequencies."""
    grey = pixels.mean(1) - pixels.mean((1, 2, 3))[:, None, None]
    window = torch.hann_window(grey.shape[-1])
    power = torch.fft.fft2(grey * window * window[:, None]).abs().square()
    frequency = torch.fft.fftfreq(grey.shape[-1])
    high = (frequency[:, None].square() + frequency.square()).sqrt() > 0.15
    return (power[:, high].sum(-1, keepdim=True) / power.sum((1, 2))[:, None] + 1e-6).log()


def constant(pixels):
    return torch.full((len(pixels), 3), 0.7)


def images_of(canvases, seed):
    n = len(canvases)
    aspects = torch.tensor([0.5, 1.0, 1.7])[torch.arange(n) % 3]
    return ProbeImages(canvases, aspects, sample_keys(seed, 0, n), None, [], "drawn for a test")


def coordinate_images(n, seed, side=96):
    position = ((torch.arange(side) + 0.5) / side * 255).round().to(torch.uint8)
    canvas = torch.stack([position.expand(side, side), position[:, None].expand(side, side), torch.zeros(side, side)])
    return images_of(canvas.to(torch.uint8).repeat(n, 1, 1, 1), seed)


def noise_images(n, seed, side=192):
    """Canvases of photographs that are all detail: noise at twice the resolution, reduced with antialiasing."""
    noise = torch.randn(n, 3, 2 * side, 2 * side, generator=torch.Generator().manual_seed(seed))
    reduced = nn.functional.interpolate(noise, size=(side, side), mode="bilinear", antialias=True)
    return images_of((128 + 60 * reduced).clamp(0, 255).to(torch.uint8), seed)


def measure(embed, draw, protocol=BARE, n=60, size=32):
    splits = [
        extract_features(ByHand(embed), draw(n, seed), {"crops": protocol.view_spec(size)})["crops"] for seed in (0, 1)
    ]
    return evaluate_relative_geometry(*splits)


@pytest.mark.parametrize("size", [16, 48])
def test_an_encoder_that_contains_the_box_scores_one(size):
    result = measure(box_in_the_colours, coordinate_images, size=size)
    for r2 in (result.r2_x, result.r2_y, result.r2_position, result.r2_scale):
        assert 0.99 < r2.low <= r2.value <= r2.high <= 1
    assert result.iou.value > 0.95
    assert max(result.mae_x.value, result.mae_y.value) < 0.01 and result.mae_scale.value < 0.03
    assert (result.images, result.pairs, result.train_images) == (60, 720, 60)


def test_an_encoder_that_says_nothing_scores_exactly_zero():
    result = measure(constant, coordinate_images)
    assert [r2.value for r2 in (result.r2_x, result.r2_y, result.r2_position, result.r2_scale)] == [0, 0, 0, 0]
    first, second = ordered_pairs(4)
    boxes = extract_features(ByHand(constant), coordinate_images(60, 1), {"crops": BARE.view_spec(32)})
    boxes = boxes["crops"].boxes.double()
    offsets = relation(boxes[:, first], boxes[:, second])
    assert result.mae_x.value == pytest.approx(offsets[..., 0].abs().mean().item())


def test_rounding_of_a_constant_feature_is_not_taken_for_a_signal():
    features = random_features(60, 4, 3, 0)
    rounded = features._replace(cls=1 + 1e-7 * features.boxes)  # float32 keeps a bit of it
    assert rounded.cls.std() > 0
    assert evaluate_relative_geometry(rounded, rounded).r2_position.value == 0


def test_features_without_relation_to_the_box_score_no_better_than_zero():
    generator = torch.Generator().manual_seed(0)
    result = measure(lambda pixels: torch.randn(len(pixels), 40, generator=generator), coordinate_images)
    assert -0.2 < result.r2_position.value < 0.05


def test_sharpness_tells_scale_and_the_countermeasures_hide_it():
    """The blur shortcut: a small box, enlarged, is blurrier. Noise shows every loss of detail."""
    open_door = measure(detail, noise_images, n=40, size=48).r2_scale.value
    closed = measure(detail, noise_images, RelativeGeometryProtocol(), n=40, size=48).r2_scale.value
    assert open_door > 0.35
    assert closed < 0.05


def random_features(n, crops, size, seed):
    """Features that are a noisy linear function of the boxes, each of its own spread."""
    generator = torch.Generator().manual_seed(seed)
    boxes = 0.2 + 0.6 * torch.rand(n, crops, 4, generator=generator)
    mixing = torch.randn(4, size, generator=torch.Generator().manual_seed(9))
    values = boxes @ mixing + 0.5 * torch.randn(n, crops, size, generator=generator)
    return Features(values * torch.logspace(-2, 2, size), torch.zeros(n, crops, 1), boxes)


def concatenated_pairs(features, scale):
    first, second = ordered_pairs(features.boxes.shape[1])
    standard = features.cls.double() / scale[: features.cls.shape[-1]]
    inputs = torch.cat([standard[:, first], standard[:, second]], dim=-1).flatten(0, 1)
    boxes = features.boxes.double()
    return inputs.numpy(), relation(boxes[:, first], boxes[:, second]).flatten(0, 1).numpy()


def test_closed_form_is_ridge_on_the_concatenated_pairs():
    n, crops = 50, 3
    train, validation = random_features(n, crops, 10, 0), random_features(20, crops, 10, 1)
    probe = RelationProbe.fit(train.cls, train.boxes, seed=0)
    first, second = ordered_pairs(crops)
    predicted = probe.predict(validation.cls[:, first], validation.cls[:, second]).flatten(0, 1)
    inputs, targets = concatenated_pairs(train, probe.scale)
    queries, _ = concatenated_pairs(validation, probe.scale)
    for target, penalty in enumerate(probe.penalties.tolist()):
        # Pairs have 2V times the crops' sum of squares, and [-w, w] twice the norm of w.
        reference = Ridge(alpha=penalty * n * crops**2, solver="cholesky").fit(inputs, targets[:, target])
        np.testing.assert_allclose(predicted[:, target].numpy(), reference.predict(queries), atol=1e-7)


def test_figures_are_those_of_scikit_learn():
    train, validation = random_features(50, 3, 10, 0), random_features(30, 3, 10, 1)
    result = evaluate_relative_geometry(train, validation)
    first, second = ordered_pairs(3)
    probe = RelationProbe.fit(torch.cat([train.cls, train.mean_patch], -1), train.boxes, seed=0)
    inputs = torch.cat([validation.cls, validation.mean_patch], -1)
    predicted = probe.predict(inputs[:, first], inputs[:, second]).flatten(0, 1)
    boxes = validation.boxes.double()
    truth = relation(boxes[:, first], boxes[:, second]).flatten(0, 1)
    assert result.r2_x.value == pytest.approx(r2_score(truth[:, 0], predicted[:, 0]))
    assert result.r2_y.value == pytest.approx(r2_score(truth[:, 1], predicted[:, 1]))
    assert result.r2_position.value == pytest.approx(
        r2_score(truth[:, :2], predicted[:, :2], multioutput="variance_weighted")
    )
    assert result.r2_scale.value == pytest.approx(r2_score(log_scale(truth), log_scale(predicted)))
    assert result.mae_y.value == pytest.approx(mean_absolute_error(truth[:, 1], predicted[:, 1]))
    assert 0.2 < result.r2_x.value < 0.95


def test_ridge_path_is_that_of_scikit_learn_and_the_best_on_held_out_rows_is_chosen():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 60, generator=generator)  # more features than rows
    x[:, :3] *= 3
    mixing = torch.tensor([[2.0, 0.3], [-2.0, 0.3], [1.0, -0.3]])  # a strong signal, and a weak one
    y = x[:, :3] @ mixing + torch.randn(40, 2, generator=generator)
    held_out = torch.arange(40) % 4 == 0
    penalties = (1e-4, 1e-1, 1.0, 30.0)
    path = ridge_path(x[~held_out], y[~held_out], torch.tensor(penalties))
    errors = []
    for weights, penalty in zip(path, penalties, strict=True):
        reference = Ridge(alpha=penalty * 30, fit_intercept=False).fit(x[~held_out].double(), y[~held_out].double())
        np.testing.assert_allclose(weights.numpy(), reference.coef_.T, atol=1e-6)
        errors.append(((reference.predict(x[held_out].double()) - y[held_out].numpy()) ** 2).mean(0))
    weights, chosen = fit_ridge(x, y, held_out, penalties)
    best = np.argmin(errors, axis=0)
    assert best[0] != best[1]  # each target has its own
    assert chosen.tolist() == pytest.approx([penalties[index] for index in best])
    for target in range(2):
        refit = Ridge(alpha=penalties[best[target]] * 40, fit_intercept=False).fit(x.double(), y[:, target].double())
        np.testing.assert_allclose(weights[:, target].numpy(), refit.coef_, atol=1e-6)


def test_the_held_out_rows_are_whole_images(monkeypatch):
    seen = []

    def spy(x, y, held_out):
        seen.append(held_out)
        return fit_ridge(x, y, held_out)

    monkeypatch.setattr(relative_geometry, "fit_ridge", spy)
    train = random_features(50, 3, 10, 0)
    RelationProbe.fit(train.cls, train.boxes, seed=0)
    by_image = seen[0].view(50, 3)
    assert torch.equal(by_image.all(1), by_image.any(1)) and by_image.all(1).sum() == 10


def test_every_model_sees_the_same_crops_and_seeds_differ():
    images, spec = noise_images(5, 0), {"crops": RelativeGeometryProtocol().view_spec(16)}
    boxes = [extract_features(ByHand(embed), images, spec)["crops"].boxes for embed in (constant, detail)]
    assert torch.equal(*boxes)
    whole = extract_features(ByHand(detail), images, spec, batch_size=5)["crops"]
    parts = extract_features(ByHand(detail), images, spec, batch_size=2)["crops"]
    assert torch.equal(whole.boxes, parts.boxes)
    torch.testing.assert_close(whole.cls, parts.cls)
    other = extract_features(ByHand(detail), noise_images(5, 1), spec)["crops"].boxes
    assert not torch.isclose(boxes[0], other).any()


def test_too_few_images_and_too_few_crops_are_refused():
    with pytest.raises(ValueError, match="9 training images are too few"):
        measure(constant, coordinate_images, n=9)
    with pytest.raises(ValueError, match="crops is 1"):
        RelativeGeometryProtocol(crops=1)
