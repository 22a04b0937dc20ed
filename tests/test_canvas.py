"""Decoding against oracles: images whose true pixels are known, and files that must be refused."""

import io
import pickle
import struct
import warnings
import zipfile
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from sp_hf.data.canvas import UnreadableImage, decode, image_name, make_canvas


def encoded(image, image_format, **options):
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def ramps(width, height):
    """uint8 [H, W, 3]: red grows with x, green with y, both from 0 (edge) to 255 (edge), sampled at pixel centres."""
    x = np.broadcast_to((np.arange(width) + 0.5) / width * 255, (height, width))
    y = np.broadcast_to(((np.arange(height) + 0.5) / height * 255)[:, None], (height, width))
    return np.rint(np.stack([x, y, np.full((height, width), 128.0)], axis=-1)).astype(np.uint8)


def canvas_of_ramps(size):
    """float [3, S, S]: what any image of ramps must look like on the canvas, whatever its size."""
    centres = (np.arange(size) + 0.5) / size * 255
    return np.stack([np.tile(centres, (size, 1)), np.tile(centres[:, None], (1, size)), np.full((size, size), 128.0)])


def stored_as(upright, orientation):
    """Pixels as a camera stores them, by the EXIF specification: where row 0 and column 0 lie in the upright image."""
    row_0, column_0 = {
        1: ("top", "left"),
        2: ("top", "right"),
        3: ("bottom", "right"),
        4: ("bottom", "left"),
        5: ("left", "top"),
        6: ("right", "top"),
        7: ("right", "bottom"),
        8: ("left", "bottom"),
    }[orientation]
    image = upright if row_0 in ("top", "bottom") else upright.transpose(1, 0, 2)
    image = image[::-1] if row_0 in ("bottom", "right") else image
    return image[:, ::-1] if column_0 in ("right", "bottom") else image


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation, image_format):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {} if image_format in ("PNG", "TIFF") else {"quality": 95}
    stored = Image.fromarray(np.ascontiguousarray(stored_as(ramps(61, 40), orientation)))
    data = encoded(stored, image_format, exif=exif, **options)
    upright = decode(data)
    assert upright.mode == "RGB" and upright.size == (61, 40)
    assert np.abs(np.asarray(upright, float) - ramps(61, 40)).mean() < 3
    canvas, aspect = make_canvas(data, 24)
    assert aspect == 61 / 40
    assert np.abs(canvas - canvas_of_ramps(24)).mean() < 3


@pytest.mark.parametrize("size", [16, 64, 100, 224])
@pytest.mark.parametrize("shape", [(1001, 701), (333, 1333), (250, 250)])
def test_canvas_shows_the_whole_image_also_when_drafted(shape, size):
    width, height = shape
    for image_format, options in [("JPEG", {"quality": 95, "subsampling": 0}), ("PNG", {})]:
        data = encoded(Image.fromarray(ramps(width, height)), image_format, **options)
        canvas, aspect = make_canvas(data, size)
        assert canvas.shape == (3, size, size) and canvas.dtype == np.uint8 and canvas.flags.c_contiguous
        assert aspect == width / height
        difference = canvas - canvas_of_ramps(size)
        assert np.abs(difference).max() < 4
        # Drafting rounds 1001/8 px up to 126: taking those for the whole image would shift the right edge by 1.8.
        assert abs(difference[0, :, -4:].mean()) < 0.7 and abs(difference[1, -4:].mean()) < 0.7


def test_jpeg_is_decoded_at_reduced_scale_never_below_the_canvas():
    data = encoded(Image.fromarray(ramps(1001, 701)), "JPEG")
    assert decode(data, draft_size=64).size == (126, 88)  # 1/8
    assert decode(data, draft_size=88).size == (251, 176)  # 701 / 8 = 87.6 is below: 1/4
    assert decode(data, draft_size=400).size == (1001, 701)
    assert decode(data).size == (1001, 701)
    assert decode(encoded(Image.fromarray(ramps(1001, 701)), "PNG"), draft_size=64).size == (1001, 701)


@pytest.mark.parametrize("mode, subsampling", [("RGB", 0), ("RGB", 2), ("L", 0)])
def test_both_decoders_give_the_very_same_canvas(mode, subsampling, monkeypatch):
    pytest.importorskip("simplejpeg")
    noise = np.random.default_rng(0).integers(0, 256, (101, 203, 3), dtype=np.uint8)
    options = {} if mode == "L" else {"subsampling": subsampling}
    data = encoded(Image.fromarray(noise).convert(mode), "JPEG", quality=80, **options)
    found = [make_canvas(data, size) for size in (20, 60, 300)]  # drafted to a quarter, to a half, and not at all
    monkeypatch.setattr("sp_hf.data.jpeg.simplejpeg", None)
    for (canvas, aspect), size in zip(found, (20, 60, 300), strict=True):
        expected, of_pillow = make_canvas(data, size)
        assert np.array_equal(canvas, expected) and aspect == of_pillow == 203 / 101


@pytest.mark.parametrize("size", [24, 61, 150])
def test_resizing_is_pillows_up_to_rounding(size):
    noise = np.random.default_rng(0).integers(0, 256, (90, 131, 3), dtype=np.uint8)
    canvas, _ = make_canvas(noise, size)
    expected = np.asarray(Image.fromarray(noise).resize((size, size), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
    difference = np.abs(canvas.astype(int) - expected)
    assert difference.max() <= 2 and (difference > 1).mean() < 1e-4


def test_the_callers_image_stays_as_it_is():
    image = Image.open(io.BytesIO(encoded(Image.fromarray(ramps(800, 600)), "JPEG")))
    assert make_canvas(image, 32)[1] == 800 / 600
    assert image.size == (800, 600) and np.asarray(image).shape == (600, 800, 3)


def test_canvas_is_antialiased():
    checkerboard = Image.fromarray((np.indices((512, 512)).sum(0) % 2 * 255).astype(np.uint8))
    canvas, _ = make_canvas(encoded(checkerboard, "PNG"), 15)
    assert np.abs(canvas.astype(float) - 127.5).max() < 3


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1), (2, 3)])
@pytest.mark.parametrize("image_format", ["JPEG", "PNG"])
def test_tiny_images(shape, image_format):
    canvas, aspect = make_canvas(encoded(Image.new("RGB", shape, (10, 200, 30)), image_format), 32)
    assert canvas.shape == (3, 32, 32) and aspect == shape[0] / shape[1]
    assert np.abs(canvas.astype(int) - np.array([10, 200, 30])[:, None, None]).max() <= 4


def sixteen_bit(values, mode):
    image = Image.fromarray(values)
    assert image.mode == mode
    return image


def test_16_bit_grey_is_scaled_not_clipped():
    values = np.linspace(0, 65535, 64 * 64).reshape(64, 64)
    expected = values / 65535 * 255
    files = {
        "png": encoded(sixteen_bit(values.astype("<u2"), "I;16"), "PNG"),
        "tiff, big-endian": encoded(sixteen_bit(values.astype(">u2"), "I;16B"), "TIFF"),
        "tiff, 32-bit": encoded(sixteen_bit(values.astype("<i4"), "I"), "TIFF"),
        "float in [0, 1]": encoded(sixteen_bit((values / 65535).astype("<f4"), "F"), "TIFF"),
    }
    for name, data in files.items():
        rgb = np.asarray(decode(data), float)
        assert np.abs(rgb - expected[..., None]).max() <= 0.51, name


def test_other_depths_are_stretched():
    values = np.linspace(-1e6, 3e6, 64 * 64).reshape(64, 64)
    expected = (values - values.min()) / np.ptp(values) * 255
    for stored in (values.astype("<i4"), values.astype("<f4")):
        assert (
            np.abs(np.asarray(decode(encoded(Image.fromarray(stored), "TIFF")), float)[..., 1] - expected).max() < 0.6
        )
    assert np.asarray(decode(encoded(Image.fromarray(np.full((4, 4), 7e5, "<f4")), "TIFF"))).max() == 0
    with pytest.raises(UnreadableImage, match="finite"):
        decode(encoded(Image.fromarray(np.full((4, 4), np.nan, "<f4")), "TIFF"))


def test_grey_bilevel_and_cmyk():
    assert np.asarray(decode(encoded(Image.new("L", (9, 5), 77), "PNG"))).tolist() == [[[77] * 3] * 9] * 5
    assert np.asarray(decode(encoded(Image.new("1", (9, 5), 1), "PNG"))).min() == 255
    cyan, magenta, yellow, black = inks = (200, 30, 90, 50)
    rgb = np.asarray(decode(encoded(Image.new("CMYK", (32, 16), inks), "JPEG", quality=100)), float)
    expected = [(255 - ink) * (255 - black) / 255 for ink in (cyan, magenta, yellow)]
    assert np.abs(rgb - expected).max() < 4
    canvas, aspect = make_canvas(encoded(Image.new("CMYK", (320, 160), inks), "JPEG", quality=100), 16)
    assert np.abs(canvas - np.array(expected)[:, None, None]).max() < 4 and aspect == 2


def test_alpha_is_composited_onto_white():
    rgba = Image.new("RGBA", (4, 2), (0, 100, 200, 255))
    rgba.putpixel((0, 0), (0, 0, 0, 0))
    rgba.putpixel((1, 0), (0, 0, 0, 128))
    for image_format, options in [("PNG", {}), ("WEBP", {"lossless": True, "exact": True})]:
        pixels = np.asarray(decode(encoded(rgba, image_format, **options)))
        assert pixels[0, 0].tolist() == [255] * 3
        assert pixels[0, 1].tolist() == [127] * 3
        assert pixels[1, 3].tolist() == [0, 100, 200]
    grey_alpha = Image.merge("LA", [Image.new("L", (2, 2), 10), Image.new("L", (2, 2), 0)])
    assert np.asarray(decode(encoded(grey_alpha, "PNG"))).min() == 255
    colour_key = encoded(Image.new("RGB", (2, 2), (1, 2, 3)), "PNG", transparency=(1, 2, 3))
    assert np.asarray(decode(colour_key)).min() == 255


def test_palette_with_and_without_transparency():
    palette = Image.new("P", (3, 1))
    palette.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    palette.putdata([0, 1, 2])
    assert np.asarray(decode(encoded(palette, "PNG")))[0].tolist() == [[255, 0, 0], [0, 255, 0], [0, 0, 255]]
    transparent = np.asarray(decode(encoded(palette, "PNG", transparency=1)))[0].tolist()
    assert transparent == [[255, 0, 0], [255, 255, 255], [0, 0, 255]]


@pytest.mark.parametrize("image_format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_first_frame_of_an_animation(image_format):
    frames = [Image.new("RGB", (20, 10), colour) for colour in ("red", "blue", "lime")]
    data = encoded(frames[0], image_format, save_all=True, append_images=frames[1:])
    assert Image.open(io.BytesIO(data)).n_frames == 3
    assert np.abs(np.asarray(decode(data), int) - [255, 0, 0]).max() < 8


def test_every_kind_of_input(tmp_path):
    image = Image.fromarray(ramps(30, 20))
    data = encoded(image, "PNG")
    path = tmp_path / "ramps.png"
    path.write_bytes(data)
    kinds = [data, bytearray(data), path, str(path), image, Image.open(path), np.asarray(image)]
    kinds += [
        {"bytes": data, "path": None},
        {"bytes": None, "path": str(path)},
        {"bytes": data, "path": "elsewhere.png"},
    ]
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.write(path, "ramps.png")
    kinds += [f"zip://ramps.png::{tmp_path / 'photos.zip'}"]
    for kind in kinds:
        assert np.array_equal(np.asarray(decode(kind)), ramps(30, 20)), type(kind)


def png_header(width, height):
    """A whole PNG by its header, with hardly any data."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [9_500, 12_000, 60_000])  # over our limit; over Pillow's warning; over Pillow's error
def test_decompression_bombs_are_refused_by_their_header(side, monkeypatch):
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded a bomb"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UnreadableImage, match="decompression bomb"):
            make_canvas({"bytes": png_header(side, side), "path": "bomb.png"}, 32)


def test_pixel_limit_can_be_chosen():
    data = encoded(Image.new("RGB", (100, 100)), "PNG")
    assert make_canvas(data, 8, max_pixels=10_000)[1] == 1
    with pytest.raises(UnreadableImage, match="100x100 px is over the limit of 9999 pixels"):
        make_canvas(data, 8, max_pixels=9_999)
    with pytest.raises(UnreadableImage, match="over the limit"):
        decode(Image.new("RGB", (100, 100)), max_pixels=9_999)


def test_unreadable_images_name_themselves_and_the_reason(tmp_path):
    whole = encoded(Image.fromarray(ramps(200, 200)), "JPEG")
    text = tmp_path / "notes.jpg"
    text.write_text("this is no image")
    postscript = encoded(Image.new("RGB", (8, 8)), "EPS")
    cases = [
        (whole[: len(whole) // 2], "truncated"),
        (encoded(Image.fromarray(ramps(200, 200)), "PNG")[:300], "truncated"),
        (encoded(Image.fromarray(ramps(200, 200)), "WEBP")[:300], "."),
        (encoded(Image.fromarray(ramps(200, 200)), "GIF")[:300], "."),
        (b"", "cannot identify"),
        (postscript, "cannot identify"),  # Pillow would start Ghostscript for it
        (text, "cannot identify"),
        (tmp_path / "missing.jpg", "No such file"),
        (tmp_path, "directory"),
        ({"bytes": None, "path": None}, "no image"),
        (None, "no image"),
        (f"zip://gone.png::{tmp_path / 'photos.zip'}", "FileNotFound"),
    ]
    for image, reason in cases:
        with pytest.raises(UnreadableImage, match=reason) as caught:
            make_canvas(image, 32)
        assert caught.value.name == image_name(image) and caught.value.reason
        assert str(caught.value).startswith(caught.value.name)
    with pytest.raises(UnreadableImage, match="notes.jpg"):
        decode(str(text))


def test_a_failing_network_is_not_taken_for_a_bad_image(monkeypatch):
    def no_network(*args, **kwargs):
        raise ConnectionError("no route to host")

    monkeypatch.setattr("datasets.utils.file_utils.xopen", no_network)
    with pytest.raises(ConnectionError, match="no route"):
        decode("https://example.invalid/a.png")


def test_damaged_metadata_does_not_cost_the_image():
    data = encoded(Image.fromarray(ramps(40, 30)), "JPEG", quality=95, exif=b"Exif\0\0XX*\0not a TIFF header at all")
    assert decode(data).size == (40, 30)


def test_names_are_stable_and_tell_images_apart():
    assert image_name({"bytes": b"abc", "path": "a/b.jpg"}) == "a/b.jpg (sha1 a9993e364706)"
    assert image_name(b"abc") == image_name({"bytes": b"abc", "path": None}) == "sha1 a9993e364706"
    assert image_name({"bytes": None, "path": "a/b.jpg"}) == "a/b.jpg"
    assert image_name(None) == "image"


class _Failing(torch.utils.data.Dataset):
    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise UnreadableImage("b.jpg", "truncated")


def test_the_error_survives_pickling_and_worker_processes():
    error = pickle.loads(pickle.dumps(UnreadableImage("a.jpg", "truncated")))
    assert (error.name, error.reason, str(error)) == ("a.jpg", "truncated", "a.jpg: truncated")
    with pytest.raises(UnreadableImage, match="b.jpg: truncated"):
        next(iter(torch.utils.data.DataLoader(_Failing(), num_workers=1)))


def test_canvas_size_must_be_positive():
    with pytest.raises(ValueError, match="canvas size is 0"):
        make_canvas(Image.new("RGB", (4, 4)), 0)
