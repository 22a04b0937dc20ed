import numpy as np
import pytest
import torch
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score as sklearn_r2
from torch.distributions import Laplace

from sp_hf.objectives.pair_regression import (
    bounded_log_scales,
    half_coverage,
    laplace_loss,
    r2_score,
    regression_loss,
)


@pytest.mark.parametrize("kind", ["smooth_l1", "l2"])
@pytest.mark.parametrize("beta", [0.5, 1.0])
def test_loss_equals_a_loop(kind, beta):
    predictions = torch.randn(2, 6, 4, dtype=torch.float64) * 2
    targets = torch.randn(2, 6, 4, dtype=torch.float64)
    terms = []
    for error in (predictions - targets).abs().flatten().tolist():
        if kind == "l2":
            terms.append(error**2)
        else:
            terms.append(0.5 * error**2 / beta if error < beta else error - 0.5 * beta)
    assert regression_loss(predictions, targets, kind, beta).item() == pytest.approx(np.mean(terms), rel=1e-12)


def test_laplace_loss_is_that_of_torch():
    locations, targets = torch.randn(2, 5, 4, dtype=torch.float64), 3 * torch.randn(2, 5, 4, dtype=torch.float64)
    log_scales = torch.linspace(-4, 4, 40, dtype=torch.float64).view(2, 5, 4)
    expected = -Laplace(locations, log_scales.exp()).log_prob(targets).mean()
    torch.testing.assert_close(laplace_loss(locations, log_scales, targets), expected)


def test_best_laplace_scale_is_the_mean_distance():
    targets = torch.randn(5000, 1)
    log_scales = torch.zeros((), requires_grad=True)
    best = targets.abs().mean().log()
    laplace_loss(torch.zeros(5000, 1), log_scales + best, targets).backward()
    assert abs(log_scales.grad) < 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_laplace_loss_stays_finite_and_differentiable_at_any_output(dtype):
    raw = torch.tensor([-1e4, -30.0, 0.0, 30.0, 1e4], dtype=dtype, requires_grad=True)
    log_scales = bounded_log_scales(raw)
    assert log_scales.dtype == torch.float32 and log_scales.abs().max() <= 5
    loss = laplace_loss(torch.zeros(5), log_scales, torch.tensor([100.0, -100.0, 0.0, 100.0, 0.0]))
    loss.backward()
    assert loss.isfinite() and raw.grad.isfinite().all()


def test_log_scales_are_as_they_are_near_zero_and_have_gradient_far_out():
    raw = torch.tensor([-0.1, 0.0, 0.1, -9.0, 9.0], requires_grad=True)
    bounded = bounded_log_scales(raw)
    torch.testing.assert_close(bounded[:3], raw[:3], atol=1e-4, rtol=0)
    bounded.sum().backward()
    assert (raw.grad > 0.05).all()  # a clamp at 5 would have none of the last two


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0])
def test_coverage_of_the_central_half(factor):
    generator = torch.Generator().manual_seed(0)
    truth = Laplace(torch.tensor(0.3), torch.tensor(0.7))
    targets = truth.icdf(torch.rand(20000, generator=generator))
    said = half_coverage(torch.tensor(0.3), torch.tensor(0.7 * factor).log(), targets)
    assert said.item() == pytest.approx(1 - 0.5**factor, abs=0.01)  # P(|x| <= f ln 2) = 1 - e^(-f ln 2)


def test_r2_is_scikit_learns():
    predictions, targets = torch.randn(3, 5, 2), torch.randn(3, 5, 2)
    expected = sklearn_r2(targets.flatten(0, 1).numpy(), predictions.flatten(0, 1).numpy())
    assert r2_score(predictions, targets).item() == pytest.approx(expected, rel=1e-5)


def test_r2_beyond_what_is_known_is_of_the_residuals_of_a_linear_fit():
    known = torch.randn(30, 4, 2, 2, dtype=torch.float64)
    known[..., 1] += 0.5 * known[..., 0]  # correlated
    targets = known.sum(dim=-1) + 0.3 + torch.randn(30, 4, 2, dtype=torch.float64)
    predictions = targets + 0.2 * torch.randn(30, 4, 2, dtype=torch.float64)
    expected = []
    for component in range(2):
        x, y = known[:, :, component].reshape(-1, 2).numpy(), targets[..., component].flatten().numpy()
        left = y - LinearRegression().fit(x, y).predict(x)
        error = y - predictions[..., component].flatten().numpy()
        expected.append(1 - np.square(error).sum() / np.square(left).sum())
    assert r2_score(predictions, targets, known).item() == pytest.approx(np.mean(expected), rel=1e-9)


def test_what_is_known_but_constant_explains_nothing():
    predictions, targets = torch.randn(40, 2), torch.randn(40, 2)
    constant = torch.full((40, 2, 2), 0.5)
    torch.testing.assert_close(r2_score(predictions, targets, constant), r2_score(predictions, targets))
