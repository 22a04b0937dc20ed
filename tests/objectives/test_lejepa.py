import numpy as np
import pytest
import torch

from sp_hf.objectives import build_objective
from sp_hf.objectives.what.lejepa import invariance_loss, sigreg

from .harness import Step, TinyEncoder, make_batch

VIEWS = {"count": 2, "size": 32, "area": [0.2, 1.0]}
TINY = {
    "name": "lejepa",
    "global_views": VIEWS,
    "local_views": {**VIEWS, "size": 16},
    "head_width": 32,
    "embedding_size": 8,
    "directions": 16,
}
DRAWS = True


def build(**options):
    encoder = TinyEncoder()
    return Step(build_objective({**TINY, **options}, encoder), encoder)


def epps_pulley(x):
    """The integral over both halves, with complex exponentials."""
    knots = np.linspace(-3, 3, 33)
    empirical = np.exp(1j * knots[:, None] * x).mean(axis=1)
    integrand = np.abs(empirical - np.exp(-(knots**2) / 2)) ** 2 * np.exp(-(knots**2) / 2)
    return len(x) * np.trapezoid(integrand, knots)


def test_sigreg_is_the_mean_of_epps_pulley_over_views_and_directions():
    rng = np.random.default_rng(0)
    embeddings, directions = rng.normal(1, 2, size=(9, 3, 4)), rng.normal(size=(4, 5))
    expected = np.mean([epps_pulley(embeddings[:, v] @ directions[:, r]) for v in range(3) for r in range(5)])
    assert sigreg(torch.tensor(embeddings), torch.tensor(directions)).item() == pytest.approx(expected, rel=1e-10)


def test_sigreg_is_least_for_a_normal_distribution():
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(4000, 1, 3, generator=generator)
    directions = torch.eye(3)
    normal = sigreg(z, directions)
    assert normal < 1.5
    for other in (2 * z, z + 0.5, z.sign(), 0 * z):
        assert sigreg(other, directions) > 50 * normal


def test_invariance_counts_all_views_against_the_mean_of_the_global_ones():
    z = np.random.default_rng(0).normal(size=(2, 4, 3))
    expected = np.mean([(z[b, v] - (z[b, 0] + z[b, 1]) / 2) ** 2 for b in range(2) for v in range(4)])
    assert invariance_loss(torch.tensor(z), 2).item() == pytest.approx(expected)


def test_forward_sums_both_over_all_views():
    batch = make_batch(build().objective)
    torch.manual_seed(0)
    half = build(regularisation=0.3)(batch)
    torch.manual_seed(0)
    step = build(regularisation=1.0)
    loss = step(batch).loss
    torch.testing.assert_close(half.logs["sigreg"], loss.detach())
    torch.testing.assert_close(half.loss.detach(), 0.7 * half.logs["invariance"] + 0.3 * loss.detach())
    batch.views["local"].pixels[:, 1] = 0.5  # of a local view, either term says something
    torch.manual_seed(0)
    changed = build(regularisation=0.3)(batch)
    assert changed.logs["sigreg"] != half.logs["sigreg"] and changed.logs["invariance"] != half.logs["invariance"]


def test_local_views_can_be_left_out_and_bad_options_are_named():
    step = build(local_views=None)
    assert step(make_batch(step.objective)).loss.isfinite()
    with pytest.raises(ValueError, match="regularisation is 2; it must be from 0 to 1"):
        build(regularisation=2)
    with pytest.raises(ValueError, match="global_views.count is 1; it must be at least 2"):
        build(global_views={**VIEWS, "count": 1})
