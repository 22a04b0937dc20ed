import numpy as np
import pytest
import torch

from sp_hf.objectives import build_objective
from sp_hf.objectives.what.gram_anchoring import gram, resized

from .harness import Step, TinyEncoder, make_batch

VIEWS = {"count": 2, "size": 32, "area": [0.3, 1.0]}
TINY = {"name": "gram_anchoring", "views": VIEWS}


def build(**options):
    torch.manual_seed(0)
    encoder = TinyEncoder()
    return Step(build_objective({**TINY, **options}, encoder), encoder)


@pytest.mark.parametrize("clip", [False, True])
def test_gram_is_a_table_of_cosines(clip):
    x = np.random.default_rng(0).normal(size=(2, 5, 3))
    found = gram(torch.tensor(x), clip)
    for image in range(2):
        for i in range(5):
            for j in range(5):
                cosine = x[image, i] @ x[image, j] / np.linalg.norm(x[image, i]) / np.linalg.norm(x[image, j])
                assert found[image, i, j].item() == pytest.approx(max(cosine, 0) if clip else cosine)


def test_a_map_on_another_grid_keeps_what_is_linear_in_place():
    def ramp(side):
        row, column = np.divmod(np.arange(side * side), side)
        return torch.tensor(np.stack([(row + 0.5) / side, (column + 0.5) / side], axis=-1))

    inner = torch.tensor([[1 <= r <= 2 and 1 <= c <= 2 for c in range(4)] for r in range(4)]).flatten()
    found = resized(ramp(8)[None], (8, 8), (4, 4))[0]
    torch.testing.assert_close(found[inner], ramp(4)[inner])


def test_nothing_is_lost_at_first_and_the_loss_is_the_mean_squared_difference_later():
    step = build(resolution=1)
    batch = make_batch(step.objective)
    start = step(batch)
    assert start.loss < 1e-10 and start.logs["r2"] > 0.9999
    with torch.no_grad():
        for p in step.encoder.parameters():
            p.add_(0.05 * torch.randn_like(p))
    pixels = batch.views["views"].pixels.flatten(0, 1)
    now, then = (gram(tower(pixels).patches).detach().numpy() for tower in (step.encoder, step.initial))
    output = step(batch)
    assert output.loss.item() == pytest.approx(((now - then) ** 2).mean(), rel=1e-4)
    assert output.logs["r2"].item() == pytest.approx(1 - ((now - then) ** 2).mean() / then.var(), rel=1e-4)


def test_the_initial_encoder_sees_the_same_box_at_twice_the_size():
    batch = make_batch(build().objective)
    views, enlarged = batch.views["views"], batch.views["enlarged"]
    assert enlarged.pixels.shape[-1] == 64
    torch.testing.assert_close(enlarged.boxes, views.boxes)
    assert torch.equal(enlarged.flips, views.flips)


def test_shared_views_cannot_be_enlarged():
    with pytest.raises(ValueError, match="resolution is 2, of views 'dino/global' that are shared; set it to 1"):
        build(views="dino/global")
    assert build(views="dino/global", resolution=1).objective.view_specs() == {"views": "dino/global"}
