import copy

import pytest
import torch

from sp_hf.encoders.sincos_positions import sincos_positions
from sp_hf.objectives.gather import all_reduce_sum, concat_all_gather, world_size
from sp_hf.objectives.heads import DINOHead, SyncBatchNorm, batch_norm_mlp, mlp
from sp_hf.objectives.precision import in_float32
from sp_hf.objectives.transformer import Decoder


def test_one_process_sums_and_gathers_itself():
    x = torch.randn(3, 2, requires_grad=True)
    assert world_size() == 1
    assert all_reduce_sum(x) is x
    gathered, start = concat_all_gather(x)
    assert torch.equal(gathered, x) and start == 0 and not gathered.requires_grad


def test_heads_are_deterministic_and_independent_when_copied():
    for make in (lambda: DINOHead(6, 10, 8, 4), lambda: batch_norm_mlp([6, 8, 8, 4]), lambda: mlp([6, 8, 4])):
        torch.manual_seed(3)
        first = make()
        torch.manual_seed(3)
        second = make()
        for a, b in zip(first.parameters(), second.parameters(), strict=True):
            assert torch.equal(a, b)
        twin = copy.deepcopy(first)
        x = torch.randn(5, 6)
        assert torch.equal(twin(x), first(x))
        with torch.no_grad():
            next(first.parameters()).add_(1)
        assert not torch.equal(twin(x), first(x))
        twin.load_state_dict(first.state_dict())
        assert torch.equal(twin(x), first(x))


def test_dino_logits_are_cosines():
    logits = DINOHead(6, 10, 8, 4)(100 * torch.randn(50, 6))
    assert logits.abs().max() <= 1 + 1e-6


def test_batch_norm_works_in_float32_and_keeps_the_dtype():
    norm = SyncBatchNorm(4)
    x = 100 + torch.randn(64, 4)  # bfloat16 statistics would be off by far more than the spread
    narrow = norm(x.bfloat16())
    assert narrow.dtype == torch.bfloat16
    torch.testing.assert_close(narrow.float(), norm(x.bfloat16().float()), atol=0.02, rtol=0.01)


def test_decoder_blocks_start_different_from_each_other():
    decoder = Decoder(2, 8, 2)
    weights = [block.linear1.weight for block in decoder.blocks]
    assert not torch.equal(*weights)
    assert decoder(torch.randn(2, 5, 8)).shape == (2, 5, 8)


def test_decoder_has_no_positions_of_its_own():
    decoder = Decoder(2, 8, 2)
    x = torch.randn(1, 5, 8)
    order = [3, 1, 4, 0, 2]
    torch.testing.assert_close(decoder(x[:, order]), decoder(x)[:, order])


def test_sine_cosine_positions_need_a_width_divisible_by_four():
    with pytest.raises(ValueError, match="divisible by 4; got 10"):
        sincos_positions(2, 2, 10)


def test_losses_leave_autocast():
    seen = {}

    @in_float32
    def loss(x, y, scale):
        seen["product"] = (x @ y).dtype
        return scale * x.dtype.itemsize

    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert loss(torch.ones(2, 2, dtype=torch.bfloat16), torch.ones(2, 2), scale=1) == 4
        assert loss(torch.ones(2, 2, dtype=torch.float64), y=torch.ones(2, 2, dtype=torch.float64), scale=1) == 8
    assert seen["product"] == torch.float64
