"""Queue, memory bank, running centre, block masks. Over two processes: test_distributed_objectives.py."""

import copy

import pytest
import torch
from torch.nn import functional as F

from sp_hf.objectives.masks import block_masks
from sp_hf.objectives.memory import MemoryBank, Queue
from sp_hf.views.keyed_random import sample_keys


def rows(start, count, width=3):
    return torch.arange(start, start + count, dtype=torch.float32)[:, None].expand(-1, width)


def test_a_queue_keeps_the_latest_in_a_circle_and_only_steps_move_it():
    queue = Queue(5, 3)
    first = queue.entries.clone()
    queue.add(rows(0, 2))
    queue.add(rows(2, 1))
    assert torch.equal(queue.entries, first)
    queue.step()
    assert torch.equal(queue.entries[:3], rows(0, 3)) and torch.equal(queue.entries[3:], first[3:])
    queue.add(rows(3, 4))
    queue.step()
    assert queue.entries[:, 0].tolist() == [5, 6, 2, 3, 4] and queue.pointer == 2
    queue.step()  # nothing new
    assert queue.pointer == 2
    queue.add(rows(10, 12))  # more than it holds: the latest
    queue.step()
    assert sorted(queue.entries[:, 0].tolist()) == [17, 18, 19, 20, 21]


def test_a_queue_comes_back_from_its_state_and_evaluation_adds_nothing():
    queue = Queue(4, 3)
    queue.add(rows(0, 3))
    queue.step()
    again = Queue(4, 3)
    again.load_state_dict(copy.deepcopy(queue.state_dict()))
    for memory in (queue, again):
        memory.add(rows(7, 2))
        memory.step()
    assert torch.equal(queue.entries, again.entries) and torch.equal(queue.pointer, again.pointer)
    queue.eval().add(rows(50, 1))
    queue.step()
    assert torch.equal(queue.entries, again.entries)


def test_a_bank_moves_the_entries_of_what_was_seen_by_the_mean():
    bank = MemoryBank(4, 3, momentum=0.5)
    before = bank.entries.clone()
    seen = F.normalize(torch.randn(3, 3), dim=-1)
    bank.add(torch.tensor([2, 0]), seen[:2])
    bank.add(torch.tensor([2]), seen[2:])
    assert torch.equal(bank.entries, before)
    bank.step()
    expected = before.clone()
    expected[0] = F.normalize(before[0] + seen[1], dim=-1)
    expected[2] = F.normalize(before[2] + (seen[0] + seen[2]) / 2, dim=-1)
    torch.testing.assert_close(bank.entries, expected)
    torch.testing.assert_close(bank.entries.norm(dim=-1), torch.ones(4))


def block_of(mask):
    """Whether a mask [h, w] is one full rectangle."""
    r, c = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
    return mask[r.min() : r.max() + 1, c.min() : c.max() + 1].all()


@pytest.mark.parametrize("ratio", [0.1, 0.3, 0.5])
def test_block_masks_come_near_their_ratio_from_below(ratio):
    masks = block_masks(sample_keys(0, 0, 300), "m", (14, 14), torch.full((300, 2), ratio))
    share = masks.float().mean(-1)
    assert share.max() <= ratio and share.mean() > 0.75 * ratio
    assert not torch.equal(masks[:, 0], masks[:, 1])
    places = masks.float().mean((0, 1)).view(14, 14)
    assert places[:, 7].mean() > 0 and (places - places.flip(0)).abs().max() < 0.12  # up and down alike


def test_no_ratio_no_mask_and_a_small_mask_is_a_block_of_at_least_its_least_area():
    ratios = torch.tensor([[0.0], [20 / 196]]).expand(2, 1)
    keys = sample_keys(1, 0, 200)
    masks = block_masks(keys, "m", (14, 14), ratios.repeat(100, 1)).view(100, 2, 14, 14)
    assert not masks[:, 0].any()
    sizes = masks[:, 1].sum((-1, -2))
    first = [mask for mask, size in zip(masks[:, 1], sizes, strict=True) if size and block_of(mask)]
    assert len(first) > 50
    assert min(int(mask.sum()) for mask in first) >= 12  # (14 // 3)^2 = 16, rounded sides


def test_masks_depend_on_the_key_alone():
    keys, ratios = sample_keys(0, 0, 6), torch.full((6, 2), 0.4)
    whole = block_masks(keys, "m", (6, 6), ratios)
    assert torch.equal(block_masks(keys[2:4], "m", (6, 6), ratios[2:4]), whole[2:4])
    assert not torch.equal(block_masks(keys, "other", (6, 6), ratios), whole)
