"""The export for timm: by timm's names and formula it computes what the stock class does, which loads as before."""

from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_encoders import TINY
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel

from sp_hf.encoders.encoder import Encoder
from sp_hf.encoders.timm_export import check_architecture, export_timm
from sp_hf.errors import InputError

KINDS = ["vit", "dinov2", "dinov2_with_registers"]
NO_TIMM = importlib.util.find_spec("timm") is None or importlib.util.find_spec("torchvision") is None
PIXELS = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def forward(weights: dict[str, Tensor], arguments: dict, pixels: Tensor) -> Tensor:
    """timm's ``VisionTransformer.forward_features`` written out from its weights and ``model_args``: [B, P + N, D]."""
    width, heads, patch = arguments["embed_dim"], arguments["num_heads"], arguments["patch_size"]

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, (width,), weights[f"{name}.weight"], weights[f"{name}.bias"], eps=1e-6)

    def linear(x: Tensor, name: str) -> Tensor:
        return F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    x = F.conv2d(pixels, weights["patch_embed.proj.weight"], weights["patch_embed.proj.bias"], stride=patch)
    x = x.flatten(2).transpose(1, 2)  # [B, N, D]
    token = weights["cls_token"].expand(len(x), -1, -1)
    if arguments.get("no_embed_class"):
        x = x + weights["pos_embed"]
        x = torch.cat([token, weights["reg_token"].expand(len(x), -1, -1), x], dim=1)
    else:
        x = torch.cat([token, x], dim=1) + weights["pos_embed"]
    for index in range(arguments["depth"]):
        block = f"blocks.{index}"
        scales = [weights.get(f"{block}.ls{number}.gamma", torch.ones(())) for number in (1, 2)]
        qkv = linear(norm(x, f"{block}.norm1"), f"{block}.attn.qkv")
        query, key, value = qkv.unflatten(-1, (3, heads, width // heads)).permute(2, 0, 3, 1, 4)  # [B, H, T, D / H]
        attention = (query @ key.transpose(-1, -2) / math.sqrt(width // heads)).softmax(dim=-1)
        x = x + scales[0] * linear((attention @ value).transpose(1, 2).flatten(2), f"{block}.attn.proj")
        hidden = F.gelu(linear(norm(x, f"{block}.norm2"), f"{block}.mlp.fc1"))
        x = x + scales[1] * linear(hidden, f"{block}.mlp.fc2")
    return norm(x, "norm")


@pytest.fixture(params=KINDS)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """An exported encoder."""
    Encoder(TINY[request.param].build(0, layer_norm_eps=1e-6)).save_stock(tmp_path)
    export_timm(tmp_path)
    return tmp_path


def test_by_timms_formula_it_is_the_stock_encoder(folder: Path) -> None:
    for file in (folder / "config.json", folder / "timm" / "config.json"):
        arguments = json.loads(file.read_text())["model_args"]
        model = AutoModel.from_pretrained(folder).eval()
        with torch.no_grad():
            tokens = forward(load_file(folder / "timm" / "model.safetensors"), arguments, PIXELS)
            torch.testing.assert_close(tokens, model(PIXELS).last_hidden_state, rtol=1e-4, atol=1e-5)


def test_what_timm_and_transformers_read_at_the_root(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    config = json.loads((folder / "config.json").read_text())
    assert config["pretrained_cfg"]["hf_hub_filename"] == "timm/model.safetensors"
    assert (folder / config["pretrained_cfg"]["hf_hub_filename"]).is_file()
    assert (config["pretrained_cfg"]["input_size"], config["pretrained_cfg"]["num_classes"]) == ([3, 32, 32], 0)
    processor = json.loads((folder / "preprocessor_config.json").read_text())
    assert config["pretrained_cfg"]["mean"] == processor["image_mean"]
    plain = tmp_path_factory.mktemp("plain")
    AutoModel.from_pretrained(folder).save_pretrained(plain)  # the keys of timm harm nothing, and stay
    assert type(AutoConfig.from_pretrained(plain)) is type(AutoConfig.from_pretrained(folder))
    stock, again = (AutoModel.from_pretrained(place).eval() for place in (folder, plain))
    with torch.no_grad():
        assert torch.equal(stock(PIXELS).last_hidden_state, again(PIXELS).last_hidden_state)


@pytest.mark.skipif(NO_TIMM, reason="needs timm and torchvision: pip install timm")
def test_timm_itself(folder: Path) -> None:
    import timm

    network = timm.create_model(f"local-dir:{folder / 'timm'}", pretrained=True).eval()
    model = AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        tokens, expected = network.forward_features(PIXELS), model(PIXELS).last_hidden_state
        torch.testing.assert_close(tokens, expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(network(PIXELS), expected[:, 0], rtol=1e-4, atol=1e-5)
    assert timm.data.resolve_model_data_config(network)["crop_mode"] == "squash"


def test_refused_before_anything_is_written(tmp_path: Path) -> None:
    Encoder(TINY["convnext"].build(0)).save_stock(tmp_path)
    before = (tmp_path / "config.json").read_text()
    with pytest.raises(InputError, match="'convnext' is not written for timm; vit, dinov2, "):
        export_timm(tmp_path)
    assert not (tmp_path / "timm").exists() and (tmp_path / "config.json").read_text() == before
    config = TINY["dinov2"].build(0).config
    config.hidden_act, config.layer_norm_eps = "relu", 1e-5
    with pytest.raises(InputError, match="hidden_act is 'relu'; layer_norm_eps is 1e-05"):
        check_architecture(config)


def test_an_encoder_that_timms_epsilon_would_change_is_refused(tmp_path: Path) -> None:
    model = TINY["vit"].build(0, layer_norm_eps=1e-12)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "layernorm" not in name:
                parameter.mul_(0.01)
    Encoder(model).save_stock(tmp_path)
    with pytest.raises(InputError, match="adds 1e-06 and that of .* 1e-12, which changes its output by .*; the limit"):
        export_timm(tmp_path)
    assert not (tmp_path / "timm").exists()
