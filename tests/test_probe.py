"""The probes from a dataset to a table: sampling, refusals, floors, and that a run is not disturbed."""

import dataclasses
import json
import logging

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from transformers import ViTConfig

from sp_hf.data.datasets import LoadedImages
from sp_hf.encoder import Encoder, Encoding
from sp_hf.evaluation.features import choose_images, read_images
from sp_hf.evaluation.probe import (
    PIXELS,
    RANDOM,
    ProbeSettings,
    format_table,
    prepare_probe,
    probe,
    probe_with_floor,
    random_initialisation,
)
from sp_hf.evaluation.raw_pixels import RawPixels
from sp_hf.evaluation.what.knn import LabelError

SETTINGS = ProbeSettings(size=16, crop_size=8, max_images=None)
COLOURS = np.array([[200, 40, 40], [40, 200, 40], [40, 40, 200]])


def pictures(n, seed):
    """Images of 40 x 30 px whose main colour is their class, a third of them of each."""
    generator = np.random.default_rng(seed)
    noise = generator.integers(-35, 35, (n, 30, 40, 3))
    return [Image.fromarray((COLOURS[i % 3] + noise[i]).astype(np.uint8)) for i in range(n)]


def loaded(n=30, *, seed=0, labels="classes", damaged=(), stream=False):
    """A labelled split, its bytes not decoded, as load_images gives it."""
    rows = datasets.Dataset.from_dict(
        {"image": pictures(n, seed), "label": [i % 3 for i in range(n)]},
        features=datasets.Features(
            {"image": datasets.Image(), "label": datasets.ClassLabel(names=["red", "green", "blue"])}
        ),
    ).cast_column("image", datasets.Image(decode=False))
    encoded = [{"bytes": b"torn", "path": None} if i in damaged else row["image"] for i, row in enumerate(rows)]
    given = {"classes": lambda i: i % 3, "none": None, "one": lambda i: 1, "two": lambda i: i % 2}[labels]
    columns = {"image": encoded} | ({"label": [given(i) for i in range(n)]} if given else {})
    rows = datasets.Dataset.from_dict(columns, features=rows.features if given else None)
    return LoadedImages(
        dataset=rows.to_iterable_dataset() if stream else rows,
        image_column="image",
        label_column="label" if given else None,
        label_names=["red", "green", "blue"] if given else None,
        description=f"{n} pictures",
        fingerprint="",
        num_images=n,
    )


def tiny_encoder(seed=0, dropout=0.0):
    torch.manual_seed(seed)
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    return Encoder.from_config(ViTConfig(**sizes, image_size=16, patch_size=4, hidden_dropout_prob=dropout))


@pytest.fixture(scope="module")
def data():
    return prepare_probe(loaded(60), loaded(30, seed=1), SETTINGS)


def test_colours_are_recognised_and_the_table_says_so(data):
    results = probe_with_floor(tiny_encoder(), data, name="mine")
    assert list(results) == [PIXELS, RANDOM, "mine"]
    knn = results[PIXELS].knn
    assert knn.accuracy.value == 1.0 and (knn.classes, knn.train_images, knn.images) == (3, 60, 30)
    assert results[PIXELS].relative_geometry.pairs == 30 * 4 * 3
    lines = format_table(results).splitlines()
    assert lines[2].startswith(PIXELS) and "100.0 [100.0, 100.0]" in lines[2]
    assert lines[4].startswith("mine") and f"{results['mine'].relative_geometry.iou.value:.3f}" in lines[4]
    assert "30 validation images, 360 ordered pairs" in lines[5] and "seed 0" in lines[5]


def test_results_survive_json(data):
    result = probe(RawPixels(), data)
    whole = json.loads(json.dumps(result.to_dict()))
    assert whole["knn"]["accuracy"]["value"] == result.knn.accuracy.value
    assert whole["settings"]["protocol"]["crops"] == 4
    figures = result.figures()
    assert figures["r2_position"] == result.relative_geometry.r2_position.value
    assert set(figures) >= {"knn_accuracy", "r2_x", "r2_y", "r2_scale", "mae_x", "iou"}


def test_probing_disturbs_neither_mode_nor_random_state(data):
    encoder = tiny_encoder(dropout=0.5)
    encoder.train()
    encoder.model.layernorm.eval()  # a part that its owner froze
    modes = [module.training for module in encoder.modules()]
    torch.manual_seed(1234)
    before = torch.get_rng_state()
    first = probe(encoder, data)
    assert probe_with_floor(encoder, data)["encoder"].to_dict() == first.to_dict()  # dropout was off
    assert torch.equal(torch.get_rng_state(), before)
    assert [module.training for module in encoder.modules()] == modes
    assert not any(parameter.grad is not None for parameter in encoder.parameters())


def test_the_floor_is_the_same_architecture_with_other_weights():
    encoder = tiny_encoder(seed=7)
    floor, again = random_initialisation(encoder, 0), random_initialisation(encoder, 0)
    shapes = {name: value.shape for name, value in encoder.state_dict().items()}
    assert {name: value.shape for name, value in floor.state_dict().items()} == shapes
    name, weight = next((n, p) for n, p in encoder.named_parameters() if p.ndim == 2)
    assert not torch.equal(floor.state_dict()[name], weight)
    assert torch.equal(floor.state_dict()[name], again.state_dict()[name])
    assert floor.image_mean == encoder.image_mean


def test_results_measured_otherwise_do_not_stand_in_one_table(data):
    other = prepare_probe(loaded(60), loaded(30, seed=1), dataclasses.replace(SETTINGS, seed=1))
    with pytest.raises(ValueError, match="cannot stand in one table"):
        format_table({"a": probe(RawPixels(), data), "b": probe(RawPixels(), other)})


# Labels ------------------------------------------------------------------------------------------------------------


def test_without_labels_recognition_is_left_out_and_said(caplog):
    with caplog.at_level(logging.WARNING):
        unlabelled = prepare_probe(loaded(labels="none"), loaded(), SETTINGS)
    assert "recognition is not measured" in caplog.text and "training images have none" in caplog.text
    result = probe(RawPixels(), unlabelled)
    assert result.knn is None and "knn_accuracy" not in result.figures()
    assert " -  " in format_table({"pixels": result})


@pytest.mark.parametrize(
    ("train", "validation", "message"),
    [("none", "classes", "training images have none"), ("classes", "none", "validation images have none"),
     ("one", "classes", r"1 \(green\)"), ("two", "classes", r"2 \(blue\)")],
)  # fmt: skip
def test_recognition_asked_for_is_refused_before_anything_is_decoded(train, validation, message):
    everything = range(30)
    with pytest.raises(LabelError, match=message):
        prepare_probe(
            loaded(labels=train, damaged=everything), loaded(labels=validation, damaged=everything), SETTINGS, knn=True
        )


# Encoders ----------------------------------------------------------------------------------------------------------


class Diverged(nn.Module):
    def patches_of(self, size):
        return 1, 1

    def forward(self, pixels):
        cls = pixels.mean((2, 3))
        cls[0, 0] = torch.nan
        return Encoding(cls, torch.zeros(len(cls), 1, 1), (1, 1))


def test_features_that_are_not_finite_are_refused(data):
    with pytest.raises(ValueError, match=r"1 of 60 feature vectors .*'whole'.*NaN"):
        probe(Diverged(), data, batch_size=64)


def test_a_view_smaller_than_a_patch_is_refused():
    with pytest.raises(ValueError, match="view of 2 pixels .* patches of 4"):
        ProbeSettings(size=16, crop_size=2).check(tiny_encoder())
    SETTINGS.check(tiny_encoder())


# The sample ---------------------------------------------------------------------------------------------------------


def test_a_small_sample_has_every_class_and_is_otherwise_uniform():
    images = loaded(30)
    others = images.dataset.filter(lambda row: row["label"] != 2)
    rare = datasets.concatenate_datasets([others, images.dataset.select([2])])
    images = dataclasses.replace(images, dataset=rare)  # 10 red, 10 green, and 1 blue at the end
    samples = [choose_images(images, 5, seed) for seed in range(100)]
    assert all(set(sample.labels.tolist()) == {0, 1, 2} and len(sample.rows) == 5 for sample in samples)
    share = torch.cat([sample.labels for sample in samples]).eq(0).float().mean()
    assert 0.33 < share < 0.47  # 2 of 5 are red on average
    assert choose_images(images, 5, 3).labels.tolist() == samples[3].labels.tolist()
    assert len(choose_images(images, None, 0).rows) == len(choose_images(images, 1000, 0).rows) == 21


def test_unreadable_images_are_left_out_counted_and_keep_labels_straight():
    whole, torn = (read_images(choose_images(loaded(12, damaged=d), None, 0), 16, seed=0) for d in ((), (2, 7)))
    kept = [i for i in range(12) if i not in (2, 7)]
    assert len(torn) == 10 and len(torn.skipped) == 2
    for field in ("canvases", "aspects", "keys", "labels"):
        assert torch.equal(getattr(torn, field), getattr(whole, field)[kept])
    assert whole.aspects.tolist() == pytest.approx([4 / 3] * 12)
    with pytest.raises(ValueError, match="not one of 3 images"):
        read_images(choose_images(loaded(3, damaged=range(3)), None, 0), 16, seed=0)


def test_a_stream_gives_its_first_rows():
    sample = choose_images(loaded(12, stream=True), 5, 0)
    assert sample.labels.tolist() == [0, 1, 2, 0, 1] and len(read_images(sample, 16, seed=0)) == 5
    with pytest.raises(ValueError, match="stream.*max_images"):
        choose_images(loaded(12, stream=True), None, 0)
    with pytest.raises(ValueError, match="max_images is 0"):
        choose_images(loaded(12), 0, 0)
