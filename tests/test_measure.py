"""Metrics as sums over images: by hand, and their intervals against what intervals promise."""

import pytest
import torch

from sp_hf.evaluation.measure import Measure, paired_difference


def test_forms_by_hand():
    numerators = torch.tensor([[1.0, 0.0], [1.0, 3.0]])
    denominators = torch.tensor([[2.0, 0.0], [2.0, 4.0]])
    mean = (2 / 4 + 3 / 4) / 2
    assert Measure(numerators, denominators).value == pytest.approx(mean)
    assert Measure(numerators, denominators, form="complement").value == pytest.approx(1 - mean)
    assert Measure(numerators, denominators, form="root").value == pytest.approx(mean**0.5)
    assert Measure(numerators, denominators).groups() == pytest.approx([0.5, 0.75])
    assert Measure.of(torch.tensor([1.0, 0.0, 1.0, 1.0])).value == 0.75


def test_a_group_without_a_denominator_is_left_out():
    measure = Measure(torch.tensor([[1.0, 0.0], [0.0, 0.0]]), torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
    assert measure.value == 0.5 and measure.groups() == [0.5, None]
    assert measure.estimate().low == measure.estimate().low  # not NaN


def test_interval_holds_the_truth_as_often_as_it_says():
    """Coverage of the bootstrap on images that are recognised with probability 0.7."""
    correct = torch.rand(200, 100, generator=torch.Generator().manual_seed(0)) < 0.7  # 200 data sets of 100 images
    estimates = [Measure.of(row).estimate(seed=1, resamples=400) for row in correct]
    covered = sum(estimate.low <= 0.7 <= estimate.high for estimate in estimates)
    assert 0.89 < covered / 200 < 0.99


def test_paired_differences_are_sharper_than_the_intervals_of_two_models():
    """Two models that fail on the same hard images: their difference is known better than either metric."""
    generator = torch.Generator().manual_seed(0)
    hard = torch.rand(500, generator=generator) < 0.5
    better = torch.rand(500, generator=generator) < 0.04
    a, b = Measure.of(~hard | better), Measure.of(~hard)
    difference = paired_difference(a, b)
    assert difference.value == pytest.approx(a.value - b.value) and difference.low > 0
    alone = a.estimate()
    assert difference.high - difference.low < (alone.high - alone.low) / 2
    reverse = paired_difference(b, a)
    assert (reverse.low, reverse.high) == pytest.approx((-difference.high, -difference.low))


def test_a_model_does_not_differ_from_itself():
    a = Measure.of(torch.rand(50, generator=torch.Generator().manual_seed(0)))
    assert paired_difference(a, a) == type(a.estimate())(0.0, 0.0, 0.0)


def test_the_global_generator_is_left_alone():
    before = torch.get_rng_state()
    Measure.of(torch.rand(20, generator=torch.Generator().manual_seed(0))).estimate()
    assert torch.equal(torch.get_rng_state(), before)


def test_what_cannot_be_a_metric_is_refused():
    with pytest.raises(ValueError, match="0 images"):
        Measure.of(torch.zeros(0))
    with pytest.raises(ValueError, match="nothing to divide by"):
        Measure(torch.ones(3), torch.zeros(3))
    with pytest.raises(ValueError, match=r"shapes differ: \(3, 1\), \(2, 1\)"):
        Measure(torch.ones(3), torch.ones(2))
    with pytest.raises(ValueError, match="3 and on 2 images"):
        paired_difference(Measure.of(torch.ones(3)), Measure.of(torch.ones(2)))
