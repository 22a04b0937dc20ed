"""The shortcut audit: every cue finds the trace that was put into noise, and the countermeasures hide it."""

import dataclasses
import functools
import io
import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from sp_hf.evaluation.controls.low_level_cues import CUES, SIZES, LowLevelCues, cue_columns
from sp_hf.evaluation.controls.raw_pixels import RawPixels
from sp_hf.evaluation.data import EvaluationData
from sp_hf.evaluation.features import Features, ProbeImages, extract_features
from sp_hf.evaluation.model import EvaluatedModel, Preprocess
from sp_hf.evaluation.source import DataSource
from sp_hf.evaluation.tasks import build_tasks
from sp_hf.evaluation.where.relative_geometry.protocol import RelativeGeometryProtocol
from sp_hf.evaluation.where.shortcut_audit.task import ALL, ShortcutAudit, audit, beyond_cues
from sp_hf.views.keyed_random import sample_keys

PROTOCOL = RelativeGeometryProtocol(crops=3, margin=0.05)
SIZE, CANVAS, IMAGES = 32, 128, 100


@functools.cache
def photographs(seed):
    """Noise with a 1/f amplitude spectrum, which looks the same at any scale: float [n, 3, 2 S, 2 S], 0 to 255."""
    side = 2 * CANVAS
    frequency = (torch.fft.fftfreq(2 * side)[:, None] ** 2 + torch.fft.rfftfreq(2 * side) ** 2).sqrt()
    frequency[0, 0] = torch.inf  # no mean
    white = torch.randn(IMAGES, 2 * side, 2 * side, generator=torch.Generator().manual_seed(seed))
    field = torch.fft.irfft2(torch.fft.rfft2(white) / frequency)[:, None, :side, :side]  # not periodic
    return (128 + 45 * field / field.std()).clamp(0, 255).expand(-1, 3, -1, -1)


def shrunk(images):
    return F.interpolate(images, size=(CANVAS, CANVAS), mode="bilinear", antialias=True)


def plain(seed):
    return shrunk(photographs(seed))


def fringed(seed):
    """Red magnified by 1.5 % about the image's centre, blue reduced as much."""
    grey = photographs(seed)[:, :1]
    channels = []
    for zoom in (1.015, 1.0, 1 / 1.015):
        theta = torch.tensor([[1 / zoom, 0, 0], [0, 1 / zoom, 0]]).expand(IMAGES, 2, 3)
        grid = F.affine_grid(theta, grey.shape, align_corners=False)
        channels.append(F.grid_sample(grey, grid, padding_mode="reflection", align_corners=False))
    return shrunk(torch.cat(channels, dim=1))


def compressed(seed):
    """As JPEG, hard."""
    found = []
    for image in photographs(seed).round().to(torch.uint8):
        file = io.BytesIO()
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(file, "JPEG", quality=3)
        found.append(torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1))
    return shrunk(torch.stack(found).float())


def framed(seed):
    """A dark frame, 4 % of the side wide."""
    inside = torch.zeros(CANVAS, CANVAS)
    inside[5:-5, 5:-5] = 1
    return plain(seed) * inside


def measured(draw, protocol):
    sides = []
    for seed in (0, 1):
        canvases = draw(seed).round().clamp(0, 255).to(torch.uint8)
        images = ProbeImages(canvases, torch.ones(IMAGES), sample_keys(seed, 0, IMAGES), None, [], "drawn for a test")
        sides.append(extract_features(LowLevelCues(), images, {"crops": protocol.view_spec(SIZE)})["crops"])
    return {name: measure.value for name, measure in audit(*sides).items()}


@pytest.mark.parametrize(
    ("draw", "target", "cue", "least", "most"),
    [
        (plain, "scale", "blur", 0.8, 0.05),
        (fringed, "position", "colour_fringes", 0.9, 0.75),
        (compressed, "scale", "jpeg_grid", 0.6, 0.1),
        (framed, "position", "borders", 0.2, 0.05),
    ],
)
def test_every_cue_finds_its_trace_and_the_countermeasures_hide_it(draw, target, cue, least, most):
    """But for fringes of 1.5 %, which are too strong for the jitter of colours to hide."""
    bare, protocol = (measured(draw, p) for p in (PROTOCOL.without_countermeasures(), PROTOCOL))
    assert bare[f"r2_{target}_{cue}"] > least
    assert bare[f"r2_{target}_{ALL}"] > 0.75 * least
    assert protocol[f"r2_{target}_{cue}"] < most
    if target == "position":
        assert bare[f"r2_{target}_blur"] < 0.1  # it is this cue that tells


def test_it_is_the_margin_that_hides_a_frame():
    jittered = measured(framed, dataclasses.replace(PROTOCOL, margin=0.0))
    clear = measured(framed, dataclasses.replace(PROTOCOL.without_countermeasures(), margin=PROTOCOL.margin))
    assert jittered["r2_position_borders"] > 0.2 > 0.05 > clear["r2_position_borders"]


def test_noise_without_traces_tells_no_position():
    found = measured(plain, PROTOCOL.without_countermeasures())
    assert all(found[f"r2_position_{cue}"] < 0.05 for cue in (*CUES, ALL))
    assert all(found[f"r2_scale_{cue}"] < 0.15 for cue in CUES if cue != "blur")


def test_cues_of_any_crop_are_finite_and_as_many_as_they_say():
    pixels = torch.stack([torch.zeros(3, 16, 16), torch.ones(3, 16, 16), torch.rand(3, 16, 16)])
    cues = LowLevelCues()
    encoded = cues(pixels).cls
    assert encoded.isfinite().all() and encoded.shape == (3, sum(SIZES.values()))
    for name, cue in CUES.items():
        assert torch.equal(encoded[:, cue_columns(name)], cue(pixels)) and cue(pixels).shape[1] == SIZES[name]
    with pytest.raises(ValueError, match="crops of 15 px are too small for the low-level cues; give them 16"):
        cues.patches_of(15)


def random_sides(size, seed=0):
    """Features that are noise, on boxes that are drawn; training and validation side."""
    generator = torch.Generator().manual_seed(seed)
    boxes = [0.2 + 0.6 * torch.rand(500, 3, 4, generator=torch.Generator().manual_seed(side)) for side in (0, 1)]
    return tuple(Features(torch.randn(500, 3, size, generator=generator), torch.zeros(500, 3, 1), b) for b in boxes)


def with_boxes(sides, columns):
    return tuple(s._replace(cls=torch.cat([s.cls, s.boxes[..., columns]], dim=-1)) for s in sides)


def test_beyond_cues_is_what_the_features_add():
    useless = random_sides(5)
    knows_x, knows_both = with_boxes(useless, [0]), with_boxes(useless, [0, 1])
    added = beyond_cues(useless, knows_both)["r2_position_beyond_cues"]
    assert added.value == pytest.approx(1, abs=0.05) and added.n == 500
    half = beyond_cues(knows_x, knows_both)["r2_position_beyond_cues"].value
    assert half == pytest.approx(0.5, abs=0.06)  # y, which the cues lack
    assert abs(beyond_cues(knows_x, knows_x)["r2_position_beyond_cues"].value) < 0.01
    assert abs(beyond_cues(knows_both, random_sides(5, 3))["r2_position_beyond_cues"].value) < 0.01
    other = tuple(side._replace(boxes=side.boxes + 0.01) for side in useless)
    with pytest.raises(ValueError, match="different crops"):
        beyond_cues(useless, other)


def test_the_task_from_images_to_a_picture(tmp_path):
    data = EvaluationData(DataSource(max_images=16))
    (task,) = build_tasks(["shortcut-audit"], {"shortcut_audit_crop_size": 16})
    models = [EvaluatedModel(name, RawPixels(side), Preprocess.squash(32)) for name, side in (("a", 2), ("b", 4))]
    task.prepare(data)
    for model in models:
        task.check(model, data)
    results = {model.name: task.run(model, data) for model in models}
    a, b = (results[name].measures for name in "ab")
    names = {f"r2_{target}_{cue}" for target in ("position", "scale") for cue in (*CUES, ALL)}
    expected = names | {f"{name}_without_countermeasures" for name in names}
    assert set(a) == expected | {"r2_position_beyond_cues", "r2_scale_beyond_cues"} and set(task.headline) <= set(a)
    assert all(a[name] is b[name] for name in expected)  # computed once for all models
    assert a["r2_position_beyond_cues"].value != b["r2_position_beyond_cues"].value
    json.dumps([results["a"].details, task.settings()], allow_nan=False)
    (picture,) = task.draw(results, tmp_path)
    assert picture.path.stat().st_size > 10_000 and task.draw({}, tmp_path) == []
    with pytest.raises(ValueError, match="too small for the low-level cues"):
        ShortcutAudit(crop_size=8).check(models[0], data)
    with pytest.raises(ValueError, match="9 training images are too few"):
        task.prepare(EvaluationData(DataSource(max_images=9)))
