"""Pairs of patches of two views, and where their boxes lie."""

import pytest
import torch

from sp_hf.views.geometry import apply_relation, mirror, relation
from sp_hf.views.keyed_random import sample_keys
from sp_hf.views.pairs import draw_patch_pairs, patch_boxes, patches_seen, relation_std
from sp_hf.views.sampler import ViewSampler
from sp_hf.views.spec import ViewSpec

GRID = (2, 4)


def coordinates(side=96):
    """A canvas whose red is x and green is y, at pixel centres."""
    ramp = (torch.arange(side) + 0.5) / side * 255
    x, y = torch.meshgrid(ramp, ramp, indexing="xy")
    return torch.stack([x, y, torch.zeros_like(x)]).round().to(torch.uint8)


@pytest.fixture
def views():
    spec = ViewSpec(count=3, size=32, area=(0.1, 0.6), flip="own")
    return ViewSampler({"v": spec})(coordinates().expand(16, -1, -1, -1), torch.ones(16), sample_keys(0, 0, 16))["v"]


def test_pixels_of_patches_lie_at_their_boxes(views):
    """An oracle: the mean colour of each patch of 16 x 8 pixels says where its middle is."""
    assert views.flips.any() and not views.flips.all()
    boxes = patch_boxes(views.boxes, views.flips, GRID)  # [16, 3, 8, 4]
    cells = views.pixels[:, :, :2].unflatten(-2, (2, 16)).unflatten(-1, (4, 8)).mean(dim=(-3, -1))  # [16, 3, 2, 2, 4]
    torch.testing.assert_close(boxes[..., :2], cells.flatten(-2).transpose(-1, -2), atol=0.012, rtol=0)
    sides = views.boxes[..., None, 2:] / torch.tensor([4.0, 2.0])
    torch.testing.assert_close(boxes[..., 2:], sides.expand(-1, -1, 8, -1))


def test_one_patch_is_the_view(views):
    torch.testing.assert_close(patch_boxes(views.boxes, views.flips, (1, 1))[:, :, 0], views.boxes)


def test_pairs_are_of_distinct_views_and_any_patches_alike():
    first, second = draw_patch_pairs(sample_keys(1, 0, 400), "x", views=3, patches=8, pairs=30)
    assert first.shape == second.shape == (400, 30)
    assert (first // 8 != second // 8).all()
    for index in (first, second):
        share = index.flatten().bincount(minlength=24) / index.numel()
        assert (share * 24 - 1).abs().max() < 0.2
    together = (first // 8 * 3 + second // 8).flatten().bincount(minlength=9)
    assert (together > 0).sum() == 6


def test_pairs_of_an_image_depend_on_its_key_alone():
    keys = sample_keys(1, 0, 5)
    both = draw_patch_pairs(keys, "x", 3, 8, 10)
    torch.testing.assert_close(draw_patch_pairs(keys[2:3], "x", 3, 8, 10).first, both.first[2:3])
    longer = draw_patch_pairs(keys, "x", 3, 8, 12)
    assert torch.equal(longer.second[:, :10], both.second)
    assert not torch.equal(draw_patch_pairs(keys, "y", 3, 8, 10).first, both.first)


def test_relations_of_patches_lead_from_the_first_to_the_second(views):
    """Pair by pair: from the first patch as its view shows it, the relation leads to the second one's box."""
    pairs = draw_patch_pairs(sample_keys(1, 0, 16), "x", 3, 8, 10)
    boxes = patch_boxes(views.boxes, views.flips, GRID)
    relations = relation(*patches_seen(views.boxes, views.flips, GRID, pairs), "view")
    for image in range(16):
        for p in range(10):
            (i, m), (j, n) = (divmod(index[image, p].item(), 8) for index in pairs)
            flipped = views.flips[image, i]
            found = apply_relation(mirror(boxes[image, i, m], flipped), relations[image, p], "view")
            torch.testing.assert_close(mirror(found, flipped), boxes[image, j, n])


def test_standard_deviations_of_patches():
    """Offsets within views of one size w add 2 w^2 (1 - 1/n^2) / 12 to the variance of those between views."""
    spec = ViewSpec(count=2, size=16, area=(0.25, 0.25), aspect=(1.0, 1.0))
    position, scale = relation_std(spec, "image", (4, 4))
    assert position**2 == pytest.approx(2 * (0.5**2 + 0.5**2 * (1 - 1 / 16)) / 12, rel=0.03)
    assert scale == 0.01
    varied = ViewSpec(count=2, size=16, area=(0.05, 0.4))
    assert relation_std(varied, "image", (4, 4))[1] == pytest.approx(relation_std(varied, "image")[1], rel=0.03)
