"""A model under evaluation sees what its own image processor makes, and is told apart by its weights."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    AutoImageProcessor,
    AutoModel,
    BitImageProcessor,
    CLIPImageProcessor,
    ViTConfig,
    ViTImageProcessor,
)

from sp_hf.encoders.encoder import Encoder
from sp_hf.evaluation.model import EvaluatedModel, Preprocess, open_model, raw_pixels


def photo(seed=0, size=(70, 50)):
    """Smooth, so that resampling matters."""
    small = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)


def save(folder, **processor):
    torch.manual_seed(0)
    config = ViTConfig(hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48, image_size=16)
    config.patch_size = 4
    Encoder.from_config(config).save_stock(folder)
    if processor:
        processor.pop("kind")(**processor).save_pretrained(folder)
    return folder


CROPPING = {
    "kind": BitImageProcessor,
    "size": {"shortest_edge": 20},
    "crop_size": {"height": 16, "width": 16},
    "image_mean": [0.2, 0.3, 0.4],
    "image_std": [0.5, 0.6, 0.7],
}


@pytest.mark.parametrize("processor", [{}, CROPPING], ids=["squash", "resize and crop"])
def test_features_are_those_of_the_stock_model_and_processor(processor, tmp_path):
    folder = save(tmp_path / "model", **processor)
    model = open_model(str(folder))
    stock, own = AutoModel.from_pretrained(folder).eval(), AutoImageProcessor.from_pretrained(folder)
    with torch.no_grad():
        expected = stock(**own(photo(), return_tensors="pt")).last_hidden_state
        pixels = torch.from_numpy(model.preprocess(photo()))[None]
        found = model.encoder(pixels.float() / 255)
    torch.testing.assert_close(found.cls, expected[:, 0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.patches, expected[:, 1:], atol=1e-5, rtol=1e-5)


def test_a_run_folder_stands_for_its_encoder(tmp_path):
    save(tmp_path / "encoder")
    model = open_model(str(tmp_path))
    assert model.source == str(tmp_path / "encoder") and model.name == str(tmp_path) and model.role == "model"


@pytest.mark.parametrize(
    "processor",
    [
        ViTImageProcessor(size={"height": 224, "width": 224}),
        BitImageProcessor(size={"shortest_edge": 256}, crop_size={"height": 224, "width": 224}),
        CLIPImageProcessor(),
    ],
)
def test_another_size_keeps_the_ratio_of_crop_to_resize(processor):
    native, half = Preprocess(processor), Preprocess(processor, 112)
    assert (native.size, half.size) == (224, 112)
    image = photo(size=(400, 300))
    shrunk = np.asarray(Image.fromarray(native(image).transpose(1, 2, 0)).resize((112, 112), Image.Resampling.BOX))
    difference = np.abs(shrunk.astype(float) - half(image).transpose(1, 2, 0)).mean()
    assert difference < 4  # the same region, at half the size
    assert native.identity != half.identity == Preprocess(processor, 112).identity


def test_a_processor_that_makes_no_square_is_refused():
    with pytest.raises(ValueError, match="32 x 16 px; name a square one with --size"):
        Preprocess(ViTImageProcessor(size={"height": 16, "width": 32}))


def test_a_preset_is_a_random_initialisation_by_seed():
    first, same, other = (open_model("vit-micro-8", size=16, seed=seed) for seed in (0, 0, 1))
    assert first.size == 16 and first.source is None
    assert first.identity == same.identity != other.identity


def test_a_size_that_patches_do_not_divide_is_refused(tmp_path):
    with pytest.raises(ValueError, match="18 pixels is not divisible into patches of 4"):
        open_model(str(save(tmp_path / "model")), size=18)


def test_raw_pixels_see_what_the_model_sees(tmp_path):
    model = open_model(str(save(tmp_path / "model", **CROPPING)))
    control = raw_pixels(model)
    assert isinstance(control, EvaluatedModel) and control.preprocess is model.preprocess
    assert control.identity != model.identity
