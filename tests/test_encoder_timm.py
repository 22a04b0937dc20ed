"""timm's models through the adapter, against timm itself. Skipped without timm, the tests of its absence apart."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch
import transformers
from few_steps import METHODS, train
from PIL import Image
from safetensors.torch import load_file, save_file

from sp_hf.encoders.checkpoint import CheckpointError
from sp_hf.encoders.encoder import Encoder
from sp_hf.encoders.layers import layer_ids
from sp_hf.encoders.loading import resolve_encoder
from sp_hf.encoders.timm_wrapper import image_processor
from sp_hf.evaluation.what.finetune.stock_classifier import stock_classifier

SIZE, PATCH, WIDTH = 32, 8, 32
MEAN, STD = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
VIT = {"img_size": SIZE, "patch_size": PATCH, "embed_dim": WIDTH, "depth": 2, "num_heads": 2}
SIZEABLE = {
    "vit_tiny_patch16_224": VIT,
    "vit_base_patch16_siglip_224": VIT,
    "vit_small_patch14_reg4_dinov2": VIT,
    "vit_small_patch16_dinov3": VIT,
    "eva02_tiny_patch14_224": VIT,
    "vit_relpos_small_patch16_224": VIT,
    "deit_tiny_distilled_patch16_224": VIT,
    "convnext_atto": {"depths": [1, 1, 1, 1], "dims": [8, 8, 16, WIDTH]},
    "resnet18": {"layers": [1, 1, 1, 1], "channels": [8, 8, 16, WIDTH]},
    "swin_tiny_patch4_window7_224": {
        "img_size": 64,
        "embed_dim": 16,
        "depths": [1, 1],
        "num_heads": [2, 2],
        "window_size": 4,
    },
}
FIXED = ("vit_relpos_small_patch16_224", "deit_tiny_distilled_patch16_224")
NO_TIMM = importlib.util.find_spec("timm") is None or importlib.util.find_spec("torchvision") is None
needs_timm = pytest.mark.skipif(NO_TIMM, reason="needs timm and torchvision: pip install timm")


def tiny(architecture: str, num_classes: int = 3) -> torch.nn.Module:
    """timm's own model, nothing left at a neutral initial value."""
    import timm

    torch.manual_seed(0)
    network = timm.create_model(architecture, num_classes=num_classes, **SIZEABLE[architecture])
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network.eval()


def write(folder: Path, architecture: str, num_classes: int = 3, **fields: object) -> torch.nn.Module:
    """A folder as timm's repositories on the Hub are: no model_type, statistics in ``pretrained_cfg``."""
    network = tiny(architecture, num_classes)
    config = {
        "architecture": architecture,
        "num_classes": num_classes,
        "model_args": SIZEABLE[architecture],
        "pretrained_cfg": {"mean": MEAN, "std": STD, "num_classes": num_classes, "input_size": [3, SIZE, SIZE]},
    }
    (folder / "config.json").write_text(json.dumps({**config, **fields}))
    save_file(network.state_dict(), folder / "model.safetensors", metadata={"format": "pt"})
    return network


def pixels(height: int = SIZE, width: int | None = None) -> torch.Tensor:
    return torch.rand(2, 3, height, width or height, generator=torch.Generator().manual_seed(1))


def normalised(images: torch.Tensor) -> torch.Tensor:
    return (images - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


def features(network: torch.nn.Module, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(cls, patches) by timm's own methods."""
    with torch.no_grad():
        tokens = network.forward_features(images)
        cls = network.forward_head(tokens, pre_logits=True)
        if tokens.ndim == 4:
            norm = getattr(network.head, "norm", None) if hasattr(network, "head") else None
            tokens = norm(tokens) if norm is not None else tokens
            cells = tokens if getattr(network, "output_fmt", None) == "NHWC" else tokens.permute(0, 2, 3, 1)
            return cls, cells.reshape(len(cells), -1, cells.shape[-1])
        patches = tokens[:, network.num_prefix_tokens :]
        return cls, network.fc_norm(patches)


@needs_timm
@pytest.mark.parametrize("architecture", SIZEABLE)
def test_cls_and_patches_are_timms(tmp_path, architecture: str):
    network = write(tmp_path, architecture)
    encoder = resolve_encoder(tmp_path).eval()
    size = encoder.dimensions.image_size[0]
    encoding = encoder(pixels(size))
    cls, patches = features(network, normalised(pixels(size)))
    if architecture.startswith("deit"):  # timm averages the logits of both of its tokens' heads
        cls = network.forward_features(normalised(pixels(size)))[:, :2].mean(1)
    torch.testing.assert_close(encoding.cls, cls, rtol=0, atol=1e-5)
    torch.testing.assert_close(encoding.patches, patches, rtol=0, atol=1e-5)
    side = size // encoder.patch_size
    assert encoding.grid == (side, side) and patches.shape == (2, side**2, encoder.hidden_size)
    assert (encoder.image_mean, encoder.image_std) == (MEAN, STD)
    assert encoder.hidden_size == WIDTH and architecture in encoder.describe()


@needs_timm
@pytest.mark.parametrize("architecture", [name for name in SIZEABLE if name not in FIXED])
def test_views_of_another_size(tmp_path, architecture: str):
    """A native size of its own interpolates nothing, so it is the reference of position-free conv nets alone."""
    network = write(tmp_path, architecture)
    encoder = resolve_encoder(tmp_path).eval()
    height, width = 4 * encoder.patch_size, 2 * encoder.patch_size
    encoding = encoder(pixels(height, width))
    assert encoding.grid == (4, 2) and encoding.patches.shape == (2, 8, WIDTH)
    if architecture in ("convnext_atto", "resnet18"):
        assert torch.equal(encoding.patches, features(network, normalised(pixels(height, width)))[1])


@needs_timm
def test_positions_are_interpolated_as_timm_does(tmp_path):
    """timm's ``set_input_size`` resamples the table of positions once, ours at each view."""
    network = write(tmp_path, "vit_tiny_patch16_224")
    network.set_input_size(img_size=48)
    expected = features(network, normalised(pixels(48)))[1]
    torch.testing.assert_close(resolve_encoder(tmp_path).eval()(pixels(48)).patches, expected, rtol=0, atol=1e-5)


@needs_timm
@pytest.mark.parametrize("architecture", FIXED)
def test_fixed_sizes_are_named(tmp_path, architecture: str):
    write(tmp_path, architecture)
    with pytest.raises(ValueError, match=f"16 x 16 pixels: {architecture} takes 32 x 32 pixels alone"):
        resolve_encoder(tmp_path)(pixels(16))


@needs_timm
@pytest.mark.parametrize("architecture", [name for name, arguments in SIZEABLE.items() if arguments is VIT])
def test_patches_are_row_major(tmp_path, architecture: str):
    """With layers that add nothing, a token depends on its own pixels alone."""
    write(tmp_path, architecture)
    encoder = resolve_encoder(tmp_path).eval()
    for parameter in encoder.model.timm_model.blocks.parameters():
        parameter.data.zero_()
    images, changed = pixels(), pixels()
    changed[:, :, PATCH : 2 * PATCH, 2 * PATCH : 3 * PATCH] = 0.0  # row 1, column 2
    differs = (encoder(images).patches != encoder(changed).patches).any(-1).any(0)
    assert differs.nonzero().flatten().tolist() == [1 * 4 + 2]


@needs_timm
@pytest.mark.parametrize("architecture", SIZEABLE)
def test_gradient_reaches_every_trainable_parameter(architecture: str):
    config = transformers.TimmWrapperConfig(architecture=architecture, model_args=SIZEABLE[architecture])
    encoder = Encoder.from_config(config).train()
    encoding = encoder(pixels(encoder.dimensions.image_size[0]))
    (encoding.cls.square().sum() + encoding.patches.pow(3).sum()).backward()
    without = [key for key, value in encoder.named_parameters() if value.requires_grad and value.grad is None]
    assert without == []
    assert encoder.patch_projection().weight.grad.abs().sum() > 0


@needs_timm
@pytest.mark.parametrize("architecture", ["vit_tiny_patch16_224", "convnext_atto"])
def test_export_loads_again_and_in_transformers(tmp_path, architecture: str):
    (tmp_path / "hub").mkdir()
    write(tmp_path / "hub", architecture)
    encoder = Encoder(resolve_encoder(tmp_path / "hub").model, STD, STD).eval()
    encoder.save_stock(tmp_path / "out")
    again = resolve_encoder(tmp_path / "out").eval()
    assert (again.image_mean, again.image_std) == (STD, STD)
    torch.testing.assert_close(again(pixels()).patches, encoder(pixels()).patches)
    written = encoder.model.state_dict()
    assert all(torch.equal(value, written[key]) for key, value in again.model.state_dict().items())
    loaded, report = transformers.AutoModel.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert type(loaded).__name__ == "TimmWrapperModel" and not any(report.values())
    torch.testing.assert_close(loaded.eval()(encoder.normalise(pixels())).pooler_output, encoder(pixels()).cls)


@needs_timm
def test_pretraining_rebuilds_the_encoder_from_its_configuration(tmp_path):
    from sp_hf.model.configuration import SPConfig

    write(tmp_path, "vit_tiny_patch16_224")
    encoder = resolve_encoder(tmp_path)
    config = SPConfig(encoder.config).build_encoder_config()
    again = Encoder.from_config(config)
    assert again.dimensions == encoder.dimensions and list(again.state_dict()) == list(encoder.state_dict())


TRAINED = ("vit_tiny_patch16_224", "eva02_tiny_patch14_224", "convnext_atto", "swin_tiny_patch4_window7_224")


@needs_timm
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("architecture", TRAINED)
def test_methods_train_on_them(tmp_path, architecture: str, method: str):
    write(tmp_path, architecture)
    model = train(resolve_encoder(tmp_path), METHODS[method])
    for spec in model.view_specs.values():
        model.encoder.patches_of(spec.size)


@needs_timm
def test_architecture_without_statistics_takes_timms(tmp_path):
    config = transformers.TimmWrapperConfig(architecture="vit_tiny_patch16_224", model_args=VIT)
    transformers.TimmWrapperModel(config).save_pretrained(tmp_path)
    assert resolve_encoder(tmp_path).image_mean == (0.5, 0.5, 0.5)  # augreg ViTs are not normalised by ImageNet's


@needs_timm
def test_the_head_is_left_out_and_nothing_else(tmp_path, caplog):
    write(tmp_path, "vit_tiny_patch16_224")
    with caplog.at_level("WARNING", logger="sp_hf"):
        resolve_encoder(tmp_path)
    assert "left out 2 entries that are not the encoder's: head" in caplog.text
    state = load_file(tmp_path / "model.safetensors")
    for edit, message in [
        (lambda: state.update({"adapter.weight": torch.zeros(2)}), "1 unexpected: adapter.weight"),
        (lambda: (state.pop("adapter.weight"), state.pop("norm.bias")), "1 missing: norm.bias"),
        (lambda: state.update({"norm.bias": torch.zeros(WIDTH + 1)}), "does not fit its own configuration"),
    ]:
        edit()
        save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(CheckpointError, match=message):
            resolve_encoder(tmp_path)


@needs_timm
@pytest.mark.parametrize(
    "architecture,arguments,message",
    [
        ("hiera_tiny_224", {}, "hiera_tiny_224 cannot be used as an encoder: Hiera does not say"),
        ("mobilenetv3_small_100", {}, r"embedding \[1, 1024\].*all 576 wide"),
        ("vit_tiny_patch16_224", {**VIT, "patch_size": (8, 4)}, "cannot be used as an encoder.*4 x 4 patches"),
        ("vit_tiny_patch16_224", {**VIT, "in_chans": 1}, "images have 3 channels"),
        ("vit_tiny_patch16_224", {"checkpoint_path": "evil.pth"}, "cannot have checkpoint_path"),
        ("no_such_net", {}, "has no architecture 'no_such_net': pip install -U timm"),
        ("hf-hub:owner/name", {}, "has no architecture 'hf-hub:owner/name'"),
    ],
)
def test_what_cannot_be_fitted_says_why(architecture: str, arguments: dict, message: str):
    config = transformers.TimmWrapperConfig(architecture=architecture, model_args=arguments)
    with pytest.raises(ValueError, match=message):
        Encoder.from_config(config)


@needs_timm
def test_measuring_the_shapes_leaves_weights_and_random_numbers_alone(tmp_path):
    network = write(tmp_path, "resnet18")  # batch norm counts the batches it sees
    state = torch.get_rng_state()
    loaded = resolve_encoder(tmp_path).model.timm_model.state_dict()
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(loaded[key], value) for key, value in network.state_dict().items() if key in loaded)


@needs_timm
@pytest.mark.parametrize("mode", ["center", "squash"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_whole_images_are_resized_and_cropped_as_by_timm(mode: str, interpolation: str):
    from timm.data import create_transform

    written = {
        "input_size": [3, SIZE, SIZE],
        "crop_pct": 0.8,
        "crop_mode": mode,
        "interpolation": interpolation,
        "mean": MEAN,
        "std": STD,
    }
    config = transformers.TimmWrapperConfig(architecture="resnet18", pretrained_cfg=written)
    noise = torch.randint(0, 256, (45, 70, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    image = Image.fromarray(noise.numpy())
    expected = create_transform(
        written["input_size"], crop_pct=0.8, crop_mode=mode, interpolation=interpolation, mean=MEAN, std=STD
    )(image)
    found = image_processor(config)(image, return_tensors="pt")["pixel_values"][0]
    assert found.shape == expected.shape == (3, SIZE, SIZE)
    # A grey level apart; torchvision and PIL round odd margins of the crop differently, so these are even.
    torch.testing.assert_close(found, expected, rtol=0, atol=1.5 / 255 / min(STD))


@needs_timm
def test_unknown_crop_modes_are_named():
    written = {"input_size": [3, SIZE, SIZE], "crop_mode": "border"}
    config = transformers.TimmWrapperConfig(architecture="resnet18", pretrained_cfg=written)
    with pytest.raises(ValueError, match="resnet18 wants images by crop mode 'border'"):
        image_processor(config)


@needs_timm
@pytest.mark.parametrize("architecture", SIZEABLE)
def test_stock_classifier_starts_from_the_encoder(tmp_path, architecture: str):
    network = write(tmp_path, architecture)
    encoder = resolve_encoder(tmp_path).eval()
    classifier = stock_classifier(encoder, 5, seed=0).eval()
    size = encoder.dimensions.image_size[0]
    with torch.no_grad():
        tokens = classifier.timm_model.forward_features(normalised(pixels(size)))
        torch.testing.assert_close(tokens, network.forward_features(normalised(pixels(size))), rtol=0, atol=1e-5)
        assert classifier(normalised(pixels(size))).logits.shape == (2, 5)  # a fresh head, not the checkpoint's of 3
    ids = layer_ids(name for name, _ in classifier.named_parameters())
    assert min(ids.values()) == 0 and max(ids.values()) >= 3
    assert all(ids[name] == max(ids.values()) for name in ids if name.startswith(("timm_model.head", "timm_model.fc.")))


@pytest.mark.parametrize("fields", [{"model_type": "timm_wrapper"}, {"pretrained_cfg": {}}])
def test_without_timm_the_error_names_it(tmp_path, monkeypatch, fields: dict):
    monkeypatch.setitem(sys.modules, "timm", None)  # any import of it raises
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "vit_tiny_patch16_224", **fields}))
    with pytest.raises(ValueError, match="is a timm model and timm cannot be imported.*pip install timm"):
        resolve_encoder(tmp_path)
