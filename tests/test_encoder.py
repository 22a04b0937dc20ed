"""Every supported model type through the one adapter, against its stock class read by hand."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
import transformers
from tiny_encoders import PATCH, SIZE, TINY, TRANSFORMERS, WIDTH
from torch import Tensor
from transformers import BertConfig, CLIPConfig, ViTConfig, ViTForImageClassification

from sp_hf.encoders.encoder import IMAGENET_MEAN, IMAGENET_STD, Encoder
from sp_hf.encoders.model_table import FACTS

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)


def pixels(height: int, width: int | None = None, batch: int = 2) -> Tensor:
    return torch.rand(batch, 3, height, width or height, generator=torch.Generator().manual_seed(1))


def normalised(images: Tensor) -> Tensor:
    return (images - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


def test_every_row_of_the_facts_is_tested():
    built = {tiny.build().config.model_type for tiny in TINY.values()}
    assert built == set(FACTS) - {"sp_vit", "timm_wrapper"}  # tests/test_sp_vit.py, tests/test_encoder_timm.py


@pytest.mark.parametrize("size", [SIZE, SIZE // 2])
@pytest.mark.parametrize("name", TINY)
def test_cls_and_patches_are_the_stock_models(name: str, size: int):
    tiny = TINY[name]
    encoder = Encoder(tiny.build(), MEAN, STD).eval()
    images = pixels(size)
    with torch.no_grad():
        cls, patches = tiny.reference(tiny.build(), normalised(images))
        encoding = encoder(images)
    assert encoding.grid == encoder.patches_of(size) == (size // PATCH, size // PATCH)
    assert encoding.cls.shape == (2, WIDTH) and encoding.patches.shape == (2, (size // PATCH) ** 2, WIDTH)
    assert torch.equal(encoding.patches, patches)
    torch.testing.assert_close(encoding.cls, cls, rtol=0, atol=0 if name in TRANSFORMERS else 1e-5)


@pytest.mark.parametrize("name", TINY)
def test_attributes(name: str):
    tiny = TINY[name]
    encoder = Encoder(tiny.build())
    assert (encoder.hidden_size, encoder.patch_size, encoder.num_hidden_layers) == (WIDTH, PATCH, 2)
    assert (encoder.image_mean, encoder.image_std) == (IMAGENET_MEAN, IMAGENET_STD)
    assert not encoder.supports_token_control
    assert encoder.config is encoder.model.config
    assert "M parameters" in encoder.describe() and f"patches of {PATCH} px" in encoder.describe()
    assert not any(key.startswith("facts") for key in encoder.state_dict())


@pytest.mark.parametrize("name", TINY)
def test_patch_projection_sees_the_pixels(name: str):
    encoder = Encoder(TINY[name].build())
    seen = []
    encoder.patch_projection().register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    images = pixels(SIZE)
    encoder(images)
    assert isinstance(encoder.patch_projection(), torch.nn.Conv2d)
    assert torch.equal(seen[0], encoder.normalise(images))


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_patches_are_row_major(name: str):
    """Without layers a token depends on its own pixels alone, so a changed patch shows where it ends up."""
    encoder = Encoder(TINY[name].build(num_hidden_layers=0)).eval()
    images = pixels(2 * PATCH, 4 * PATCH)
    changed = images.clone()
    changed[:, :, PATCH:, 2 * PATCH : 3 * PATCH] = 0.0  # row 1, column 2
    before, after = encoder(images), encoder(changed)
    assert before.grid == (2, 4)
    differs = (before.patches != after.patches).any(-1).any(0)
    assert differs.nonzero().flatten().tolist() == [1 * 4 + 2]


@pytest.mark.parametrize("name", ["convnext", "convnextv2"])
def test_feature_maps_are_row_major(name: str):
    encoder = Encoder(TINY[name].build()).eval()
    images = pixels(2 * PATCH, 4 * PATCH)
    changed = images.clone()
    changed[:, :, PATCH:, 2 * PATCH : 3 * PATCH] = 5.0
    difference = (encoder(images).patches - encoder(changed).patches).norm(dim=-1).mean(0)
    assert int(difference.argmax()) == 1 * 4 + 2


@pytest.mark.parametrize("name", TINY)
def test_gradient_reaches_every_trainable_parameter(name: str):
    """DistributedDataParallel waits for a gradient from each of them."""
    encoder = Encoder(TINY[name].build()).train()
    encoding = encoder(pixels(SIZE // 2))
    (encoding.cls.square().sum() + encoding.patches.pow(3).sum()).backward()
    without = [key for key, value in encoder.named_parameters() if value.requires_grad and value.grad is None]
    assert without == []
    assert encoder.patch_projection().weight.grad.abs().sum() > 0
    frozen = {key for key, value in encoder.named_parameters() if not value.requires_grad}
    assert frozen <= {"model.embeddings.mask_token"}


@pytest.mark.parametrize("name", TINY)
def test_forward_is_deterministic_and_draws_no_random_numbers(name: str):
    encoder = Encoder(TINY[name].build()).eval()
    state = torch.get_rng_state()
    first, second = encoder(pixels(SIZE)), encoder(pixels(SIZE))
    assert torch.equal(first.cls, second.cls) and torch.equal(first.patches, second.patches)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("name", TINY)
def test_half_precision(name: str, device: str):
    encoder = Encoder(TINY[name].build()).eval().to(device)
    images = pixels(SIZE).to(device)
    with torch.no_grad():
        full = encoder(images)
        with torch.autocast(device, torch.bfloat16):
            autocast = encoder(images)
        half = encoder.to(torch.bfloat16)(images)
    assert half.patches.dtype == torch.bfloat16
    for low in (autocast, half):
        similarity = torch.cosine_similarity(low.patches.float(), full.patches, dim=-1)
        assert similarity.min() > 0.98


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")
@pytest.mark.parametrize("name", TRANSFORMERS)
def test_gradient_checkpointing_changes_no_gradient(name: str):
    gradients = []
    for enable in (False, True):
        encoder = Encoder(TINY[name].build()).train()
        if name == "dinov3_vit":
            encoder.config.pos_embed_rescale = None  # random in training mode
        if enable:
            encoder.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
            assert encoder.model.is_gradient_checkpointing
        encoder(pixels(SIZE)).patches.square().sum().backward()
        gradients.append(encoder.patch_projection().weight.grad)
    assert torch.equal(*gradients)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_compiles_into_one_graph(name: str):
    torch.compiler.reset()
    encoder = Encoder(TINY[name].build()).eval()
    compiled = torch.compile(encoder, backend="eager", fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(pixels(SIZE)).patches, encoder(pixels(SIZE)).patches)


@pytest.mark.parametrize("name", TINY)
def test_fresh_weights_follow_the_global_seed(name: str):
    config = TINY[name].build().config
    states = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        states.append(Encoder.from_config(config).state_dict())
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())
    assert any(not torch.equal(value, states[2][key]) for key, value in states[0].items())


@pytest.mark.parametrize("name", ["vit", "deit"])
def test_a_pooler_that_comes_along_is_frozen(name: str):
    config = TINY[name].build().config
    encoder = Encoder(getattr(transformers, TINY[name].model_class)(config, add_pooling_layer=True))
    frozen = {key for key, value in encoder.named_parameters() if not value.requires_grad}
    assert frozen == {"model.pooler.dense.weight", "model.pooler.dense.bias"}


def test_vit_mae_becomes_a_vit_with_its_sine_cosine_positions():
    model = TINY["vit_mae"].build()
    encoder = Encoder(model)
    assert type(encoder.model).__name__ == "ViTModel"
    assert torch.equal(encoder.model.embeddings.position_embeddings, model.embeddings.position_embeddings)


@pytest.fixture
def fused_calls(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """One entry a call of PyTorch's fused attention, which only "sdpa" makes."""
    calls: list[None] = []
    fused = torch.nn.functional.scaled_dot_product_attention

    def spy(*args: object, **kwargs: object) -> Tensor:
        calls.append(None)
        return fused(*args, **kwargs)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", spy)
    return calls


@pytest.mark.parametrize("name", [name for name in TINY if not name.startswith("convnext")])
def test_attention_is_computed_as_chosen_to_the_same_features(name: str, fused_calls: list[None]):
    encoder = Encoder(TINY[name].build())
    with torch.no_grad():
        encoder.set_attention("eager")
        eager = encoder(pixels(SIZE))
        assert not fused_calls
        encoder.set_attention("sdpa")
        fused = encoder(pixels(SIZE))
    assert len(fused_calls) >= encoder.num_hidden_layers
    torch.testing.assert_close(fused.cls, eager.cls, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(fused.patches, eager.patches, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("name", "implementation"), [("vit", "spda"), ("convnext", "sdpa")])
def test_attention_that_is_unknown_or_unsupported_is_refused_by_name(name: str, implementation: str):
    encoder = Encoder(TINY[name].build())
    with pytest.raises(ValueError, match=f"attention '{implementation}' of {type(encoder.model).__name__}: "):
        encoder.set_attention(implementation)


def test_normalises_by_its_own_statistics():
    encoder = Encoder(TINY["vit"].build(), MEAN, STD)
    images = pixels(SIZE)
    assert torch.equal(encoder.normalise(images), normalised(images))


def test_two_tower_configuration_gives_the_vision_tower():
    config = CLIPConfig(vision_config=TINY["clip_vision_model"].build().config.to_dict())
    assert type(Encoder.from_config(config).model).__name__ == "CLIPVisionModel"


def test_indivisible_sizes_are_refused_with_the_sizes_that_work():
    encoder = Encoder(TINY["vit"].build())
    with pytest.raises(ValueError, match="30 pixels.*patches of 8; use 24 or 32"):
        encoder.patches_of(30)
    with pytest.raises(ValueError, match="30 pixels"):
        encoder(pixels(30))
    with pytest.raises(ValueError, match="4 pixels.*use 8"):
        encoder.patches_of(4)


def test_models_of_other_classes_are_refused():
    with pytest.raises(ValueError, match="'bert' cannot be used as an encoder: BertModel is no vision model"):
        Encoder.from_config(BertConfig())
    config = TINY["vit"].build().config
    with pytest.raises(ValueError, match="headless ViTModel, got ViTForImageClassification"):
        Encoder(ViTForImageClassification(config))


@pytest.mark.parametrize("name", ["vit", "dinov2"])
def test_token_control_needs_the_right_model(name: str):
    encoder = Encoder(TINY[name].build())
    with pytest.raises(ValueError, match="cannot take visible.*token_control=True"):
        encoder(pixels(SIZE), visible=torch.zeros(2, 3, dtype=torch.int64))


def test_elongated_native_sizes_are_never_interpolated():
    config = ViTConfig(**{**TINY["vit"].build().config.to_dict(), "image_size": (64, 16)})
    encoder = Encoder.from_config(config)
    assert encoder(pixels(64, 16)).grid == (8, 2)
    with pytest.raises(ValueError, match="32 x 32 pixels.*64 x 16 cannot be interpolated"):
        encoder(pixels(32))


def test_images_have_three_channels():
    with pytest.raises(ValueError, match="3 channels.*1, 3"):
        Encoder(TINY["vit"].build(num_channels=1))
    with pytest.raises(ValueError, match="3 channels.*1, 3"):
        Encoder(TINY["vit"].build(), image_mean=(0.5,))


def test_copies_and_pickles():
    encoder = Encoder(TINY["beit_mean"].build()).eval()
    for twin in (copy.deepcopy(encoder), pickle.loads(pickle.dumps(encoder))):
        assert torch.equal(twin(pixels(SIZE)).patches, encoder(pixels(SIZE)).patches)


def test_patches_must_be_square():
    config = ViTConfig(**{**TINY["vit"].build().config.to_dict(), "patch_size": (8, 4)})
    with pytest.raises(ValueError, match="8 x 4"):
        Encoder.from_config(config)
