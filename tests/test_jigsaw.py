"""Jigsaw: assignment by brute force, tiles by oracles, the probe by scikit-learn, perfect and ignorant encoders."""

import dataclasses
import itertools
import json
import logging
import math

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import kendalltau
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from torch import nn
from torch.nn import functional as F
from transformers import ViTConfig, ViTModel

from sp_hf.cli import main
from sp_hf.encoders.encoder import Encoding
from sp_hf.evaluation.data import EvaluationData
from sp_hf.evaluation.model import EvaluatedModel, Preprocess
from sp_hf.evaluation.source import DataSource
from sp_hf.evaluation.where.jigsaw.permutations import kendall_tau, optimal_assignment
from sp_hf.evaluation.where.jigsaw.pictures import SolvedPuzzle, draw_sheet
from sp_hf.evaluation.where.jigsaw.probe import CellProbe, discriminants
from sp_hf.evaluation.where.jigsaw.recognition import Recognised, recognition_measures
from sp_hf.evaluation.where.jigsaw.task import Jigsaw, puzzle_measures
from sp_hf.evaluation.where.jigsaw.tiles import Puzzle, fill, lay, tiles_apart, token_weights
from sp_hf.views.keyed_random import sample_keys
from sp_hf.views.photometric import Photometric

SIZE, PATCH = 48, 4  # no patch lies on two tiles of any grid


# Permutations


@pytest.mark.parametrize("tiles", [3, 4, 5, 6])
@pytest.mark.parametrize("ties", [False, True])
def test_assignment_is_the_best_of_all_permutations(tiles, ties):
    generator = torch.Generator().manual_seed(tiles)
    scores = torch.randn(40, tiles, tiles, generator=generator, dtype=torch.float64)
    if ties:
        scores = scores.round()
    everything = torch.tensor(list(itertools.permutations(range(tiles))))  # [T!, T]
    totals = scores[:, torch.arange(tiles), everything].sum(-1)  # [n, T!]
    found = optimal_assignment(scores)
    assert (found.sort(-1).values == torch.arange(tiles)).all()
    torch.testing.assert_close(scores.gather(2, found[..., None]).sum((1, 2)), totals.amax(1))
    if not ties:
        assert torch.equal(found, everything[totals.argmax(1)])


@pytest.mark.parametrize("scores", [torch.zeros(2, 3, 4), torch.zeros(3, 3), torch.full((1, 3, 3), torch.nan)])
def test_scores_that_cannot_be_assigned_are_refused(scores):
    with pytest.raises(ValueError, match="scores"):
        optimal_assignment(scores)


@pytest.mark.parametrize("tiles", [2, 4, 9, 16])
def test_kendall_tau_is_that_of_scipy(tiles):
    generator = np.random.default_rng(0)
    predicted, truth = (np.stack([generator.permutation(tiles) for _ in range(30)]) for _ in range(2))
    expected = [kendalltau(a, b).statistic for a, b in zip(predicted, truth, strict=True)]
    found = kendall_tau(torch.from_numpy(predicted), torch.from_numpy(truth))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)
    assert min(expected) < 0 < max(expected)


def test_one_answer_to_all_permutations_gets_exactly_chance():
    everything = torch.tensor(list(itertools.permutations(range(4))))
    measures = puzzle_measures(torch.tensor([2, 0, 3, 1]).expand_as(everything), everything)
    assert [measure.value for measure in measures.values()] == pytest.approx([1 / 4, 1 / 24, 0], abs=1e-12)
    assert [measure.chance for measure in measures.values()] == pytest.approx([1 / 4, 1 / 24, 0])


def test_measures_by_hand():
    truth = torch.tensor([[0, 1, 2, 3], [3, 1, 0, 2]])
    measures = puzzle_measures(torch.tensor([[0, 1, 3, 2], [3, 1, 0, 2]]), truth)
    assert measures["tile_accuracy"].value == 0.75
    assert measures["exact_accuracy"].value == 0.5
    assert measures["kendall_tau"].value == pytest.approx((4 / 6 + 1) / 2)  # one of six pairs the wrong way round


# Tiles


def coordinates(size):
    """uint8 [1, 3, S, S] whose red is the column and whose green is the row."""
    ramp = torch.arange(size, dtype=torch.uint8)
    return torch.stack([ramp.expand(size, size), ramp[:, None].expand(size, size), torch.full((size, size), 7)])[None]


@pytest.mark.parametrize("grid", [2, 3, 4])
@pytest.mark.parametrize(("gap", "jitter"), [(0.2, 0.5), (0.4, 1.0), (0.1, 0.0)])
def test_tiles_apart_show_their_boxes(grid, gap, jitter):
    """Of an image of its own coordinates: the means of a tile are its centre, its range is its side."""
    puzzle, keys, size = Puzzle(grid, gap, jitter), sample_keys(0, 0, 6), 120
    tiles = tiles_apart(puzzle, coordinates(size).expand(6, -1, -1, -1), keys, 24, Photometric.none()) * 255
    boxes = puzzle.boxes(keys)
    torch.testing.assert_close((tiles[:, :, :2].mean((3, 4)) + 0.5) / size, boxes[..., :2], atol=2e-3, rtol=0)
    side = (tiles[:, :, 0, 12, -1] - tiles[:, :, 0, 12, 0]) / size * 24 / 23
    torch.testing.assert_close(side, boxes[..., 2], atol=2e-2, rtol=0)


@pytest.mark.parametrize(("gap", "jitter"), [(0.2, 0.5), (0.4, 1.0), (0.1, 0.0)])
def test_boxes_stay_in_their_cells_and_move(gap, jitter):
    puzzle = Puzzle(3, gap, jitter)
    boxes = puzzle.boxes(sample_keys(1, 0, 500))
    cell = torch.arange(9)
    corner = torch.stack([cell % 3, cell // 3], dim=-1) / 3
    low, high = boxes[..., :2] - boxes[..., 2:] / 2 - corner, corner + 1 / 3 - boxes[..., :2] - boxes[..., 2:] / 2
    room = gap / 3
    for margin in (low, high):
        assert margin.min() >= (1 - jitter) * room / 2 - 1e-6
        assert margin.max() <= (1 + jitter) * room / 2 + 1e-6
        torch.testing.assert_close(margin.mean(), torch.tensor(room / 2), atol=0.02 * room, rtol=0)
    torch.testing.assert_close(low.std(), torch.tensor(jitter * room / 2 / math.sqrt(3)), atol=0.02 * room, rtol=0)


def test_orders_are_uniform_over_all_permutations():
    keys = sample_keys(3, 0, 24_000)
    _, counts = torch.unique(Puzzle(2, 0.2, 0.5).order(keys), dim=0, return_counts=True)
    assert len(counts) == 24  # the identity among them
    assert ((counts - 1000) ** 2 / 1000).sum() < 50  # chi-squared of 23 degrees of freedom: 1 in 1000 exceeds 49.7


def test_puzzles_depend_on_the_image_alone():
    puzzle, keys = Puzzle(3, 0.2, 0.5), sample_keys(0, 0, 10)
    assert torch.equal(puzzle.order(keys)[4:6], puzzle.order(keys[4:6]))
    assert torch.equal(puzzle.boxes(keys)[4:6], puzzle.boxes(keys[4:6]))
    assert not torch.equal(puzzle.order(keys), puzzle.order(sample_keys(1, 0, 10)))


@pytest.mark.parametrize("grid", [2, 3, 4])
def test_without_gaps_the_true_order_is_the_image(grid):
    puzzle, keys = Puzzle(grid, 0.0, 1.0), sample_keys(0, 0, 3)
    pixels = torch.randint(256, (3, 3, 48, 48), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    assert torch.equal(lay(puzzle, pixels, keys, torch.arange(grid**2).repeat(3, 1)), pixels)


@pytest.mark.parametrize(("grid", "size"), [(2, 48), (3, 50), (4, 50)])
def test_laid_tiles_are_where_they_were_put(grid, size):
    """By the coordinates that an image's pixels hold: each place has one whole tile, and around it the mean colour."""
    puzzle, keys = Puzzle(grid, 0.25, 1.0), sample_keys(2, 0, 5)
    places = puzzle.order(keys)
    laid = lay(puzzle, coordinates(size).expand(5, -1, -1, -1), keys, places).int()
    side, edges = puzzle.tile_side(size), [i * size // grid for i in range(grid + 1)]
    steps = torch.arange(side)
    for image, cell in itertools.product(range(5), range(grid**2)):
        place = int(places[image, cell])
        (x, room_x), (y, room_y) = ((edges[i], edges[i + 1] - edges[i] - side) for i in (place % grid, place // grid))
        tile = laid[image, :, y + room_y // 2 :, x + room_x // 2 :][:, :side, :side]
        left, top = tile[0, 0, 0], tile[1, 0, 0]
        assert torch.equal(tile[0], (left + steps).expand(side, side))
        assert torch.equal(tile[1], (top + steps)[:, None].expand(side, side))
        for start, index in ((left, cell % grid), (top, cell // grid)):
            assert edges[index] <= start <= edges[index + 1] - side
    around = laid[:, 0] == round((size - 1) / 2)
    assert around.float().mean() > 0.9 * (1 - grid**2 * side**2 / size**2)


@pytest.mark.parametrize(("grid", "size"), [(2, 48), (3, 50), (4, 50)])
def test_gaps_are_filled_with_the_nearest_pixel_of_the_tile_in_the_cell(grid, size):
    puzzle, keys = Puzzle(grid, 0.25, 0.5), sample_keys(0, 0, 2)
    pixels = torch.randint(256, (2, 3, size, size), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    laid = lay(puzzle, pixels, keys, puzzle.order(keys))
    filled = fill(puzzle, laid)
    side, edges = puzzle.tile_side(size), [i * size // grid for i in range(grid + 1)]

    def nearest(position):
        cell = max(i for i in range(grid) if edges[i] <= position)
        tile = range(edges[cell] + (edges[cell + 1] - edges[cell] - side) // 2, size)[:side]
        return min(tile, key=lambda pixel: abs(pixel - position))

    for y, x in itertools.product(range(size), repeat=2):
        assert torch.equal(filled[:, :, y, x], laid[:, :, nearest(y), nearest(x)])


@pytest.mark.parametrize("grid", [2, 3, 4])
@pytest.mark.parametrize("tokens", [(6, 6), (4, 8), (7, 7)])
def test_tokens_count_by_the_area_the_tile_covers(grid, tokens):
    """Against the mean, pixel by pixel, of the tokens spread out over an image that all their sides divide."""
    puzzle, size = Puzzle(grid, 0.2, 0.5), 336
    values = torch.randn(1, 1, *tokens, generator=torch.Generator().manual_seed(0))
    spread = F.interpolate(values, size=(size, size), mode="nearest")[0, 0]
    side = puzzle.tile_side(size)
    weights = token_weights(puzzle, size, tokens)
    torch.testing.assert_close(weights.sum(-1), torch.ones(grid**2))
    for place, found in enumerate((weights @ values.flatten()).tolist()):
        x, y = (i * (size // grid) + (size // grid - side) // 2 for i in (place % grid, place // grid))
        assert found == pytest.approx(float(spread[y : y + side, x : x + side].mean()), abs=1e-5)


# The probe


def clusters(n, tiles, size, seed=0):
    """Features of tiles around the means of their cells, correlated, with something of each image's own."""
    generator = torch.Generator().manual_seed(seed)
    means = torch.randn(tiles, size, generator=torch.Generator().manual_seed(9))
    mixing = torch.randn(size, size, generator=torch.Generator().manual_seed(8))
    cells = torch.stack([torch.randperm(tiles, generator=generator) for _ in range(n)])
    own = 5 * torch.randn(n, 1, size, generator=generator)
    return means[cells] + torch.randn(n, tiles, size, generator=generator) @ mixing + own, cells


@pytest.mark.parametrize("penalty", [1e-12, 0.1])
def test_weights_are_those_of_linear_discriminant_analysis(penalty):
    x, cells = clusters(60, 4, 6)
    x = (x - x.mean(1, keepdim=True)).double()
    (found,) = discriminants(x, cells, (penalty,))
    rows, labels = x.flatten(0, 1).numpy(), cells.flatten().numpy()
    reference = LinearDiscriminantAnalysis(solver="lsqr", store_covariance=True).fit(rows, labels)
    if penalty < 1e-6:
        np.testing.assert_allclose(found.T.numpy(), reference.coef_, atol=1e-6)
    penalised = reference.covariance_ + penalty * np.eye(6)
    np.testing.assert_allclose(found.numpy(), np.linalg.solve(penalised, reference.means_.T), atol=1e-6)


def test_what_all_tiles_of_an_image_share_does_not_matter():
    features, cells = clusters(50, 4, 6)
    probe = CellProbe.fit(features, cells, seed=0)
    other, truth = clusters(200, 4, 6, seed=1)
    torch.testing.assert_close(probe.scores(other + 100), probe.scores(other), atol=1e-3, rtol=1e-3)
    accuracy = (optimal_assignment(probe.scores(other)) == truth).double().mean()
    assert 0.5 < accuracy < 1


def test_the_probe_does_not_care_in_which_order_tiles_come():
    features, cells = clusters(50, 4, 6)
    order = torch.tensor([2, 0, 3, 1])
    first, second = CellProbe.fit(features, cells, seed=0), CellProbe.fit(features[:, order], cells[:, order], seed=0)
    torch.testing.assert_close(first.weights, second.weights)
    with pytest.raises(ValueError, match="9 training images are too few"):
        CellProbe.fit(features[:9], cells[:9], seed=0)


# Encoders that know, and that do not


class Knowing(nn.Module):
    """Patches: their mean red and green, which are where they come from. Class token: the blue, seen coarsely."""

    def patches_of(self, size):
        if size % PATCH:
            raise ValueError(f"{size} is not divisible by {PATCH}")
        return size // PATCH, size // PATCH

    def forward(self, pixels):
        patches = F.avg_pool2d(pixels[:, :2], PATCH).flatten(2).transpose(1, 2)
        return Encoding(F.adaptive_avg_pool2d(pixels[:, 2:], 4).flatten(1), patches, self.patches_of(pixels.shape[-1]))


class Constant(Knowing):
    def forward(self, pixels):
        grid = self.patches_of(pixels.shape[-1])
        return Encoding(torch.ones(len(pixels), 5), torch.ones(len(pixels), grid[0] * grid[1], 5), grid)


class Broken(Knowing):
    def forward(self, pixels):
        encoding = super().forward(pixels)
        return encoding._replace(patches=encoding.patches / 0)


def images(n):
    """Red is the column, green the row; the class is the quadrant that is blue."""
    made = np.zeros((n, SIZE, SIZE, 3), np.uint8)
    made[..., 0], made[..., 1] = 5 * np.arange(SIZE), 5 * np.arange(SIZE)[:, None]
    half = SIZE // 2
    for index, image in enumerate(made):
        x, y = index % 2 * half, index // 2 % 2 * half
        image[y : y + half, x : x + half, 2] = 200
    return [Image.fromarray(image) for image in made]


def evaluation_data(tmp_path, train=24, validation=24, labelled=True):
    source = {}
    for side, n in (("train", train), ("validation", validation)):
        columns = {"image": images(n), **({"label": [i % 4 for i in range(n)]} if labelled else {})}
        features = {"image": datasets.Image()}
        if labelled:
            features["label"] = datasets.ClassLabel(num_classes=4)
        source[side] = str(tmp_path / f"{side}.parquet")
        datasets.Dataset.from_dict(columns, features=datasets.Features(features)).to_parquet(source[side])
    return EvaluationData(DataSource(source["train"], validation_dataset=source["validation"]))


def evaluated(encoder):
    return EvaluatedModel(type(encoder).__name__, encoder, Preprocess.squash(SIZE))


def run(task, encoder, data):
    model = evaluated(encoder)
    task.prepare(data)
    task.check(model, data)
    return task.run(model, data)


def test_features_that_hold_the_box_solve_every_puzzle_and_recover_what_order_tells(tmp_path):
    data = evaluation_data(tmp_path)
    result = run(Jigsaw(photometric=Photometric.none()), Knowing(), data)
    values = {name: measure.value for name, measure in result.measures.items()}
    for puzzle, regime in itertools.product(("2x2", "3x3", "4x4"), ("apart", "whole")):
        assert values[f"tile_accuracy_{puzzle}_{regime}"] == 1.0
        assert values[f"exact_accuracy_{puzzle}_{regime}"] == 1.0
        assert values[f"kendall_tau_{puzzle}_{regime}"] == 1.0
        assert values[f"accuracy_reconstructed_{puzzle}_{regime}"] == values[f"accuracy_ordered_{puzzle}"]
        assert values[f"recovered_{puzzle}_{regime}"] == pytest.approx(values[f"recoverable_{puzzle}"])
    assert values["accuracy_intact"] == 1.0
    assert values["accuracy_ordered_2x2"] > 0.9 > values["accuracy_shuffled_2x2"]
    assert all(measure.n == 24 for measure in result.measures.values())
    assert result.details["recognition"] == {}
    assert (result.details["tile_size"], result.details["canvas_size"]) == (24, 96)


def test_a_constant_encoder_gets_what_guessing_gets(tmp_path):
    """Its answer is one and the same for all images, so its metrics are those of their orders."""
    data = evaluation_data(tmp_path, train=12, validation=60)
    task = Jigsaw(images=0)
    result = run(task, Constant(), data)
    for puzzle in task.puzzles():
        orders = puzzle.order(sample_keys(data.seed, 0, 60))
        answer = optimal_assignment(torch.zeros(1, puzzle.tiles, puzzle.tiles)).expand_as(orders)
        for name, expected in puzzle_measures(answer, orders).items():
            for regime in ("apart", "whole"):
                found = result.measures[f"{name}_{puzzle}_{regime}"]
                assert found.value == pytest.approx(expected.value)
                deviation = float(expected.numerators.std()) / math.sqrt(60)
                assert abs(found.value - found.chance) <= 4 * deviation + 1e-3
    assert "recovered_2x2_apart" not in result.measures
    assert "no fraction recovered" in result.details["recognition"]["2x2"]


def test_colour_jitter_hides_what_colours_tell_of_tiles_apart(tmp_path):
    data = evaluation_data(tmp_path, train=40, validation=40)
    options = {"grids": (3,), "regimes": ("apart",), "images": 0}
    bare = run(Jigsaw(photometric=Photometric.none(), **options), Knowing(), data)
    jittered = run(Jigsaw(**options), Knowing(), data)
    assert jittered.measures["tile_accuracy_3x3_apart"].value < bare.measures["tile_accuracy_3x3_apart"].value == 1


def test_images_without_labels_are_put_together_and_not_recognised(tmp_path):
    result = run(Jigsaw(grids=(2,)), Knowing(), evaluation_data(tmp_path, labelled=False))
    assert set(result.measures) == {
        f"{name}_2x2_{regime}"
        for name in ("tile_accuracy", "exact_accuracy", "kendall_tau")
        for regime in Jigsaw.regimes
    }
    assert "labels" in result.details["recognition"]


def test_recognition_by_hand():
    intact = torch.tensor([1, 1, 1, 1, 1, 1, 1, 0, 1, 1]).bool()
    shuffled = torch.tensor([1, 0, 0, 0, 0, 0, 0, 0, 0, 0]).bool()
    ordered = torch.tensor([1, 1, 1, 1, 1, 1, 1, 0, 0, 0]).bool()
    put_back = torch.tensor([0, 1, 1, 1, 1, 1, 0, 0, 0, 0]).bool()
    measures, note = recognition_measures(Recognised(intact, shuffled, ordered, {"apart": put_back}), "3x3", 0.1, 0)
    assert note is None
    assert {name: round(measure.value, 6) for name, measure in measures.items()} == {
        "accuracy_intact": 0.9,
        "accuracy_shuffled_3x3": 0.1,
        "accuracy_ordered_3x3": 0.7,
        "accuracy_reconstructed_3x3_apart": 0.5,
        "recoverable_3x3": 0.75,
        "recovered_3x3_apart": 0.5,
    }
    measures, note = recognition_measures(Recognised(intact, intact, ordered, {"apart": put_back}), "3x3", 0.1, 0)
    assert "not clearly more than nothing" in note
    assert not any(name.startswith("recover") for name in measures)


# Refusals


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"grids": (1,)}, "grids start at 2"),
        ({"grids": ()}, "one grid or more"),
        ({"regimes": ("apart", "together")}, "together"),
        ({"gap": 1.0}, "gap is 1.0"),
        ({"jitter": 1.5}, "jitter 1.5"),
        ({"images": -1}, "images is -1"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Jigsaw(**options)


def test_what_cannot_work_is_refused_before_anything_is_encoded(tmp_path):
    data = evaluation_data(tmp_path)
    with pytest.raises(ValueError, match="9 training images are too few"):
        Jigsaw(images=9).prepare(data)
    with pytest.raises(ValueError, match="not divisible"):
        Jigsaw(tile_size=22).check(evaluated(Knowing()), data)
    with pytest.raises(ValueError, match=r"12 x 12 patch tokens: too few for a jigsaw of 13x13.*--jigsaw_grids"):
        Jigsaw(grids=(13,)).check(evaluated(Knowing()), data)
    Jigsaw(grids=(13,), regimes=("apart",)).check(evaluated(Knowing()), data)


def test_features_that_are_not_finite_are_an_error(tmp_path):
    with pytest.raises(ValueError, match="NaN or infinity"):
        run(Jigsaw(grids=(2,)), Broken(), evaluation_data(tmp_path))


# Pictures


@pytest.mark.parametrize("colour", [(229, 20, 30), (255, 255, 255), (0, 0, 0), (128, 128, 128), (30, 200, 60)])
def test_frames_of_wrong_tiles_are_seen_on_any_colour(colour, tmp_path):
    """Also on the frames' own red: the sheet with frames and the one without differ by a third of the range."""
    image = torch.tensor(colour, dtype=torch.uint8)[:, None, None].expand(3, 96, 96)
    pixels = []
    for wrong in (True, False):
        solved = SolvedPuzzle(Puzzle(2, 0.2, 0.5), image, image, image, torch.full((4,), wrong))
        draw_sheet(tmp_path / "sheet.png", {"a model": [solved]})
        with Image.open(tmp_path / "sheet.png") as sheet:
            pixels.append(np.asarray(sheet.convert("RGB"), dtype=int))
    differs = np.abs(pixels[0] - pixels[1]).max(-1)
    differs[int(0.9 * len(differs)) :] = 0  # the count of tiles below the image differs, too
    assert (differs > 85).sum() > 200


# From the command line


def test_a_run_draws_its_sheets_and_a_second_one_reuses_its_features(tmp_path, caplog):
    source = evaluation_data(tmp_path, train=20, validation=16).source
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    vit = ViTModel(ViTConfig(patch_size=8, image_size=SIZE, **sizes), add_pooling_layer=False)
    vit.save_pretrained(tmp_path / "vit")
    command = ["evaluate", str(tmp_path / "vit"), "--dataset", source.dataset]
    command += ["--validation_dataset", source.validation_dataset, "--num_workers", "0"]
    command += ["--tasks", "jigsaw", "--jigsaw_grids", "3", "--jigsaw_images", "12"]
    command += ["--cache_dir", str(tmp_path / "cache")]
    results = []
    for name in ("first", "second"):
        with caplog.at_level(logging.INFO, logger="sp_hf"):
            caplog.clear()
            assert main([*command, "--output_dir", str(tmp_path / name)]) == 0
        results.append(json.loads((tmp_path / name / "results.json").read_text())["tasks"]["jigsaw"])
        for picture in results[-1]["pictures"]:
            with Image.open(tmp_path / name / picture["path"]) as sheet:
                assert min(sheet.size) > 300 and len(sheet.getcolors(1 << 24)) > 1000
    assert [picture["path"] for picture in results[0]["pictures"]] == ["jigsaw_apart.png", "jigsaw_whole.png"]
    assert caplog.text.count("features of jigsaws are reused") == 3  # models and controls, each said once
    first, second = ({model: found["measures"] for model, found in result["results"].items()} for result in results)
    assert first == second
    metrics = dataclasses.fields(Jigsaw)
    assert {field.name for field in metrics} <= set(results[0]["settings"])
    assert results[0]["headline"][0] == "tile_accuracy_3x3_apart"
