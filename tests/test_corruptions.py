"""The corruptions: determinism, monotone severities, the formulae of each, sizes, errors."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from sp_hf.data.part_scenes.dataset import render_scene
from sp_hf.evaluation.what.robustness.blur import _disc, convolve, displacement_kernel, streak, warp
from sp_hf.evaluation.what.robustness.corruptions import CORRUPTIONS, GROUPS, SEVERITIES, CorruptionError, corrupt
from sp_hf.evaluation.what.robustness.weather import frost_texture, plasma


@functools.lru_cache(maxsize=8)
def _scenes(size: int, count: int = 24) -> np.ndarray:
    return np.stack([render_scene(0, index, size, difficulty="hard").image for index in range(count)])


def _grey(value: int, size: int = 64) -> np.ndarray:
    return np.full((size, size, 3), value, np.uint8)


def test_the_fifteen_corruptions_of_the_paper_in_its_four_groups() -> None:
    assert {name: len(group) for name, group in GROUPS.items()} == {"noise": 3, "blur": 4, "weather": 4, "digital": 4}
    assert len(CORRUPTIONS) == 15 and SEVERITIES == (1, 2, 3, 4, 5)


# -------------------------------------------------------------------------------------------------- determinism
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_corruption_depends_on_image_key_and_severity_alone(name: str) -> None:
    images = _scenes(40, 4)
    keys = [5, 2**64 - 1, -3, 0]
    before = images.copy()
    together = corrupt(images, name, 3, keys)
    assert together.dtype == np.uint8 and together.shape == images.shape
    assert np.array_equal(images, before)
    backwards = corrupt(images[::-1], name, 3, keys[::-1])[::-1]
    for image, key, made, again in zip(images, keys, together, backwards, strict=True):
        assert np.array_equal(made, again) and np.array_equal(made, corrupt(image, name, 3, key))
    without_chance = {"defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate", "jpeg_compression"}
    assert np.array_equal(corrupt(images[0], name, 3, 1), corrupt(images[0], name, 3, 2)) == (name in without_chance)


def test_severities_and_corruptions_draw_their_own_numbers() -> None:
    grey = _grey(128)
    patterns = [corrupt(grey, "gaussian_noise", s, 0).astype(float).ravel() for s in (1, 2)]
    patterns.append(corrupt(grey, "shot_noise", 1, 0).astype(float).ravel())
    correlation = np.corrcoef(patterns) - np.eye(3)
    assert np.abs(correlation).max() < 5 / math.sqrt(len(patterns[0]))


# ---------------------------------------------------------------------------------------------------- severities
def _degradation(clean: np.ndarray, made: np.ndarray, name: str) -> float:
    """Mean squared error; for frost 1 - correlation: by the published weights the ice's brightness, which is most of
    its squared error, does not grow from severity 3 to 4, but hides more of the image."""
    clean, made = (images.reshape(len(images), -1).astype(np.float64) for images in (clean, made))
    if name != "frost":
        return float(((clean - made) ** 2).mean())
    return float(np.mean([1 - np.corrcoef(a, b)[0, 1] for a, b in zip(clean, made, strict=True)]))


@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_severity_degrades_monotonically(name: str, size: int) -> None:
    clean = _scenes(size)
    steps = [_degradation(clean, corrupt(clean, name, s, range(len(clean))), name) for s in SEVERITIES]
    assert steps[0] > 0 and all(low < high for low, high in zip(steps, steps[1:], strict=False)), steps


# ------------------------------------------------------------------------------------------------------ formulae
def test_noises_have_the_moments_of_the_paper() -> None:
    grey = _grey(102, 128)  # 0.4
    gaussian = corrupt(grey, "gaussian_noise", 1, 0) / 255
    assert gaussian.mean() == pytest.approx(0.4, abs=0.002) and gaussian.std() == pytest.approx(0.08, rel=0.02)
    shot = corrupt(grey, "shot_noise", 1, 0) / 255
    assert shot.mean() == pytest.approx(0.4, abs=0.002) and shot.var() == pytest.approx(0.4 / 60, rel=0.03)
    impulse = corrupt(grey, "impulse_noise", 5, 0)
    assert (impulse == 0).mean() == pytest.approx(0.135, abs=0.006)
    assert (impulse == 255).mean() == pytest.approx(0.135, abs=0.006)
    assert (impulse == 102).mean() == pytest.approx(0.73, abs=0.01)


def test_brightness_raises_the_value_and_keeps_hue_and_saturation() -> None:
    image = np.zeros((32, 32, 3), np.uint8)
    image[:] = (100, 50, 25)
    assert np.abs(corrupt(image, "brightness", 2, 0)[0, 0] - np.array([100, 50, 25]) * (100 + 51) / 100).max() <= 0.5
    assert (corrupt(np.zeros_like(image), "brightness", 1, 0) == round(0.1 * 255)).all()
    assert corrupt(image, "brightness", 5, 0).max() <= 255


def test_contrast_shrinks_the_distance_from_the_mean() -> None:
    image = np.zeros((32, 32, 3), np.uint8)
    image[:16] = 200
    made = corrupt(image, "contrast", 1, 0)
    assert set(np.unique(made)) == {60, 140}  # 100 +- 0.4 x 100


def test_pixelate_averages_blocks() -> None:
    image = _scenes(64, 1)[0]
    made = corrupt(image, "pixelate", 5, 0)  # a quarter: blocks of 4 pixels
    blocks = image.reshape(16, 4, 16, 4, 3).mean((1, 3))
    assert np.abs(made.reshape(16, 4, 16, 4, 3) - blocks[:, None, :, None]).max() <= 1


def test_zoom_blur_is_the_mean_of_zooms() -> None:
    image = _scenes(64, 1)[0]
    zooms = [1 + 0.02 * step for step in range(11)]  # severity 3
    crops = [
        Image.fromarray(image).transform(
            (64, 64), Image.Transform.AFFINE, (1 / z, 0, 32 - 32 / z, 0, 1 / z, 32 - 32 / z), Image.Resampling.BILINEAR
        )
        for z in zooms
    ]
    expected = np.mean([image, *(np.asarray(crop) for crop in crops)], axis=0)
    difference = np.abs(corrupt(image, "zoom_blur", 3, 0) - expected)[4:-4, 4:-4]
    assert difference.mean() < 1.0


def test_displacement_kernels_move_and_average() -> None:
    kernel = displacement_kernel(np.array([1.0]), np.array([-2.0]), np.array([3.0]))
    assert kernel.shape == (5, 5) and kernel[3, 0] == 1 and kernel.sum() == 1
    half = displacement_kernel(np.array([0.5]), np.array([0.0]), np.array([1.0]))
    assert half[1, 1] == pytest.approx(0.5) and half[2, 1] == pytest.approx(0.5)


@pytest.mark.parametrize("radius", [0.43, 1.0, 2.9, 7.3])
def test_a_disc_has_the_second_moment_of_a_disc(radius: float) -> None:
    kernel = _disc(radius)
    offsets = np.arange(len(kernel)) - len(kernel) // 2
    assert kernel.sum() == pytest.approx(1, abs=1e-5)
    moment = (kernel.sum(0) * offsets**2).sum()
    # Bilinear interpolation at an offset f from a pixel adds f (1 - f), 1/6 on average over whole pixels.
    grid = np.linspace(-radius, radius, 801)
    y, x = np.meshgrid(grid, grid)
    inside = x[y * y + x * x <= radius**2]
    fraction = inside - np.floor(inside)
    assert moment == pytest.approx((inside**2 + fraction * (1 - fraction)).mean(), rel=0.06)


def test_a_streak_has_the_length_and_angle_asked_for() -> None:
    kernel = streak(12.0, 1e6, math.pi / 6)  # no fading: uniform over 12 pixels
    rows, columns = np.indices(kernel.shape) - kernel.shape[0] // 2
    assert (kernel * rows).sum() == pytest.approx(6 * math.sin(math.pi / 6), abs=0.01)
    assert (kernel * columns).sum() == pytest.approx(6 * math.cos(math.pi / 6), abs=0.01)
    fading = streak(20.0, 3.0, 0.0)
    mean = (fading.sum(0) * (np.arange(fading.shape[1]) - fading.shape[1] // 2)).sum()
    assert mean == pytest.approx(3 * math.sqrt(2 / math.pi), abs=0.15)  # of half a Gaussian


def test_convolution_agrees_with_scipys() -> None:
    image = np.random.default_rng(0).random((20, 20, 3), np.float32)
    kernel = streak(5.0, 3.0, 0.7)
    expected = ndimage.convolve(image, kernel[..., None], mode="reflect")
    np.testing.assert_allclose(convolve(image, kernel), expected, atol=1e-5)


def test_warp_fetches_from_the_displaced_place() -> None:
    image = np.random.default_rng(0).random((16, 16, 3), np.float32)
    zero = np.zeros((16, 16), np.float32)
    np.testing.assert_array_equal(warp(image, zero, zero), image)
    np.testing.assert_allclose(warp(image, zero + 2, zero - 1)[:-2, 1:], image[2:, :-1], atol=1e-6)


def test_jpeg_loses_as_much_as_pillow_at_that_quality(tmp_path) -> None:
    image = _scenes(64, 1)[0]
    Image.fromarray(image).save(tmp_path / "image.jpg", quality=10)
    with Image.open(tmp_path / "image.jpg") as expected:
        assert np.array_equal(corrupt(image, "jpeg_compression", 4, 0), np.asarray(expected))


def test_fog_hides_and_the_brightest_value_stays() -> None:
    image = _scenes(64, 1)[0]
    foggy = corrupt(image, "fog", 5, 0)
    assert foggy.max() <= int(image.max()) + 1
    assert foggy.std() < image.std()


def test_snow_only_adds_light() -> None:
    images = _scenes(64, 6)
    assert (corrupt(images, "snow", 1, range(6)).astype(int) >= images.astype(int) - 1).all()


def test_frost_textures_are_distinct_and_cover_a_good_part() -> None:
    textures = [frost_texture(number) for number in range(5)]
    for texture in textures:
        assert texture.shape == (512, 512, 3) and 0.15 < texture.mean() < 0.7 and texture.std() > 0.1
    assert np.abs(np.corrcoef([t[::8, ::8].ravel() for t in textures]) - np.eye(5)).max() < 0.4


def test_plasma_fills_its_range_and_gets_rougher_as_decay_falls() -> None:
    def roughness(decay: float) -> float:
        field = plasma(64, decay, np.random.default_rng(0))
        assert field.min() == 0 and field.max() == 1
        return float(np.abs(np.diff(field, axis=0)).mean())

    assert roughness(1.3) > 1.2 * roughness(2.0)


# --------------------------------------------------------------------------------------------------------- sizes
@pytest.mark.parametrize(
    "name", ["defocus_blur", "motion_blur", "zoom_blur", "snow", "frost", "brightness", "contrast"]
)
def test_the_same_part_of_the_image_is_affected_at_any_size(name: str) -> None:
    """Corrupting and halving agree with halving and corrupting, up to a fraction of the corruption itself."""
    large = _scenes(128, 6)
    small = (large.reshape(6, 64, 2, 64, 2, 3).mean((2, 4)) + 0.5).astype(np.uint8)
    reduced = corrupt(large, name, 5, range(6)).reshape(6, 64, 2, 64, 2, 3).mean((2, 4))
    made = corrupt(small, name, 5, range(6)).astype(float)
    apart = ((reduced - made) ** 2).mean()
    assert apart < 0.12 * ((made - small) ** 2).mean()


@pytest.mark.parametrize(
    "name",
    ["defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "contrast", "elastic_transform", "pixelate"],
)
def test_an_even_image_stays_as_it_is(name: str) -> None:
    for size in (33, 96):
        made = corrupt(_grey(120, size), name, 5, 0)
        assert made.shape == (size, size, 3) and np.abs(made.astype(int) - 120).max() <= 1


# -------------------------------------------------------------------------------------------------------- errors
@pytest.mark.parametrize(
    ("images", "name", "severity", "keys", "message"),
    [
        (_grey(0), "rain", 1, 0, "no corruption 'rain'; choose one of gaussian_noise"),
        (_grey(0), "fog", 6, 0, "severity=6; the severities are 1 to 5"),
        (_grey(0), "fog", 0, 0, "severity=0"),
        (_grey(0, 24), "fog", 1, 0, "images of 24 pixels; corruptions need 32 or more"),
        (np.zeros((40, 48, 3), np.uint8), "fog", 1, 0, r"square uint8 RGB images.*\[1, 40, 48, 3\]"),
        (np.zeros((40, 40, 3), np.float32), "fog", 1, 0, "got float32"),
        (np.zeros((2, 40, 40, 1), np.uint8), "fog", 1, [0, 1], r"\[2, 40, 40, 1\]"),
        (np.zeros((2, 40, 40, 3), np.uint8), "fog", 1, [0], "1 keys for 2 images"),
    ],
)
def test_bad_input_is_named(images: np.ndarray, name: str, severity: int, keys, message: str) -> None:
    with pytest.raises(CorruptionError, match=message):
        corrupt(images, name, severity, keys)


def test_no_images_are_no_error() -> None:
    assert corrupt(np.zeros((0, 32, 32, 3), np.uint8), "fog", 1, []).shape == (0, 32, 32, 3)
