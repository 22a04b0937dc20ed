"""KoLeo against a loop over all pairs."""

import math

import numpy as np
import pytest
import torch

from sp_hf.objectives.koleo import koleo_loss


def reference(x):
    x = x / np.sqrt((x**2).sum(axis=1, keepdims=True))
    total = 0.0
    for i in range(len(x)):
        total -= math.log(min(np.sqrt(((x[i] - x[j]) ** 2).sum()) for j in range(len(x)) if j != i) + 1e-8)
    return total / len(x)


@pytest.mark.parametrize("images, width", [(2, 3), (9, 5), (20, 2)])
def test_equals_a_loop_over_all_pairs(images, width):
    x = torch.randn(images, width, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert koleo_loss(x).item() == pytest.approx(reference(x.numpy()), rel=1e-10)


def test_gradient_equals_that_of_the_loop_by_finite_differences():
    x = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    koleo_loss(x).backward()
    for index in np.ndindex(5, 3):
        ends = []
        for step in (1e-6, -1e-6):
            moved = x.detach().numpy().copy()
            moved[index] += step
            ends.append(reference(moved))
        assert x.grad[index].item() == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-4, abs=1e-7)


def test_length_does_not_matter_and_spreading_out_lowers_it():
    angles = torch.tensor([0.0, 0.1, 0.2, 0.3])
    near, far = (torch.stack([a.cos(), a.sin()], dim=1) for a in (angles, 10 * angles))
    assert koleo_loss(far) < koleo_loss(near)
    torch.testing.assert_close(koleo_loss(7 * near), koleo_loss(near))


def test_two_images_alike_give_a_finite_loss_and_gradient():
    x = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], requires_grad=True)
    loss = koleo_loss(x)
    loss.backward()
    assert loss.isfinite() and x.grad.isfinite().all()


def test_works_in_float32_under_autocast():
    x = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = koleo_loss(x)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, koleo_loss(x.float()))


def test_one_image_has_no_neighbour():
    with pytest.raises(ValueError, match="KoLeo of 1 image"):
        koleo_loss(torch.ones(1, 4))
