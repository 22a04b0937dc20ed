"""Fresh encoders: variances against their formula, positions against MAE's, the stock scheme against transformers."""

import copy

import pytest
import torch
from transformers import ViTModel

from sp_hf.encoders.encoder import Encoder
from sp_hf.encoders.initialisation import INITIALISATIONS, RECORDED_AS
from sp_hf.encoders.loading import resolve_encoder
from sp_hf.encoders.presets import build_preset
from sp_hf.encoders.sincos_positions import sincos_positions
from sp_hf.evaluation.model import EvaluatedModel, Preprocess, random_initialisation
from tests.tiny_encoders import TINY, TRANSFORMERS


def fresh(**options):
    torch.manual_seed(0)
    return resolve_encoder("vit-micro-8", image_size=64, **options)


@pytest.mark.parametrize("size, width", [("micro", 128), ("tiny", 192), ("small", 384)])
def test_linear_layers_have_the_variance_of_their_fans_at_every_width(size, width):
    torch.manual_seed(0)
    model = resolve_encoder(f"vit-{size}-8", image_size=32).model
    weights = {name: p for name, p in model.named_parameters() if p.ndim == 2}
    assert len(weights) == 6 * model.config.num_hidden_layers
    for name, weight in weights.items():
        expected = 2 / sum(weight.shape)
        assert weight.detach().var() == pytest.approx(expected, rel=0.05), name
        assert weight.abs().max() <= (3 * expected) ** 0.5 * 1.0001  # uniform
    patches = model.embeddings.patch_embeddings.projection.weight
    assert patches.detach().var() == pytest.approx(2 / (width + 3 * 8 * 8), rel=0.05)


def test_positions_start_as_sines_and_cosines_and_can_be_learned():
    table = fresh().model.embeddings.position_embeddings
    assert table.requires_grad
    assert torch.equal(table[0, 1:], sincos_positions(8, 8, 128))
    assert not table[0, 0].any()  # the class token's


def test_a_fresh_encoder_is_neither_linear_nor_blind_to_position():
    """What the stock scheme is at this width, and why the default is another."""
    pixels = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))

    def measured(scheme):
        encoder = fresh(initialisation=scheme)
        embeddings, layers = encoder.model.embeddings, encoder.model.layers
        with torch.no_grad():
            start = embeddings(encoder.normalise(pixels))
            tokens = start
            for layer in layers:
                tokens = layer(tokens, None)
        change = (tokens - start).norm() / start.norm()
        position = embeddings.position_embeddings[0, 1:].norm(dim=-1).mean()
        return change, position / embeddings.patch_embeddings(encoder.normalise(pixels)).norm(dim=-1).mean()

    (changed, located), (barely, blind) = measured("xavier"), measured("stock")
    assert changed > 1 and barely < 0.6
    assert located > 0.3 and blind < 0.1


def test_stock_is_what_transformers_draws():
    encoder = fresh(initialisation="stock")
    torch.manual_seed(0)
    stock = ViTModel(build_preset("vit-micro-8", image_size=64), add_pooling_layer=False).state_dict()
    assert all(torch.equal(value, stock[name]) for name, value in encoder.model.state_dict().items())


@pytest.mark.parametrize("family", TRANSFORMERS)
def test_every_transformer_starts_by_it_and_still_runs(family):
    config = copy.deepcopy(TINY[family].build().config)
    setattr(config, RECORDED_AS, "xavier")
    torch.manual_seed(0)
    encoder = Encoder.from_config(config)
    linear = [module for module in encoder.model.modules() if isinstance(module, torch.nn.Linear)]
    assert linear and all(not layer.bias.any() for layer in linear if layer.bias is not None)
    assert any(abs(layer.weight.detach().var() * sum(layer.weight.shape) / 2 - 1) < 0.1 for layer in linear)
    size = encoder.dimensions.image_size[0]
    assert encoder(torch.rand(2, 3, size, size)).cls.isfinite().all()


def test_conv_nets_start_as_their_class_makes_them():
    config = TINY["convnext"].build().config
    torch.manual_seed(0)
    stock = Encoder.from_config(config).state_dict()
    setattr(config, RECORDED_AS, "xavier")
    torch.manual_seed(0)
    assert all(torch.equal(value, stock[name]) for name, value in Encoder.from_config(config).state_dict().items())


@pytest.mark.parametrize("token_control", [False, True])
@pytest.mark.parametrize("scheme", INITIALISATIONS)
def test_the_untrained_control_of_an_exported_encoder_starts_as_it_did(tmp_path, scheme, token_control):
    encoder = fresh(initialisation=scheme, token_control=token_control)
    before = {name: value.clone() for name, value in encoder.model.state_dict().items()}
    with torch.no_grad():
        for parameter in encoder.model.parameters():
            parameter.add_(1.0)
    encoder.save_stock(tmp_path)
    loaded = Encoder.load(tmp_path)
    assert type(loaded.model) is ViTModel
    control = random_initialisation(EvaluatedModel("run", loaded, Preprocess.squash(64)), seed=0)
    found = control.encoder.model.state_dict()
    assert all(torch.equal(value, found[name]) for name, value in before.items())


def test_what_brings_its_weights_takes_no_initialisation(tmp_path):
    fresh().save_stock(tmp_path)
    with pytest.raises(ValueError, match="initialisation='xavier' is for fresh encoders"):
        resolve_encoder(tmp_path, initialisation="xavier")
    with pytest.raises(ValueError, match="unknown initialisation 'kaiming'; known: xavier, stock"):
        fresh(initialisation="kaiming")
