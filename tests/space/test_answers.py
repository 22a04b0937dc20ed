"""What the tabs compute, against models whose answers are known: pixels that hold their own coordinates."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from sp_hf.evaluation.controls.raw_pixels import RawPixels
from sp_hf.evaluation.model import EvaluatedModel, Preprocess
from sp_hf.evaluation.where.jigsaw.probe import CellProbe
from sp_hf.evaluation.where.relative_geometry.probe import RelationProbe
from sp_hf.space.drawing import data_url, draw_components, draw_similarity
from sp_hf.space.jigsaw import Cut, check_arrangement, sheet, solve
from sp_hf.space.patches import patch_maps
from sp_hf.space.probe_set import Fitted, ProbeSet
from sp_hf.space.uploads import Upload
from sp_hf.space.where import Located, cut_crops, in_words, locate, read_box
from sp_hf.views.photometric import Photometric
from sp_hf.views.spec import ViewSpec

SIZE = 48


def coordinates(width: int = 480, height: int = 480) -> Image.Image:
    """Red grows with x, green with y, from 0 to 255."""
    x = np.broadcast_to((np.arange(width) + 0.5) / width * 255, (height, width))
    y = np.broadcast_to(((np.arange(height) + 0.5) / height * 255)[:, None], (height, width))
    return Image.fromarray(np.rint(np.stack([x, y, np.full((height, width), 90.0)], -1)).astype(np.uint8))


def pixels_model(side: int = 1) -> EvaluatedModel:
    return EvaluatedModel("pixels", RawPixels(side).eval(), Preprocess.squash(SIZE))


def knows_coordinates() -> ProbeSet:
    """Features of RawPixels(1) are a tile's mean colour, twice: scores are minus the distance to each cell's colour,
    but for what no assignment can use, and weights turn colour into the centre of a crop."""
    ticks = (torch.arange(3, dtype=torch.float64) + 0.5) / 3
    centres = torch.stack([ticks.repeat(3), ticks.repeat_interleave(3), torch.zeros(9)])  # [3, T]
    cells = 200 * torch.cat([centres - centres.mean(1, keepdim=True), torch.zeros(3, 9)])
    weights = torch.zeros(6, 4, dtype=torch.float64)
    weights[0, 0] = weights[1, 1] = 1
    ones = torch.ones(6, dtype=torch.float64)
    return ProbeSet(
        CellProbe(ones, cells, 1.0), RelationProbe(ones, weights, torch.ones(4)), Fitted("", 9, 0), torch.zeros(6)
    )


@pytest.fixture
def true_colours(monkeypatch):
    """Tiles keep their colours: the oracle's coordinates."""
    monkeypatch.setattr("sp_hf.space.jigsaw.PHOTOMETRIC", Photometric.none())


def test_a_model_that_sees_coordinates_solves_every_puzzle(true_colours):
    upload, model = Upload(coordinates()), pixels_model()
    puzzles = [(upload, Cut.of(seed)) for seed in range(20)]
    for (_, cut), solved in zip(puzzles, solve(model, knows_coordinates(), puzzles), strict=True):
        assert solved.right == 9 and torch.equal(solved.placed, cut.solution)
    alone = solve(model, knows_coordinates(), puzzles[7:8])[0]
    assert torch.equal(alone.placed, puzzles[7][1].solution)


def test_puzzles_of_several_images_are_not_mixed_up(true_colours):
    mirrored = Upload(coordinates().transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    puzzles = [(Upload(coordinates()) if seed % 2 else mirrored, Cut.of(seed)) for seed in range(8)]
    right = [solved.right for solved in solve(pixels_model(), knows_coordinates(), puzzles)]
    assert right == [3, 9] * 4  # of the mirrored one, the middle column


def test_a_puzzle_is_cut_once_is_never_in_order_and_its_sheet_shows_its_tiles(true_colours):
    upload = Upload(coordinates())
    for seed in range(30):
        cut, again = Cut.of(seed), Cut.of(seed)
        assert torch.equal(cut.cells, again.cells)
        assert not cut.right(torch.arange(9)).all() and cut.right(cut.solution).all()
    shown = sheet(upload, cut)
    side = shown.shape[-1] // 3
    for place, cell in enumerate(cut.cells.tolist()):
        row, column = divmod(place, 3)
        red, green, _ = shown[:, row * side + side // 2, column * side + side // 2].tolist()
        assert (int(green / 255 * 3), int(red / 255 * 3)) == divmod(cell, 3)


def test_tiles_have_colours_of_their_own():
    grey = Upload(Image.new("RGB", (300, 300), (200, 120, 60)))
    tiles = Cut.of(0).tiles(grey.square(96), 32).flatten(2).mean(2)  # [T, 3]
    assert (tiles - tiles[0]).abs().max(1).values[1:].min() > 0.01


def test_arrangements_and_puzzles_that_are_none():
    assert check_arrangement([8, 7, 6, 5, 4, 3, 2, 1, 0]).tolist() == list(range(8, -1, -1))
    for wrong in ([0, 1, 2], [0] * 9, list(range(1, 10)), [0.5, *range(1, 9)]):
        with pytest.raises(ValueError, match="each of the tiles 0 to 8 once"):
            check_arrangement(wrong)
    for seed in (-1, 2**31):
        with pytest.raises(ValueError, match=f"seed is {seed}"):
            Cut.of(seed)


def test_boxes_as_text():
    assert read_box("10, 20, 30, 40", "first").tolist() == pytest.approx([0.25, 0.4, 0.3, 0.4])
    assert read_box("0 0 100 100", "first").tolist() == pytest.approx([0.5, 0.5, 1, 1])
    for text, reason in (
        ("", "left, top"),
        ("1,2,3", "left, top"),
        ("0,0,5,50", "too small"),
        ("60,0,50,50", "reaches out"),
    ):
        with pytest.raises(ValueError, match=reason):
            read_box(text, "second")


def test_crops_show_what_is_in_their_boxes():
    spec = ViewSpec(count=2, size=24, area=(0.05, 0.3), effective_resolution=(0.2, 0.4))
    boxes = torch.tensor([[0.3, 0.6, 0.4, 0.3], [0.7, 0.3, 0.3, 0.5]], dtype=torch.float64)
    crops = cut_crops(Upload(coordinates()).square(480), boxes, spec)
    assert tuple(crops.shape) == (2, 3, 24, 24)
    torch.testing.assert_close(crops[:, :2].mean((2, 3)).double(), boxes[:, :2], atol=0.01, rtol=0)
    span = crops[:, 0].mean(1)
    assert (span[:, -1] - span[:, 0]).tolist() == pytest.approx([0.4 * 23 / 24, 0.3 * 23 / 24], abs=0.05)


def test_a_model_that_sees_coordinates_finds_the_second_box():
    first, second = read_box("10, 50, 30, 30", "first"), read_box("60, 10, 30, 30", "second")
    found = locate(pixels_model(), knows_coordinates(), Upload(coordinates(480, 240)), first, second)
    torch.testing.assert_close(found.predicted, second, atol=0.01, rtol=0)
    assert found.iou > 0.9 and in_words(found) == "spot on."


@pytest.mark.parametrize(
    "predicted, words",
    [
        ([0.2, 0.5, 0.2, 0.2], "30 % of the image's width too far left."),
        ([0.8, 0.5, 0.2, 0.2], "30 % of the image's width too far right."),
        ([0.5, 0.4, 0.2, 0.2], "10 % of the image's height too high."),
        ([0.5, 0.6, 0.4, 0.4], "10 % of the image's height too low, 2.0 times too large."),
        ([0.5, 0.5, 0.1, 0.1], "2.0 times too small."),
        ([0.51, 0.49, 0.2, 0.2], "spot on."),
    ],
)
def test_errors_in_words(predicted, words):
    second = torch.tensor([0.5, 0.5, 0.2, 0.2], dtype=torch.float64)
    assert in_words(Located(second, second, torch.tensor(predicted, dtype=torch.float64))) == words


def test_patches_of_the_same_colour_are_alike():
    halves = Image.new("RGB", (200, 100), (250, 10, 10))
    halves.paste((10, 10, 250), (100, 0, 200, 100))
    maps = patch_maps(pixels_model(4), Upload(halves), (0.9, 0.2))
    assert maps.chosen == (0, 3)
    assert tuple(maps.similarity.shape) == (4, 4) and tuple(maps.components.shape) == (4, 4, 3)
    assert maps.similarity[:, 2:].min() > 0.999 and maps.similarity[:, :2].max() < 0.2
    assert float(maps.components.min()) >= 0 and float(maps.components.max()) <= 1
    assert (maps.components[:, 0] - maps.components[:, 3]).abs().max() > 0.9
    assert patch_maps(pixels_model(4), Upload(halves), (1.0, 1.0)).chosen == (3, 3)  # the very edge
    with pytest.raises(ValueError, match="between 0 and 100"):
        patch_maps(pixels_model(4), Upload(halves), (1.2, 0.5))


def test_pictures_have_the_shape_of_the_image():
    upload = Upload(coordinates(300, 150))
    maps = patch_maps(pixels_model(4), upload, (0.5, 0.5))
    assert draw_similarity(upload, maps).size == draw_components(upload, maps).size == (480, 240)
    assert data_url(upload.square(32)).startswith("data:image/jpeg;base64,")
