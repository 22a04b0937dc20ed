import pytest
import torch

from sp_hf.objectives import build_objective
from sp_hf.objectives.koleo import koleo_loss
from sp_hf.objectives.masks import cross_masks
from sp_hf.views.keyed_random import sample_keys

from .harness import Step, TinyEncoder, make_batch
from .test_ibot import TINY as IBOT

POSITIONS = {"positions": "crop", "position_window": [2, 5]}
TINY = {
    **IBOT,
    "name": "content_position",
    "global_views": {**IBOT["global_views"], **POSITIONS},
    "local_views": {**IBOT["local_views"], **POSITIONS},
    "koleo_weight": 0.0,  # looks for neighbours on its own process
}
DRAWS = True


def build(**options):
    torch.manual_seed(0)
    encoder = TinyEncoder()
    return Step(build_objective({**TINY, **options}, encoder), encoder)


def test_crosses_are_whole_rows_and_columns_of_the_share_asked_for():
    ratios = torch.tensor([0.0, 0.2, 0.5]).expand(200, 3)
    masks = cross_masks(sample_keys(0, 0, 200), "crosses", (10, 14), ratios).unflatten(-1, (10, 14))
    assert not masks[:, 0].any()
    for v, ratio in ((1, 0.2), (2, 0.5)):
        mask = masks[:, v]
        rows, columns = mask.all(-1), mask.all(-2)
        assert torch.equal(mask, rows[:, :, None] | columns[:, None])
        assert rows.any(-1).all() and columns.any(-1).all()
        assert mask.float().mean((-1, -2)).sub(ratio).abs().max() < 0.06
        assert rows.float().mean(0).min() > 0 and columns.float().mean(0).min() > 0  # anywhere


def test_an_image_has_one_kind_of_mask_and_half_of_them_either():
    step = build(mask_probability=1.0)
    batch = make_batch(step.objective, images=64)
    masked, dropped = step.objective.content_and_position_masks(batch)
    kinds = torch.stack([masked.any(-1).any(-1), dropped.any(-1).any(-1)], dim=1)  # [B, 2]
    assert not kinds.all(1).any()
    assert 16 < kinds[:, 1].sum() < 48 and kinds[:, 0].sum() > 10
    requests = step.objective.requests(batch)
    mask = requests.encodes["student_global"].mask
    assert torch.equal(mask.masked, masked) and torch.equal(mask.dropped, dropped)
    assert torch.equal(requests.state, masked | dropped)
    assert requests.encodes["teacher"].mask is None


@pytest.mark.parametrize("share, field", [(0.0, "dropped"), (1.0, "masked")])
def test_the_share_decides(share, field):
    step = build(position_share=share, mask_probability=1.0)
    mask = step.objective.requests(make_batch(step.objective, images=16)).encodes["student_global"].mask
    assert not getattr(mask, field).any() and (mask.masked | mask.dropped).any()


def test_koleo_is_added():
    with_koleo, without = build(koleo_weight=0.5), build()
    batch = make_batch(without.objective)
    output, plain = with_koleo(batch), without(batch)
    _, requests = without.objective.prepared(batch)
    cls = without._encode(batch, requests["student_global"]).cls
    expected = plain.loss + 0.5 * sum(koleo_loss(cls[:, g]) for g in range(2))
    torch.testing.assert_close(output.loss, expected)


def test_views_whose_positions_stay_are_refused():
    with pytest.raises(ValueError, match="global_views has positions: view; content_position is for positions: crop"):
        build(global_views={**IBOT["global_views"], "positions": "view", "position_window": None})
