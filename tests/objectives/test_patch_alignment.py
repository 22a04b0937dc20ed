import numpy as np
import pytest
import torch

from sp_hf.objectives import build_objective
from sp_hf.objectives.what.patch_alignment import linear_cka
from sp_hf.views.token_maps import tokens_at

from .harness import Step, TinyEncoder, make_batch

VIEWS = {"count": 2, "size": 48, "area": [0.5, 1.0]}
LOCAL = {"count": 4, "size": 32, "area": [0.1, 0.6], "photometric": "none"}
TINY = {"name": "patch_alignment", "global_views": VIEWS, "local_views": LOCAL}


def build(**options):
    torch.manual_seed(0)
    encoder = TinyEncoder()
    return Step(build_objective({**TINY, **options}, encoder), encoder)


def test_cka_by_covariances():
    x, y = np.random.default_rng(0).normal(size=(7, 3)), np.random.default_rng(1).normal(size=(7, 5))
    a, b = x - x.mean(axis=0), y - y.mean(axis=0)
    expected = np.linalg.norm(a.T @ b) ** 2 / np.linalg.norm(a.T @ a) / np.linalg.norm(b.T @ b)
    assert linear_cka(torch.tensor(x), torch.tensor(y)).item() == pytest.approx(expected)


def test_cka_is_blind_to_rotation_scale_and_shift_and_to_nothing_else():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(16, 4, generator=generator)
    rotation = torch.linalg.qr(torch.randn(4, 4, generator=generator)).Q
    torch.testing.assert_close(linear_cka(x, 3 * x @ rotation + 1), torch.tensor(1.0))
    assert linear_cka(x, x.flip(0)) < 0.9


def test_forward_compares_with_the_global_view_that_the_local_one_lies_in():
    step = build()
    batch = make_batch(step.objective)
    whole, local = batch.views["global"], batch.views["local"]
    losses = []
    for b in range(4):
        for v in range(4):
            g = v // 2
            corners = local.boxes[b, v, :2] - whole.boxes[b, g, :2]
            assert (corners.abs() + local.boxes[b, v, 2:] / 2 <= whole.boxes[b, g, 2:] / 2 + 1e-5).all()  # inside
            x = step.encoder(local.pixels[b, v][None]).patches[0]
            y = step.initial(whole.pixels[b, g][None])
            at = tokens_at(y.patches[0], y.grid, whole.boxes[b, g], whole.flips[b, g], local.boxes[b, v], (4, 4),
                           local.flips[b, v])  # fmt: skip
            assert at.inside.all()
            losses.append(1 - linear_cka(x, at.tokens).item())
    output = step(batch)
    assert output.loss.item() == pytest.approx(np.mean(losses), rel=1e-4)
    assert output.logs["cka"] > output.logs["cka_of_others"]


def test_views_that_cannot_be_compared_are_refused():
    with pytest.raises(ValueError, match="local_views are 3, inside 'global'; they must be a multiple of 2"):
        build(local_views={**LOCAL, "count": 3})
    with pytest.raises(ValueError, match="inside None; they must be"):
        build(local_views={**LOCAL, "inside": None})
    with pytest.raises(ValueError, match="global_views is 'dino/global'"):
        build(global_views="dino/global")
