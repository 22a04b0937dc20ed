"""Which training images choose hyperparameters, and what makes features comparable."""

import numpy as np
import pytest
import torch

from sp_hf.evaluation.probes.hold_out import first_share, hold_out, hold_out_of_each_class
from sp_hf.evaluation.probes.standardise import Standardisation, spread


@pytest.mark.parametrize(("n", "count"), [(10, 2), (13, 3), (1000, 200)])
def test_a_fifth_is_held_out_the_same_for_a_seed_and_the_global_generator_is_left_alone(n, count):
    before = torch.random.get_rng_state()
    held_out = hold_out(n, 0, "the probe")
    assert torch.equal(torch.random.get_rng_state(), before)
    assert held_out.shape == (n,) and int(held_out.sum()) == count
    assert torch.equal(hold_out(n, 0, "the probe"), held_out)
    assert any(not torch.equal(hold_out(n, seed, "the probe"), held_out) for seed in range(1, 5))


def test_too_few_images_are_refused():
    with pytest.raises(ValueError, match="9 training images are too few for the puzzle's probe; it needs 10 or more"):
        hold_out(9, 0, "the puzzle's probe")


def test_the_first_fifth_of_an_order_one_at_least():
    assert first_share(torch.tensor([3, 1, 0, 2])).tolist() == [False, False, False, True]
    assert first_share(torch.arange(10).flip(0)).nonzero().flatten().tolist() == [8, 9]


def test_a_fifth_of_each_class_but_never_its_only_image():
    classes = torch.tensor([0] * 20 + [1] * 5 + [2])
    held_out = hold_out_of_each_class(classes, 0)
    assert [int(held_out[classes == label].sum()) for label in range(3)] == [4, 1, 0]
    assert int(hold_out_of_each_class(torch.tensor([0, 1, 2]), 0).sum()) == 1  # somebody must choose


def test_standardised_features_are_numpys_and_constant_ones_are_0():
    features = torch.randn(40, 3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 7 + 3
    features[..., 2] = 1e3
    features[::2, :, 2] += 1e-5  # rounding, for a float32
    standardise = Standardisation.of(features)
    flat = features.flatten(0, 1).numpy()
    varying = [0, 1, 3, 4]
    expected = (flat - flat.mean(0)) / flat.std(0, ddof=1)
    np.testing.assert_allclose(standardise(features).flatten(0, 1)[:, varying], expected[:, varying], rtol=1e-9)
    assert (standardise(features)[..., 2] == 0).all() and spread(features)[2] == torch.inf


def test_the_spread_of_what_is_left_is_judged_by_what_was_there():
    features = torch.full((10, 1), 1e4, dtype=torch.float64)
    features[::2] += 1e-3
    assert spread(features - 1e4).isfinite().all()
    assert spread(features, features - 1e4).isinf().all()
