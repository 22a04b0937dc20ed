"""Types that no table describes: looked at, and read as their stock class says."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from few_steps import METHODS, train
from other_encoders import OTHERS
from torch import Tensor
from transformers import AutoConfig, AutoModel, HieraConfig

from sp_hf.encoders.encoder import Encoder
from sp_hf.encoders.layers import layer_ids, num_layers
from sp_hf.encoders.loading import resolve_encoder
from sp_hf.encoders.sizes import nearest_size
from sp_hf.model.configuration import SPConfig
from sp_hf.model.modeling import SPForPreTraining
from sp_hf.optimisation.parameter_groups import rate_factors
from sp_hf.optimisation.stochastic_depth import add_stochastic_depth

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)


def encoder_of(name: str) -> Encoder:
    return Encoder(OTHERS[name].build(name), MEAN, STD).eval()


def pixels(size: int, batch: int = 2) -> Tensor:
    return torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_read_is_the_stock_models(name: str) -> None:
    other = OTHERS[name]
    stock, encoder = other.build(name), encoder_of(name)
    assert (encoder.patch_size, encoder.facts.fixed_size) == (other.patch, other.other_size is None)
    native = encoder.dimensions.image_size[0]
    for size in (native, other.other_size):
        if size is None:
            with pytest.raises(ValueError, match=f"takes {native} x {native} pixels alone; set the size of views to"):
                encoder.patches_of(2 * native)
            continue
        with torch.no_grad():
            kwargs = {"interpolate_pos_encoding": True} if name == "hiera" and size != native else {}
            cls, patches = other.read(stock, stock(encoder.normalise(pixels(size)), **kwargs))
            encoding = encoder(pixels(size))
        assert encoding.grid == encoder.patches_of(size) == (size // other.patch, size // other.patch)
        assert torch.equal(encoding.patches, patches)
        torch.testing.assert_close(encoding.cls, cls, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", OTHERS)
def test_its_parts_are_trained_frozen_and_slowed(name: str) -> None:
    """Gradient reaches every weight; layers decay in the order in which pixels pass them; branches drop."""
    encoder = encoder_of(name).train()
    encoding = encoder(pixels(encoder.dimensions.image_size[0]))
    (encoding.cls.square().sum() + encoding.patches.pow(3).sum()).backward()
    assert [key for key, p in encoder.named_parameters() if p.requires_grad and p.grad is None] == []
    assert encoder.patch_projection().weight.grad.abs().sum() > 0
    names = [key for key, _ in encoder.model.named_parameters()]
    ids = layer_ids(names)
    assert encoder.num_hidden_layers == num_layers(names) >= 2
    first = f"{encoder.facts.patch_projection}.weight"
    assert ids[first] == min(ids.values()) < max(ids.values())
    factors = rate_factors(encoder, 0.5, 1.0)
    assert factors[f"encoder.model.{first}"] == min(factors.values()) and max(factors.values()) == 1
    if OTHERS[name].drops:
        add_stochastic_depth(encoder, 0.5)
    else:
        with pytest.raises(ValueError, match=f"layers of '{name}' have no place to drop a branch"):
            add_stochastic_depth(encoder, 0.5)


@pytest.mark.parametrize("name", OTHERS)
def test_masks(name: str) -> None:
    """A masked patch's pixels are not seen, also where the model masks the finer cells of its first stage."""
    encoder = encoder_of(name)
    size = encoder.dimensions.image_size[0]
    rows, columns = encoder.patches_of(size)
    masked = torch.zeros(2, rows * columns, dtype=torch.bool)
    masked[:, 1] = True
    assert encoder.supports_content_mask == OTHERS[name].masks
    if not OTHERS[name].masks:
        with pytest.raises(ValueError, match="cannot put a mask token in place of patches"):
            encoder.train_mask_token()
        return
    encoder.train_mask_token()
    scribbled, beside = pixels(size), pixels(size)
    patch = encoder.patch_size
    scribbled[..., :patch, patch : 2 * patch] = 0
    beside[..., :patch, :patch] = 0
    found = encoder(pixels(size), masked=masked).patches
    torch.testing.assert_close(found, encoder(scribbled, masked=masked).patches)
    assert not torch.allclose(found, encoder(beside, masked=masked).patches)
    found.square().sum().backward()
    assert encoder.model.embeddings.mask_token.grad.abs().sum() > 0


def test_exports_load_bit_by_bit_where_sp_hf_is_not(tmp_path: Path) -> None:
    """One process that cannot import sp_hf loads them all with ``AutoModel`` and writes what they make of pixels."""
    expected = {}
    for name in OTHERS:
        encoder = encoder_of(name)
        if encoder.supports_content_mask:
            encoder.train_mask_token()
        encoder.save_stock(tmp_path / name)
        inputs = encoder.normalise(pixels(encoder.dimensions.image_size[0]))
        torch.save(inputs, tmp_path / name / "inputs.pt")
        with torch.no_grad():
            expected[name] = encoder.model(inputs).last_hidden_state
        again = Encoder.load(tmp_path / name).eval()
        assert again.facts.embedding == encoder.facts.embedding and again.dimensions == encoder.dimensions
        assert (again.image_mean, again.image_std) == (MEAN, STD)
    script = """
import pathlib, sys
sys.modules["sp_hf"] = None  # any import of it raises
import torch
from transformers import AutoModel
for folder in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    model, report = AutoModel.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"], (folder, report)
    with torch.no_grad():
        torch.save(model.eval()(torch.load(folder / "inputs.pt")).last_hidden_state, folder / "made.pt")
"""
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True)
    assert all(torch.equal(torch.load(tmp_path / name / "made.pt"), expected[name]) for name in OTHERS)


FAST = [("swin", "dino"), ("resnet", "spatial_prediction"), ("hiera", "moco_v3"), ("pvt_v2", "simclr")]
ALL = [(name, method) for name in OTHERS for method in METHODS]


@pytest.mark.parametrize(
    ("name", "method"), [pytest.param(*pair, marks=[] if pair in FAST else pytest.mark.slow) for pair in ALL]
)
def test_methods_train_on_views_of_a_size_that_is_taken(name: str, method: str) -> None:
    """Sizes are left open: the paper's, or the nearest that the encoder takes."""
    torch.manual_seed(0)
    model = train(resolve_encoder(Encoder.from_config(OTHERS[name].config(name))), METHODS[method])
    for spec in model.view_specs.values():
        model.encoder.patches_of(spec.size)
    again = SPForPreTraining(SPConfig(**{k: v for k, v in model.config.to_dict().items() if k in ("encoder_config",
        "objectives", "image_mean", "image_std")}))  # fmt: skip
    assert again.state_dict().keys() == model.state_dict().keys()


@pytest.mark.parametrize("name", ["resnet", "swin"])
def test_methods_that_need_tokens_of_a_vit_say_so_before_any_work(name: str) -> None:
    encoder = Encoder.from_config(OTHERS[name].config(name))
    for method in ("mae", "drop_pos"):
        with pytest.raises(ValueError, match=f"'{method}' hides tokens or positions, which '{name}' cannot do"):
            SPForPreTraining(SPConfig(encoder.config, [{"name": method}]), encoder)
    crop = {"name": "spatial_prediction", "views": {"positions": "crop"}}
    with pytest.raises(ValueError, match=f"has views with positions: crop, which '{name}' cannot do"):
        SPForPreTraining(SPConfig(encoder.config, [crop]), encoder)
    if name == "resnet":
        with pytest.raises(ValueError, match="'ibot' puts a mask token in place of patches, which 'resnet' has no"):
            SPForPreTraining(SPConfig(encoder.config, [{"name": "ibot"}]), encoder)


def test_a_view_that_a_window_does_not_fit_names_the_sizes_that_do() -> None:
    encoder = encoder_of("swin")
    assert encoder.patches_of(48) == (6, 6)
    with pytest.raises(ValueError, match="24 x 24 pixels: SwinModel cannot take it; use a view size of 32 .its"):
        encoder.patches_of(24)
    with pytest.raises(ValueError, match="16 x 16 pixels: SwinModel cannot take it; use a view size of 32"):
        encoder(pixels(16))
    assert nearest_size(encoder.facts, encoder.dimensions, 16) == 32
    assert encoder_of("pvt").nearest_size(500) == 64


def test_features_do_not_depend_on_the_views_before() -> None:
    """The stock Swin's do: a layer that has seen a view as small as its window never shifts its windows again."""
    config = AutoConfig.for_model("swin", **{**OTHERS["swin"].fields, "depths": [1, 2], "image_size": 64})
    torch.manual_seed(0)
    stock = AutoModel.from_config(config).eval()
    encoder = Encoder(copy.deepcopy(stock), MEAN, STD).eval()
    inputs = encoder.normalise(pixels(64))
    with torch.no_grad():
        expected = stock(inputs).last_hidden_state
        stock(encoder.normalise(pixels(32)))
        assert not torch.equal(stock(inputs).last_hidden_state, expected)
        for size in (64, 32, 64):
            found = encoder(pixels(size)).patches
        assert torch.equal(found, expected)
        assert torch.equal(copy.deepcopy(encoder)(pixels(64)).patches, expected)


def test_tokens_in_another_order_are_refused() -> None:
    """A Hiera whose units do not shrink to one token yields them unit by unit."""
    config = HieraConfig(embed_dim=16, depths=[1, 1], num_heads=[1, 2], image_size=[64, 64], num_query_pool=1)
    torch.manual_seed(0)
    with pytest.raises(ValueError, match="HieraModel: .*its tokens do not lie row by row"):
        Encoder.from_config(config)


@pytest.mark.parametrize(
    ("model_type", "reason"),
    [
        ("vitpose_backbone", "AutoModel has no class for it.*there as a backbone alone"),
        ("clipseg", "CLIPSegModel takes text, too"),
        ("imagegpt", "ImageGPTModel takes input_ids, not pixels"),
        ("qwen3_vl_vision", "Qwen3VLVisionModel takes input_ids, not pixels"),
        ("bert", "BertModel is no vision model"),
    ],
)
def test_refusals_say_why(model_type: str, reason: str) -> None:
    with pytest.raises(ValueError, match=f"'{model_type}' cannot be used as an encoder: {reason}"):
        Encoder.from_config(AutoConfig.for_model(model_type))


def test_looking_leaves_weights_mode_and_random_numbers_alone() -> None:
    model = OTHERS["focalnet"].build("focalnet").train()
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    encoder = Encoder(model)
    assert torch.equal(state, torch.get_rng_state()) and model.training
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in before.items())
    for twin in (copy.deepcopy(encoder), pickle.loads(pickle.dumps(encoder))):
        assert twin.facts.fixed_size == encoder.facts.fixed_size
        assert torch.equal(twin.eval()(pixels(32)).patches, encoder.eval()(pixels(32)).patches)


def test_fresh_ones_start_as_their_class_makes_them(tmp_path: Path) -> None:
    config = OTHERS["swin"].config("swin")
    config.save_pretrained(tmp_path)
    torch.manual_seed(3)
    stock = AutoModel.from_config(config).state_dict()
    torch.manual_seed(3)
    fresh = resolve_encoder(tmp_path)
    assert all(torch.equal(value, stock[key]) for key, value in fresh.model.state_dict().items())
    assert fresh.config.sp_hf_initialisation == "stock"
    with pytest.raises(ValueError, match="initialisation='xavier' is for plain vision transformers; 'swin' starts as"):
        resolve_encoder(tmp_path, initialisation="xavier")
