"""What the tabs compute, against models whose answers are known: pixels that hold their own coordinates."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from sp_hf.encoders.encoder import Encoding
from sp_hf.evaluation.controls.raw_pixels import RawPixels
from sp_hf.evaluation.model import EvaluatedModel, Preprocess
from sp_hf.evaluation.probes.linear import LinearProbe
from sp_hf.evaluation.probes.standardise import Standardisation
from sp_hf.evaluation.where.jigsaw.probe import CellProbe
from sp_hf.evaluation.where.relative_geometry.probe import RelationProbe
from sp_hf.space.drawing import data_url, draw_components, draw_located, draw_similarity, draw_solved
from sp_hf.space.jigsaw import Cut, check_arrangement, doubly_stochastic, solve
from sp_hf.space.patches import patch_maps
from sp_hf.space.uploads import Upload
from sp_hf.space.where import Located, cut_crops, in_words, locate, read_box
from sp_hf.views.spec import ViewSpec

SIZE = 48


def coordinates(width: int = 480, height: int = 480) -> Image.Image:
    """Red grows with x, green with y, from 0 to 255."""
    x = np.broadcast_to((np.arange(width) + 0.5) / width * 255, (height, width))
    y = np.broadcast_to(((np.arange(height) + 0.5) / height * 255)[:, None], (height, width))
    return Image.fromarray(np.rint(np.stack([x, y, np.full((height, width), 90.0)], -1)).astype(np.uint8))


def pixels_model(side: int = 12) -> EvaluatedModel:
    return EvaluatedModel("pixels", RawPixels(side).eval(), Preprocess.squash(SIZE))


def knows_cells(grid: int) -> CellProbe:
    """Scores of cells by the colour of coordinates: minus the squared distance, but for what no assignment can use."""
    ticks = (torch.arange(grid, dtype=torch.float64) + 0.5) / grid
    centres = torch.stack([ticks.repeat(grid), ticks.repeat_interleave(grid), torch.zeros(grid**2)])  # [3, T]
    return CellProbe(torch.ones(3, dtype=torch.float64), 200 * (centres - centres.mean(1, keepdim=True)), 1.0)


def knows_nothing(features: int) -> LinearProbe:
    zeros = torch.zeros(features)
    return LinearProbe(
        Standardisation(zeros, zeros + 1), torch.zeros(features, 3), torch.zeros(3), torch.tensor([1, 4, 7]), 1, 1, 1, 3
    )


@pytest.mark.parametrize("grid", [2, 3, 4])
def test_a_model_that_sees_coordinates_solves_every_puzzle(grid):
    upload, model = Upload(coordinates()), pixels_model()
    for seed in range(5):
        cut = Cut.of(grid, seed)
        solved = solve(model, knows_cells(grid), knows_nothing(3 * 144 + 3), upload, cut)
        assert solved.right == cut.puzzle.tiles
        assert torch.equal(solved.placed, cut.solution)
        assert solved.confidence.min() > 1 / cut.puzzle.tiles
        assert [name for name, _ in solved.said.values()] and set(solved.said) == {"whole", "shuffled", "put back"}


@pytest.mark.parametrize("grid", [2, 3, 4])
def test_a_puzzle_is_cut_once_and_is_never_in_order(grid):
    square = Upload(coordinates()).square(240)
    for seed in range(40):
        cut, again = Cut.of(grid, seed), Cut.of(grid, seed)
        assert torch.equal(cut.cells, again.cells)
        assert not cut.right(cut.shuffled).all() and cut.right(cut.solution).all()
    ordered, shuffled = cut.lay(square, cut.solution), cut.lay(square, cut.shuffled)
    centres = [(slice(None), int((row + 0.5) * 240 / grid)) for row in range(grid)]
    for row in range(grid):
        for column in range(grid):
            at = int((column + 0.5) * 240 / grid)
            red, green, _ = ordered[centres[row]][:, at].tolist()
            assert red / 255 * grid == pytest.approx(column + 0.5, abs=0.15)  # displaced by a tenth of a cell at most
            assert green / 255 * grid == pytest.approx(row + 0.5, abs=0.15)
            cell = int(cut.cells[row * grid + column])
            red, green, _ = shuffled[centres[row]][:, at].tolist()
            assert (int(green / 255 * grid), int(red / 255 * grid)) == divmod(cell, grid)


def test_arrangements_and_puzzles_that_are_none():
    cut = Cut.of(2, 0)
    assert check_arrangement([3, 2, 1, 0], cut).tolist() == [3, 2, 1, 0]
    for wrong in ([0, 1, 2], [0, 0, 1, 2], [1, 2, 3, 4], [0, 1, 2, -1]):
        with pytest.raises(ValueError, match="each of the tiles 0 to 3 once"):
            check_arrangement(wrong, cut)
    with pytest.raises(ValueError, match="one of 2, 3, 4"):
        Cut.of(5, 0)
    with pytest.raises(ValueError, match="seed is -1"):
        Cut.of(3, -1)


def test_confidence_is_a_doubly_stochastic_matrix_that_ignores_what_assignments_ignore():
    scores = torch.randn(9, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3
    found = doubly_stochastic(scores)
    torch.testing.assert_close(found.sum(0), torch.ones(9, dtype=torch.float64), atol=1e-6, rtol=0)
    torch.testing.assert_close(found.sum(1), torch.ones(9, dtype=torch.float64), atol=1e-6, rtol=0)
    shifted = scores + torch.arange(9.0)[:, None] - 7 * torch.arange(9.0)[None]
    torch.testing.assert_close(doubly_stochastic(shifted), found, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(doubly_stochastic(torch.zeros(4, 4)), torch.full((4, 4), 0.25, dtype=torch.float64))


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


SPEC = ViewSpec(count=2, size=24, area=(0.05, 0.3), effective_resolution=(0.2, 0.4))


def test_crops_show_what_is_in_their_boxes():
    boxes = torch.tensor([[0.3, 0.6, 0.4, 0.3], [0.7, 0.3, 0.3, 0.5]], dtype=torch.float64)
    crops = cut_crops(Upload(coordinates()).square(480), boxes, SPEC)
    assert tuple(crops.shape) == (2, 3, 24, 24)
    torch.testing.assert_close(crops[:, :2].mean((2, 3)).double(), boxes[:, :2], atol=0.01, rtol=0)
    span = crops[:, 0].mean(1)
    assert (span[:, -1] - span[:, 0]).tolist() == pytest.approx([0.4 * 23 / 24, 0.3 * 23 / 24], abs=0.05)


def test_a_model_that_sees_coordinates_finds_the_second_box():
    """Features of RawPixels(1) are a crop's mean colour, twice: the probe's weights turn them into its centre."""
    model = pixels_model(side=1)
    weights = torch.zeros(6, 4, dtype=torch.float64)
    weights[0, 0] = weights[1, 1] = 1
    probe = RelationProbe(torch.ones(6, dtype=torch.float64), weights, torch.ones(4))
    first, second = read_box("10, 50, 30, 30", "first"), read_box("60, 10, 30, 30", "second")
    found = locate(model, probe, SPEC, Upload(coordinates(480, 240)), first, second)
    torch.testing.assert_close(found.predicted, second, atol=0.01, rtol=0)
    assert found.iou > 0.9 and in_words(found) == "spot on."
    assert tuple(found.crops.shape) == (2, 3, 24, 24)


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
    assert in_words(Located(second, second, torch.tensor(predicted, dtype=torch.float64), torch.empty(0))) == words


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
    upload, model = Upload(coordinates(300, 150)), pixels_model()
    solved = solve(model, knows_cells(3), knows_nothing(3 * 144 + 3), upload, Cut.of(3, 1))
    maps = patch_maps(model, upload, (0.5, 0.5))
    box = torch.tensor([0.95, 0.1, 0.4, 0.9], dtype=torch.float64)  # predictions may reach out of the image
    located = Located(box, box, box + 3, torch.zeros(2, 3, 24, 24, dtype=torch.uint8))
    for picture in (draw_solved(upload, solved), draw_located(upload, located), draw_similarity(upload, maps)):
        assert picture.size == (480, 240)
    assert draw_components(upload, maps).size == (480, 240)
    assert data_url(upload.square(32)).startswith("data:image/jpeg;base64,")


def test_encoding_is_what_raw_pixels_give():
    """The oracle's premise: its features are coordinates."""
    encoding: Encoding = RawPixels(2)(
        torch.from_numpy(np.asarray(coordinates()).transpose(2, 0, 1)[None] / 255).float()
    )
    assert encoding.patches[0, :, :2].flatten().tolist() == pytest.approx(
        [0.25, 0.25, 0.75, 0.25, 0.25, 0.75, 0.75, 0.75], abs=0.01
    )
