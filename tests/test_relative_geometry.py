"""The where-probe: oracles that know the box, floors that know nothing, and scikit-learn on explicit pairs."""

import json
import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.metrics import mean_absolute_error, r2_score
from torch import nn

from sp_hf.encoders.encoder import Encoding
from sp_hf.evaluation.data import EvaluationData
from sp_hf.evaluation.features import Features, ProbeImages, extract_features
from sp_hf.evaluation.measure import Measure
from sp_hf.evaluation.model import EvaluatedModel, Preprocess
from sp_hf.evaluation.probes.ridge import fit_ridge, ridge_path
from sp_hf.evaluation.source import DataSource
from sp_hf.evaluation.where.relative_geometry import probe as relation_probe
from sp_hf.evaluation.where.relative_geometry.measures import binned_metrics, relation_measures
from sp_hf.evaluation.where.relative_geometry.mlp import RelationMLP, reverse_of
from sp_hf.evaluation.where.relative_geometry.probe import RelationProbe
from sp_hf.evaluation.where.relative_geometry.protocol import RelativeGeometryProtocol
from sp_hf.evaluation.where.relative_geometry.task import RelativeGeometry, disagreement, probe_relations
from sp_hf.views.geometry import box_iou, log_scale, relation
from sp_hf.views.keyed_random import sample_keys
from sp_hf.views.pairs import ordered_pairs
from sp_hf.views.photometric import Photometric

BARE = RelativeGeometryProtocol(photometric=Photometric.none(), effective_resolution=None, margin=0.0)
R2 = ("r2_x", "r2_y", "r2_position", "r2_scale")


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


def measure(embed, draw, protocol=BARE, n=60, size=32, mlp=False):
    splits = [
        extract_features(ByHand(embed), draw(n, seed), {"crops": protocol.view_spec(size)})["crops"] for seed in (0, 1)
    ]
    return probe_relations(*splits, mlp=mlp)


@pytest.mark.parametrize(("size", "mlp"), [(16, False), (48, True)])
def test_an_encoder_that_contains_the_box_scores_one(size, mlp):
    measures, details, _ = measure(box_in_the_colours, coordinate_images, size=size, mlp=mlp)
    for name in (*R2, *(["r2_position_mlp", "r2_scale_mlp"] if mlp else [])):
        estimate = measures[name].estimate()
        assert 0.99 < estimate.low <= estimate.value <= estimate.high <= 1, name
    assert measures["iou"].value > 0.95 and (not mlp or measures["iou_mlp"].value > 0.9)
    assert max(measures["mae_x"].value, measures["mae_y"].value) < 0.01 and measures["mae_scale"].value < 0.03
    assert {measure.n for measure in measures.values()} == {60}
    assert (details["pairs"], details["train_images"]) == (720, 60)


def test_an_encoder_that_says_nothing_scores_exactly_zero():
    measures, details, predicted = measure(constant, coordinate_images, mlp=True)
    assert [measures[name].value for name in (*R2, "r2_position_mlp", "r2_scale_mlp")] == [0] * 6
    assert measures["iou"].value == pytest.approx(measures["iou"].chance) and 0.05 < measures["iou"].chance < 0.3
    assert not predicted.any()
    for found in details["bins"]["distance"] + details["bins"]["overlap"]:
        assert found["r2_position"] == {"value": 0, "low": 0, "high": 0}
    first, second = ordered_pairs(4)
    boxes = extract_features(ByHand(constant), coordinate_images(60, 1), {"crops": BARE.view_spec(32)})
    boxes = boxes["crops"].boxes.double()
    offsets = relation(boxes[:, first], boxes[:, second])
    assert measures["mae_x"].value == pytest.approx(offsets[..., 0].abs().mean().item())


def test_rounding_of_a_constant_feature_is_not_taken_for_a_signal():
    features = random_features(60, 4, 3, 0)
    rounded = features._replace(cls=1 + 1e-7 * features.boxes)  # float32 keeps a bit of it
    assert rounded.cls.std() > 0
    measures, _, _ = probe_relations(rounded, rounded)
    assert measures["r2_position"].value == measures["r2_position_mlp"].value == 0


def test_features_without_relation_to_the_box_score_no_better_than_zero():
    generator = torch.Generator().manual_seed(0)
    measures, _, _ = measure(
        lambda pixels: torch.randn(len(pixels), 40, generator=generator), coordinate_images, mlp=True
    )
    assert -0.2 < measures["r2_position"].value < 0.05
    assert -0.2 < measures["r2_position_mlp"].value < 0.05


def test_sharpness_tells_scale_and_the_countermeasures_hide_it():
    """The blur shortcut: a small box, enlarged, is blurrier. Noise shows every loss of detail."""
    open_door, _, _ = measure(detail, noise_images, n=40, size=48)
    closed, _, _ = measure(detail, noise_images, RelativeGeometryProtocol(), n=40, size=48)
    assert open_door["r2_scale"].value > 0.35
    assert closed["r2_scale"].value < 0.05


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


def test_metrics_are_those_of_scikit_learn():
    train, validation = random_features(50, 3, 10, 0), random_features(30, 3, 10, 1)
    measures, details, _ = probe_relations(train, validation, mlp=False)
    first, second = ordered_pairs(3)
    probe = RelationProbe.fit(torch.cat([train.cls, train.mean_patch], -1), train.boxes, seed=0)
    inputs = torch.cat([validation.cls, validation.mean_patch], -1)
    predicted = probe.predict(inputs[:, first], inputs[:, second]).flatten(0, 1)
    boxes = validation.boxes.double()
    truth = relation(boxes[:, first], boxes[:, second]).flatten(0, 1)
    metrics = {name: measure.value for name, measure in measures.items()}
    assert metrics["r2_x"] == pytest.approx(r2_score(truth[:, 0], predicted[:, 0]))
    assert metrics["r2_y"] == pytest.approx(r2_score(truth[:, 1], predicted[:, 1]))
    assert metrics["r2_position"] == pytest.approx(
        r2_score(truth[:, :2], predicted[:, :2], multioutput="variance_weighted")
    )
    assert metrics["r2_scale"] == pytest.approx(r2_score(log_scale(truth), log_scale(predicted)))
    assert metrics["mae_y"] == pytest.approx(mean_absolute_error(truth[:, 1], predicted[:, 1]))
    assert 0.2 < metrics["r2_x"] < 0.95
    assert details["penalties"] == probe.penalties.tolist()


def test_bins_are_those_of_pairs_picked_one_by_one():
    boxes = random_features(30, 4, 3, 0).boxes.double()
    first, second = (boxes[:, side] for side in ordered_pairs(4))
    truth = relation(first, second)
    noise = 0.1 * torch.randn(truth.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    bins = binned_metrics(first, second, truth + noise, seed=0)
    for quantity, count in (("distance", 4), ("overlap", 4)):
        assert len(bins[quantity]) == count and sum(found["pairs"] for found in bins[quantity]) == 30 * 12
        for found in bins[quantity]:
            chosen = []
            for image in range(30):
                for pair in range(12):
                    a, b = first[image, pair], second[image, pair]
                    value = math.dist(a[:2], b[:2]) if quantity == "distance" else float(box_iou(a, b))
                    high = math.inf if found["high"] is None else found["high"]
                    inside = value == 0 if found["low"] == high else found["low"] < value <= high
                    if inside:
                        chosen.append((image, pair))
            images, pairs = map(torch.tensor, zip(*chosen, strict=True))
            assert (found["pairs"], found["images"]) == (len(chosen), len(images.unique()))
            expected, answer = truth[images, pairs], (truth + noise)[images, pairs]
            r2 = r2_score(expected[:, :2], answer[:, :2], multioutput="variance_weighted")
            assert found["r2_position"]["value"] == pytest.approx(r2)
            assert found["r2_scale"]["value"] == pytest.approx(r2_score(log_scale(expected), log_scale(answer)))
            assert found["mae_x"]["value"] == pytest.approx(mean_absolute_error(expected[:, 0], answer[:, 0]))
            assert found["r2_position"]["low"] <= r2 <= found["r2_position"]["high"]


def test_a_bin_without_pairs_has_no_metrics():
    boxes = torch.tensor([[[0.5, 0.5, 0.2, 0.2], [0.51, 0.51, 0.3, 0.3]]])
    first, second = (boxes.double()[:, side] for side in ordered_pairs(2))
    near, *far = binned_metrics(first, second, relation(first, second), seed=0)["distance"]
    assert near["pairs"] == 2 and near["r2_position"]["value"] == 1
    assert all(set(found) == {"low", "high", "pairs", "images"} for found in far)


def test_the_mlp_reads_what_no_linear_map_can_and_is_antisymmetric():
    """Coordinates times a sign that another feature tells: uncorrelated with them, and yet they say everything."""
    train, validation = (product_features(400, 2, seed) for seed in (0, 1))
    before = torch.get_rng_state()
    measures, _, _ = probe_relations(train, validation)
    assert torch.equal(before, torch.get_rng_state())
    assert measures["r2_position"].value < 0.1
    assert measures["r2_position_mlp"].value > 0.6
    inputs = torch.cat([validation.cls, validation.mean_patch], dim=-1)
    probe = RelationMLP.fit(torch.cat([train.cls, train.mean_patch], dim=-1), train.boxes, seed=0)
    found = probe.predict_pairs(inputs)
    torch.testing.assert_close(found[:, [1, 0]], -found)
    boxes = validation.boxes.double()
    again = relation_measures(boxes[:, [0, 1]], boxes[:, [1, 0]], found)
    assert again["r2_position"].value == measures["r2_position_mlp"].value  # the same seed, the same network


def test_probes_that_disagree_in_sign_are_noted():
    """What no linear map can read, of few images: the ridge probe learns noise, the MLP the rule."""
    disagreeing = {"r2_scale": Measure.of(torch.full((4,), -0.2))}, {"r2_scale": Measure.of(torch.full((4,), 0.3))}
    (note,) = disagreement("r2_scale", *disagreeing)
    assert "disagree in sign, ridge -0.200 and MLP 0.300" in note
    nothing = {"r2_scale": Measure.of(torch.full((4,), 0.004))}
    assert not disagreement("r2_scale", disagreeing[0], disagreeing[0])
    assert not disagreement("r2_scale", disagreeing[0], nothing)
    train, validation = (product_features(400, 2, seed) for seed in (0, 1))
    measures, details, _ = probe_relations(train, validation)
    signs = {name: round(measure.value, 2) for name, measure in measures.items()}
    expected = [name for name in ("r2_position", "r2_scale") if signs[name] * signs[f"{name}_mlp"] < 0]
    assert [note.split(":")[0] for note in details["notes"]] == expected


def product_features(n, crops, seed):
    generator = torch.Generator().manual_seed(seed)
    boxes = 0.2 + 0.6 * torch.rand(n, crops, 4, generator=generator)
    sign = torch.randn(n, crops, 1, generator=generator).sign()
    return Features(torch.cat([sign * (boxes - 0.5), sign], -1), torch.zeros(n, crops, 1), boxes)


@pytest.mark.parametrize("crops", [2, 3, 5])
def test_the_reverse_of_every_pair(crops):
    first, second = ordered_pairs(crops)
    back = reverse_of(first, second)
    assert torch.equal(first[back], second) and torch.equal(second[back], first)


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

    monkeypatch.setattr(relation_probe, "fit_ridge", spy)
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


def test_the_task_from_images_to_pictures(tmp_path):
    data = EvaluationData(DataSource(max_images=16))
    size = 32
    models = [
        EvaluatedModel(name, ByHand(embed), Preprocess.squash(size)) for name, embed in (("a", constant), ("b", detail))
    ]
    task = RelativeGeometry()
    task.prepare(data)
    results = {}
    for model in models:
        task.check(model, data)
        results[model.name] = task.run(model, data)
    details = results["b"].details
    assert (details["crop_size"], details["canvas_size"], details["pairs"]) == (32, 96, 16 * 12)
    json.dumps([details, task.settings()], allow_nan=False)
    assert set(task.headline) | {"r2_position_mlp", "r2_scale_mlp", "iou_mlp"} <= set(results["b"].measures)
    assert results["a"].measures["r2_position"].value == 0
    pictures = task.draw(results, tmp_path)
    assert len(pictures) == 2 and all(picture.path.stat().st_size > 10_000 for picture in pictures)
    assert task.draw({}, tmp_path) == []
    quick = RelativeGeometry(crop_size=16, canvas_size=40, images=12, mlp=False).run(models[1], data)
    assert quick.details["crop_size"] == 16 and quick.details["train_images"] == 12
    assert not any("mlp" in name for name in quick.measures)


def test_boxes_predicted_exactly_have_iou_one_and_keep_the_margin():
    spec = RelativeGeometryProtocol(margin=0.1).view_spec(16)
    boxes = extract_features(ByHand(constant), noise_images(20, 0), {"crops": spec})["crops"].boxes.double()
    first, second = (boxes[:, side] for side in ordered_pairs(4))
    assert relation_measures(first, second, relation(first, second))["iou"].value == pytest.approx(1)
    edges = torch.cat([boxes[..., :2] - boxes[..., 2:] / 2, 1 - boxes[..., :2] - boxes[..., 2:] / 2])
    assert 0.1 - 1e-6 <= edges.min() < 0.11


def test_what_cannot_work_is_refused_before_any_work():
    with pytest.raises(ValueError, match="9 training images are too few"):
        measure(constant, coordinate_images, n=9)
    with pytest.raises(ValueError, match="9 training images are too few"):
        RelativeGeometry().prepare(EvaluationData(DataSource(max_images=9)))
    with pytest.raises(ValueError, match="crops is 1"):
        RelativeGeometryProtocol(crops=1)
    with pytest.raises(ValueError, match="crop_size is 0; it must be at least 1"):
        RelativeGeometry(crop_size=0)
    with pytest.raises(ValueError, match="images is -1"):
        RelativeGeometry(images=-1)
