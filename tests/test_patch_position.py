"""Absolute position from patch tokens, and the positional share of their variance, against known answers."""

import numpy as np
import pytest
import torch
from dense_samples import GRID, GridMeans, constant, evaluation, model
from sklearn.linear_model import LinearRegression

from sp_hf.encoders.encoder import Encoding
from sp_hf.evaluation.source import DataSource
from sp_hf.evaluation.where.patch_position.positional_share import positional_dimensions, positional_share
from sp_hf.evaluation.where.patch_position.probe import PositionProbe, drawn_positions, patch_centres
from sp_hf.evaluation.where.patch_position.task import PatchPosition

SCENES = DataSource("part-scenes?size=32&num_images=16")


class Positions(GridMeans):
    """A token is the place of its patch, turned and scaled, and some content that does not tell it."""

    def __init__(self, content=0.0):
        super().__init__()
        self.content = content

    def forward(self, pixels):
        colours = super().forward(pixels).patches
        places = patch_centres((GRID, GRID)).float() @ torch.tensor([[3.0, 1.0, 0.5], [-1.0, 2.0, 0.25]]) + 5
        patches = places + self.content * (colours - colours.mean(1, keepdim=True))
        return Encoding(patches.mean(1), patches, (GRID, GRID))


def test_tokens_that_are_places_have_1_and_constant_tokens_0(tmp_path):
    data, task = evaluation(SCENES), PatchPosition(noise_images=8)
    results = {"places": task.run(model(Positions()), data), "constant": task.run(constant(), data)}
    expected = {"places": 1.0, "constant": 0.0}
    for name, result in results.items():
        for metric in ("r2", "r2_row", "r2_column", "positional_share", "positional_share_images"):
            assert result.measures[metric].value == pytest.approx(expected[name], abs=1e-4), (name, metric)
    assert results["places"].measures["r2"].n == 16 and results["places"].measures["positional_share"].n == 8
    (picture,) = task.draw(results, tmp_path)
    assert picture.path.stat().st_size > 1000 and task.draw({}, tmp_path) == []


def test_noise_tells_pixels_nothing_of_their_place():
    """Tokens that are colours: what noise has at a place has nothing to do with the place; photographs' do."""
    measures = PatchPosition(noise_images=64).run(model(), evaluation(SCENES)).measures
    share = measures["positional_share"].estimate()
    assert abs(share.value) < 0.02 and share.low < 0 < share.high


def test_probe_is_least_squares_where_nothing_is_penalised():
    generator = torch.Generator().manual_seed(0)
    tokens, places = torch.randn(30, 5, 7, generator=generator), torch.randn(30, 5, 2, generator=generator).double()
    asked = torch.randn(4, 5, 7, generator=generator)
    probe = PositionProbe.fit(tokens, places, 0, penalties=torch.full((2,), 1e-12, dtype=torch.float64))
    reference = LinearRegression().fit(tokens.flatten(0, 1).numpy(), places.flatten(0, 1).numpy())
    np.testing.assert_allclose(probe.predict(asked).flatten(0, 1), reference.predict(asked.flatten(0, 1)), atol=1e-5)


def test_share_is_the_ratio_of_variances_and_its_interval_covers_it():
    """Tokens = place + image + content with variances 1, 4 and 3: a quarter of what varies within images."""
    generator = torch.Generator().manual_seed(0)
    places, inside = torch.randn(200, 12, generator=generator), 0
    places -= places.mean(0)
    true = float(places.square().mean() / (places.square().mean() + 3 * 199 / 200))
    for _ in range(60):
        image = 2 * torch.randn(20, 1, 12, generator=generator)
        tokens = places + image + 3**0.5 * torch.randn(20, 200, 12, generator=generator)
        estimate = positional_share(tokens).estimate(resamples=200)
        assert estimate.value == pytest.approx(true, abs=0.03)
        inside += estimate.low <= true <= estimate.high
    assert inside >= 50  # of 60, 57 expected; a bootstrap that takes pairs for images covers 41


def test_dimensions_of_positions():
    axes = torch.zeros(16, 9)
    axes[:, :2] = patch_centres((4, 4)).float()
    assert positional_dimensions(axes.expand(3, -1, -1)) == pytest.approx(2)
    assert positional_dimensions(torch.ones(3, 16, 9)) == 0


def test_places_and_which_are_asked():
    assert patch_centres((2, 4)).tolist()[:2] == [[-0.25, -0.375], [-0.25, -0.125]]
    drawn = drawn_positions(10, (4, 4), seed=0, max_tokens=50)
    assert drawn.shape == (10, 5) and all(len(set(row)) == 5 for row in drawn.tolist())
    assert torch.equal(drawn, drawn_positions(10, (4, 4), seed=0, max_tokens=50)) and len(drawn.unique()) > 12


@pytest.mark.parametrize("options", [{"noise_images": 1}, {"images": -1}, {"size": 0}])
def test_options_out_of_their_range_are_refused(options):
    with pytest.raises(ValueError, match="patch-position needs two noise images"):
        PatchPosition(**options)


def test_too_few_images_are_refused_before_any_work():
    with pytest.raises(ValueError, match="4 training images are too few"):
        PatchPosition().prepare(evaluation(DataSource("part-scenes?size=32&num_images=4")))
