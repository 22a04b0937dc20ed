"""Stochastic depth against its definition, on every kind of encoder."""

from __future__ import annotations

import copy

import pytest
import torch
from tiny_encoders import SIZE, TINY
from torch import nn

from sp_hf.encoders.checkpoint import with_token_control
from sp_hf.encoders.encoder import Encoder
from sp_hf.optimisation.stochastic_depth import DropPath, add_stochastic_depth

WITHOUT = ("clip_vision_model", "siglip_vision_model", "siglip_headless")
WITH = [name for name in TINY if name not in WITHOUT]
BRANCHES = {"convnext": 1, "convnextv2": 1}


def encoder_of(name: str, **fields: object) -> Encoder:
    return Encoder(TINY[name].build(**fields))


def drop_paths(encoder: Encoder) -> list[DropPath]:
    return [module for module in encoder.modules() if isinstance(module, DropPath)]


def test_frequency_and_expectation() -> None:
    torch.manual_seed(0)
    branch = torch.randn(20_000, 2, 3)
    dropped = DropPath(0.3).train()(branch)
    kept = (dropped != 0).flatten(1)
    assert torch.equal(kept.any(1), kept.all(1)), "an image is dropped whole"
    assert kept.any(1).float().mean() == pytest.approx(0.7, abs=0.01)  # 3 standard deviations
    torch.testing.assert_close(dropped[kept.any(1)], branch[kept.any(1)] / 0.7)
    assert dropped.mean() == pytest.approx(float(branch.mean()), abs=0.01)
    assert DropPath(0.3).eval()(branch) is branch


def test_processes_draw_from_one_stream_for_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    kept, after = [], []
    for rank in range(2):
        monkeypatch.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
        torch.manual_seed(0)
        kept.append(DropPath(0.5).train()(torch.ones(10_000, 1)) > 0)
        after.append(torch.get_rng_state())
    assert torch.equal(*after)
    assert (kept[0] == kept[1]).float().mean() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("name", WITH)
def test_rates_rise_from_first_to_last_layer(name: str) -> None:
    depth = {"depths": [2, 2]} if name.startswith("convnext") else {"num_hidden_layers": 4}
    encoder = encoder_of(name, **depth)
    add_stochastic_depth(encoder, 0.3)
    assert [d.rate for d in drop_paths(encoder)] == pytest.approx([0.0, 0.1, 0.2, 0.3])


@pytest.mark.parametrize("name", WITH)
def test_every_branch_is_dropped_and_nothing_else(name: str) -> None:
    """With all branches of a layer dropped the layer is the identity; evaluation, weights and config do not change."""
    encoder = encoder_of(name)
    stock = copy.deepcopy(encoder).eval()
    add_stochastic_depth(encoder, 0.5)
    pixels = torch.rand(3, 3, SIZE, SIZE)
    calls, layers = [], [m for m in encoder.modules() if any(isinstance(c, DropPath) for c in m.children())]
    for drop in drop_paths(encoder):
        drop.register_forward_hook(lambda module, inputs, output: calls.append(module))
    for a, b in zip(encoder.eval()(pixels)[:2], stock(pixels)[:2], strict=True):
        assert torch.equal(a, b)
    assert len(calls) == BRANCHES.get(name, 2) * len(layers)
    assert encoder.state_dict().keys() == stock.state_dict().keys()
    assert encoder.config.to_dict() == stock.config.to_dict()

    ends = []
    for drop, layer in zip(drop_paths(encoder), layers, strict=True):
        drop.rate = 1 - 1e-9
        layer.register_forward_hook(lambda module, inputs, output: ends.append((inputs[0], output)))
    encoder.train()(pixels)
    assert len(ends) == len(layers) == 2
    for before, after in ends:
        assert torch.equal(before, after)


def test_token_control_is_dropped_too() -> None:
    encoder = Encoder(with_token_control(TINY["vit"].build()))
    add_stochastic_depth(encoder, 0.9)
    visible = torch.arange(5).expand(64, -1)
    cls = encoder.train()(torch.rand(1, 3, SIZE, SIZE).expand(64, -1, -1, -1), visible=visible).cls
    assert 2 <= len(cls.detach().round(decimals=4).unique(dim=0)) <= 4  # which of the last layer's two branches ran


def test_timms_layers_have_two_modules() -> None:
    """The names of ``timm.models.vision_transformer.Block``."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.drop_path1, self.drop_path2 = nn.Identity(), nn.Identity()

    holder = nn.Module()
    holder.model = nn.Sequential(Block(), Block(), Block())
    add_stochastic_depth(holder, 0.4)
    assert [d.rate for d in holder.modules() if isinstance(d, DropPath)] == pytest.approx([0, 0, 0.2, 0.2, 0.4, 0.4])


@pytest.mark.parametrize("name", WITHOUT)
def test_an_encoder_without_a_place_is_named(name: str) -> None:
    encoder = encoder_of(name)
    with pytest.raises(ValueError, match=f"layers of '{encoder.config.model_type}' have no place"):
        add_stochastic_depth(encoder, 0.1)


def test_a_dropout_in_use_is_not_replaced() -> None:
    with pytest.raises(ValueError, match="hidden_dropout_prob .now 0.2. to 0"):
        add_stochastic_depth(encoder_of("vit", hidden_dropout_prob=0.2), 0.1)
