"""Rates of single parameters against the definition; clipping; frozen parts."""

from __future__ import annotations

import pytest
import torch
from tiny_encoders import TINY
from torch import nn

from sp_hf.encoders.encoder import Encoder
from sp_hf.encoders.loading import resolve_encoder
from sp_hf.optimisation.clipping import clip_each_gradient
from sp_hf.optimisation.freezing import freeze
from sp_hf.optimisation.parameter_groups import groups_holding, rate_factors, split_groups, unwrapped


def dinov2s_multiplier(name: str, decay: float, patches: float) -> float:
    """``get_vit_lr_decay_rate`` and ``patch_embed_lr_mult`` of DINOv2's ``param_groups.py``, of two layers."""
    layer = 3
    if name.startswith("encoder."):
        if ".embeddings." in name:
            layer = 0
        elif ".layers." in name:
            layer = int(name.split(".layers.")[1].split(".")[0]) + 1
    return decay ** (3 - layer) * (patches if ".patch_embeddings." in name else 1.0)


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder(TINY["vit"].build())
        self.head = nn.Linear(4, 4)


def test_rates_are_those_of_dinov2s_code() -> None:
    model = Model()
    named = dict(model.named_parameters())
    matrices, vectors = ([p for p in named.values() if (p.ndim > 1) == many] for many in (True, False))
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}], lr=2.0
    )
    split_groups(optimizer, model, rate_factors(model.encoder, 0.5, 0.2))
    found = {id(p): (group["lr"], group["weight_decay"]) for group in optimizer.param_groups for p in group["params"]}
    assert len(found) == len(named) == sum(len(group["params"]) for group in optimizer.param_groups)
    for name, parameter in named.items():
        rate = 2.0 * dinov2s_multiplier(name, 0.5, 0.2)
        assert found[id(parameter)] == (pytest.approx(rate), 0.1 if parameter.ndim > 1 else 0.0), name
    assert optimizer.param_groups[0]["lr"] == 2.0  # the one that is logged
    decayed = groups_holding(optimizer, model, {name for name, p in named.items() if p.ndim > 1})
    assert decayed == [i for i, group in enumerate(optimizer.param_groups) if group["weight_decay"] > 0]


@pytest.mark.parametrize("name", TINY)
def test_every_architecture_has_its_layers(name: str) -> None:
    encoder = Encoder(TINY[name].build())
    factors, alone = rate_factors(encoder, 0.5, 0.1), rate_factors(encoder, 0.5, 1.0)
    patches = {id(p) for p in encoder.patch_projection().parameters()}
    for key, parameter in encoder.named_parameters():
        name = f"encoder.{key}"
        assert factors[name] == pytest.approx(alone[name] * (0.1 if id(parameter) in patches else 1.0)), name
    assert {min(alone.values()), max(alone.values())} <= {0.5**n for n in range(8)}
    assert len(set(alone.values())) >= 3  # embeddings and two layers
    assert set(factors) == {f"encoder.{key}" for key, _ in encoder.named_parameters()}


def test_a_field_of_positions_is_an_embedding() -> None:
    """It learns at their rate, and is frozen with them."""
    encoder = resolve_encoder("vit-micro-8", image_size=32, token_control=True)
    encoder.add_position_field(6)
    factors = rate_factors(encoder, 0.5, 0.1)
    embeddings = factors["encoder.model.embeddings.position_embeddings"]
    assert factors["encoder.model.position_field"] == embeddings == 0.5 ** (encoder.num_hidden_layers + 1)
    freeze(encoder, "embeddings")
    assert not encoder.model.position_field.requires_grad


def test_names_are_unwrapped() -> None:
    assert unwrapped("module._orig_mod.encoder._fsdp_wrapped_module.model.a") == "encoder.model.a"


def test_each_gradient_is_clipped_on_its_own() -> None:
    """``clip_gradients`` of DINO's ``utils.py``, written out."""
    small, large, without = (nn.Parameter(torch.zeros(4)) for _ in range(3))
    small.grad, large.grad = torch.full((4,), 0.5), torch.tensor([30.0, 40.0, 0.0, 0.0])
    clip_each_gradient([small, large, without], 3.0)
    assert torch.equal(small.grad, torch.full((4,), 0.5)) and without.grad is None
    torch.testing.assert_close(large.grad, torch.tensor([1.8, 2.4, 0.0, 0.0]), rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("part", "frozen"),
    [
        ("patch_embedding", (".patch_embeddings.",)),
        ("embeddings", (".embeddings.",)),
        ("layers:1", (".embeddings.", ".layers.0.")),
        ("layers:2", (".embeddings.", ".layers.0.", ".layers.1.")),
    ],
)
def test_frozen_parts(part: str, frozen: tuple[str, ...]) -> None:
    encoder = Encoder(TINY["vit"].build())
    freeze(encoder, part)
    for name, parameter in encoder.named_parameters():
        assert parameter.requires_grad != any(words in name for words in frozen), name


def test_more_layers_than_there_are() -> None:
    with pytest.raises(ValueError, match="layers:3: ViTModel has 2 layers"):
        freeze(Encoder(TINY["vit"].build()), "layers:3")
