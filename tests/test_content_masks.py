"""A mask token in place of patches: the stock classes' own, for every type that takes one."""

from __future__ import annotations

import pytest
import torch
from tiny_encoders import PATCH, SIZE, TINY
from transformers import AutoModel

from sp_hf.encoders.encoder import Encoder
from sp_hf.encoders.model_table import FACTS
from sp_hf.encoders.model_types import content_mask_types

N = (SIZE // PATCH) ** 2
MASKABLE = [name for name in TINY if name.removesuffix("_mean") in content_mask_types()]
OTHERS = ["clip_vision_model", "siglip_vision_model", "convnext"]


def build(name: str, seed: int = 0) -> Encoder:
    encoder = Encoder(TINY[name].build(seed), (0.5,) * 3, (0.5,) * 3)
    encoder.train_mask_token()
    with torch.no_grad():
        encoder.model.embeddings.mask_token.add_(torch.linspace(-1, 1, encoder.hidden_size))
    return encoder


def masks(batch: int = 3) -> torch.Tensor:
    return torch.rand(batch, N, generator=torch.Generator().manual_seed(1)) < 0.4


def pixels(batch: int = 3) -> torch.Tensor:
    return torch.rand(batch, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(2))


def test_the_list_of_types() -> None:
    assert set(content_mask_types()) == {
        "vit", "sp_vit", "deit", "dinov2", "dinov2_with_registers", "dinov3_vit", "beit", "ijepa",
    }  # fmt: skip
    assert set(MASKABLE) >= set(content_mask_types()) - {"sp_vit"}
    assert FACTS["convnext"].mask_token is None


@pytest.mark.parametrize("name", MASKABLE)
def test_masked_patches_are_the_stock_classes_own(name: str) -> None:
    encoder = build(name)
    masked = masks()
    found = encoder(pixels(), masked=masked)
    normalised = (pixels() - 0.5) / 0.5
    stock = encoder.model(normalised, bool_masked_pos=masked)
    cls, patches = TINY[name].read(encoder.model, stock)
    torch.testing.assert_close(found.cls, cls)
    torch.testing.assert_close(found.patches, patches)
    assert not torch.allclose(found.patches, encoder(pixels()).patches)


@pytest.mark.parametrize("name", MASKABLE)
def test_what_lies_under_the_mask_is_not_seen_and_the_token_learns(name: str) -> None:
    encoder = build(name)
    masked = masks()
    cells = masked.view(3, 1, SIZE // PATCH, SIZE // PATCH).repeat_interleave(PATCH, 2).repeat_interleave(PATCH, 3)
    scribbled = torch.where(cells, torch.rand(3, 3, SIZE, SIZE), pixels())
    found = encoder(pixels(), masked=masked)
    torch.testing.assert_close(found.patches, encoder(scribbled, masked=masked).patches)
    found.patches.square().sum().backward()
    assert encoder.model.embeddings.mask_token.grad.abs().sum() > 0
    encoder.zero_grad()
    encoder(pixels(), masked=torch.zeros_like(masked)).patches.sum().backward()
    assert (encoder.model.embeddings.mask_token.grad == 0).all()  # in the graph, for DDP


@pytest.mark.parametrize("name", MASKABLE)
def test_the_exported_model_is_the_stock_one(name: str, tmp_path) -> None:
    """A token that pretraining made for a class built without is not written; one that it has is."""
    encoder = build(name).eval()
    encoder.save_stock(tmp_path)
    model, report = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    own = getattr(model.embeddings, "mask_token", None)
    assert own is None or torch.equal(own, encoder.model.embeddings.mask_token)
    again = Encoder.load(tmp_path)
    torch.testing.assert_close(again(pixels()).patches, encoder(pixels()).patches, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", OTHERS)
def test_other_types_say_that_they_cannot(name: str) -> None:
    encoder = Encoder(TINY[name].build())
    assert not encoder.supports_content_mask
    with pytest.raises(ValueError, match="cannot put a mask token in place of patches; use one of vit, "):
        encoder.train_mask_token()
    with pytest.raises(ValueError, match="has no mask token"):
        encoder(pixels(), masked=masks())


def test_a_token_that_is_not_asked_for_stays_as_it_was() -> None:
    encoder = Encoder(TINY["vit"].build())
    assert encoder.model.embeddings.mask_token is None
    assert not Encoder(TINY["dinov2"].build()).model.embeddings.mask_token.requires_grad
    with pytest.raises(ValueError, match="call train_mask_token"):
        encoder(pixels(), masked=masks())
