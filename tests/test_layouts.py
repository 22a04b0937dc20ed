"""Where boxes lie: in grids, inside others, given, turned, in a position field. Oracle: pixels that know where."""

import math

import pytest
import torch

from sp_hf.views.geometry import to_xyxy
from sp_hf.views.keyed_random import sample_keys
from sp_hf.views.layout import choose, parents_first
from sp_hf.views.pairs import relation_std
from sp_hf.views.rotated import fit_rotated
from sp_hf.views.sampler import ViewSampler
from sp_hf.views.spec import ViewSpec, as_view_spec

GRID = {"rows": 3, "columns": 3, "gap": 0.25}
TILES = {"count": 9, "size": 16, "area": (0.6, 1.0), "grid": GRID}


def coordinates(side=96, images=6):
    """Canvases whose red is x and green is y, at pixel centres."""
    ramp = (torch.arange(side) + 0.5) / side * 255
    x, y = torch.meshgrid(ramp, ramp, indexing="xy")
    return torch.stack([x, y, torch.zeros_like(x)]).round().to(torch.uint8).expand(images, -1, -1, -1)


def sample(specs, images=6, aspects=None, **kwargs):
    aspects = torch.linspace(0.6, 1.8, images) if aspects is None else aspects
    specs = {name: as_view_spec(spec) for name, spec in specs.items()}
    return ViewSampler(specs)(coordinates(images=images), aspects, sample_keys(3, 0, images), **kwargs)


def middles(views):
    """Colour of the views' middles: (x, y) in the image, [B, V, 2]."""
    n = views.pixels.shape[-1]
    return views.pixels[..., :2, n // 2 - 1 : n // 2 + 1, n // 2 - 1 : n // 2 + 1].mean((-1, -2))


def test_a_plain_set_does_not_depend_on_the_layouts_beside_it():
    views = sample({"v": {"count": 2, "size": 8, "area": (0.2, 0.8)}}, images=2, aspects=torch.tensor([1.0, 1.5]))["v"]
    with_others = sample(
        {"v": {"count": 2, "size": 8, "area": (0.2, 0.8)}, "tiles": TILES, "in": {**TILES, "count": 18, "inside": "v"}},
        images=2,
        aspects=torch.tensor([1.0, 1.5]),
    )["v"]
    assert torch.equal(views.boxes, with_others.boxes) and torch.equal(views.pixels, with_others.pixels)
    assert views.angles is None and views.position_boxes is None


def test_pixels_of_a_grid_are_those_of_its_boxes():
    views = sample({"v": {**TILES, "flip": "none"}})["v"]
    torch.testing.assert_close(middles(views), views.boxes[..., :2], atol=0.012, rtol=0)


def test_boxes_of_a_grid_stay_in_their_cells_and_are_all_of_one_size():
    boxes = sample({"v": TILES}, images=200, aspects=torch.full((200,), 1.3))["v"].boxes.unflatten(1, (3, 3))
    size = boxes[..., 2:]
    assert (size - size[:, :1, :1]).abs().max() < 1e-6
    corners = to_xyxy(boxes)
    cell = size[:, 0, 0] / 0.75  # [B, 2]
    assert (corners >= 0).all() and (corners <= 1 + 1e-6).all()
    # Columns and rows in order: neighbours never overlap, and lie between gap 0 and twice the gap apart.
    across = corners[:, :, 1:, 0] - corners[:, :, :-1, 2]
    down = corners[:, 1:, :, 1] - corners[:, :-1, :, 3]
    for distance, side in ((across, cell[:, 0]), (down, cell[:, 1])):
        share = distance / side[:, None, None]
        assert share.min() > -1e-5 and share.max() < 0.5 + 1e-5
        assert share.min() < 0.05 and share.max() > 0.45  # anywhere in the cell
    areas = size.prod(-1)[:, 0, 0] / 0.75**2 * 9
    assert areas.min() > 0.55 and areas.max() <= 1.0


def test_without_jitter_the_grid_is_regular_and_a_negative_gap_overlaps_inside_the_window():
    whole = {"area": (1.0, 1.0), "aspect": None, "size": 8}
    boxes = sample({"v": {**whole, "count": 4, "grid": {"rows": 2, "columns": 2, "gap": -0.6}}})["v"].boxes
    expected = torch.tensor([[0.4, 0.4], [0.6, 0.4], [0.4, 0.6], [0.6, 0.6]])  # JigClu: corners of 80 % each
    torch.testing.assert_close(boxes, torch.cat([expected, torch.full((4, 2), 0.8)], -1).expand(6, -1, -1))
    grid = {"rows": 1, "columns": 2, "gap": 0.5, "jitter": 0.0}
    boxes = sample({"v": {**whole, "count": 2, "grid": grid}})["v"].boxes
    torch.testing.assert_close(boxes[0], torch.tensor([[0.25, 0.5, 0.25, 0.5], [0.75, 0.5, 0.25, 0.5]]))


def test_children_lie_inside_their_parents_and_area_is_of_the_parent():
    child = {"count": 4, "size": 8, "area": (0.1, 0.3), "inside": "parent", "flip": "parent"}
    views = sample({"child": child, "parent": {"count": 2, "size": 16, "area": (0.2, 0.4)}}, images=100)
    parents, children = views["parent"].boxes.repeat_interleave(2, 1), views["child"].boxes
    inner, outer = to_xyxy(children), to_xyxy(parents)
    assert (inner[..., :2] >= outer[..., :2] - 1e-6).all() and (inner[..., 2:] <= outer[..., 2:] + 1e-6).all()
    share = children[..., 2:].prod(-1) / parents[..., 2:].prod(-1)
    assert share.min() > 0.099 and share.max() < 0.301
    aspects = torch.linspace(0.6, 1.8, 100)[:, None] * children[..., 2] / children[..., 3]
    fits = (aspects > 0.749) & (aspects < 1.334)  # of the true image's pixels
    assert fits.float().mean() > 0.97  # the rest: parents too narrow for any
    assert torch.equal(views["child"].flips, views["parent"].flips.repeat_interleave(2, 1))
    upright = ~views["child"].flips
    torch.testing.assert_close(middles(views["child"])[upright], children[..., :2][upright], atol=0.012, rtol=0)


@pytest.mark.parametrize(
    "specs, message",
    [
        ({"a": {"inside": "b"}}, "only"),
        ({"a": {"inside": "b"}, "b": {"inside": "a"}}, "circle"),
        ({"a": {"inside": "b", "count": 3}, "b": {}}, "3 windows cannot be shared out evenly among 2"),
        ({"a": {"inside": "b"}, "b": {"rotation": 10.0}}, "which are turned"),
    ],
)
def test_parents_that_cannot_be_are_named(specs, message):
    base = {"count": 2, "size": 8, "area": (0.2, 0.4)}
    with pytest.raises(ValueError, match=message):
        parents_first({name: ViewSpec(**{**base, **spec}) for name, spec in specs.items()})


def test_given_boxes_are_chosen_alike_enlarged_and_clipped_and_random_ones_stand_in():
    given = torch.zeros(300, 3, 4)
    given[:200, 2] = torch.tensor([0.5, 0.5, 0.2, 0.4])
    given[:200, 0] = torch.tensor([0.05, 0.05, 0.1, 0.1])  # row 1 is none
    specs = {"v": {"count": 2, "size": 8, "area": (0.2, 0.4), "boxes": "objects", "box_context": 0.5}}
    boxes = sample(specs, images=300, boxes={"objects": given})["v"].boxes
    large = torch.tensor([0.5, 0.5, 0.3, 0.6])
    small = torch.tensor([0.0625, 0.0625, 0.125, 0.125])  # -0.025 .. 0.125, clipped
    is_large = (boxes[:200] - large).abs().amax(-1) < 1e-5
    is_small = (boxes[:200] - small).abs().amax(-1) < 1e-5
    assert (is_large | is_small).all() and 0.4 < is_large.float().mean() < 0.6
    without = sample(specs, images=300)["v"].boxes
    assert torch.equal(boxes[200:], without[200:])
    chosen, has_any = choose(torch.zeros(2, 1, 4), torch.rand(2, 3), 0.0)
    assert chosen.shape == (2, 3, 4) and not has_any.any()


def test_turned_views_show_the_turned_rectangle():
    aspects = torch.linspace(0.6, 1.8, 6)
    views = sample({"v": {"count": 3, "size": 16, "area": (0.05, 0.3), "rotation": 45.0}}, aspects=aspects)["v"]
    assert views.angles.abs().max() <= math.pi / 4 and views.angles.std() > 0.2
    torch.testing.assert_close(middles(views), views.boxes[..., :2], atol=0.012, rtol=0)
    # A pixel right of the middle, by hand: along the turned x axis, in true pixels.
    offset = 5 / 16
    direction = torch.where(views.flips, -1.0, 1.0) * offset * views.boxes[..., 2]
    width = aspects[:, None] * direction  # in image heights
    expected = views.boxes[..., :2] + torch.stack(
        [views.angles.cos() * width / aspects[:, None], views.angles.sin() * width], -1
    )
    right = views.pixels[..., :2, 7:9, 12:14].mean((-1, -2))
    torch.testing.assert_close(right, expected, atol=0.012, rtol=0)


def test_turned_rectangles_lie_inside_the_image():
    boxes = torch.tensor([[[0.5, 0.5, 1.0, 1.0], [0.05, 0.9, 0.1, 0.2]]]).expand(50, -1, -1)
    angles = torch.linspace(-3, 3, 50)[:, None].expand(-1, 2)
    aspects = torch.full((50,), 1.7)
    fitted = fit_rotated(boxes, angles, aspects)
    width, height = fitted[..., 2] * 1.7, fitted[..., 3]
    for sx in (-0.5, 0.5):
        for sy in (-0.5, 0.5):
            x = fitted[..., 0] + (angles.cos() * sx * width - angles.sin() * sy * height) / 1.7
            y = fitted[..., 1] + angles.sin() * sx * width + angles.cos() * sy * height
            assert (torch.stack([x, y]) > -1e-5).all() and (torch.stack([x, y]) < 1 + 1e-5).all()
    assert torch.allclose(fitted[..., 2] / fitted[..., 3], boxes[..., 2] / boxes[..., 3])
    still = fit_rotated(boxes, torch.zeros(50, 2), aspects)
    torch.testing.assert_close(still, boxes)


def test_position_windows_are_beta_one_an_image_and_keep_relations():
    spec = {"count": 2, "size": 8, "area": (0.2, 0.4), "positions": "crop", "position_window": (2, 5)}
    views = sample({"a": spec, "b": {**spec, "count": 1, "size": 16}}, images=3000, aspects=torch.ones(3000))
    scales = [(v.position_boxes[..., 2:] / v.boxes[..., 2:]) for v in views.values()]
    side = scales[0][:, 0, 0]
    for scale in scales:
        torch.testing.assert_close(scale, side[:, None, None].expand_as(scale), rtol=1e-3, atol=1e-5)
    assert side.mean().item() == pytest.approx(2 / 7, abs=0.01)
    assert side.var().item() == pytest.approx(10 / (49 * 8), rel=0.1)
    corners = to_xyxy(views["a"].position_boxes)
    assert corners.min() >= -1e-6 and corners.max() <= 1 + 1e-6
    offset = views["a"].position_boxes[..., :2] - side[:, None, None] * views["a"].boxes[..., :2]
    torch.testing.assert_close(offset[:, 0], offset[:, 1])
    whole = sample({"v": {**spec, "position_window": None}})["v"]
    assert torch.equal(whole.position_boxes, whole.boxes)


def test_specs_with_layouts_survive_json():
    import json

    spec = ViewSpec(
        count=9, size=8, area=(0.5, 1.0), grid={"rows": 3, "columns": 3}, positions="crop", position_window=[2, 5]
    )
    assert as_view_spec(json.loads(json.dumps(spec.to_dict()))) == spec
    assert spec.windows == 1 and spec.canvas_size == 24


def test_standard_deviations_of_a_grid_are_those_of_its_pairs():
    spec = ViewSpec(count=2, size=8, area=(1.0, 1.0), aspect=None, grid={"rows": 1, "columns": 2, "jitter": 0.0})
    position, scale = relation_std(spec, "image")
    assert position == pytest.approx(math.sqrt(0.5**2 / 2)) and scale == 0.01
    with pytest.raises(ValueError, match="target_std"):
        relation_std(ViewSpec(count=2, size=8, area=(0.1, 0.2), inside="x"), "image")


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"count": 8, "grid": GRID}, "count is 8; with a grid of 3 x 3 it must be a multiple of 9"),
        ({"grid": {"rows": 0, "columns": 1}}, "grid rows is 0"),
        ({"grid": {"rows": 1, "columns": 1, "gap": 1.0}}, "grid gap is 1.0; it must be above -1 and below 1"),
        ({"grid": {"rows": 1, "columns": 1, "jitter": 2}}, "grid jitter is 2; it must be a number from 0 to 1"),
        ({"grid": {"cols": 3}}, "grid has no field cols"),
        ({"grid": 3}, "grid is 3"),
        ({"inside": "a", "boxes": "b"}, "inside and boxes are both given"),
        ({"flip": "parent"}, "lie inside no others"),
        ({"rotation": 10.0, "effective_resolution": (0.3, 0.6)}, "rotation goes with neither"),
        ({"rotation": 10.0, "positions": "crop"}, "rotation does not go with positions: crop"),
        ({"rotation": 200.0}, "rotation is 200.0"),
        ({"positions": "box"}, "positions is 'box'; it must be one of view, crop"),
        ({"position_window": (2, 5)}, "position_window is for positions: crop"),
        ({"positions": "crop", "position_window": (2.5, 5)}, "position_window is 2.5; it must be an integer"),
    ],
)
def test_wrong_layouts_are_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        ViewSpec(**{"count": 2, "size": 8, "area": (0.2, 0.4), **wrong})


def test_a_share_of_the_windows_are_given_boxes_and_the_others_as_without():
    spec = {"count": 4, "size": 4, "area": (0.1, 0.2), "boxes": "objects", "box_context": 0.0}
    given = torch.tensor([[[0.5, 0.5, 0.9, 0.9]]]).expand(300, -1, -1)
    drawn = sample({"v": spec}, images=300)["v"].boxes
    boxes = sample({"v": {**spec, "box_share": 0.25}}, images=300, boxes={"objects": given})["v"].boxes
    taken = (boxes == given).all(-1)
    assert taken.float().mean().item() == pytest.approx(0.25, abs=0.05) and 0 < taken.any(1).sum() < 300
    assert torch.equal(boxes[~taken], drawn[~taken])
