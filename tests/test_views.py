"""Views: exact boxes by a coordinate oracle, distributions in true pixels, determinism, refusals."""

import json

import numpy as np
import pytest
import torch

from sp_hf.views import sampler as views_module
from sp_hf.views.boxes import sample_boxes
from sp_hf.views.geometry import to_xyxy
from sp_hf.views.keyed_random import sample_keys
from sp_hf.views.photometric import Photometric
from sp_hf.views.sampler import ViewSampler
from sp_hf.views.spec import ViewSpec, as_view_spec

SIDE = 112
ASPECTS = (0.5, 1.0, 2.3)


def coordinate_canvas(side: int = SIDE) -> torch.Tensor:
    """Red encodes x, green y, at pixel centres: 0 at the left or top edge of the image, 255 at the other."""
    ramp = (255 * (torch.arange(side) + 0.5) / side).round().to(torch.uint8)
    return torch.stack([ramp.expand(side, side), ramp[:, None].expand(side, side), torch.zeros(side, side).byte()])


def noise_canvases(count: int, side: int = 64) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, side, side), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


def fitted_line(values: torch.Tensor) -> tuple[float, float]:
    """Value at the middle, and slope times length, of a line through samples at the centres of N cells.

    The outer eighths are left out: at the image's edge a filter sees one side only.
    """
    size = len(values)
    places = (np.arange(size) + 0.5) / size - 0.5
    inner = np.abs(places) < 3 / 8
    slope, middle = np.polyfit(places[inner], values.numpy()[inner], 1)
    return middle, slope


# -------------------------------------------------------------------------------------------------------- geometry
@pytest.mark.parametrize("aspect", ASPECTS)
@pytest.mark.parametrize("size", [32, 48, 64, 96, 224])
@pytest.mark.parametrize("defence", [None, (0.4, 1.0)], ids=["triangle", "gaussian"])
def test_boxes_and_flips_are_recovered_from_pixels_that_encode_their_coordinates(aspect, size, defence):
    spec = ViewSpec(6, size, (0.1, 0.9), flip="own", effective_resolution=defence)
    images = 3
    views = ViewSampler({"v": spec})(
        coordinate_canvas().expand(images, 3, SIDE, SIDE), torch.full((images,), aspect), sample_keys(0, 0, images)
    )["v"]
    assert 0 < views.flips.sum() < views.flips.numel()
    found = []
    for pixels in views.pixels.flatten(0, 1):
        cx, w = fitted_line(pixels[0].mean(0))
        cy, h = fitted_line(pixels[1].mean(1))
        found.append([cx, cy, w, h])
    found = torch.tensor(found)
    assert torch.equal(found[:, 2] < 0, views.flips.flatten())
    assert (found[:, 3] > 0).all()
    errors = SIDE * (found.abs() - views.boxes.flatten(0, 1)).abs()  # in canvas pixels; a grey level is half of one
    assert errors[:, :2].max() < 0.05 and errors[:, 2:].max() < 0.25


@pytest.mark.parametrize("aspect", ASPECTS)
def test_area_and_aspect_ratio_are_those_of_the_true_image(aspect):
    spec = ViewSpec(4, 32, (0.05, 0.25))
    boxes = sample_boxes(sample_keys(1, 0, 4000), "v/box", spec, torch.full((4000,), aspect)).double()
    corners = to_xyxy(boxes)
    assert corners.min() > -1e-6 and corners.max() < 1 + 1e-6
    area, ratio = boxes[..., 2] * boxes[..., 3], boxes[..., 2] / boxes[..., 3] * aspect
    assert 0.05 - 1e-6 < area.min() < 0.0502 and 0.2498 < area.max() < 0.25 + 1e-6
    assert 0.75 - 1e-6 < ratio.min() < 0.751 and 1.331 < ratio.max() < 4 / 3 + 1e-5
    if aspect == 1.0:  # all candidates fit: exactly uniform in area and in the ratio's log
        quantiles = torch.linspace(0.1, 0.9, 9).double()
        torch.testing.assert_close(area.quantile(quantiles), 0.05 + 0.2 * quantiles, rtol=0, atol=0.003)
        log_low, log_high = np.log(0.75), np.log(4 / 3)
        expected = log_low + (log_high - log_low) * quantiles
        torch.testing.assert_close(ratio.log().quantile(quantiles), expected, rtol=0, atol=0.009)
        place = corners[..., 0] / (1 - boxes[..., 2])  # of the left edge, in the room it has
        torch.testing.assert_close(place.quantile(quantiles), quantiles, rtol=0, atol=0.015)


def random_resized_crop(generator, width, height, area, aspect):
    """RandomResizedCrop in the true image's pixels, one box at a time, without rounding."""
    for _ in range(10):
        target = width * height * generator.uniform(*area)
        ratio = np.exp(generator.uniform(*np.log(aspect)))
        w, h = np.sqrt(target * ratio), np.sqrt(target / ratio)
        if w <= width and h <= height:
            left, top = generator.uniform(0, width - w), generator.uniform(0, height - h)
            return (left + w / 2) / width, (top + h / 2) / height, w / width, h / height
    if width / height < aspect[0]:
        w, h = width, width / aspect[0]
    elif width / height > aspect[1]:
        w, h = height * aspect[1], height
    else:
        w, h = width, height
    return 0.5, 0.5, w / width, h / height


@pytest.mark.parametrize("aspect", [0.4, 1.0, 2.3])
def test_boxes_are_distributed_as_random_resized_crop(aspect):
    """Also where candidates do not fit, so that the later ones and the fallback are taken."""
    count, area, ratio = 8000, (0.4, 1.0), (3 / 4, 4 / 3)
    boxes = sample_boxes(sample_keys(2, 0, count), "v/box", ViewSpec(1, 32, area, ratio), torch.full((count,), aspect))
    generator = np.random.default_rng(0)
    expected = np.array([random_resized_crop(generator, 100 * aspect, 100, area, ratio) for _ in range(count)])
    quantiles = np.linspace(0.05, 0.95, 19)
    found = np.quantile(boxes[:, 0].numpy(), quantiles, axis=0)
    np.testing.assert_allclose(found, np.quantile(expected, quantiles, axis=0), atol=0.02)


def test_the_largest_central_box_where_none_fits():
    spec = ViewSpec(2, 32, (0.9, 1.0))
    boxes = sample_boxes(sample_keys(0, 0, 2), "v/box", spec, torch.tensor([10.0, 0.1]))
    torch.testing.assert_close(boxes[0], torch.tensor([0.5, 0.5, 4 / 3 / 10, 1.0]).expand(2, 4))
    torch.testing.assert_close(boxes[1], torch.tensor([0.5, 0.5, 1.0, 0.1 / 0.75]).expand(2, 4))


@pytest.mark.parametrize("area", [(0.05, 0.3), (0.3, 0.64)])
def test_a_margin_draws_boxes_in_the_image_less_its_borders(area):
    """The boxes of the inner image by itself, put back into the whole one; also where candidates do not fit."""
    margin, room = 0.1, 0.8
    keys, aspects = sample_keys(0, 0, 500), torch.logspace(-0.6, 0.6, 500)
    inner = sample_boxes(keys, "v/box", ViewSpec(3, 32, tuple(end / room**2 for end in area)), aspects)
    boxes = sample_boxes(keys, "v/box", ViewSpec(3, 32, area, margin=margin), aspects)
    torch.testing.assert_close(boxes, room * inner + torch.tensor([margin, margin, 0, 0]))
    corners = to_xyxy(boxes)
    assert margin - 1e-6 <= corners.min() < margin + 0.01 and 0.89 < corners.max() <= 1 - margin + 1e-6


@pytest.mark.parametrize("aspect", ASPECTS)
def test_whole_image(aspect):
    canvas = noise_canvases(2)
    spec = ViewSpec(1, 64, (1.0, 1.0), aspect=None, flip="none")
    views = ViewSampler({"v": spec})(canvas, torch.full((2,), aspect), sample_keys(0, 0, 2))["v"]
    assert torch.equal(views.boxes, torch.tensor([0.5, 0.5, 1.0, 1.0]).expand(2, 1, 4))
    torch.testing.assert_close(views.pixels[:, 0], canvas / 255, rtol=0, atol=1e-6)


def test_boxes_of_the_images_own_aspect_ratio():
    spec = ViewSpec(3, 32, (0.2, 0.5), aspect=None)
    boxes = sample_boxes(sample_keys(0, 0, 50), "v/box", spec, torch.full((50,), 2.3))
    assert torch.equal(boxes[..., 2], boxes[..., 3])
    assert boxes[..., 0].std() > 0.05


# -------------------------------------------------------------------------------------------------------- flips
def sampled(spec: ViewSpec, images: int = 200, name: str = "v") -> views_module.Views:
    return ViewSampler({name: spec})(noise_canvases(1).expand(images, -1, -1, -1), torch.ones(images),
                                     sample_keys(0, 0, images))[name]  # fmt: skip


def test_flips_are_each_views_own_or_shared_or_none():
    own, shared, none = (sampled(ViewSpec(4, 8, (0.1, 0.5), flip=flip)).flips for flip in ("own", "shared", "none"))
    assert abs(own.float().mean() - 0.5) < 4 * 0.5 / 800**0.5
    assert (own.any(1) & ~own.all(1)).any()
    assert (shared == shared[:, :1]).all() and abs(shared.float().mean() - 0.5) < 4 * 0.5 / 200**0.5
    assert not none.any()


def test_a_flip_mirrors_pixels_and_leaves_the_box():
    flipped, plain = (sampled(ViewSpec(2, 16, (0.1, 0.5), flip=flip), 20) for flip in ("own", "none"))
    assert torch.equal(flipped.boxes, plain.boxes)
    expected = torch.where(flipped.flips[..., None, None, None], plain.pixels.flip(-1), plain.pixels)
    torch.testing.assert_close(flipped.pixels, expected, rtol=0, atol=1e-5)


# -------------------------------------------------------------------------------------------------------- determinism
FULL = {
    "global": ViewSpec(2, 32, (0.4, 1.0), photometric=Photometric.dino_global()),
    "local": ViewSpec(3, 16, (0.05, 0.4), flip="shared", photometric=Photometric.dino_local(),
                      effective_resolution=(0.3, 1.0)),
    "plain": ViewSpec(1, 24, (0.2, 1.0)),
}  # fmt: skip


def batch(images: int = 9) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return noise_canvases(images), torch.linspace(0.5, 2, images), sample_keys(5, 0, images)


def same(a: views_module.Views, b: views_module.Views) -> bool:
    return all(x is y is None or torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_shapes_and_ranges():
    for name, views in ViewSampler(FULL)(*batch()).items():
        spec = FULL[name]
        assert views.pixels.shape == (9, spec.count, 3, spec.size, spec.size)
        assert views.pixels.dtype == views.boxes.dtype == torch.float32 and views.flips.dtype == torch.bool
        assert views.boxes.shape == (9, spec.count, 4) and views.flips.shape == (9, spec.count)
        assert views.pixels.is_contiguous() and 0 <= views.pixels.min() and views.pixels.max() <= 1
        assert views.pixels.std() > 0.01


def test_the_same_keys_give_the_same_views_and_others_do_not():
    canvases, aspects, keys = batch()
    first, again = ViewSampler(FULL)(canvases, aspects, keys), ViewSampler(FULL)(canvases, aspects, keys)
    other = ViewSampler(FULL)(canvases, aspects, keys + 1)
    for name in FULL:
        assert same(first[name], again[name])
        assert not torch.equal(first[name].boxes, other[name].boxes)
        assert not torch.equal(first[name].boxes[0], first[name].boxes[1])


def test_views_do_not_depend_on_the_batch_or_on_chunks(monkeypatch):
    canvases, aspects, keys = batch()
    together = ViewSampler(FULL)(canvases, aspects, keys)
    order = torch.tensor([7, 0, 3])
    apart = ViewSampler(FULL)(canvases[order], aspects[order], keys[order])
    monkeypatch.setattr(views_module, "_CPU_FLOATS", 1)
    one_by_one = ViewSampler(FULL)(canvases, aspects, keys)
    for name in FULL:
        for a, b, c in zip(together[name][:3], apart[name][:3], one_by_one[name][:3], strict=True):
            torch.testing.assert_close(a[order].float(), b.float(), rtol=0, atol=1e-6)
            torch.testing.assert_close(a.float(), c.float(), rtol=0, atol=1e-6)


def test_a_spec_does_not_depend_on_other_specs_but_on_its_name():
    alone = ViewSampler({"local": FULL["local"]})(*batch())
    assert same(alone["local"], ViewSampler(FULL)(*batch())["local"])
    renamed = ViewSampler({"other": FULL["local"]})(*batch())["other"]
    assert not torch.equal(renamed.boxes, alone["local"].boxes)


def test_boxes_do_not_depend_on_the_photometric_jitter():
    plain = ViewSpec(3, 16, (0.05, 0.4), flip="shared")
    jittered, undisturbed = ViewSampler(FULL)(*batch())["local"], ViewSampler({"local": plain})(*batch())["local"]
    assert torch.equal(jittered.boxes, undisturbed.boxes) and torch.equal(jittered.flips, undisturbed.flips)


def test_autocast_does_not_round_the_pixels():
    expected = ViewSampler(FULL)(*batch())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = ViewSampler(FULL)(*batch())
    assert all(same(expected[name], found[name]) for name in FULL)


@pytest.mark.gpu
def test_cuda_agrees_with_the_cpu():
    canvases, aspects, keys = batch(64)
    on_cpu = ViewSampler(FULL)(canvases, aspects, keys)
    on_cuda = ViewSampler(FULL)(canvases.cuda(), aspects.cuda(), keys.cuda())
    for name in FULL:
        assert torch.equal(on_cuda[name].flips.cpu(), on_cpu[name].flips)
        torch.testing.assert_close(on_cuda[name].boxes.cpu(), on_cpu[name].boxes, rtol=0, atol=1e-6)
        difference = (on_cuda[name].pixels.cpu() - on_cpu[name].pixels).abs()
        assert difference.mean() < 0.2 / 255 and difference.max() < 1.5 / 255  # solarising and contrast magnify it


# -------------------------------------------------------------------------------------------------------- blur shortcut
def scale_free_canvases(count: int, side: int) -> torch.Tensor:
    """1/f noise looks the same at any scale, so only the pipeline can tell how large a box was."""
    generator, grid = torch.Generator().manual_seed(0), 512
    frequency = (torch.fft.fftfreq(grid)[:, None] ** 2 + torch.fft.rfftfreq(grid) ** 2).sqrt()
    frequency[0, 0] = torch.inf
    fields = torch.fft.irfft2(torch.fft.rfft2(torch.randn(count, grid, grid, generator=generator)) / frequency)
    fields = fields[:, :384, :384]
    fields = torch.nn.functional.interpolate(fields[:, None], size=(side, side), mode="bicubic", antialias=True)
    fields = fields - fields.mean((2, 3), keepdim=True)
    return (128 + 45 * fields / fields.std((2, 3), keepdim=True)).clamp(0, 255).byte().expand(-1, 3, -1, -1)


def sharpness_tells_scale(defence: tuple[float, float] | None) -> float:
    """Correlation of the log of the box's area with that of fine beside coarse detail: differences at lag 1 and 2."""
    spec = ViewSpec(8, 32, (0.05, 0.4), effective_resolution=defence)
    canvases = scale_free_canvases(60, spec.clean_canvas)
    views = ViewSampler({"v": spec})(canvases, torch.ones(60), sample_keys(0, 0, 60))["v"]
    grey = views.pixels.mean(2)
    fine, coarse = ((grey[..., lag:] - grey[..., :-lag]).square().mean((2, 3)).log() for lag in (1, 2))
    area = views.boxes[..., 2:].log().sum(-1)
    return float(torch.corrcoef(torch.stack([(fine - coarse).flatten(), area.flatten()]))[0, 1])


def test_effective_resolution_hides_scale_from_sharpness():
    assert sharpness_tells_scale(None) > 0.6
    assert abs(sharpness_tells_scale((0.3, 1.0))) < 0.2


def test_effective_resolution_is_the_same_along_both_axes():
    """Boxes of a wide image are narrow on its canvas: white noise comes out smoother in x, unless defended."""
    canvases, aspects, keys = noise_canvases(40), torch.full((40,), 4.0), sample_keys(0, 0, 40)

    def smoothness(defence: tuple[float, float] | None) -> list[float]:
        spec = ViewSpec(4, 32, (0.2, 0.25), aspect=(1.0, 1.0), effective_resolution=defence)
        grey = ViewSampler({"v": spec})(canvases, aspects, keys)["v"].pixels.mean(2)
        return [float(grey.diff(dim=dim).square().mean() / grey.var((2, 3)).mean()) for dim in (-1, -2)]

    in_x, in_y = smoothness(None)
    assert in_x < 0.7 * in_y
    in_x, in_y = smoothness((0.3, 0.3))
    assert in_x == pytest.approx(in_y, rel=0.1)


def test_clean_canvas():
    assert ViewSpec(1, 48, (0.1, 0.4)).clean_canvas == np.ceil(0.65 * 48 / np.sqrt(0.1 * 0.75))
    assert ViewSpec(1, 48, (0.25, 0.4), aspect=None).clean_canvas == np.ceil(0.65 * 48 / 0.5)


# -------------------------------------------------------------------------------------------------------- configuration
@pytest.mark.parametrize("spec", [*FULL.values(), ViewSpec(1, 8, (1.0, 1.0), aspect=None)])
def test_specs_survive_json(spec):
    assert as_view_spec(json.loads(json.dumps(spec.to_dict()))) == spec
    assert as_view_spec(spec) is spec


def test_specs_from_recipes():
    spec = as_view_spec({"count": 2, "size": 32, "area": [0.4, 1.0], "photometric": "dino_global"})
    assert spec == ViewSpec(2, 32, (0.4, 1.0), photometric=Photometric.dino_global())
    assert as_view_spec("dino/local") == "dino/local"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"count": 0}, "count is 0; it must be an integer of at least 1"),
        ({"size": 32.0}, "size is 32.0"),
        ({"area": (0.5, 0.4)}, r"area is \(0.5, 0.4\); it must be \(low, high\) with 0 < low <= high <= 1"),
        ({"area": (0.0, 0.4)}, "area"),
        ({"area": (0.5, 1.2)}, "area"),
        ({"area": 0.5}, "area is 0.5"),
        ({"area": (0.1, float("nan"))}, "area"),
        ({"aspect": (2.0, 1.0)}, "aspect"),
        ({"aspect": (1.0, 1.2, 2.0)}, "aspect"),
        ({"aspect": (1.0, float("inf"))}, "aspect"),
        ({"margin": -0.1}, "margin is -0.1; it must be a fraction of the image's side, 0 <= margin < 0.5"),
        ({"margin": 0.5}, "margin is 0.5"),
        ({"margin": 0.2}, "area goes up to 0.5, but a margin of 0.2 leaves 0.36 of the image"),
        ({"flip": "both"}, "flip is 'both'; it must be one of own, shared, parent, none"),
        ({"effective_resolution": (0.5, 1.5)}, "effective_resolution"),
        ({"photometric": "swav"}, "'swav' is not known; the presets are none, simclr"),
        ({"photometric": 3}, "photometric is 3"),
        ({"photometric": {"blur": 0.5}}, "photometric has no field blur; its fields are brightness"),
        ({"photometric": {"blur_prob": [1.0, 0.1, 0.5]}}, "blur_prob has 3 values for 2 views"),
        ({"crops": 3}, "view spec has no field crops"),
    ],
)
def test_wrong_specs_are_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        as_view_spec({"count": 2, "size": 32, "area": (0.2, 0.5), **wrong})


def test_missing_fields_and_bad_references_are_named():
    with pytest.raises(ValueError, match="view spec lacks size, area"):
        as_view_spec({"count": 2})
    for reference in ("local", "dino/", "a/b/c"):
        with pytest.raises(ValueError, match="must read 'objective/view'"):
            as_view_spec(reference)
    with pytest.raises(ValueError, match="not int"):
        as_view_spec(3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c, a, k: (c.float(), a, k), r"canvases are torch.float32.*uint8 of shape \[B, 3, S, S\]"),
        (lambda c, a, k: (c[..., 1:], a, k), r"\(9, 3, 64, 63\)"),
        (lambda c, a, k: (c[:, :1], a, k), r"\(9, 1, 64, 64\)"),
        (lambda c, a, k: (c, a[1:], k), r"aspects are .*\(8,\).*\[9\]"),
        (lambda c, a, k: (c, a.long(), k), "aspects are torch.int64"),
        (lambda c, a, k: (c, a, k.int()), "keys are torch.int32"),
    ],
)
def test_wrong_batches_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        ViewSampler(FULL)(*change(*batch()))
