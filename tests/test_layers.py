"""Metrics by layer: what each layer puts out against transformers' own hidden states, and the chosen layer."""

import dataclasses

import numpy as np
import pytest
import torch
from dense_samples import evaluation
from tiny_encoders import SIZE, TINY, TRANSFORMERS

from sp_hf.encoders.encoder import Encoder
from sp_hf.evaluation.model import EvaluatedModel, Preprocess, raw_pixels
from sp_hf.evaluation.source import DataSource
from sp_hf.evaluation.task import TaskSkipped
from sp_hf.evaluation.where.layers.layer_stack import LayerStack, NoLayers
from sp_hf.evaluation.where.layers.task import Layers
from sp_hf.evaluation.where.patch_position.probe import patch_centres


@pytest.mark.parametrize("name", [name for name in TRANSFORMERS if name != "vit_mae"])
def test_layers_are_the_hidden_states_of_transformers(name):
    encoder = Encoder(TINY[name].build())
    stack = LayerStack(encoder.eval(), "x")
    pixels = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found, plain = stack(pixels), encoder(pixels)
        hidden = encoder.model(encoder.normalise(pixels), output_hidden_states=True).hidden_states
    assert found.patches.shape == (2, 3, 16, 32) and found.cls.shape == (2, 3, 32)
    torch.testing.assert_close(found.patches[:, -1], plain.patches)
    torch.testing.assert_close(found.cls[:, -1], plain.cls)
    prefix = encoder.num_prefix_tokens
    for layer in (0, 1):
        torch.testing.assert_close(found.patches[:, layer], hidden[layer][:, prefix:])
    assert not any(block._forward_pre_hooks for block in stack.blocks)


def test_conv_nets_and_controls_have_no_layers():
    conv = Encoder(TINY["convnext"].build())
    with pytest.raises(NoLayers, match="ConvNextModel has no stack"):
        LayerStack(conv, "x")
    data = evaluation(DataSource("part-scenes?size=32&num_images=12"))
    model = EvaluatedModel("conv", conv.eval(), Preprocess.squash(SIZE))
    for skipped in (model, raw_pixels(model)):
        with pytest.raises(TaskSkipped, match="no stack of layers|no layers"):
            Layers().run(skipped, data)


def test_curves_end_in_the_last_layer_and_the_chosen_one_is_one_of_them(tmp_path):
    data = evaluation(DataSource("part-scenes?size=32&num_images=30"))
    data.refits = 2
    vit = TINY["vit"].build()
    with torch.no_grad():  # positions that outshine what patches show
        vit.embeddings.position_embeddings[0, 1:, :2] = 100 * patch_centres((4, 4)).float()
    model = EvaluatedModel("vit", Encoder(vit).eval(), Preprocess.squash(SIZE))
    result = Layers().run(model, data)
    for metric, layer in result.details["chosen_layer"].items():
        curve = result.details["curves"][metric]
        assert [point["layer"] for point in curve] == [0, 1, 2] and all(p["low"] <= p["high"] for p in curve)
        assert curve[-1]["value"] == result.measures[f"{metric}_last"].value
        assert curve[layer]["value"] == result.measures[f"{metric}_chosen"].value
    assert result.details["curves"]["r2_patch_position"][0]["value"] > 0.99
    same = dataclasses.replace(model, name="again")
    assert np.isclose(Layers().run(same, data).measures["r2_scale_last"].value, result.measures["r2_scale_last"].value)
    (picture,) = Layers().draw({"vit": result}, tmp_path)
    assert picture.path.stat().st_size > 5000 and Layers().draw({}, tmp_path) == []
    with pytest.raises(ValueError, match="images = 0"):
        Layers(images=0)
