"""Photometric jitter beside Pillow and plain numpy, its distributions, and refusals."""

import colorsys

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps

from sp_hf.views.keyed_random import sample_keys, uniform
from sp_hf.views.photometric import Jitter, Photometric, colour_matrices, finish, jitter_from, solarise_
from sp_hf.views.sampler import ViewSampler
from sp_hf.views.spec import ViewSpec

LUMA = np.array([0.299, 0.587, 0.114])


def picture(low: int = 40, high: int = 160, size: int = 32) -> torch.Tensor:
    """uint8 [N, N, 3], away from black and white, so that nothing is clamped."""
    return torch.randint(low, high, (size, size, 3), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


def jitter(**values: float) -> Jitter:
    """One view of one image, undisturbed but for what is given."""
    neutral = {"brightness": 1.0, "contrast": 1.0, "saturation": 1.0, "hue": 0.0, "blur": 0.0, "solarise": False}
    return Jitter(**{name: torch.tensor([[value]]) for name, value in {**neutral, **values}.items()})


def applied(image: torch.Tensor, drawn: Jitter, solarised: tuple[int, ...] = ()) -> np.ndarray:
    """float [N, N, 3] in [0, 1]."""
    planes = image.permute(2, 0, 1)[None, None].float()
    out = torch.empty_like(planes)
    finish(planes, drawn, colour_matrices(drawn), solarised, out)
    return out[0, 0].permute(1, 2, 0).numpy()


@pytest.mark.parametrize("factor", [0.6, 1.0, 1.4])
@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_each_factor_beside_pillow(name, factor):
    enhance = {
        "brightness": ImageEnhance.Brightness,
        "contrast": ImageEnhance.Contrast,
        "saturation": ImageEnhance.Color,
    }
    expected = np.asarray(enhance[name](Image.fromarray(picture().numpy())).enhance(factor), np.float32)
    found = 255 * applied(picture(), jitter(**{name: factor}))
    assert np.abs(found - expected).max() < 1.6  # Pillow rounds greys, and their mean, to whole levels


def test_composition_beside_one_step_after_the_other():
    image = picture(80, 140).numpy() / 255
    b, c, s, h = 1.1, 1.2, 0.7, 0.08
    expected = b * image
    expected = c * expected + (1 - c) * (expected @ LUMA).mean()
    expected = s * expected + (1 - s) * (expected @ LUMA)[..., None]
    y, i, q = (expected @ row for row in (LUMA, [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]))
    turn = np.exp(-2j * np.pi * h) * (i + 1j * q)
    to_rgb = np.linalg.inv([LUMA, [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]])
    expected = np.stack([y, turn.real, turn.imag], -1) @ to_rgb.T
    found = applied(picture(80, 140), jitter(brightness=b, contrast=c, saturation=s, hue=h))
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_grey_is_saturation_zero_whatever_the_hue():
    image = picture()
    found = applied(image, jitter(saturation=0.0, hue=0.1))
    np.testing.assert_allclose(found, np.repeat((image.numpy() / 255 @ LUMA)[..., None], 3, -1), atol=1e-5)


def test_hue_turns_the_way_of_hsv():
    """Linear and HSV hue differ by up to 20 degrees; greys stay, luma stays, turns add up."""
    for colour in ([0.7, 0.35, 0.3], [0.3, 0.6, 0.4], [0.35, 0.4, 0.7]):
        hue = colorsys.rgb_to_hsv(*colour)[0]
        for shift in (-0.1, 0.05, 0.1):
            found = colour_matrices(jitter(hue=shift))[0, 0].double().numpy() @ colour
            turned = (colorsys.rgb_to_hsv(*found)[0] - hue + 0.5) % 1 - 0.5
            assert turned == pytest.approx(shift, abs=0.055)
            assert found @ LUMA == pytest.approx(np.dot(colour, LUMA), abs=1e-6)
    a, b, ab = (colour_matrices(jitter(hue=hue))[0, 0] for hue in (0.07, -0.2, -0.13))
    torch.testing.assert_close(a @ b, ab, rtol=0, atol=1e-6)
    torch.testing.assert_close(a @ torch.ones(3), torch.ones(3), rtol=0, atol=1e-6)


def test_neutral_is_the_identity():
    torch.testing.assert_close(colour_matrices(jitter())[0, 0], torch.eye(3), rtol=0, atol=1e-6)


def test_values_are_clamped():
    found = applied(picture(0, 256), jitter(brightness=1.4, contrast=1.4))
    assert found.min() == 0 and found.max() == 1


def test_solarise_beside_pillow():
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    expected = np.asarray(ImageOps.solarize(Image.fromarray(levels), 128), np.float32)
    pixels = torch.from_numpy(levels).float().repeat(2, 3, 1, 1) / 255
    solarise_(pixels, torch.tensor([True, False]))
    np.testing.assert_allclose(pixels[0, 0] * 255, expected, atol=1e-4)
    np.testing.assert_allclose(pixels[1, 0] * 255, levels, atol=1e-4)
    image = torch.from_numpy(np.repeat(levels[..., None], 3, -1))
    np.testing.assert_allclose(applied(image, jitter(solarise=True), (0,))[..., 0] * 255, expected, atol=1e-3)


# -------------------------------------------------------------------------------------------------------- distributions
def near(share: torch.Tensor, probability: float, count: int) -> bool:
    return abs(float(share) - probability) < 4 * (probability * (1 - probability) / count) ** 0.5 + 1e-9


def test_jitter_is_drawn_as_the_papers_have_it():
    count = 5000
    drawn = jitter_from(uniform(sample_keys(0, 0, count), "v/photometric", (2, 9)), Photometric.dino_global())
    jittered = drawn.brightness != 1
    assert near(jittered.float().mean(), 0.8, 2 * count)
    for values, strength in ((drawn.brightness, 0.4), (drawn.contrast, 0.4)):
        assert torch.equal(values != 1, jittered)
        inside = values[jittered]
        assert 1 - strength <= inside.min() < 1 - strength + 0.005 and inside.max() <= 1 + strength
        assert abs(inside.mean() - 1) < 4 * strength / 3**0.5 / len(inside) ** 0.5
    grey = drawn.saturation == 0
    assert near(grey.float().mean(), 0.2, 2 * count)
    assert near(grey[jittered].float().mean(), 0.2, int(jittered.sum()))  # by a coin of its own
    assert near((drawn.blur[:, 1] > 0)[drawn.solarise[:, 1]].float().mean(), 0.1, 1000)
    assert 0.8 <= drawn.saturation[~grey].min() and drawn.saturation.max() <= 1.2
    assert drawn.hue.abs().max() <= 0.1 and drawn.hue.min() < -0.099 and drawn.hue.max() > 0.099
    for view, (blurred, solarised) in enumerate([(1.0, 0.0), (0.1, 0.2)]):
        assert near((drawn.blur[:, view] > 0).float().mean(), blurred, count)
        assert near(drawn.solarise[:, view].float().mean(), solarised, count)
    sigma = drawn.blur[:, 0].sqrt()
    assert 0.1 <= sigma.min() < 0.11 and 1.99 < sigma.max() <= 2 and abs(sigma.mean() - 1.05) < 0.04
    everything = torch.stack([drawn.brightness, drawn.contrast, drawn.hue, drawn.blur])[:, :, 0]
    correlation = torch.corrcoef(everything[:, jittered[:, 0]]) - torch.eye(4)
    assert correlation.abs().max() < 0.08  # each strength by its own number


def test_views_of_an_image_are_jittered_apart():
    drawn = jitter_from(uniform(sample_keys(0, 0, 2000), "s", (2, 9)), Photometric.byol(jitter_prob=1.0))
    assert abs(torch.corrcoef(drawn.brightness.T)[0, 1]) < 4 / 2000**0.5


def test_presets():
    assert not Photometric.none().changes_colour and not Photometric.none().blurs
    assert Photometric.dino_local().blur_prob == 0.5 and not Photometric.dino_local().solarised_views(6)
    assert Photometric.dino_global().solarised_views(2) == (1,)
    assert Photometric.byol().solarised_views(2) == () and Photometric.byol(solarise_prob=0.1).solarised_views(2) == (
        0,
        1,
    )
    assert Photometric.moco_v3() == Photometric.named("moco_v3")
    assert Photometric.simclr().hue == 0.2 and Photometric.simclr().solarised_views(2) == ()
    assert Photometric(grey_prob=0.1).changes_colour and Photometric(hue=0.1).changes_colour
    assert not Photometric(hue=0.1, jitter_prob=0.0).changes_colour


def test_end_to_end_beside_plain_numpy():
    """The sampler's view is its own undisturbed view, jittered by what jitter_from says it drew."""
    photometric = Photometric(brightness=0.2, contrast=0.3, saturation=0.5, hue=0.1, solarise_prob=0.5)
    canvas = picture(60, 120, 48).permute(2, 0, 1)[None].expand(6, -1, -1, -1)
    keys = sample_keys(3, 0, 6)
    spec = ViewSpec(2, 24, (0.3, 0.9), flip="none", photometric=photometric)
    found = ViewSampler({"v": spec})(canvas, torch.ones(6), keys)["v"].pixels
    plain = ViewSampler({"v": ViewSpec(2, 24, (0.3, 0.9), flip="none")})(canvas, torch.ones(6), keys)["v"].pixels
    drawn = jitter_from(uniform(keys, "v/photometric", (2, 9)), photometric)
    assert drawn.solarise.any() and not drawn.solarise.all()
    for image in range(6):
        for view in range(2):
            one = Jitter(*(field[image : image + 1, view : view + 1] for field in drawn))
            matrix, x = colour_matrices(one)[0, 0].numpy(), plain[image, view].permute(1, 2, 0).numpy()
            mean = one.brightness.item() * (x @ LUMA).mean()
            expected = np.clip(x @ matrix.T + (1 - one.contrast.item()) * mean, 0, 1)
            expected = np.where(one.solarise.item() & (expected >= 0.5), 1 - expected, expected)
            np.testing.assert_allclose(found[image, view].permute(1, 2, 0).numpy(), expected, atol=1e-5)


# -------------------------------------------------------------------------------------------------------- refusals
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"brightness": -0.1}, "brightness is -0.1; it must be a number at least 0"),
        ({"contrast": float("inf")}, "contrast is inf"),
        ({"saturation": "0.4"}, "saturation is '0.4'"),
        ({"hue": 0.6}, r"hue is 0.6; it must be a number in \[0, 0.5\]"),
        ({"jitter_prob": 1.2}, r"jitter_prob is 1.2; it must be a number in \[0, 1\]"),
        ({"grey_prob": float("nan")}, "grey_prob is nan"),
        ({"blur_prob": (0.5, -0.1)}, "blur_prob is -0.1"),
        ({"solarise_prob": 2}, "solarise_prob is 2"),
        ({"blur_sigma": (2.0, 0.1)}, "blur_sigma's low end is 2.0"),
        ({"blur_sigma": 1.0}, r"blur_sigma is 1.0; it must be \(low, high\)"),
    ],
)
def test_wrong_values_are_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        Photometric(**wrong)


def test_one_probability_a_view():
    with pytest.raises(ValueError, match="solarise_prob has 2 values for 3 views; give one a view, or one number"):
        ViewSpec(3, 8, (0.1, 1.0), photometric=Photometric(solarise_prob=(0.0, 0.2)))
