"""How sharp crops are shown: no sharper than images' own pixels allow, and said so."""

import io

import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from sp_hf.data.given_images import GivenImages
from sp_hf.evaluation.controls.low_level_cues import LowLevelCues, clipped
from sp_hf.evaluation.controls.raw_pixels import RawPixels
from sp_hf.evaluation.data import EvaluationData
from sp_hf.evaluation.features import Features, ProbeImages, extract_features
from sp_hf.evaluation.model import EvaluatedModel, Preprocess
from sp_hf.evaluation.source import DataSource
from sp_hf.evaluation.where.relative_geometry.own_pixels import Detail, detail_of
from sp_hf.evaluation.where.relative_geometry.protocol import RelativeGeometryProtocol
from sp_hf.evaluation.where.relative_geometry.task import RelativeGeometry, probe_relations
from sp_hf.views.keyed_random import sample_keys

PROTOCOL = RelativeGeometryProtocol()


def images_of(sizes):
    return GivenImages.of([Image.new("RGB", size) for size in sizes])


def data_of(train, validation):
    return EvaluationData(DataSource(images_of(train), validation_dataset=images_of(validation)))


def test_the_smaller_side_of_the_data_decides():
    """sqrt(width x height), of which one image in twenty may have less; crops of half of it are as they were."""
    data = data_of([(64, 36)] * 20 + [(4, 4)], [(200, 50)] * 5)
    assert detail_of(data, 96, None) == Detail(96, 24.0, 48.0)
    assert detail_of(data, 24, None).shown == 24 and not detail_of(data, 24, None).notes
    (note,) = detail_of(data, 96, None).notes
    assert "crops of 96 px are shown with the detail of crops of 24 px, as images have 48 px" in note
    assert detail_of(data, 96, None).canvas == 72  # three times what is shown


def test_images_too_small_for_any_detail_are_refused():
    data = data_of([(14, 14)] * 12, [(100, 100)] * 12)
    with pytest.raises(ValueError, match="crops of 32 px of images of 14 px would be all blur: .* crops of 7 px"):
        RelativeGeometry(crop_size=32).check(EvaluatedModel("a", RawPixels(), Preprocess.squash(32)), data)
    assert detail_of(data, 7, None).shown == 7


def test_detail_is_a_share_of_the_crops_size():
    spec = PROTOCOL.view_spec(224, 48.0)
    assert spec.size == 224 and spec.effective_resolution == pytest.approx((0.2 * 48 / 224, 0.4 * 48 / 224))
    assert PROTOCOL.view_spec(32, 48.0) == PROTOCOL.view_spec(32)


def noise(n, seed, side):
    """Noise with a 1/f amplitude spectrum, which looks the same at any scale: uint8 [n, 3, side, side]."""
    frequency = (torch.fft.fftfreq(8 * side)[:, None] ** 2 + torch.fft.rfftfreq(8 * side) ** 2).sqrt()
    frequency[0, 0] = torch.inf
    white = torch.randn(n, 8 * side, 8 * side, generator=torch.Generator().manual_seed(seed))
    field = torch.fft.irfft2(torch.fft.rfft2(white) / frequency)[:, None, : 4 * side, : 4 * side]
    small = F.interpolate(128 + 45 * field / field.std(), size=(side, side), mode="bilinear", antialias=True)
    return small.clamp(0, 255).round().to(torch.uint8).expand(-1, 3, -1, -1)


def test_blur_tells_the_scale_of_small_images_unless_detail_is_capped():
    """Crops of 112 px of images of 48 px: a crop's sharpness is that of its box, whatever the countermeasures do."""
    found = {}
    for name, largest in (("as before", 112.0), ("capped", 24.0)):
        sides = []
        for seed in (0, 1):
            images = ProbeImages(noise(80, seed, 48), torch.ones(80), sample_keys(seed, 0, 80), None, [], "noise")
            spec = PROTOCOL.view_spec(112, largest)
            sides.append(extract_features(LowLevelCues(), images, {"crops": spec})["crops"])
        cls = clipped(*(side.cls for side in sides))
        train, validation = (side._replace(cls=values) for side, values in zip(sides, cls, strict=True))
        found[name] = probe_relations(train, validation, mlp=False)[0]["r2_scale"].value
    assert found["as before"] > 0.5 and abs(found["capped"]) < 0.12


def test_a_crop_far_out_does_not_decide_what_cues_tell():
    generator = torch.Generator().manual_seed(0)
    boxes = 0.2 + 0.6 * torch.rand(100, 4, 4, generator=generator)
    cues = torch.cat([boxes[..., 2:].log(), torch.randn(100, 4, 3, generator=generator)], dim=-1)
    sides = [
        Features(values, torch.zeros(50, 4, 1), b) for values, b in zip(cues.split(50), boxes.split(50), strict=True)
    ]
    sides[1].cls[0, 0] = 1e4
    wild = probe_relations(*sides, mlp=False)[0]["r2_scale"].value
    cls = clipped(sides[0].cls, sides[1].cls)
    tame = probe_relations(*(side._replace(cls=c) for side, c in zip(sides, cls, strict=True)), mlp=False)[0]
    assert wild < -10 and tame["r2_scale"].value > 0.8
    assert cls[1].max() <= sides[0].cls.flatten(0, 1).max() and torch.equal(
        cls[1][1:].median(), sides[1].cls[1:].median()
    )


def test_the_report_says_at_which_resolution_it_measured():
    generator = torch.Generator().manual_seed(0)
    pictures = []
    for pixels in torch.randint(256, (24, 40, 40, 3), dtype=torch.uint8, generator=generator):
        file = io.BytesIO()
        Image.fromarray(pixels.numpy()).save(file, "PNG")
        pictures.append(file.getvalue())
    data = EvaluationData(
        DataSource(GivenImages.of(pictures[:12]), validation_dataset=GivenImages.of(pictures[12:])), refits=2
    )
    model = EvaluatedModel("a", RawPixels(4).eval(), Preprocess.squash(64))
    result = RelativeGeometry(mlp=False).run(model, data)
    assert result.details["effective_resolution_px"] == [4.0, 8.0] and result.details["image_side_px"] == 40
    assert (result.details["crop_size"], result.details["canvas_size"]) == (64, 60)
    assert "detail of crops of 20 px" in result.details["notes"][0]
    expected = "crops of 64 px, their detail lowered to 4.0 to 8.0 px, of images of 40 px"
    assert result.details["measured_at"] == expected
    beyond = result.measures["r2_position_beyond_cues"]
    assert len(beyond.refits) == len(result.measures["r2_position"].refits) == 2
    assert list(result.measures)[:4] == ["r2_position_beyond_cues", "r2_scale_beyond_cues", "r2_position", "r2_scale"]
    sharp = RelativeGeometry(crop_size=16, mlp=False, cues=False).run(model, data)
    assert not sharp.details["notes"] and "r2_position_beyond_cues" not in sharp.measures
