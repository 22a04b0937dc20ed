"""Fine-tuning: what is trained, at which rates, that it learns, repeats itself and leaves nothing behind."""

import copy
import dataclasses
import random
import tempfile

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from tiny_encoders import PATCH, SIZE, TINY
from torch import nn
from transformers import ViTConfig

from sp_hf.encoders.encoder import Encoder
from sp_hf.encoders.layers import layer_ids
from sp_hf.evaluation.accuracy import LabelError
from sp_hf.evaluation.data import EvaluationData
from sp_hf.evaluation.model import EvaluatedModel, Preprocess, random_initialisation
from sp_hf.evaluation.source import DataSource
from sp_hf.evaluation.task import TaskSkipped
from sp_hf.evaluation.what.finetune.stock_classifier import stock_classifier
from sp_hf.evaluation.what.finetune.task import Finetune, own_random_state, predict
from sp_hf.optimisation.layer_decay import parameter_groups

QUICK = {"epochs": 6, "batch_size": 10, "canvas_size": 24, "learning_rate": 3e-3}
WITHOUT_CLASS = ("dinov3_vit",)


# Layer-wise decay


def test_layers_by_hand():
    names = [
        "net.cls_token",
        "net.patch.weight",
        "net.layers.0.a",
        "net.layers.0.b",
        "net.layers.1.a",
        "net.norm",
        "head",
    ]
    assert list(layer_ids(names).values()) == [0, 0, 1, 1, 2, 3, 3]
    stages = [
        "stem.0.w",
        "stages.0.blocks.0.w",
        "stages.1.down.w",
        "stages.1.blocks.0.w",
        "stages.1.blocks.1.w",
        "head.w",
    ]
    assert list(layer_ids(stages).values()) == [0, 1, 2, 3, 4, 5]
    assert list(layer_ids(["conv1.w", "layer1.0.w", "layer1.1.w", "layer2.0.w", "fc.w"]).values()) == [0, 1, 2, 3, 4]
    assert list(layer_ids(["a.weight", "b.weight"]).values()) == [0, 0]


def test_rates_are_those_of_maes_code():
    """``param_groups_lrd`` of facebookresearch/mae, util/lr_decay.py, rewritten for a ViT of two blocks."""
    classifier = stock_classifier(Encoder(TINY["vit"].build()), 3, seed=0)
    groups = parameter_groups(classifier, learning_rate=2.0, layer_decay=0.5, weight_decay=0.1)
    found = {name: (group["lr"], group["weight_decay"]) for group in groups for name in group["names"]}
    assert set(found) == {name for name, _ in classifier.named_parameters()}
    for name, parameter in classifier.named_parameters():
        block = next((i for i in range(2) if f".layers.{i}." in name), None)
        layer = 0 if ".embeddings." in name else block + 1 if block is not None else 3
        no_decay = parameter.ndim == 1 or "cls_token" in name or "position_embeddings" in name
        assert found[name] == (2.0 * 0.5 ** (3 - layer), 0.0 if no_decay else 0.1), name


@pytest.mark.parametrize("name", [name for name in TINY if name not in WITHOUT_CLASS])
def test_every_architecture_has_layers(name):
    classifier = stock_classifier(Encoder(TINY[name].build()), 3, seed=0)
    ids = layer_ids(key for key, _ in classifier.named_parameters())
    assert {i for key, i in ids.items() if "embeddings" in key} == {0}
    assert {i for key, i in ids.items() if key.startswith("classifier")} == {max(ids.values())}
    blocks = [i for i in ids.values() if 0 < i < max(ids.values())]
    assert set(blocks) >= {1, 2} and blocks == sorted(blocks)


# The stock classifier


@pytest.mark.parametrize("name", [name for name in TINY if name not in WITHOUT_CLASS])
def test_classifier_is_stock_and_starts_from_the_encoder(name):
    encoder = Encoder(TINY[name].build()).eval()
    classifier = stock_classifier(encoder, 3, seed=0).eval()
    assert type(classifier).__name__.endswith("ForImageClassification")
    assert type(classifier).__module__.startswith("transformers.models.")
    body = getattr(classifier, "vision_model", None) or classifier.base_model
    images = torch.rand(2, 3, SIZE // 2, SIZE // 2, generator=torch.Generator().manual_seed(0))
    inputs = encoder.size_kwargs(SIZE // 2, SIZE // 2)
    with torch.no_grad():
        assert torch.equal(
            body(encoder.normalise(images), **inputs).last_hidden_state,
            encoder.model(encoder.normalise(images), **inputs).last_hidden_state,
        )
        assert classifier(encoder.normalise(images), **inputs).logits.shape == (2, 3)


def test_head_depends_on_the_seed_alone():
    encoders = [Encoder(TINY["vit"].build(seed)) for seed in (0, 1)]
    first, second = (stock_classifier(encoder, 3, seed=0) for encoder in encoders)
    other = stock_classifier(encoders[0], 3, seed=1)
    assert torch.equal(first.classifier.weight, second.classifier.weight)
    assert not torch.equal(first.vit.layernorm.weight, second.vit.layernorm.weight)
    assert not torch.equal(first.classifier.weight, other.classifier.weight)


@pytest.mark.parametrize("name", WITHOUT_CLASS)
def test_no_stock_class_no_metric(name):
    with pytest.raises(TaskSkipped, match=f"no image classification class for model type '{name}'"):
        stock_classifier(Encoder(TINY[name].build()), 3, seed=0)


def test_other_encoders_have_none():
    with pytest.raises(TaskSkipped, match="Linear is no transformers model"):
        stock_classifier(nn.Linear(2, 2), 3, seed=0)


# The task


def bright_side(n, seed):
    """Grey noise, brighter in the upper or in the lower half: no crop or mirror image swaps the classes."""
    noise = np.random.default_rng(seed).integers(60, 120, (n, 24, 32, 3))
    for i in range(n):
        noise[i, slice(0, 12) if i % 2 == 0 else slice(12, 24)] += 100
    return [Image.fromarray(image.astype(np.uint8)) for image in noise]


def write(path, n, seed, labels):
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    rows = {"image": bright_side(n, seed), "label": labels}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(str(path))
    return str(path)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    train = write(folder / "train.parquet", 60, 0, [(3, 7)[i % 2] if i < 58 else -1 for i in range(60)])
    validation = write(folder / "validation.parquet", 30, 1, [(3, 7)[i % 2] if i < 28 else -1 for i in range(30)])
    return EvaluationData(DataSource(train, validation_dataset=validation, label_column="label"))


def tiny_model(seed=0):
    torch.manual_seed(seed)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    encoder = Encoder.from_config(ViTConfig(**sizes, image_size=2 * PATCH, patch_size=PATCH))
    return EvaluatedModel("mine", encoder.eval(), Preprocess.squash(3 * PATCH))  # not the native size


@pytest.fixture(scope="module")
def result(data):
    return Finetune(**QUICK).run(tiny_model(), data)


def test_learns_what_can_be_learnt(result):
    assert result.measures["accuracy"].value == result.measures["mean_per_class_accuracy"].value == 1.0
    assert result.measures["accuracy"].n == 28  # of 30, two have no label
    assert result.details["classifier"] == "ViTForImageClassification"
    assert result.details["train_images"] == 58 and result.details["steps"] == 6 * 6


def test_repeats_itself_whatever_the_global_seed(data, result):
    torch.manual_seed(12345)
    random.seed(6)
    again = Finetune(**QUICK).run(tiny_model(), data)
    assert again.details == result.details
    other = EvaluationData(data.source, seed=1)
    assert Finetune(**QUICK).run(tiny_model(), other).details != result.details


def test_leaves_nothing_behind(data, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    model = tiny_model()
    weights = copy.deepcopy(model.encoder.state_dict())
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    Finetune(**QUICK | {"epochs": 1}).run(model, data)
    assert random.getstate() == states[0] and np.random.get_state()[1].tolist() == states[1]
    assert torch.equal(torch.get_rng_state(), states[2])
    assert all(torch.equal(value, weights[name]) for name, value in model.encoder.state_dict().items())
    assert not model.encoder.training
    assert list(tmp_path.iterdir()) == []


def test_random_state_comes_back_also_after_an_error():
    state = random.getstate(), torch.get_rng_state()
    with pytest.raises(KeyError), own_random_state():
        random.seed(1)
        torch.manual_seed(1)
        raise KeyError
    assert random.getstate() == state[0] and torch.equal(torch.get_rng_state(), state[1])


def test_small_rates_stay_near_the_start(data):
    """Layer decay near 0 moves the head alone: the encoder's part of the classifier stays as it was."""
    model = tiny_model()
    seen = {}

    class Kept(Finetune):
        def _train(self, classifier, views, model, data):
            before = {name: value.detach().clone() for name, value in classifier.named_parameters()}
            loss = super()._train(classifier, views, model, data)
            seen.update({n: float((v.detach() - before[n]).abs().max()) for n, v in classifier.named_parameters()})
            return loss

    Kept(**QUICK | {"layer_decay": 1e-4, "epochs": 1}).run(model, data)
    moved = {name: change for name, change in seen.items() if change > 1e-5}
    assert moved and all(name.startswith(("classifier", "vit.layernorm")) for name in moved)


def test_training_views_differ_between_epochs_and_not_between_models(data):
    from sp_hf.evaluation.what.finetune.task import _TrainingViews

    images = data.canvases(data.train, 24)
    labels = (images.labels == 7).long().masked_fill(images.labels < 0, -1)
    first, second = (_TrainingViews(images, labels, tiny_model(seed).encoder, 24, seed=0) for seed in (0, 1))
    batch = first.collate([3, 5])
    assert batch["pixel_values"].shape == (2, 3, 24, 24) and batch["labels"].tolist() == [1, 1]
    assert torch.equal(batch["pixel_values"], second.collate([3, 5])["pixel_values"])
    first.set_epoch(1)
    assert not torch.equal(first.collate([3, 5])["pixel_values"], batch["pixel_values"])
    assert len(first) == 58 and -1 not in first.collate(list(range(58)))["labels"]


def test_trainer_tells_the_views_which_epoch_it_is(data):
    epochs = []

    class Kept(Finetune):
        def _train(self, classifier, views, model, data):
            collate = views.collate
            views.collate = lambda chosen: (epochs.append(views.epoch), collate(chosen))[1]
            return super()._train(classifier, views, model, data)

    Kept(**QUICK | {"epochs": 3}).run(tiny_model(), data)
    assert epochs == [0] * 6 + [1] * 6 + [2] * 6


def test_predictions_are_the_classifiers_argmax(data):
    model = tiny_model()
    classifier = stock_classifier(model.encoder, 2, seed=0).eval()
    pixels = data.pixels(model, data.validation).pixels
    with torch.no_grad():
        logits = classifier(model.encoder.normalise(pixels / 255), interpolate_pos_encoding=True).logits
    assert torch.equal(predict(classifier, model, pixels, 7), logits.argmax(-1))


def test_floor_is_training_from_scratch(data):
    floor = random_initialisation(tiny_model(), seed=0)
    assert Finetune(**QUICK).run(floor, data).measures["accuracy"].n == 28
    assert Finetune.controls == ("random",)


def test_divergence_is_named(data):
    with pytest.raises(TaskSkipped, match="diverged at a learning rate of 1e.30.*finetune_learning_rate"):
        Finetune(**QUICK | {"learning_rate": 1e30, "epochs": 2}).run(tiny_model(), data)


@pytest.mark.parametrize(
    "options,message",
    [
        ({"epochs": 0}, "epochs.*at least 1; got 0"),
        ({"learning_rate": 0.0}, "learning rate above 0.*0.0"),
        ({"layer_decay": 1.5}, "layer_decay must be in .*1.5"),
        ({"label_smoothing": 1.0}, "label_smoothing in .*1.0"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        Finetune(**options)


def test_labels_are_needed(data, tmp_path):
    one = write(tmp_path / "one.parquet", 4, 0, [3] * 4)
    with pytest.raises(LabelError, match="two classes or more"):
        Finetune().prepare(EvaluationData(dataclasses.replace(data.source, dataset=one)))
