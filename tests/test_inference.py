"""Intervals: of rare events against scipy and exact coverage, of refitted probes against what training sets do."""

import numpy as np
import pytest
import torch
from scipy.stats import binom, binomtest

from sp_hf.evaluation.accuracy import accuracy_measures
from sp_hf.evaluation.features import Features
from sp_hf.evaluation.measure import Measure, paired_difference, with_refits
from sp_hf.evaluation.probes.linear import fit_linear
from sp_hf.evaluation.probes.refits import random_halves
from sp_hf.evaluation.probes.ridge import ridge_path, solve_ridge
from sp_hf.evaluation.probes.softmax_regression import shuffled_batches, train_softmax
from sp_hf.evaluation.proportion import Z, paired_proportions, wilson_interval
from sp_hf.evaluation.where.relative_geometry.task import ridge_relations

# Proportions ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("right", "n"), [(0, 5), (1, 500), (37, 100), (99, 100), (12, 12)])
def test_wilsons_interval_is_that_of_scipy(right, n):
    expected = binomtest(right, n).proportion_ci(method="wilson")
    assert wilson_interval(right, n) == pytest.approx((expected.low, expected.high), abs=1e-12)
    correct = torch.arange(n) < right
    estimate = Measure.of(correct).estimate()
    assert (estimate.low, estimate.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize(
    ("p", "n", "least"), [(0.002, 500, 0.91), (0.01, 300, 0.93), (0.5, 50, 0.93), (0.97, 80, 0.91)]
)
def test_rare_events_are_covered(p, n, least):
    """Exactly, over all counts; the bootstrap's percentiles miss p wherever nothing, or all, is right."""
    counts = np.arange(n + 1)
    covered = np.array([low <= p <= high for low, high in (wilson_interval(int(k), n) for k in counts)])
    assert least < (binom.pmf(counts, n, p) * covered).sum() <= 1


def test_an_error_from_elsewhere_adds_its_variance():
    low, high = wilson_interval(500, 1000, error=0.03)
    assert (high - low) / (2 * Z) == pytest.approx((0.25 / 1000 + 0.03**2) ** 0.5, rel=0.02)
    assert wilson_interval(0, 100, error=0.02)[1] > wilson_interval(0, 100)[1]
    plain, wider = paired_proportions(30, 20, 1000), paired_proportions(30, 20, 1000, error=0.03)
    spread = [(high - low) / (2 * Z) for low, high in (plain, wider)]
    assert spread[1] == pytest.approx((spread[0] ** 2 + 0.03**2) ** 0.5)


def test_paired_proportions_by_hand_and_their_coverage():
    assert paired_proportions(5, 1, 98) == pytest.approx(
        [0.04 + sign * Z * (7 - 0.16) ** 0.5 / 100 for sign in (-1, 1)]
    )
    low, high = paired_proportions(0, 0, 98)  # no image tells them apart: that they are equal is likely, not certain
    assert low == -high and high == pytest.approx(Z / 100)
    for only_a, only_b, n in ((0.01, 0.01, 100), (0.02, 0.005, 200), (0.2, 0.1, 60)):
        drawn = np.random.default_rng(0).multinomial(n, [only_a, only_b, 1 - only_a - only_b], size=2000)
        intervals = [paired_proportions(int(b), int(c), n) for b, c, _ in drawn]
        covered = np.mean([low <= only_a - only_b <= high for low, high in intervals])
        assert 0.93 < covered <= 1


def test_which_measures_are_proportions():
    right = torch.tensor([1.0, 0.0, 1.0])
    assert Measure.of(right).interval == Measure(right, torch.tensor([1.0, 1.0, 1.0])).interval == "wilson"
    assert Measure(right, torch.tensor([1.0, 0.0, 1.0])).interval == "wilson"  # one was not asked
    for other in (right / 2, -right):
        assert Measure.of(other).interval == "bootstrap"
    assert Measure.of(right, form="root").interval == "bootstrap"


def test_metrics_over_tiny_groups_warn():
    labels = torch.arange(20)  # one image a class
    found = accuracy_measures(labels, labels)
    assert "20 of its 20 groups have fewer than 5 images" in found["mean_per_class_accuracy"].warning
    assert found["accuracy"].warning is None
    labels = torch.arange(20) % 4
    assert accuracy_measures(labels, labels)["mean_per_class_accuracy"].warning is None


# Refits ---------------------------------------------------------------------------------------------------------------


def test_halves_are_halves_of_each_class_and_the_same_for_all_models():
    classes = torch.tensor([7] * 10 + [3] * 5 + [0])
    halves = random_halves(16, 50, seed=1, classes=classes)
    counts = [[int((classes[half] == label).sum()) for label in (7, 3, 0)] for half in halves]
    assert {tuple(count) for count in counts} == {(5, 2, 1), (5, 3, 1)}
    assert all(len(half.unique()) == len(half) for half in halves)
    assert all(map(torch.equal, halves, random_halves(16, 50, seed=1, classes=classes)))
    assert len({tuple(half.tolist()) for half in halves}) > 40
    share = torch.cat(halves).bincount(minlength=16)[:15] / 50
    assert share.min() > 0.3 and share.max() < 0.7
    assert not random_halves(16, 0, seed=1) and {len(half) for half in random_halves(9, 30, seed=1)} == {4, 5}


def test_the_spread_over_halves_is_the_standard_error_over_training_sets():
    """Of the mean, where it is known: s / sqrt(n)."""
    values = torch.randn(400, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    means = torch.tensor([values[half].mean() for half in random_halves(400, 1000, seed=0)])
    assert means.std() == pytest.approx(float(values.std()) / 20, rel=0.1)


def test_refits_widen_intervals_by_their_spread():
    residual = torch.rand(300, generator=torch.Generator().manual_seed(0))
    plain = Measure(residual, torch.ones(300), form="complement")
    refits = tuple(
        plain.value - 0.1 + 0.05 * np.random.default_rng(0).standard_normal(20)
    )  # halves do worse: no matter
    wider = with_refits({"r2": plain}, [{"r2": Measure.of(torch.full((3,), refit))} for refit in refits])["r2"]
    assert wider.refits == pytest.approx(refits)
    spread = [(e.high - e.low) / (2 * Z) for e in (plain.estimate(), wider.estimate())]
    expected = (spread[0] ** 2 + np.std(refits, ddof=1) ** 2) ** 0.5
    assert expected < spread[1] < 1.15 * expected  # Student's t of 19
    estimate = wider.estimate()
    assert (estimate.low + estimate.high) / 2 == pytest.approx(plain.value, abs=0.01)


def test_what_refits_have_in_common_does_not_blur_a_difference():
    base = torch.rand(200, generator=torch.Generator().manual_seed(0))
    common = np.random.default_rng(1).standard_normal(20)
    a, b = (Measure.of(base + shift, refits=tuple(common + shift)) for shift in (0.1, 0.0))
    difference = paired_difference(a, b)
    assert (difference.low, difference.high) == pytest.approx((0.1, 0.1))
    assert a.estimate().high - a.estimate().low > 2
    alone = paired_difference(a, Measure.of(base))  # one that was not refitted: nothing to pair with
    assert (alone.low, alone.high) == pytest.approx((0.1, 0.1))


def test_ridge_by_elimination_is_that_by_eigenvectors():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(30, 12, generator=generator), torch.randn(30, 3, generator=generator)
    penalties = torch.tensor([0.1, 3.0, 0.1], dtype=torch.float64)
    path = ridge_path(x, y, penalties)
    torch.testing.assert_close(solve_ridge(x, y, penalties), path[torch.arange(3), :, torch.arange(3)].T)


def test_a_softmax_candidate_does_not_see_rows_without_a_share():
    generator = torch.Generator().manual_seed(0)
    x, labels = torch.randn(40, 6, generator=generator), torch.randint(3, (40,), generator=generator)
    shares = torch.zeros(40, 2)
    shares[:20, 0], shares[:, 1] = 2, 1
    batches, grid = shuffled_batches(40, 16, 30, 0), [(0.1, 1e-3)] * 2
    weights, biases = train_softmax(x, labels, 3, grid, batches, shares)
    other = torch.cat([labels[:20], (labels[20:] + 1) % 3])
    again, _ = train_softmax(x, other, 3, grid, batches, shares)
    torch.testing.assert_close(weights[0], again[0])
    assert not torch.allclose(weights[1], again[1])
    plain = train_softmax(x, labels, 3, grid[:1], batches)
    torch.testing.assert_close((weights[1], biases[1]), (plain[0][0], plain[1][0]))


def test_a_linear_probe_is_refitted_to_halves():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(120) % 3
    x = torch.nn.functional.one_hot(labels, 3) + 0.8 * torch.randn(120, 3, generator=generator)
    options = {"learning_rates": (0.1,), "weight_decays": (1e-3,)}
    probe, plain = fit_linear(x, labels, refits=4, **options), fit_linear(x, labels, **options)
    assert torch.equal(probe.weight, plain.weight) and not plain.refits and len(probe.refits) == 4
    agree = [(refit.predict(x) == probe.predict(x)).double().mean() for refit in probe.refits]
    assert all(share > 0.85 for share in agree) and min(agree) < 1


def crops(n, seed, encoder):
    """Crops of n images as one of several encoders sees them: the same mixture of their boxes, in noise of its own."""
    boxes = 0.2 + 0.6 * torch.rand(n, 3, 4, generator=torch.Generator().manual_seed(seed))
    mixing = torch.randn(4, 60, generator=torch.Generator().manual_seed(77))
    noise = torch.randn(n, 3, 60, generator=torch.Generator().manual_seed(seed + 100_000 * encoder))
    return Features(boxes @ mixing + 4.0 * noise, torch.zeros(n, 3, 1), boxes)


def test_probes_are_refitted_to_the_same_halves_of_every_model():
    first, again, other = (
        ridge_relations(crops(40, 0, encoder), crops(40, 1, encoder), refits=3)[0]["r2_position"]
        for encoder in (1, 1, 2)
    )
    assert len(set(first.refits)) == 3 and first.refits == again.refits != other.refits
    assert paired_difference(first, again).high == 0


@pytest.mark.slow
def test_two_equal_encoders_differ_significantly_as_rarely_as_intervals_promise():
    """Probes fitted to 300 images, measured on 2000: what is uncertain is the training side. Intervals over validation
    images alone call a fifth of such differences significant."""
    trials, significant = 60, {0: 0, 20: 0}
    for trial in range(trials):
        for refits in significant:
            a, b = (
                ridge_relations(crops(300, 2 * trial, k), crops(2000, 2 * trial + 1, k), refits=refits)[0]
                for k in (1, 2)
            )
            difference = paired_difference(a["r2_position"], b["r2_position"], resamples=400)
            significant[refits] += difference.low > 0 or difference.high < 0
    assert significant[0] > 0.3 * trials and significant[20] < 0.15 * trials  # 27 and 6
