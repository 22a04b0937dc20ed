"""SPViTModel: ViTModel bit for bit on a whole image, and exact control of tokens and positions."""

from __future__ import annotations

import pytest
import torch
from tiny_encoders import PATCH, SIZE, TINY, WIDTH
from torch import Tensor
from transformers import AutoConfig, AutoModel, ViTConfig, ViTModel

from sp_hf.encoders.checkpoint import plain_vit, with_token_control
from sp_hf.encoders.configuration_sp_vit import SPViTConfig
from sp_hf.encoders.encoder import Encoder
from sp_hf.encoders.initialisation import initialise
from sp_hf.encoders.modeling_sp_vit import SPViTModel
from sp_hf.encoders.position_field import sample_position_field

GRID = SIZE // PATCH
N = GRID**2
FULL = torch.tensor([[0.5, 0.5, 1.0, 1.0]])
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def pixels(size: int = SIZE, batch: int = 3, seed: int = 1) -> Tensor:
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(seed))


def pair(**overrides: object) -> tuple[ViTModel, SPViTModel]:
    vit = TINY["vit"].build(**overrides)
    return vit, with_token_control(vit)


def without_layers() -> SPViTModel:
    """Tokens are embeddings, seen through no layer and no norm: what positions do can be read off."""
    _, model = pair(num_hidden_layers=0)
    model.layernorm = torch.nn.Identity()
    return model


def content(model: SPViTModel, images: Tensor) -> Tensor:
    """Patch embeddings without positions, by an independent convolution. [B, N, D]"""
    projection = model.embeddings.patch_embeddings.projection
    maps = torch.nn.functional.conv2d(images, projection.weight, projection.bias, stride=PATCH)
    return maps.flatten(2).transpose(1, 2)


# The whole image


@pytest.mark.parametrize("size", [SIZE, SIZE // 2, 2 * SIZE])
def test_whole_image_is_the_vits_bit_for_bit(size: int):
    vit, model = pair()
    images = pixels(size)
    kwargs = {} if size == SIZE else {"interpolate_pos_encoding": True}
    assert torch.equal(model(images, **kwargs).last_hidden_state, vit(images, **kwargs).last_hidden_state)


@pytest.mark.parametrize("size", [SIZE, SIZE // 2])
def test_controlled_path_is_the_vits_bit_for_bit(size: int):
    """All patches visible, in order: the same numbers by the code that handles tokens one by one."""
    vit, model = pair()
    images = pixels(size)
    everything = torch.arange((size // PATCH) ** 2).expand(3, -1)
    expected = vit(images, interpolate_pos_encoding=True).last_hidden_state
    assert torch.equal(model(images, visible=everything).last_hidden_state, expected)


def test_elongated_native_size():
    vit, model = pair(image_size=(64, 16))
    images = torch.randn(2, 3, 64, 16, generator=torch.Generator().manual_seed(1))
    expected = vit(images).last_hidden_state
    everything = torch.arange(16).expand(2, -1)
    assert torch.equal(model(images, visible=everything).last_hidden_state, expected)
    assert torch.equal(model(images, position_boxes=FULL.expand(2, -1)).last_hidden_state, expected)


def test_parameters_are_the_vits():
    vit, model = pair()
    assert list(model.state_dict()) == list(vit.state_dict())
    assert all(torch.equal(value, vit.state_dict()[key]) for key, value in model.state_dict().items())
    pooled = SPViTModel(model.config, add_pooling_layer=True)
    assert list(pooled.state_dict()) == list(ViTModel(vit.config).state_dict())


def test_hidden_states_and_attentions_are_the_vits():
    vit, model = pair(attn_implementation="eager")
    assert model.config._attn_implementation == "eager"
    images = pixels()
    expected = vit(images, output_hidden_states=True, output_attentions=True)
    outputs = model(images, output_hidden_states=True, output_attentions=True)
    assert len(outputs.hidden_states) == 3 and len(outputs.attentions) == 2
    assert all(torch.equal(*both) for both in zip(outputs.hidden_states, expected.hidden_states, strict=True))


def test_auto_classes_know_it(tmp_path):
    _, model = pair()
    model.save_pretrained(tmp_path)
    assert isinstance(AutoConfig.from_pretrained(tmp_path), SPViTConfig)
    loaded, report = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert isinstance(loaded, SPViTModel) and not report["missing_keys"] and not report["unexpected_keys"]
    assert torch.equal(loaded.eval()(pixels()).last_hidden_state, model(pixels()).last_hidden_state)


def test_configuration_round_trip():
    config = ViTConfig(hidden_size=64, num_attention_heads=4, layer_norm_eps=1e-5, image_size=48, qkv_bias=False)
    special = SPViTConfig.from_vit(config)
    assert special.model_type == "sp_vit" and isinstance(special, ViTConfig)
    assert special.to_vit().to_dict() == config.to_dict()


# The position field


def linear_field(height: int, width: int) -> Tensor:
    """Entry (i, j) holds (x, y) of its cell's centre and a constant. [h, w, 3]"""
    y, x = torch.meshgrid((torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width, indexing="ij")
    return torch.stack([x, y, torch.ones_like(x)], dim=-1)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("grid", [(4, 4), (2, 3), (7, 5)])
def test_linear_field_is_sampled_at_the_token_centres(grid: tuple[int, int], flip: bool):
    boxes = torch.tensor([[0.5, 0.5, 0.5, 0.4], [0.4, 0.55, 0.3, 0.6], [0.7, 0.35, 0.25, 0.2]])
    sampled = sample_position_field(linear_field(8, 10), boxes, grid, torch.full((3,), flip))
    rows, columns = grid
    for box, positions in zip(boxes.tolist(), sampled.unflatten(1, grid).tolist(), strict=True):
        cx, cy, width, height = box
        for r in range(rows):
            for c in range(columns):
                along = (c + 0.5) / columns
                x = cx - width / 2 + width * (1 - along if flip else along)
                y = cy - height / 2 + height * (r + 0.5) / rows
                assert positions[r][c] == pytest.approx([x, y, 1.0], abs=1e-5)


def test_field_keeps_its_edge_values_beyond_the_outermost_centres():
    sampled = sample_position_field(linear_field(2, 2), torch.tensor([[0.1, 0.9, 0.02, 0.02]]), (1, 1))
    assert sampled.flatten().tolist() == pytest.approx([0.25, 0.75, 1.0])  # the corner entry, not (0.1, 0.9)


@pytest.mark.parametrize("height,width", [(4, 4), (14, 14), (3, 7), (37, 37)])
def test_full_box_at_the_native_grid_is_the_table_exactly(height: int, width: int):
    field = torch.randn(height, width, 5, generator=torch.Generator().manual_seed(0))
    sampled = sample_position_field(field, FULL, (height, width))
    assert torch.equal(sampled[0], field.flatten(0, 1))
    mirrored = sample_position_field(field, FULL, (height, width), torch.tensor([True]))
    assert torch.equal(mirrored[0], field.flip(1).flatten(0, 1))


def test_quadrants_of_a_fine_grid_tile_the_whole():
    """Four quarter boxes at half the grid see the same centres as one full box."""
    field = torch.randn(6, 6, 4, generator=torch.Generator().manual_seed(0))
    whole = sample_position_field(field, FULL, (8, 8))[0].unflatten(0, (8, 8))
    centres = [(0.25, 0.25), (0.75, 0.25), (0.25, 0.75), (0.75, 0.75)]
    quarters = sample_position_field(field, torch.tensor([[x, y, 0.5, 0.5] for x, y in centres]), (4, 4))
    q = quarters.unflatten(1, (4, 4))
    tiled = torch.cat([torch.cat([q[0], q[1]], dim=1), torch.cat([q[2], q[3]], dim=1)], dim=0)
    torch.testing.assert_close(tiled, whole)


def test_gradient_goes_to_the_entries_around_the_box():
    field = torch.zeros(8, 8, 2, requires_grad=True)
    sample_position_field(field, torch.tensor([[0.25, 0.75, 0.1, 0.1]]), (2, 2)).sum().backward()
    touched = field.grad.abs().sum(-1).nonzero()
    assert touched.min(0).values.tolist() == [5, 1] and touched.max(0).values.tolist() == [6, 2]
    assert field.grad.sum() == pytest.approx(2 * 4)  # bilinear weights of each of the 4 tokens sum to one


@pytest.mark.parametrize("device", DEVICES)
def test_half_precision_context_leaves_positions_exact(device: str):
    field = torch.randn(4, 4, 3, generator=torch.Generator().manual_seed(0)).to(device)
    with torch.autocast(device, torch.bfloat16):
        assert torch.equal(sample_position_field(field, FULL.to(device), (4, 4))[0], field.flatten(0, 1))


@pytest.mark.parametrize("device", DEVICES)
def test_full_box_is_the_plain_model_in_half_precision(device: str):
    model, images = pair()[1].to(device), pixels().to(device)
    with torch.autocast(device, torch.bfloat16):
        plain = model(images).last_hidden_state
        assert torch.equal(model(images, position_boxes=FULL.to(device).expand(3, -1)).last_hidden_state, plain)


# Tokens and positions in the model


def test_full_box_is_the_plain_model_exactly():
    vit, model = pair()
    images = pixels()
    outputs = model(images, position_boxes=FULL.expand(3, -1)).last_hidden_state
    assert torch.equal(outputs, vit(images).last_hidden_state)


def test_positions_follow_each_views_own_box_and_flip():
    model, images = without_layers(), pixels(SIZE // 2)
    boxes = torch.tensor([[0.3, 0.4, 0.3, 0.3], [0.7, 0.5, 0.5, 0.9], [0.7, 0.5, 0.5, 0.9]])
    flips = torch.tensor([False, False, True])
    field = model.embeddings.position_embeddings[0, 1:].unflatten(0, (GRID, GRID))
    tokens = model(images, position_boxes=boxes, position_flips=flips).last_hidden_state
    positions = tokens[:, 1:] - content(model, images)
    torch.testing.assert_close(positions, sample_position_field(field, boxes, (2, 2), flips), atol=1e-5, rtol=0)
    mirrored = positions[2].unflatten(0, (2, 2)).flip(1).flatten(0, 1)
    torch.testing.assert_close(positions[1], mirrored, atol=1e-5, rtol=0)
    cls = model.embeddings.cls_token + model.embeddings.position_embeddings[:, :1]
    assert torch.equal(tokens[:, :1], cls.expand(3, -1, -1))


def test_dropped_positions_become_the_position_token():
    model, images = without_layers(), pixels()
    token = torch.full((WIDTH,), 0.25)
    dropped = torch.rand(3, N, generator=torch.Generator().manual_seed(0)) < 0.5
    tokens = model(images, dropped=dropped, position_token=token).last_hidden_state
    positions = tokens[:, 1:] - content(model, images)
    table = model.embeddings.position_embeddings[0, 1:].expand(3, -1, -1)
    torch.testing.assert_close(positions[dropped], token.expand(int(dropped.sum()), -1), atol=1e-5, rtol=0)
    torch.testing.assert_close(positions[~dropped], table[~dropped], atol=1e-5, rtol=0)
    cls = model.embeddings.cls_token[0, 0] + model.embeddings.position_embeddings[0, 0]
    assert torch.equal(tokens[:, 0], cls.expand(3, -1))


def test_visible_patches_come_in_the_order_asked_for():
    model, images = without_layers(), pixels()
    whole = model(images).last_hidden_state
    visible = torch.stack([torch.randperm(N, generator=torch.Generator().manual_seed(seed))[:5] for seed in range(3)])
    tokens = model(images, visible=visible).last_hidden_state
    assert tokens.shape == (3, 1 + 5, WIDTH)
    for image in range(3):
        assert torch.equal(tokens[image, 1:], whole[image, 1:][visible[image]])
    assert torch.equal(tokens[:, 0], whole[:, 0])


def test_hidden_patches_cannot_be_seen():
    """With layers: pixels outside the visible patches change nothing; pixels inside do."""
    _, model = pair()
    images = pixels()
    visible = torch.tensor([[0, 5, 10]]).expand(3, -1)
    changed_hidden, changed_visible = images.clone(), images.clone()
    changed_hidden[..., -PATCH:, -PATCH:] += 1.0  # patch 15
    changed_visible[..., :PATCH, :PATCH] += 1.0  # patch 0
    expected = model(images, visible=visible).last_hidden_state
    assert torch.equal(model(changed_hidden, visible=visible).last_hidden_state, expected)
    assert not torch.equal(model(changed_visible, visible=visible).last_hidden_state, expected)


def test_visible_subset_equals_attention_restricted_to_it():
    """Independent reference: the whole sequence, with attention to hidden patches masked out."""
    vit, model = pair()
    images = pixels(batch=2)
    visible = torch.tensor([[1, 4, 7, 14], [0, 2, 3, 15]])
    keep = torch.zeros(2, 1 + N, dtype=torch.bool).scatter(
        1, torch.cat([torch.zeros(2, 1).long(), visible + 1], 1), True
    )
    masked = vit(images, attention_mask=keep).last_hidden_state
    expected = torch.stack([masked[image, 1:][visible[image]] for image in range(2)])
    outputs = model(images, visible=visible).last_hidden_state
    torch.testing.assert_close(outputs[:, 1:], expected, atol=1e-5, rtol=1e-5)


def test_visible_and_dropped_combine():
    """``dropped`` indexes all patches, also where only some are visible (DropPos)."""
    model, images = without_layers(), pixels()
    visible = torch.tensor([[9, 2]]).expand(3, -1)
    dropped = torch.zeros(3, N, dtype=torch.bool)
    dropped[:, 2] = True
    token = torch.full((WIDTH,), -0.5)
    tokens = model(images, visible=visible, dropped=dropped, position_token=token).last_hidden_state[:, 1:]
    embedded = content(model, images)
    position_9 = model.embeddings.position_embeddings[0, 1 + 9]
    torch.testing.assert_close(tokens[:, 0], embedded[:, 9] + position_9, atol=1e-5, rtol=0)
    torch.testing.assert_close(tokens[:, 1], embedded[:, 2] + token, atol=1e-5, rtol=0)


def test_position_token_learns():
    _, model = pair()
    token = torch.zeros(WIDTH, requires_grad=True)
    dropped = torch.zeros(3, N, dtype=torch.bool)
    dropped[:, 3] = True
    model(pixels(), dropped=dropped, position_token=token).last_hidden_state.square().sum().backward()
    assert token.grad.abs().sum() > 0


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")
def test_gradient_checkpointing_under_control():
    gradients = []
    for enable in (False, True):
        _, model = pair()
        model.train()
        if enable:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model(pixels(), visible=torch.arange(6).expand(3, -1)).last_hidden_state.square().sum().backward()
        gradients.append(model.embeddings.patch_embeddings.projection.weight.grad)
    assert torch.equal(*gradients)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_control_compiles_into_one_graph(backend: str):
    torch.compiler.reset()
    encoder = Encoder(pair()[1]).eval()
    compiled = torch.compile(encoder, backend=backend, fullgraph=True)
    arguments = {
        "visible": torch.tensor([[3, 1, 8]]).expand(3, -1),
        "dropped": torch.arange(N).expand(3, -1) % 2 == 0,
        "position_token": torch.ones(WIDTH),
        "position_boxes": torch.tensor([[0.4, 0.5, 0.3, 0.6]]).expand(3, -1),
        "position_flips": torch.tensor([True, False, True]),
    }
    with torch.no_grad():
        expected, found = encoder(pixels(), **arguments), compiled(pixels(), **arguments)
    torch.testing.assert_close(found.patches, expected.patches)


def test_encoder_passes_control_through():
    model = pair()[1]
    encoder = Encoder(model, (0.0,) * 3, (1.0,) * 3).eval()
    assert encoder.supports_token_control
    images, visible = pixels(), torch.tensor([[3, 1, 8]]).expand(3, -1)
    encoding = encoder(images, visible=visible)
    expected = model(images, visible=visible).last_hidden_state
    assert torch.equal(encoding.cls, expected[:, 0]) and torch.equal(encoding.patches, expected[:, 1:])
    assert encoding.grid == (GRID, GRID)


@pytest.mark.parametrize(
    "arguments,message",
    [
        ({"dropped": torch.zeros(3, N, dtype=torch.bool)}, "dropped and position_token go together"),
        ({"position_token": torch.zeros(WIDTH)}, "dropped and position_token go together"),
        ({"position_flips": torch.zeros(3, dtype=torch.bool)}, "position_flips without position_boxes"),
        (
            {"visible": torch.zeros(3, 2, dtype=torch.int64), "attention_mask": torch.zeros(3, N)},
            "attention_mask cannot be combined",
        ),
        (
            {"visible": torch.zeros(3, 2, dtype=torch.int64), "bool_masked_pos": torch.zeros(3, N, dtype=torch.bool)},
            "built without a mask token",
        ),
    ],
)
def test_arguments_that_do_not_belong_together(arguments: dict, message: str):
    with pytest.raises(ValueError, match=message):
        pair()[1](pixels(), **arguments)


def test_conversions_keep_weights_and_random_numbers():
    vit = TINY["vit"].build()
    state = torch.get_rng_state()
    back = plain_vit(with_token_control(vit))
    assert torch.equal(state, torch.get_rng_state())
    assert type(back) is ViTModel
    assert all(torch.equal(value, vit.state_dict()[key]) for key, value in back.state_dict().items())


def test_masked_autoencoder_weights_take_token_control():
    mae = TINY["vit_mae"].build()
    images = pixels()
    outputs = with_token_control(mae)(images).last_hidden_state
    cls, patches = TINY["vit_mae"].reference(mae, images)
    assert torch.equal(outputs[:, 0], cls) and torch.equal(outputs[:, 1:], patches)


def test_token_control_of_other_types_is_refused():
    with pytest.raises(ValueError, match="Dinov2Model is none"):
        with_token_control(TINY["dinov2"].build())


# Content masks, context, a field of its own


def test_a_mask_goes_together_with_token_control():
    """Masked content at all patches in order, by the controlled path, is the stock class's."""
    vit = ViTModel(pair()[0].config, add_pooling_layer=False, use_mask_token=True).eval()
    vit.load_state_dict(pair()[0].state_dict(), strict=False)
    model = pair()[1]
    model.embeddings.mask_token = torch.nn.Parameter(torch.linspace(-1, 1, WIDTH).view(1, 1, -1))
    vit.embeddings.mask_token = model.embeddings.mask_token
    masked = torch.rand(3, N, generator=torch.Generator().manual_seed(0)) < 0.5
    expected = vit(pixels(), bool_masked_pos=masked).last_hidden_state
    torch.testing.assert_close(model(pixels(), bool_masked_pos=masked).last_hidden_state, expected)
    everything = torch.arange(N).expand(3, -1)
    found = model(pixels(), bool_masked_pos=masked, visible=everything).last_hidden_state
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_keys_and_values_come_from_the_context_alone(attention: str):
    """What is not in the context asks, and is asked by nobody: other tokens do not know what it holds."""
    model = pair()[1]
    model.set_attn_implementation(attention)
    context = torch.zeros(3, N, dtype=torch.bool)
    context[:, ::3] = True
    images = pixels()
    found = model(images, context=context).last_hidden_state
    changed = images.clone()
    changed[:, :, :PATCH, PATCH : 2 * PATCH] += 1.0  # patch 1, not in the context
    other = model(changed, context=context).last_hidden_state
    same = [token for token in range(1 + N) if token != 2]
    torch.testing.assert_close(found[:, same], other[:, same])
    assert not torch.allclose(found[:, 2], other[:, 2])
    changed = images.clone()
    changed[:, :, :PATCH, :PATCH] += 1.0  # patch 0, in it
    assert not torch.allclose(found[:, 5], model(changed, context=context).last_hidden_state[:, 5])
    whole = model(images, context=torch.ones_like(context)).last_hidden_state
    torch.testing.assert_close(whole, model(images).last_hidden_state)


def test_context_among_visible_patches_is_theirs():
    model = pair()[1]
    context = torch.rand(3, N, generator=torch.Generator().manual_seed(0)) < 0.5
    alone = [context[b].nonzero()[:, 0] for b in range(3)]
    count = min(map(len, alone))
    visible = torch.stack([patches[:count] for patches in alone])
    found = model(pixels(), visible=visible, context=context).last_hidden_state
    torch.testing.assert_close(found, model(pixels(), visible=visible).last_hidden_state)


@pytest.mark.parametrize("side", [3, 9])
def test_a_field_of_its_own_gives_every_view_its_positions(side: int):
    model = without_layers()
    model.add_position_field(side)
    with torch.no_grad():
        model.position_field.normal_(generator=torch.Generator().manual_seed(0))
    field = model.position_field[0].unflatten(0, (side, side))
    images, boxes = pixels(), torch.tensor([[0.4, 0.5, 0.6, 0.4]]).expand(3, -1)
    patches = content(model, images)
    cropped = model(images, position_boxes=boxes).last_hidden_state[:, 1:] - patches
    torch.testing.assert_close(cropped, sample_position_field(field, boxes, (GRID, GRID)), atol=1e-5, rtol=1e-5)
    laid = model(images).last_hidden_state[:, 1:] - patches
    expected = sample_position_field(field, FULL, (GRID, GRID)).expand(3, -1, -1)
    torch.testing.assert_close(laid, expected, atol=1e-5, rtol=1e-5)


def test_a_field_begins_as_the_table_and_is_exported_as_one(tmp_path):
    encoder = Encoder(pair()[1])
    before = encoder(pixels()).patches
    encoder.add_position_field(GRID)
    torch.testing.assert_close(encoder(pixels()).patches, before)
    encoder.add_position_field(50)
    with torch.no_grad():
        encoder.model.position_field.add_(torch.randn(2500, WIDTH, generator=torch.Generator().manual_seed(0)))
    encoder.save_stock(tmp_path)
    stock, report = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert type(stock) is ViTModel and not report["missing_keys"] and not report["unexpected_keys"]
    assert stock.config.image_size == SIZE
    exported = Encoder.load(tmp_path)(pixels()).patches
    torch.testing.assert_close(exported, encoder(pixels()).patches, atol=1e-5, rtol=1e-4)
    again = Encoder.from_config(encoder.config)
    again.load_state_dict(encoder.state_dict())  # its configuration is enough to build it
    assert torch.equal(again(pixels()).patches, encoder(pixels()).patches)


@pytest.mark.parametrize("side", [GRID, 3, 9])
def test_a_fixed_field_is_one_that_is_still_sines_and_cosines(side: int):
    encoder = Encoder(pair()[1])
    initialise(encoder.model, "xavier")
    encoder.add_position_field(side)
    table, field = encoder.model.embeddings.position_embeddings, encoder.model.position_field
    assert encoder.fix_sincos_positions()
    assert not table.requires_grad and not field.requires_grad
    field.requires_grad_(True)
    with torch.no_grad():
        field[0, 1, 2] += 1e-4
    assert not encoder.fix_sincos_positions()  # it has learned
    assert field.requires_grad and not table.requires_grad


def test_a_field_of_other_positions_is_not_fixed():
    encoder = Encoder(pair()[1])  # its table is drawn at random
    encoder.add_position_field(3)
    assert not encoder.fix_sincos_positions()
    assert encoder.model.position_field.requires_grad


def test_only_a_vit_of_ours_has_a_field():
    with pytest.raises(ValueError, match="has no position field"):
        Encoder(pair()[0]).add_position_field(50)
    with pytest.raises(ValueError, match="position_field is 0"):
        pair()[1].add_position_field(0)
