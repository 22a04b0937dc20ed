"""Keyed random numbers: known answers by an independent implementation, distributions, and independence."""

import zlib

import numpy as np
import pytest
import torch

from sp_hf.views.keyed_random import normal, permutation, sample_keys, uniform, uniform_streams

MASK = (1 << 64) - 1
GAMMA = 0x9E3779B97F4A7C15


def mix(z: int) -> int:
    """SplitMix64's finaliser on Python's unbounded integers."""
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def test_mixing_is_splitmix64():
    """First outputs of SplitMix64 seeded with 1234567, as published with its reference implementation."""
    assert [mix((1234567 + GAMMA * n) & MASK) for n in (1, 2)] == [6457827717110365317, 3203168211198807973]


def test_uniform_against_plain_python():
    keys = torch.tensor([0, 1, -5, 2**63 - 1, -(2**63)])
    found = uniform(keys, "dino/local/box", (2, 3))
    for row, key in zip(found, keys.tolist(), strict=True):
        origin = mix((key + mix(zlib.crc32(b"dino/local/box") + 1)) & MASK)
        expected = [(mix((origin + GAMMA * n) & MASK) >> 40) / 2**24 for n in range(1, 7)]
        assert row.flatten().tolist() == expected


def test_uniform_is_uniform():
    numbers = uniform(torch.arange(1000), "stream", (100,))  # small consecutive keys are the hardest
    assert numbers.dtype == torch.float32 and 0 <= numbers.min() and numbers.max() < 1
    counts = torch.histc(numbers, 50, 0, 1)
    chi_squared = float(((counts - 2000) ** 2 / 2000).sum())
    assert chi_squared < 49 + 4 * (2 * 49) ** 0.5  # mean plus four standard deviations


@pytest.mark.parametrize("shift", [(1, 0), (0, 1), (1, 1), (16, 0)])
def test_neighbouring_numbers_are_uncorrelated(shift):
    numbers = uniform(torch.arange(500), "stream", (200,)).numpy()
    rows, columns = shift
    first, second = numbers[: 500 - rows, : 200 - columns], numbers[rows:, columns:]
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 4 / first.size**0.5


def test_streams_and_keys_are_independent():
    keys = torch.arange(20_000)
    a, b = uniform(keys, "a", (1,)), uniform(keys, "b", (1,))
    assert abs(torch.corrcoef(torch.stack([a[:, 0], b[:, 0]]))[0, 1]) < 4 / 20_000**0.5
    assert not torch.equal(a[0], a[1])


def test_numbers_depend_on_key_and_stream_only():
    keys = sample_keys(0, 0, 10)
    order = torch.tensor([3, 9, 0])
    assert torch.equal(uniform(keys[order], "s", (4, 2)), uniform(keys, "s", (4, 2))[order])
    assert torch.equal(uniform(keys, "s", (6, 2))[:, :4], uniform(keys, "s", (4, 2)))  # longer shapes keep the earlier
    before = torch.get_rng_state()
    uniform(keys, "s", (1,))
    assert torch.equal(torch.get_rng_state(), before)


def test_streams_drawn_together_are_those_drawn_apart():
    keys, shapes = sample_keys(0, 0, 7), {"a/box": (3, 4), "a/flip": (1,), "none": (0,), "b": (2, 2)}
    together = uniform_streams(keys, shapes)
    assert list(together) == list(shapes)
    for stream, shape in shapes.items():
        assert together[stream].shape == (7, *shape)
        assert torch.equal(together[stream], uniform(keys, stream, shape))


def test_normal():
    numbers = normal(torch.arange(2000), "stream", (50,)).double().numpy().ravel()
    assert np.isfinite(numbers).all()
    assert abs(numbers.mean()) < 4 / numbers.size**0.5
    assert abs(numbers.std() - 1) < 4 / (2 * numbers.size) ** 0.5
    assert abs((np.abs(numbers) < 1).mean() - 0.6827) < 0.006  # 68 % within one standard deviation
    assert abs((numbers**4).mean() - 3) < 0.15


def test_permutation_is_a_uniform_permutation():
    found = permutation(torch.arange(6000), "order", 3)
    assert torch.equal(found.sort(-1).values, torch.arange(3).expand(6000, 3))
    counts = torch.bincount(found[:, 0] * 9 + found[:, 1] * 3 + found[:, 2], minlength=27)
    counts = counts[counts > 0]
    assert len(counts) == 6 and counts.min() > 1000 - 4 * 30 and counts.max() < 1000 + 4 * 30


def test_sample_keys_are_distinct_and_continue():
    keys = sample_keys(seed=3, start=0, count=50_000)
    assert keys.dtype == torch.int64 and len(keys.unique()) == 50_000
    assert torch.equal(sample_keys(3, 49_000, 1000), keys[49_000:])
    assert not torch.isin(sample_keys(4, 0, 1000), keys).any()
    assert sample_keys(2**63 + 11, 0, 4).unique().numel() == 4  # any Python integer is a seed
    assert sample_keys(0, 5, 0).shape == (0,)


def test_wrong_keys_are_named():
    with pytest.raises(ValueError, match=r"torch.int32.*int64 of shape \[B\]"):
        uniform(torch.zeros(3, dtype=torch.int32), "s", (1,))
    with pytest.raises(ValueError, match=r"\(3, 1\)"):
        uniform(torch.zeros(3, 1, dtype=torch.int64), "s", (1,))
    with pytest.raises(ValueError, match="start=-1"):
        sample_keys(0, -1, 3)


@pytest.mark.gpu
def test_the_same_bits_on_cuda():
    keys = sample_keys(0, 0, 100)
    assert torch.equal(sample_keys(0, 0, 100, device="cuda").cpu(), keys)
    assert torch.equal(uniform(keys.cuda(), "s", (7, 3)).cpu(), uniform(keys, "s", (7, 3)))
    assert torch.equal(permutation(keys.cuda(), "s", 49).cpu(), permutation(keys, "s", 49))
    torch.testing.assert_close(normal(keys.cuda(), "s", (9,)).cpu(), normal(keys, "s", (9,)), rtol=0, atol=1e-5)
