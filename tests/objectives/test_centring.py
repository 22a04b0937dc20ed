"""Sinkhorn-Knopp against a loop in numpy, and at its limits. Over two processes: test_distributed_objectives.py."""

import numpy as np
import pytest
import torch

from sp_hf.objectives.centring import sinkhorn


def reference(logits, temperature, iterations):
    """As written in the papers: Q [K, M] of sum 1, rows to 1 / K, columns to 1 / M."""
    q = np.exp(logits / temperature).T
    prototypes, items = q.shape
    q /= q.sum()
    for _ in range(iterations):
        for k in range(prototypes):
            q[k] /= q[k].sum() * prototypes
        for m in range(items):
            q[:, m] /= q[:, m].sum() * items
    return (q * items).T


@pytest.mark.parametrize("items, prototypes", [(6, 4), (3, 11), (1, 5)])
@pytest.mark.parametrize("iterations", [1, 3])
def test_equals_a_loop_over_rows_and_columns(items, prototypes, iterations):
    logits = torch.randn(items, prototypes, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = reference(logits.numpy(), 0.3, iterations)
    np.testing.assert_allclose(sinkhorn(logits, 0.3, iterations).numpy(), expected, rtol=1e-10)


def test_every_item_sums_to_one_and_in_the_limit_every_prototype_is_used_alike():
    logits = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))
    q = sinkhorn(logits, 0.5, iterations=200)
    torch.testing.assert_close(q.sum(dim=1), torch.ones(12))
    torch.testing.assert_close(q.sum(dim=0), torch.full((4,), 3.0))


def test_a_prototype_that_all_outputs_prefer_is_not_the_target_of_all():
    logits = 0.1 * torch.randn(12, 4, generator=torch.Generator().manual_seed(0)) + torch.tensor([5.0, 0, 0, 0])
    assert (logits.softmax(dim=1).argmax(dim=1) == 0).all()
    assert sinkhorn(logits, 0.05).argmax(dim=1).unique().numel() == 4


def test_outputs_far_apart_do_not_underflow():
    """In float32, exp(-200) is 0: a prototype that no item is near would be divided by a sum of zero."""
    logits = torch.tensor([[0.0, 10.0, -10.0], [0.0, 9.0, -9.0]])
    q = sinkhorn(logits, 0.05)
    assert q.isfinite().all()
    np.testing.assert_allclose(q.numpy(), reference(logits.double().numpy(), 0.05, 3), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_works_in_float32_whatever_comes_in_and_without_gradient(dtype):
    logits = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)).to(dtype).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        q = sinkhorn(logits, torch.tensor(0.05))
    assert q.dtype == torch.float32 and not q.requires_grad
    torch.testing.assert_close(q, sinkhorn(logits.detach().float(), 0.05))
