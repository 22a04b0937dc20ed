"""How far the protocol reaches: sketches of methods that are not in the package, each within its own few lines.

Montages over the batch (JigClu), patches off the grid with keys and values from some of them (PART, MP3), boxes inside
other views read by their tokens (CIM, PaKA), boxes proposed by the encoder (SCN), positions that follow the crop.
"""

import dataclasses

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sp_hf.encoders.configuration_sp_vit import SPViTConfig
from sp_hf.model.configuration import SPConfig
from sp_hf.model.modeling import SPForPreTraining
from sp_hf.objectives import OBJECTIVES, Encode, Objective, ObjectiveConfig, ObjectiveOutput, Requests, TokenMask
from sp_hf.views.compose import cut_patches, montage
from sp_hf.views.keyed_random import uniform
from sp_hf.views.sampler import ViewSampler
from sp_hf.views.spec import ViewSpec
from sp_hf.views.token_maps import tokens_at

PATCH = 4
CONFIG = SPViTConfig(
    hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, patch_size=PATCH, image_size=16
)


def spec(**options):
    return ViewSpec(**{"count": 1, "size": 16, "area": (0.3, 1.0), **options})


class Montages(Objective):
    """JigClu's pixels: all tiles of the batch are shuffled and pasted; each says which quadrant it is from."""

    kind = "where"

    def __init__(self, config, encoder):
        super().__init__(config, encoder)
        self.head = nn.Linear(encoder.hidden_size, 4)

    def view_specs(self):
        corners = {"rows": 2, "columns": 2, "gap": -0.6}
        return {"tiles": spec(count=4, size=8, area=(1.0, 1.0), aspect=None, grid=corners)}

    def requests(self, batch):
        tiles = batch.views["tiles"].pixels.flatten(0, 1)  # [4 B, 3, 8, 8]
        order = uniform(batch.keys, "montage", (4,)).flatten().argsort(stable=True)
        pasted = montage(tiles[order].unflatten(0, (-1, 4)), 2, 2)[:, None]
        views = {"montage": batch.views["tiles"]._replace(pixels=pasted, boxes=None, flips=None)}
        return Requests({"montage": Encode("montage")}, views, state=order)

    def forward(self, batch, encodings):
        encoding = encodings["montage"]
        cells = encoding.patches[:, 0].transpose(1, 2).unflatten(2, encoding.grid)
        cells = F.adaptive_avg_pool2d(cells, 2).flatten(2).transpose(1, 2).flatten(0, 1)  # [4 B, D]
        return ObjectiveOutput(F.cross_entropy(self.head(cells), batch.state % 4), {})


class OffGrid(Objective):
    """PART's pixels and MP3's attention: patches from anywhere, no positions, keys and values from half of them."""

    kind = "where"
    needs_token_control = True

    def __init__(self, config, encoder):
        super().__init__(config, encoder)
        self.head = nn.Linear(2 * encoder.hidden_size, 2, bias=False)
        self.register_buffer("no_position", torch.zeros(encoder.hidden_size))

    def view_specs(self):
        return {"image": spec()}

    def requests(self, batch):
        image = batch.views["image"]
        size = image.pixels.shape[-1]
        corners = (uniform(batch.keys, "off_grid", (2, 16)) * (size - PATCH + 1)).long()  # [B, 2, N]
        patches = cut_patches(image.pixels[:, 0], corners[:, 0], corners[:, 1], PATCH)
        views = {"pasted": image._replace(pixels=montage(patches, 4, 4)[:, None])}
        context = uniform(batch.keys, "context", (1, 16)) < 0.5
        mask = TokenMask(dropped=torch.ones_like(context), position_token=self.no_position, context=context)
        return Requests({"pasted": Encode("pasted", mask=mask)}, views, state=corners)

    def forward(self, batch, encodings):
        tokens = encodings["pasted"].patches[:, 0]  # [B, N, D]
        pairs = torch.cat([tokens[:, :-1], tokens[:, 1:]], dim=-1)
        offsets = batch.state.diff(dim=-1).transpose(1, 2) / PATCH
        return ObjectiveOutput(F.mse_loss(self.head(pairs), offsets.float()), {})


class Inside(Objective):
    """Turned or upright boxes inside another view; the outer view's tokens, by the teacher, read at the inner one."""

    kind = "what"

    def view_specs(self):
        inner = spec(count=2, size=8, area=(0.2, 0.4), inside="outer", flip="parent")
        return {"inner": inner, "outer": spec(), "turned": spec(inside="outer", rotation=45.0)}

    def requests(self, batch):
        return {"inner": Encode("inner"), "outer": Encode("outer", tower="teacher"), "turned": Encode("turned")}

    def forward(self, batch, encodings):
        outer, inner = batch.views["outer"], batch.views["inner"]
        twice = (encodings["outer"].patches, outer.boxes, outer.flips)
        tokens, boxes, flips = (x.expand(-1, 2, *x.shape[2:]) for x in twice)
        grids = encodings["outer"].grid, encodings["inner"].grid
        seen = tokens_at(tokens, grids[0], boxes, flips, inner.boxes, grids[1], inner.flips)
        assert seen.inside.all()
        return ObjectiveOutput(F.mse_loss(encodings["inner"].patches, seen.tokens), {})

    def teacher_momentum(self):
        return (0.9, 1.0)


class Proposed(Objective):
    """Boxes that the encoder proposes from whole images, remembered by id."""

    kind = "where"
    proposes = ("objects",)

    def __init__(self, config, encoder):
        super().__init__(config, encoder)
        self.found = {}

    def view_specs(self):
        return {"parts": spec(count=2, size=8, boxes="objects", box_context=0.0)}

    def propose_boxes(self, encoder, canvases, aspects, ids):
        patches = encoder(F.interpolate(canvases / 255, 16)).patches  # [B, N, D]
        best = patches.norm(dim=-1).argmax(dim=-1)
        boxes = torch.stack([(best % 4 + 0.5) / 4, (best // 4 + 0.5) / 4], dim=-1)
        boxes = torch.cat([boxes, torch.full_like(boxes, 0.25)], dim=-1)[:, None]
        self.found |= dict(zip(ids.tolist(), boxes, strict=True))
        return {"objects": boxes}

    def requests(self, batch):
        return {"parts": Encode("parts")}

    def forward(self, batch, encodings):
        expected = torch.stack([self.found[i] for i in batch.ids.tolist()])
        torch.testing.assert_close(batch.views["parts"].boxes, expected.expand(-1, 2, -1))
        return ObjectiveOutput(encodings["parts"].cls.square().mean(), {})


SKETCHES = {"montages": Montages, "off_grid": OffGrid, "inside": Inside, "proposed": Proposed}


@pytest.fixture
def model(monkeypatch):
    for name, kind in SKETCHES.items():
        monkeypatch.setitem(OBJECTIVES, name, kind)
    return lambda *entries: SPForPreTraining(SPConfig(CONFIG, list(entries)))


def inputs(model, images=4):
    canvases = torch.randint(0, 256, (images, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    keys, ids, aspects = torch.arange(images) + 5, torch.arange(images), torch.ones(images)
    boxes = model.propose_boxes(canvases, aspects, ids)
    return {"views": ViewSampler(model.view_specs)(canvases, aspects, keys, boxes), "keys": keys, "ids": ids}


@pytest.mark.parametrize("name", SKETCHES)
def test_a_sketch_trains_alone(model, name):
    built = model({"name": name})
    output = built(**inputs(built))
    output.loss.backward()
    assert output.loss.isfinite()
    assert not [key for key, p in built.named_parameters() if p.requires_grad and p.grad is None]


def test_all_of_them_together_beside_the_packages_own(model):
    mae = {"name": "mae", "views": "off_grid/image", "decoder_width": 8, "decoder_depth": 1, "decoder_heads": 2}
    built = model(*({"name": name} for name in SKETCHES), mae)
    batch = inputs(built)
    before = {name: views.pixels.clone() for name, views in batch["views"].items()}
    built(**batch).loss.backward()
    assert all(torch.equal(views.pixels, before[name]) for name, views in batch["views"].items())
    assert built.box_columns == []


def test_state_is_handed_to_its_own_forward_and_requests_are_made_once(model, monkeypatch):
    built = model({"name": "montages"}, {"name": "off_grid"})
    calls = []
    for name in ("montages", "off_grid"):
        objective = built.objectives[name]
        monkeypatch.setattr(
            objective, "requests", lambda b, own=objective.requests, name=name: calls.append(name) or own(b)
        )
    built(**inputs(built))
    assert calls == ["montages", "off_grid"]


CROP = {"positions": "crop", "count": 2, "size": 16, "area": [0.3, 0.9], "flip": "shared"}


def test_positions_follow_the_crop_where_the_spec_says_so(model):
    """Any objective's views: here MoCo v3's. The encoder is asked for positions at exactly the views' boxes."""
    entry = {"name": "moco_v3", "views": {**CROP, "position_window": [2, 5]}, "head_width": 8, "embedding_size": 4}
    built = model(entry)
    batch = inputs(built)
    asked = []
    built.encoder.register_forward_pre_hook(lambda m, args, kwargs: asked.append(kwargs), with_kwargs=True)
    built(**batch)
    views = batch["views"]["moco_v3/views"]
    assert torch.equal(asked[0]["position_boxes"], views.position_boxes.flatten(0, 1))
    assert torch.equal(asked[0]["position_flips"], views.flips.flatten(0, 1))
    assert (views.position_boxes[..., 2:] < views.boxes[..., 2:]).all()


def test_pixels_made_from_such_views_keep_their_positions(model):
    built = model({"name": "lorot", "views": CROP})
    asked = []
    built.encoder.register_forward_pre_hook(lambda m, args, kwargs: asked.append(kwargs), with_kwargs=True)
    batch = inputs(built)
    built(**batch)
    assert torch.equal(asked[0]["position_boxes"], batch["views"]["lorot/image"].boxes.flatten(0, 1))


def test_views_that_follow_the_crop_need_an_encoder_that_can():
    from transformers import ViTConfig

    config = ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, patch_size=PATCH, image_size=16)
    with pytest.raises(ValueError, match="'lorot' has views with positions: crop, which 'vit' cannot do.*SPViTModel"):
        SPForPreTraining(SPConfig(config, [{"name": "lorot", "views": CROP}]))


@dataclasses.dataclass
class Wrong(ObjectiveConfig):
    view: str = "image"


class Confused(OffGrid):
    config_class = Wrong

    def requests(self, batch):
        return Requests({"x": Encode(self.config.view)}, {"image": batch.views["image"]} if self.config.view else {})


@pytest.mark.parametrize("view, message", [("image", r"views called \['image'\], as those"), ("", r"wants \[''\] enc")])
def test_confused_names_are_told(model, monkeypatch, view, message):
    monkeypatch.setitem(OBJECTIVES, "confused", Confused)
    built = model({"name": "confused", "view": view})
    with pytest.raises(ValueError, match=message):
        built(**inputs(built))


def test_an_unknown_parent_is_refused_when_the_model_is_built(model):
    views = {"count": 1, "size": 16, "area": [0.3, 0.9], "inside": "dino/global"}
    with pytest.raises(ValueError, match="lie inside 'dino/global', but there are only"):
        model({"name": "lorot", "views": views})
