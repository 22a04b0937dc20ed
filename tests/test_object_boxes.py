"""Boxes of objects from patch tokens: distances written out, boxes by hand, and on scenes with masks."""

from __future__ import annotations

import io

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

import sp_hf
from sp_hf.data.canvas_dataset import CanvasCollator, CanvasDataset
from sp_hf.data.datasets import load_images
from sp_hf.data.given_images import GivenImages
from sp_hf.data.object_boxes import with_object_boxes
from sp_hf.encoders.encoder import Encoder
from sp_hf.encoders.object_boxes import around, border_distances, object_boxes

GRID = (6, 8)


def tokens_of(*objects: tuple[slice, slice], noise: float = 0.05) -> torch.Tensor:
    """[1, N, D]: the ground's tokens, and each object's, with a large part in common."""
    generator = torch.Generator().manual_seed(0)
    kinds = torch.zeros(GRID, dtype=torch.long)
    for index, (rows, columns) in enumerate(objects, start=1):
        kinds[rows, columns] = index
    centres = torch.eye(16)[: len(objects) + 1] + 5.0
    return (centres[kinds.flatten()] + noise * torch.randn(48, 16, generator=generator))[None]


def box(rows: slice, columns: slice) -> list[float]:
    height, width = (rows.stop - rows.start) / GRID[0], (columns.stop - columns.start) / GRID[1]
    return [columns.start / GRID[1] + width / 2, rows.start / GRID[0] + height / 2, width, height]


@pytest.mark.parametrize(
    "place", [(slice(1, 4), slice(2, 7)), (slice(2, 3), slice(1, 3)), (slice(0, 4), slice(3, 6))], ids=str
)
def test_the_box_of_one_object(place):
    """In the middle, small, and one that touches the border."""
    found = object_boxes(tokens_of(place), GRID)
    torch.testing.assert_close(found[0], torch.tensor([box(*place)]))


def test_each_of_several_objects_is_found_once():
    places = [(slice(1, 3), slice(1, 3)), (slice(2, 5), slice(5, 7))]
    found = object_boxes(tokens_of(*places), GRID, count=2)
    torch.testing.assert_close(found[0][found[0, :, 0].argsort()], torch.tensor([box(*place) for place in places]))
    alone = object_boxes(torch.cat([tokens_of(places[0]), tokens_of(*places)]), GRID, count=2)
    torch.testing.assert_close(alone[1], found[0])  # whatever else is in the batch


def test_nothing_stands_out_of_an_even_picture():
    assert (object_boxes(torch.ones(2, 48, 16), GRID, count=2) == 0).all()


def test_distances_written_out():
    tokens = torch.rand(2, 20, 3, generator=torch.Generator().manual_seed(0))
    for found, image in zip(border_distances(tokens, (4, 5)), tokens.double().numpy(), strict=True):
        cells = [(row, column) for row in range(4) for column in range(5)]
        border = [i for i, (row, column) in enumerate(cells) if row in (0, 3) or column in (0, 4)]
        for i, distance in enumerate(found.tolist()):
            nearest = sorted(np.linalg.norm(image[i] - image[b]) for b in border if b != i)[:5]
            assert distance == pytest.approx(np.mean(nearest), rel=1e-5)


def test_a_grid_without_a_middle_is_refused():
    with pytest.raises(ValueError, match="a grid of 2 x 5 patches is all border; take images of 3 patches"):
        object_boxes(torch.rand(1, 10, 4), (2, 5))


def test_boxes_around_masks():
    masks = torch.zeros(3, *GRID, dtype=torch.bool)
    masks[0, 2:5, 1], masks[1, 0, 7] = True, True
    expected = [box(slice(2, 5), slice(1, 2)), box(slice(0, 1), slice(7, 8)), [0, 0, 0, 0]]
    torch.testing.assert_close(around(masks), torch.tensor(expected))


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> datasets.Dataset:
    cache = tmp_path_factory.mktemp("scenes")
    return sp_hf.part_scenes("train", size=96, num_images=60, cache_dir=str(cache))


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    torch.manual_seed(0)
    return sp_hf.resolve_encoder("vit-micro-8", image_size=96)


@pytest.fixture(scope="module")
def boxed(scenes, encoder) -> datasets.Dataset:
    return with_object_boxes(scenes, encoder, count=2)


def share_on_objects(boxes: torch.Tensor, masks: torch.Tensor) -> float:
    """The mean share of a box's area that lies on an object: [n, 4] and bool [n, S, S]."""
    side = masks.shape[-1]
    corners = torch.cat([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], dim=-1)
    edges = (corners * side).round().long().tolist()
    inside = [mask[top:bottom, left:right] for mask, (left, top, right, bottom) in zip(masks, edges, strict=True)]
    return torch.stack([part.float().mean() for part in inside]).mean().item()


def test_boxes_lie_on_the_objects_of_scenes_more_than_boxes_of_their_sizes_anywhere(boxed):
    """With random weights; what others made of it is in the module's docstring."""
    masks = torch.from_numpy(np.stack([np.asarray(row) > 0 for row in boxed["segmentation"]]))
    first = [row[0] if row else None for row in boxed["object_boxes"]]
    there = torch.tensor([box is not None for box in first])
    boxes = torch.tensor([box for box in first if box is not None])
    assert there.sum() > 50
    generator = torch.Generator().manual_seed(0)
    anywhere = []
    for _ in range(20):
        centres = boxes[:, 2:] / 2 + torch.rand(len(boxes), 2, generator=generator) * (1 - boxes[:, 2:])
        anywhere.append(share_on_objects(torch.cat([centres, boxes[:, 2:]], dim=-1), masks[there]))
    assert share_on_objects(boxes, masks[there]) > np.mean(anywhere) + 3 * np.std(anywhere)
    assert 0.05 < (boxes[:, 2] * boxes[:, 3]).mean() < 0.5


def test_they_are_computed_once_for_these_rows_weights_and_options(scenes, encoder, boxed, monkeypatch):
    def forward(self, pixels):
        raise AssertionError("computed again")

    with monkeypatch.context() as patch:
        patch.setattr(Encoder, "forward", forward)
        assert with_object_boxes(scenes, encoder, count=2)["object_boxes"] == boxed["object_boxes"]
        other = sp_hf.resolve_encoder("vit-micro-8", image_size=96)
        for changed in ({"count": 1}, {"count": 2, "size": 48}, {"encoder": other}):
            with pytest.raises(AssertionError, match="computed again"):
                with_object_boxes(scenes, changed.pop("encoder", encoder), **changed)
        with pytest.raises(AssertionError, match="computed again"):
            with_object_boxes(scenes.select(range(5)), encoder, count=2)
    assert encoder.training


def test_views_are_cut_from_them(boxed):
    images = load_images(GivenImages.of(boxed), image_column="image", extra_columns=["object_boxes"])
    canvases = CanvasDataset(images, 48, box_columns=["object_boxes"])
    batch = CanvasCollator()([canvases[index] for index in range(8)])
    spec = sp_hf.ViewSpec(count=2, size=16, area=(0.1, 0.5), boxes="object_boxes", box_context=0.0)
    views = sp_hf.ViewSampler({"a/b": spec})(batch["canvases"], batch["aspects"], torch.arange(8), batch["boxes"])[
        "a/b"
    ]
    for found, given in zip(views.boxes, boxed["object_boxes"][:8], strict=True):
        for view in found:
            assert not given or min((view - torch.tensor(g)).abs().max() for g in given) < 1e-5


def test_an_unreadable_image_has_none(encoder):
    photo = io.BytesIO()
    Image.effect_mandelbrot((60, 40), (-2, -1, 1, 1), 50).convert("RGB").save(photo, "PNG")
    images = [{"bytes": photo.getvalue(), "path": None}, {"bytes": b"no image", "path": None}]
    dataset = datasets.Dataset.from_dict({"photo": images}).cast_column("photo", datasets.Image())
    found = with_object_boxes(dataset, encoder, image_column="photo", column="places")
    assert [len(boxes) for boxes in found["places"]] == [1, 0]


def test_what_has_no_images_is_refused(scenes, encoder):
    with pytest.raises(TypeError, match="for a datasets.Dataset, not for a list"):
        with_object_boxes([1, 2], encoder)
    with pytest.raises(ValueError, match="image_column \\(it is 'photo'\\)"):
        with_object_boxes(scenes, encoder, image_column="photo")
    with pytest.raises(ValueError, match="a new one as column \\(it is 'label'\\)"):
        with_object_boxes(scenes, encoder, column="label")
    with pytest.raises(ValueError, match="not divisible into patches"):
        with_object_boxes(scenes, encoder, size=50)
