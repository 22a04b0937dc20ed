"""Views that are described in part: the rest is the objective's default, and its size fits the encoder."""

from __future__ import annotations

import dataclasses
import functools
import types

import pytest

from sp_hf.encoders.facts import Dimensions, ModelFacts
from sp_hf.encoders.loading import resolve_encoder
from sp_hf.encoders.sizes import nearest_size
from sp_hf.errors import InputError
from sp_hf.model.configuration import SPConfig
from sp_hf.model.modeling import SPForPreTraining
from sp_hf.objectives import OBJECTIVES, parse_entry, with_sizes
from sp_hf.objectives.view_defaults import default_views, view_size
from sp_hf.objectives.what.dino import DINOConfig
from sp_hf.views.photometric import Photometric
from sp_hf.views.spec import ViewSpec, as_view_spec

SETS = [(name, option) for name, kind in OBJECTIVES.items() for option in default_views(kind.config_class)]
INSISTED = ("flip", "grid", "inside", "positions", "position_window")  # what some methods cannot do without


@pytest.mark.parametrize(("name", "option"), SETS)
def test_a_part_leaves_the_rest_as_it_was(name: str, option: str) -> None:
    kind = OBJECTIVES[name].config_class
    default = default_views(kind)[option]
    part = {"size": 98, "area": (0.5, 0.9)}
    expected = dataclasses.replace(default, **part)
    assert getattr(parse_entry({"name": name, option: part})[1], option) == expected  # in a recipe
    assert getattr(kind(**{option: part}), option) == expected  # in Python
    assert getattr(parse_entry({"name": name, option: {}})[1], option) == default
    insisted = {name: getattr(default, name) for name in INSISTED}
    whole = ViewSpec(count=default.count, size=16, area=(0.5, 0.9), **insisted)
    assert getattr(kind(**{option: whole}), option) == whole  # an object is whole
    assert getattr(parse_entry({"name": name, option: whole.to_dict()})[1], option) == whole


def test_mappings_within_are_merged_and_null_takes_a_part_away() -> None:
    default = ViewSpec(
        count=4, size=32, area=(0.1, 0.4), flip="shared", margin=0.1, effective_resolution=(0.3, 0.6),
        photometric=Photometric.dino_local(), grid={"rows": 2, "columns": 2, "gap": 0.25},
    )  # fmt: skip
    made = as_view_spec({"photometric": {"hue": 0.3}, "grid": {"gap": 0.5}, "aspect": None}, default)
    assert made.photometric == dataclasses.replace(default.photometric, hue=0.3)
    assert (made.grid.rows, made.grid.gap, made.aspect) == (2, 0.5, None)
    gone = as_view_spec({"photometric": None, "grid": None, "effective_resolution": None, "flip": None, "margin": None},
                        default)  # fmt: skip
    assert gone == ViewSpec(count=4, size=32, area=(0.1, 0.4))
    assert as_view_spec({"photometric": "byol"}, default).photometric == Photometric.named("byol")
    assert as_view_spec("dino/local", default) == "dino/local" and as_view_spec(gone, default) is gone
    for wrong in ({"count": None}, {"colour": 1}, {"grid": {"rows": None}}):
        with pytest.raises(InputError):
            as_view_spec(wrong, default)


def test_values_that_are_one_a_view_repeat() -> None:
    assert parse_entry({"name": "dino", "global_views": {"count": 3}})[1].global_views.photometric.blur_prob == (
        1,
        0.1,
        1,
    )
    for count in ("two", -1):
        with pytest.raises(InputError, match="count is"):
            parse_entry({"name": "dino", "global_views": {"count": count}})


def test_without_views_stays_without() -> None:
    assert DINOConfig(local_views=None).local_views is None
    assert parse_entry({"name": "dino", "local_views": None})[1].local_views is None
    encoder = types.SimpleNamespace(patch_size=8, image_side=64)
    entry = {"name": "dino", "local_views": None, "global_views": "ibot/global"}
    assert with_sizes(entry, encoder) == entry


@pytest.mark.parametrize(
    ("patch", "side", "sizes"),
    [
        (16, 224, {224: 224, 96: 96, 64: 64}),  # the papers' own
        (32, 224, {224: 224, 96: 96, 64: 64}),
        (14, 224, {224: 224, 96: 98, 64: 70}),
        (14, 518, {224: 224, 96: 98, 64: 70}),  # larger ones are asked for
        (8, 64, {224: 64, 96: 24, 64: 16}),
        (4, 32, {224: 32, 96: 12, 64: 8}),
        (16, 32, {224: 32, 96: 16, 64: 16}),
    ],
)
def test_sizes_follow_the_encoder(patch: int, side: int, sizes: dict[int, int]) -> None:
    dimensions = Dimensions(8, 1, 1, (patch, patch), (side, side), 3)
    nearest = functools.partial(nearest_size, ModelFacts("ViTModel"), dimensions)
    encoder = types.SimpleNamespace(image_side=side, nearest_size=nearest)
    assert {default: view_size(default, encoder) for default in sizes} == sizes


def test_a_model_has_views_that_fit_its_encoder_unless_it_is_told_others() -> None:
    encoder = resolve_encoder("vit-micro-8", image_size=64, token_control=True)
    entries = [
        {"name": "mae", "decoder_width": 16, "decoder_depth": 1, "decoder_heads": 2},
        {"name": "spatial_prediction", "views": {"count": 3}, "head_width": 8},
        {"name": "moco_v3", "views": {"size": 48}, "head_width": 8, "embedding_size": 8},
    ]
    model = SPForPreTraining(SPConfig(encoder.config, entries), encoder)
    sizes = {name: (spec.count, spec.size) for name, spec in model.view_specs.items()}
    assert sizes == {"mae/image": (1, 64), "spatial_prediction/local": (3, 24), "moco_v3/views": (2, 48)}
    assert model.config.objectives[0]["views"]["size"] == 64  # on record
