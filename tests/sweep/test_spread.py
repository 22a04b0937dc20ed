"""Intervals over seeds and images, against scipy's own paired test and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from sp_hf.sweeps.spread import Difference, Spread, combined_difference


def test_without_spread_over_images_it_is_students_paired_interval():
    rng = np.random.default_rng(0)
    with_sp, without = rng.normal(1, 1, 5), rng.normal(0, 1, 5)
    found = combined_difference(list(with_sp - without), [0.0] * 5)
    expected = stats.ttest_rel(with_sp, without).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.value == pytest.approx((with_sp - without).mean())


def test_seeds_that_agree_leave_the_interval_over_images():
    found = combined_difference([0.2, 0.2, 0.2], [0.03, 0.05, 0.04])
    assert (found.low, found.high) == pytest.approx((0.16, 0.24))


def test_both_spreads_add_in_squares():
    seeds = combined_difference([0.1, 0.3, 0.2], [0.0] * 3)
    both = combined_difference([0.1, 0.3, 0.2], [0.5] * 3)
    assert (both.high - both.value) ** 2 == pytest.approx((seeds.high - seeds.value) ** 2 + 0.25)


def test_a_single_seed_has_no_interval():
    found = combined_difference([0.2], [0.01])
    assert found.value == 0.2 and math.isnan(found.low) and math.isnan(found.high) and found.sign == 0
    assert math.isnan(Spread((0.2,)).deviation)


def test_covers_the_truth_as_often_as_it_says():
    """1000 experiments of 3 seeds whose images agree: 95 % of the intervals hold the true difference."""
    rng = np.random.default_rng(1)
    held = [combined_difference(list(d), [0.0] * 3) for d in rng.normal(0.1, 0.02, (1000, 3))]
    assert 0.93 < np.mean([d.low < 0.1 < d.high for d in held]) < 0.97


def test_sign():
    assert [Difference(0, *ends).sign for ends in ((0.1, 0.2), (-0.2, -0.1), (-0.1, 0.1))] == [1, -1, 0]


def test_one_half_width_a_difference():
    with pytest.raises(ValueError, match="2 differences and 1 half-widths"):
        combined_difference([0.1, 0.2], [0.1])
