"""Correspondence: encoders whose answer is known, keypoints and pairs by hand."""

import numpy as np
import pytest
import torch
from dense_samples import encoded, evaluation, model
from torch.nn import functional as F

from sp_hf.encoders.encoder import Encoding
from sp_hf.evaluation.source import DataSource
from sp_hf.evaluation.where.correspondence.keypoints import keypoints_of, pairs_of
from sp_hf.evaluation.where.correspondence.matching import FINE, is_near, match
from sp_hf.evaluation.where.correspondence.task import Correspondence

SIDE = 8


class Places(torch.nn.Module):
    """A token is its place: every part is looked for where it was."""

    def patches_of(self, size):
        return SIDE, SIDE

    def forward(self, pixels):
        axis = torch.linspace(-1, 1, SIDE)
        rows, columns = torch.meshgrid(axis, axis, indexing="ij")
        tokens = torch.stack([rows, columns, torch.ones(SIDE, SIDE)], -1).flatten(0, 1).expand(len(pixels), -1, -1)
        return Encoding(tokens.mean(1), tokens, (SIDE, SIDE))


class Colours(torch.nn.Module):
    """A token is the mean colour of its patch, less grey: enough where every kind of part has a hue of its own."""

    def patches_of(self, size):
        return SIDE, SIDE

    def forward(self, pixels):
        tokens = F.adaptive_avg_pool2d(pixels, SIDE).flatten(2).transpose(1, 2) - 0.5
        return Encoding(tokens.mean(1), tokens, (SIDE, SIDE))


def test_tokens_that_are_places_answer_the_same_place_which_is_chance():
    data = evaluation(DataSource("part-scenes?size=64&num_images=60"))
    task = Correspondence(images=60)
    assert len(task._annotated(data).pairs) > 20
    result = task.run(model(Places()), data)
    for name in task.headline:
        assert result.measures[name].value == pytest.approx(result.measures[name].chance, abs=0.06)
    assert result.details["keypoints"] == int(result.measures["pck_at_10"].denominators.sum()) > 100


def test_colours_find_parts_where_each_kind_has_its_own(tmp_path):
    data = evaluation(DataSource("part-scenes?size=64&num_images=60"))
    found = {
        level: Correspondence(images=60, difficulty=level).run(model(Colours()), data) for level in ("easy", "hard")
    }
    easy, hard = (found[level].measures["pck_at_20"] for level in ("easy", "hard"))
    assert easy.value > easy.chance + 0.05 and easy.value > hard.value + 0.1
    (picture,) = Correspondence().draw({"colours": found["easy"]}, tmp_path)
    assert picture.path.stat().st_size > 5000 and Correspondence().draw({}, tmp_path) == []


def test_a_shifted_image_is_matched_at_the_shift():
    """Tokens that never repeat, rolled by two columns: the answer is two tokens to the right, to half a cell."""
    grid = (4, 8)
    tokens = F.normalize(torch.randn(4, 8, 64, generator=torch.Generator().manual_seed(0)), dim=-1)
    moved = tokens.roll(2, 1)
    rows, columns = torch.tensor([0, 1, 3, 2]), torch.tensor([0, 3, 5, 1])
    points = torch.stack([(columns + 0.5) / 8, (rows + 0.5) / 4], dim=-1)
    answer = match(tokens.flatten(0, 1), moved.flatten(0, 1), grid, points)
    torch.testing.assert_close(answer, points + torch.tensor([2 / 8, 0.0]), atol=1.01 / FINE, rtol=0)


def test_nearness_is_in_heights_whatever_the_proportions():
    truth = torch.tensor([[0.5, 0.5]])
    assert is_near(truth + torch.tensor([0.1, 0.0]), truth, aspect=1.0, reach=0.15).all()
    assert not is_near(truth + torch.tensor([0.1, 0.0]), truth, aspect=2.0, reach=0.15).any()


def test_keypoints_are_parts_that_are_there_once_and_seen():
    parts = [{"part": 1, "box": [0.2, 0.3, 0.2, 0.2]}, {"part": 2, "box": [0.7, 0.6, 0.4, 0.4]},
             {"part": 8, "box": [0.1, 0.9, 0.1, 0.1]}, {"part": 8, "box": [0.9, 0.9, 0.1, 0.1]}]  # fmt: skip
    everything = keypoints_of(parts)
    assert everything.points == {1: (0.2, 0.3), 2: (0.7, 0.6)}
    assert everything.extent == pytest.approx((0.9, 0.75))
    segmentation = np.zeros((20, 20), np.uint8)
    segmentation[4:8, 2:6] = 1
    assert list(keypoints_of(parts, encoded(segmentation)).points) == [1]  # the second is hidden
    assert keypoints_of([]).points == {}
    torch.testing.assert_close(everything.of([2, 1]), torch.tensor([[0.7, 0.6], [0.2, 0.3]]))


def test_each_image_is_paired_with_the_next_of_its_class():
    assert pairs_of([5, 1, 5, -1, 5, -1, 1, 2]) == [(0, 2), (1, 6), (2, 4), (4, 0), (6, 1)]
    assert pairs_of([1, 2, -1]) == []


@pytest.mark.parametrize("options", [{"images": 1}, {"size": 0}, {"difficulty": "harder"}])
def test_options_out_of_their_range_are_refused(options):
    with pytest.raises(ValueError, match="correspondence needs two images|no difficulty 'harder': easy, medium, hard"):
        Correspondence(**options)


def test_images_without_parts_are_refused(tmp_path):
    source = DataSource(str(tmp_path), image_column="image")
    with pytest.raises(ValueError, match="--correspondence_dataset"):
        Correspondence().prepare(evaluation(source))
