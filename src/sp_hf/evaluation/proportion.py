"""Intervals of proportions, also of rare events: how many images are right, and how two models differ on them.

Wilson's score interval (Wilson 1927, "Probable inference, the law of succession, and statistical inference") of k right
of n, z being the normal quantile::

    (k + z^2 / 2 +- z sqrt(k (n - k) / n + z^2 / 4)) / (n + z^2)

For the difference of two models on the same images, b of which only the one has right and c only the other, Wald's
interval with half an image added to each of the four cells (Agresti and Min 2005, "Simple improved confidence intervals
for comparing matched proportions")::

    (b - c) / m +- z sqrt(b + c + 1 - (b - c)^2 / m) / m          m = n + 2

An error that does not come from the images asked, but from those that a probe was fitted to, makes both wider: the
first as if fewer images had been asked, the second by adding variances.

Letters: n images, z quantile.
"""

from __future__ import annotations

import math

from scipy.stats import norm

Z = float(norm.ppf(0.975))


def wilson_interval(right: int, n: int, error: float = 0.0) -> tuple[float, float]:
    """95 % interval of a proportion.

    Args:
        right: k, of n.
        n: images, one at least.
        error: standard error from elsewhere, as a fraction.
    """
    centre = (right + Z**2 / 2) / (n + Z**2)
    variance = centre * (1 - centre) / n
    asked = n * variance / (variance + error**2)  # as many images have this variance and that one together
    share = right / n
    spread = Z * math.sqrt(share * (1 - share) * asked + Z**2 / 4)
    low, high = ((share * asked + Z**2 / 2 + sign * spread) / (asked + Z**2) for sign in (-1, 1))
    return (0.0 if right == 0 else low), (1.0 if right == n else high)


def paired_proportions(only_ours: int, only_theirs: int, n: int, error: float = 0.0) -> tuple[float, float]:
    """95 % interval of the difference of two proportions of the same images.

    Args:
        only_ours, only_theirs: b and c, images that one of the two has right.
        n: images, one at least.
        error: as for :func:`wilson_interval`.
    """
    m = n + 2
    difference = only_ours - only_theirs
    variance = (only_ours + only_theirs + 1 - difference**2 / m) / m**2 + error**2
    centre, spread = difference / m, Z * math.sqrt(variance)
    return max(-1.0, centre - spread), min(1.0, centre + spread)
