"""Random numbers that are a pure function of (key, stream, counter).

Letters: B keys.

Every image of a run has one int64 key, and every consumer of randomness has a stream name. A number depends on nothing
else: not on the batch the image is in, on the device, on other consumers, on how often anything was drawn before, so a
resumed run draws what the uninterrupted one would have drawn. This is a counter-based generator (Salmon et al. 2011,
"Parallel random numbers: as easy as 1, 2, 3"); the mixing function is the finaliser of SplitMix64 (Steele, Lea, Flood
2014, "Fast splittable pseudorandom number generators", fig. 16), in int64 arithmetic that wraps on overflow.

:func:`uniform`, :func:`permutation` and :func:`sample_keys` are bit-identical on every device. :func:`normal` passes
through log and cos, whose last bit may differ between devices.
"""

from __future__ import annotations

import functools
import math
import zlib
from collections.abc import Mapping

import torch
from torch import Tensor

from ..errors import InputError

_INT64 = 1 << 64


def _signed(value: int) -> int:
    """An integer modulo 2^64, as the int64 of the same bits."""
    value %= _INT64
    return value - _INT64 if value >= _INT64 // 2 else value


_GOLDEN_GAMMA = _signed(0x9E3779B97F4A7C15)
_MIX_1 = _signed(0xBF58476D1CE4E5B9)
_MIX_2 = _signed(0x94D049BB133111EB)


def uniform(keys: Tensor, stream: str, shape: tuple[int, ...]) -> Tensor:
    """Uniform numbers in [0, 1), multiples of 2^-24.

    Args:
        keys: int64 [B].
        stream: name of the consumer; different names give independent numbers.
        shape: of the numbers of one key. Numbers are drawn in row-major order, so a longer first dimension
            leaves the earlier ones as they were.

    Returns:
        float32 [B, *shape].
    """
    return uniform_streams(keys, {stream: shape})[stream]


def uniform_streams(keys: Tensor, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """What :func:`uniform` gives for each stream, drawn together: on a GPU, launches are what random numbers cost."""
    numbers = _shift_right(_bits(keys, tuple(shapes.items())), 40).to(torch.float32) * 2.0**-24
    parts = numbers.split([math.prod(shape) for shape in shapes.values()], dim=1)
    return {stream: part.unflatten(1, shape) for (stream, shape), part in zip(shapes.items(), parts, strict=True)}


def normal(keys: Tensor, stream: str, shape: tuple[int, ...]) -> Tensor:
    """Standard normal numbers (Box-Muller). Arguments and result as :func:`uniform`."""
    first, second = uniform(keys, stream, (*shape, 2)).unbind(-1)
    radius = (-2 * torch.log1p(-first)).sqrt()  # 1 - first lies in (0, 1]: no log of zero
    return radius * torch.cos(2 * math.pi * second)


def permutation(keys: Tensor, stream: str, n: int) -> Tensor:
    """A uniformly random order of 0 .. n-1 for each key: int64 [B] to int64 [B, n]."""
    return _bits(keys, ((stream, (n,)),)).sort(dim=-1, stable=True).indices


def sample_keys(seed: int, start: int, count: int, device: torch.device | str | None = None) -> Tensor:
    """The keys of samples number ``start`` to ``start + count - 1`` of a run.

    Distinct for distinct sample numbers of one seed: the mixing function is a bijection.

    Args:
        seed: of the run.
        start: running number of the first sample; give every rank its own range.

    Returns:
        int64 [count].
    """
    if start < 0 or count < 0:
        raise InputError(f"start={start}, count={count}; both must be at least 0")
    origin = _signed(_mix_integer(seed + _GOLDEN_GAMMA))
    return _mix(origin + torch.arange(start + 1, start + count + 1, device=device) * _GOLDEN_GAMMA)


def _bits(keys: Tensor, shapes: tuple[tuple[str, tuple[int, ...]], ...]) -> Tensor:
    """64 random bits for each number of each stream, one stream after the other: int64 [B, total]."""
    if keys.dtype != torch.int64 or keys.ndim != 1:
        raise InputError(f"keys are {keys.dtype} of shape {tuple(keys.shape)}; they must be int64 of shape [B]")
    offsets, owners, counters = _layout(shapes, keys.device)
    origins = _mix(keys[:, None] + offsets)  # [B, streams]
    return _mix(origins[:, owners] + counters)


@functools.lru_cache(maxsize=256)
def _layout(shapes: tuple[tuple[str, tuple[int, ...]], ...], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Offset of each stream [streams]; stream and counter of each number [total]. Kept on the device.

    Of Python's own integers alone: a graph that is compiled takes no value from a tensor here.
    """
    counts = [math.prod(shape) for _, shape in shapes]
    offsets = torch.tensor([_offset(stream) for stream, _ in shapes], device=device)
    owners = torch.cat([torch.full((count,), number, device=device) for number, count in enumerate(counts)])
    counters = torch.cat([torch.arange(1, count + 1, device=device) for count in counts]) * _GOLDEN_GAMMA
    return offsets, owners, counters


@torch.compiler.assume_constant_result
def _offset(stream: str) -> int:
    """What a stream's name adds to every key."""
    return _signed(_mix_integer(zlib.crc32(stream.encode()) + 1))


def _mix_integer(bits: int) -> int:
    """SplitMix64's finaliser on a Python integer modulo 2^64: what the host knows is not asked of the device."""
    bits %= _INT64
    bits = ((bits ^ (bits >> 30)) * _MIX_1) % _INT64
    bits = ((bits ^ (bits >> 27)) * _MIX_2) % _INT64
    return bits ^ (bits >> 31)


def _mix(bits: Tensor) -> Tensor:
    """SplitMix64's finaliser, a bijection of int64."""
    bits = (bits ^ _shift_right(bits, 30)) * _MIX_1
    bits = (bits ^ _shift_right(bits, 27)) * _MIX_2
    return bits ^ _shift_right(bits, 31)


def _shift_right(bits: Tensor, n: int) -> Tensor:
    """Logical shift: ``>>`` of int64 drags the sign along."""
    return (bits >> n) & ((1 << (64 - n)) - 1)
