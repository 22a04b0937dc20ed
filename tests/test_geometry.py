"""Boxes and relations: hand-worked values, group laws, and an independent reference in plain Python."""

import math

import numpy as np
import pytest
import torch

from sp_hf.views.geometry import (
    apply_relation,
    box_iou,
    compose,
    invert,
    log_scale,
    mirror,
    relation,
    to_cxcywh,
    to_xyxy,
)

UNITS = ("image", "view")


def boxes(count: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.05 + 0.9 * torch.rand(count, 4, generator=generator, dtype=torch.float64)


def close(a, b):
    torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_relation_by_hand():
    first = torch.tensor([0.3, 0.5, 0.2, 0.4], dtype=torch.float64)
    second = torch.tensor([0.5, 0.4, 0.4, 0.1], dtype=torch.float64)
    scales = [math.log(2), math.log(1 / 4)]
    close(relation(first, second), torch.tensor([0.2, -0.1, *scales], dtype=torch.float64))
    close(relation(first, second, "view"), torch.tensor([1.0, -0.25, *scales], dtype=torch.float64))


@pytest.mark.parametrize("units", UNITS)
def test_relation_against_plain_python(units):
    for (x1, y1, w1, h1), (x2, y2, w2, h2) in zip(boxes(20, 0).tolist(), boxes(20, 1).tolist(), strict=True):
        ux, uy = (1, 1) if units == "image" else (w1, h1)
        expected = [(x2 - x1) / ux, (y2 - y1) / uy, math.log(w2) - math.log(w1), math.log(h2) - math.log(h1)]
        found = relation(*torch.tensor([[x1, y1, w1, h1], [x2, y2, w2, h2]], dtype=torch.float64), units)
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("units", UNITS)
def test_group_laws(units):
    a, b, c, d = (boxes(100, seed) for seed in range(4))
    ab, bc, cd = relation(a, b, units), relation(b, c, units), relation(c, d, units)
    close(apply_relation(a, ab, units), b)  # box and relation give the other box
    close(relation(a, apply_relation(a, cd, units), units), cd)
    close(relation(a, a, units), torch.zeros_like(ab))  # identity
    close(invert(ab, units), relation(b, a, units))  # inverse
    close(invert(invert(ab, units), units), ab)
    close(compose(ab, bc, units), relation(a, c, units))  # composition
    close(compose(ab, invert(ab, units), units), torch.zeros_like(ab))
    close(compose(compose(ab, bc, units), cd, units), compose(ab, compose(bc, cd, units), units))


def test_antisymmetry():
    a, b = boxes(100, 0), boxes(100, 1)
    close(relation(a, b), -relation(b, a))
    close(relation(a, b, "view")[:, 2:], -relation(b, a, "view")[:, 2:])
    assert not torch.allclose(relation(a, b, "view")[:, :2], -relation(b, a, "view")[:, :2])  # units differ


@pytest.mark.parametrize("units", UNITS)
def test_mirrored_image_mirrors_the_offset_only(units):
    a, b = boxes(50, 0), boxes(50, 1)
    flips = torch.arange(50) % 2 == 0
    seen = relation(mirror(a, flips), mirror(b, flips), units)
    sign = torch.where(flips, -1.0, 1.0).double()
    close(seen, relation(a, b, units) * torch.stack([sign, *[torch.ones(50).double()] * 3], -1))
    close(mirror(mirror(a, flips), flips), a)


def test_mirror_broadcasts_one_flip_an_image():
    views = boxes(12, 0).view(3, 4, 4)
    flips = torch.tensor([True, False, True])
    found = mirror(views, flips[:, None])
    close(found[1], views[1])
    close(found[0, :, 0], 1 - views[0, :, 0])
    close(found[..., 1:], views[..., 1:])


def test_relations_broadcast_to_all_pairs():
    views = boxes(12, 0).view(3, 4, 4)
    pairs = relation(views[:, :, None], views[:, None, :], "view")
    assert pairs.shape == (3, 4, 4, 4)
    close(pairs[2, 1, 3], relation(views[2, 1], views[2, 3], "view"))


def test_corners():
    box = torch.tensor([0.5, 0.25, 0.2, 0.5])
    torch.testing.assert_close(to_xyxy(box), torch.tensor([0.4, 0.0, 0.6, 0.5]))
    close(to_cxcywh(to_xyxy(boxes(30, 2))), boxes(30, 2))


def test_box_iou_against_counting_cells():
    """Boxes on a lattice of 20 cells: areas are numbers of cells."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        cells, lattice = [], []
        for _ in range(2):
            x, y = torch.randint(0, 20, (2, 2), generator=generator).sort(-1).values.tolist()
            inside = np.zeros((20, 20), bool)
            inside[y[0] : y[1] + 1, x[0] : x[1] + 1] = True
            cells.append(inside)
            lattice.append(to_cxcywh(torch.tensor([x[0], y[0], x[1] + 1, y[1] + 1]).double() / 20))
        expected = (cells[0] & cells[1]).sum() / (cells[0] | cells[1]).sum()
        assert float(box_iou(*lattice)) == pytest.approx(expected, abs=1e-9)


def test_log_scale_is_half_the_log_of_the_area_ratio():
    a, b = boxes(30, 0), boxes(30, 1)
    close(log_scale(relation(a, b)), 0.5 * (b[:, 2] * b[:, 3] / (a[:, 2] * a[:, 3])).log())


@pytest.mark.parametrize("function", [relation, apply_relation, compose])
def test_unknown_units_are_named(function):
    with pytest.raises(ValueError, match="'pixels'.*'image' or 'view'"):
        function(boxes(1, 0), boxes(1, 1), "pixels")
