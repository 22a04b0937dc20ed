"""Depth: targets, the regression and the metrics against independent references; encoders whose answer is known."""

import numpy as np
import pytest
import torch
from dense_samples import GRID, GridMeans, blocks, constant, encoded, evaluation, model, save
from sklearn.linear_model import Ridge
from sklearn.metrics import mean_absolute_percentage_error, root_mean_squared_error

from sp_hf.evaluation.probes.standardise import Standardisation
from sp_hf.evaluation.source import DataSource
from sp_hf.evaluation.what.dense.dense_task import TrainingTokens
from sp_hf.evaluation.what.dense.metrics import depth_measures, depth_sums, scale_aligned
from sp_hf.evaluation.what.dense.patch_targets import token_means
from sp_hf.evaluation.what.depth import Depth, fit_depth


def pairs(seed=0):
    """Predicted and true depths of images of different sizes."""
    generator = np.random.default_rng(seed)
    for pixels in (50, 7, 400):
        truth = generator.uniform(0.5, 60, pixels)
        yield truth * np.exp(0.3 * generator.standard_normal(pixels) + 0.2), truth


def test_metrics_are_those_of_scikit_learn_over_all_pixels():
    found = depth_measures(np.stack([depth_sums(p, d) for p, d in pairs()]))
    predicted, truth = (np.concatenate(column) for column in zip(*pairs(), strict=True))
    assert found["abs_rel"].value == pytest.approx(mean_absolute_percentage_error(truth, predicted))
    assert found["rmse"].value == pytest.approx(root_mean_squared_error(truth, predicted))
    close = sum(max(p / d, d / p) < 1.25 for p, d in zip(predicted, truth, strict=True)) / len(truth)
    assert found["delta_1.25"].value == pytest.approx(close)
    assert 0.2 < close < 0.8
    assert [found[name].higher_is_better for name in ("abs_rel", "rmse", "delta_1.25")] == [False, False, True]
    assert found["abs_rel"].n == 3


def test_alignment_forgives_each_image_its_scale_and_nothing_else():
    plain = np.stack([depth_sums(scale_aligned(p, d), d) for p, d in pairs()])
    scaled = np.stack([depth_sums(scale_aligned((3 + i) * p, d), d) for i, (p, d) in enumerate(pairs())])
    np.testing.assert_allclose(plain, scaled)
    for p, d in pairs():
        assert np.median(scale_aligned(p, d)) == pytest.approx(np.median(d))
    assert len(scale_aligned(np.array([]), np.array([]))) == 0
    assert depth_measures(plain, "aligned_")["aligned_abs_rel"].value > 0.1


def test_token_means_by_hand():
    values = np.array([[1.0, 2, 3, 4], [5, 6, 7, np.nan], [0, 0, 9, 9], [0, 0, 9, 11]], np.float32)
    means, weights = token_means(values, np.isfinite(values) & (values > 0), (2, 2))
    np.testing.assert_allclose(means, [3.5, 14 / 3, 0, 9.5])
    np.testing.assert_allclose(weights, [1, 0.75, 0, 1])


def test_regression_is_scikit_learns_weighted_ridge():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(300, 60, generator=generator)
    y = 0.1 * x @ torch.randn(60, 1, generator=generator) + 2 + 3 * torch.randn(300, 1, generator=generator)
    weights = torch.rand(300, generator=generator) + 0.01
    held_out = torch.arange(300) % 5 == 0
    head = fit_depth(TrainingTokens(x, y, weights, Standardisation(torch.zeros(60), torch.ones(60)), held_out))
    reference = Ridge(alpha=head.penalty * 300).fit(x.numpy(), y[:, 0].numpy(), sample_weight=weights.numpy())
    np.testing.assert_allclose(head.log_depth(x).numpy(), reference.predict(x.numpy()), atol=1e-4)
    assert head.penalty > 1e-3  # a penalty that matters, or the comparison says little


# The task


def depths(n, seed=0):
    """[n, GRID, GRID] metres, and images whose red tells the logarithm: 0 to 255 for 1 to e^3 m."""
    logs = np.round(np.random.default_rng(seed).uniform(0, 1, (n, GRID, GRID)) * 255) / 255
    images = [encoded(blocks(np.stack([255 * one, 0 * one + 90, 0 * one], axis=-1).round())) for one in logs]
    return images, np.exp(3 * logs).astype(np.float32)


def tiffs(values):
    return [encoded(one, "TIFF") for one in values]


def sides(make=tiffs):
    (train, of_train), (validation, of_validation) = depths(15), depths(12, seed=1)
    return {"train": (train, make(of_train)), "validation": (validation, make(of_validation))}


def test_an_encoder_that_tells_log_depth_is_right_and_a_constant_one_scores_the_floor(tmp_path):
    data, task = evaluation(save(tmp_path / "data", sides(), "depth")), Depth()
    task.prepare(data)
    perfect = task.run(model(), data)
    assert perfect.measures["abs_rel"].value < 2e-3  # tokens are float16
    assert perfect.measures["delta_1.25"].value == 1.0
    assert perfect.measures["aligned_rmse"].value < 0.03
    assert perfect.measures["rmse"].n == 12
    floor = task.run(constant(), data)
    for name, measure in floor.measures.items():
        assert measure.value == pytest.approx(measure.chance, rel=1e-5), name
    geometric_mean = np.exp(np.log(depths(15)[1]).mean())
    truth = depths(12, seed=1)[1]
    assert floor.measures["abs_rel"].value == pytest.approx((np.abs(geometric_mean - truth) / truth).mean(), rel=1e-4)
    (picture,) = task.draw({"perfect": perfect, "constant": floor}, tmp_path)
    assert picture.path.stat().st_size > 1000


def test_whole_numbers_need_a_scale_and_then_are_metres(tmp_path):
    in_millimetres = sides(lambda values: [encoded((one * 1000).round().astype(np.uint16)) for one in values])
    data = evaluation(save(tmp_path, in_millimetres, "depth_map"))
    with pytest.raises(ValueError, match="--depth_scale, metres a unit: 0.001"):
        Depth().prepare(data)
    assert Depth(scale=0.001).run(model(), data).measures["abs_rel"].value < 3e-3


def test_pixels_without_a_depth_do_not_count(tmp_path):
    def with_holes(values):
        values = values.copy()
        values[:, 0, 0], values[:, 0, 1], values[:, 1, 0], values[:, 3, 3] = 0, np.nan, 1000, -5
        return tiffs(values)

    result = Depth().run(model(), evaluation(save(tmp_path, sides(with_holes), "depth")))
    assert result.measures["abs_rel"].denominators.sum() == 12 * (GRID * GRID - 4)
    assert result.measures["abs_rel"].value < 2e-3
    assert result.details["train_tokens"] == 15 * (GRID * GRID - 4)


def test_predictions_are_clipped_to_valid_depths(tmp_path):
    result = Depth(max=5.0).run(model(), evaluation(save(tmp_path, sides(), "depth")))
    for panel in result.artifacts["panels"]:
        assert panel.predicted.max() == 5.0
        assert np.nanmax(panel.truth) <= 5.0


def test_part_scenes_needs_no_options():
    result = Depth().run(model(GridMeans()), evaluation(DataSource("part-scenes?size=32&num_images=24")))
    assert result.measures["abs_rel"].n == 24


@pytest.mark.parametrize(
    ("value", "message"),
    [(0.0, "no training annotation holds a depth"), (np.nan, "--depth_max"), (100.0, "--depth_scale")],
)
def test_annotations_without_depths_are_refused(tmp_path, value, message):
    data = evaluation(save(tmp_path, sides(lambda values: tiffs(0 * values + np.float32(value))), "depth"))
    with pytest.raises(ValueError, match=message):
        Depth().prepare(data)


def test_options_out_of_range_are_refused():
    with pytest.raises(ValueError, match="depth_max is 0"):
        Depth(max=0)
    with pytest.raises(ValueError, match="depth_scale is -1"):
        Depth(scale=-1)
