"""Fine-grained classification: the linear probe's metrics, on the labels that were asked for."""

import dataclasses

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import recall_score
from transformers import ViTConfig

from sp_hf.encoders.encoder import Encoder
from sp_hf.evaluation.accuracy import LabelError
from sp_hf.evaluation.data import EvaluationData
from sp_hf.evaluation.model import EvaluatedModel, Preprocess
from sp_hf.evaluation.source import DataSource
from sp_hf.evaluation.what.fine_grained import FineGrained
from sp_hf.evaluation.what.linear import Linear

FINE = 4
NAMES = {"label": ["dark", "light"], "kind": [f"grey {i}" for i in range(FINE)]}


def write(path, n, seed):
    """Greys in four steps; the coarse label is dark or light. The first steps are rarer than the last."""
    generator = np.random.default_rng(seed)
    kinds = [i % FINE if i % 3 else FINE - 1 for i in range(n)]
    noise = generator.integers(-30, 30, (n, 16, 16, 3))
    images = [Image.fromarray((50 + 45 * kind + noise[i]).astype(np.uint8)) for i, kind in enumerate(kinds)]
    columns = {"image": images, "label": [kind // 2 for kind in kinds], "kind": kinds}
    labels = {name: datasets.ClassLabel(names=names) for name, names in NAMES.items()}
    features = datasets.Features({"image": datasets.Image(), **labels})
    datasets.Dataset.from_dict(columns, features=features).to_parquet(str(path))
    return str(path)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    train, validation = write(folder / "train.parquet", 80, 0), write(folder / "validation.parquet", 40, 1)
    return DataSource(train, validation_dataset=validation, label_column="label")


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    encoder = Encoder.from_config(ViTConfig(**sizes, image_size=16, patch_size=8))
    return EvaluatedModel("mine", encoder.eval(), Preprocess.squash(16))


def metrics(result):
    return {name: (measure.value, measure.n, measure.chance) for name, measure in result.measures.items()}


def run(task, model, source):
    data = EvaluationData(source)
    task.prepare(data)
    return task.run(model, data)


def test_it_is_the_linear_probe_on_the_finer_column(source, model):
    found = run(FineGrained(label_column="kind"), model, source)
    expected = run(Linear(), model, dataclasses.replace(source, label_column="kind"))
    assert metrics(found) == metrics(expected) != metrics(run(Linear(), model, source))
    assert found.details["classes"] == FINE and found.details["label_column"] == "kind"
    assert found.measures["accuracy"].chance == 1 / FINE
    assert found.measures["mean_per_class_accuracy"].value > 0.6


def test_mean_per_class_accuracy_is_the_mean_of_recalls(source, model):
    measure = run(FineGrained(label_column="kind"), model, source).measures["mean_per_class_accuracy"]
    truth, correct = measure.denominators.argmax(-1), measure.numerators.sum(-1)
    assert len(set(torch.bincount(truth).tolist())) > 1  # or it is the accuracy
    recalls = recall_score(truth, torch.where(correct > 0, truth, (truth + 1) % FINE), average=None)
    assert measure.value == pytest.approx(recalls.mean())


def test_another_data_set(source, model, tmp_path):
    """Named by its folder, with its own splits, whatever the images of the run are."""
    for split, n in (("train", 40), ("validation", 20)):
        write(tmp_path / f"{split}.parquet", n, seed=n)
    found = run(FineGrained(label_column="kind", dataset=str(tmp_path)), model, source)
    assert found.measures["accuracy"].n == 20 and found.details["train_images"] == 40
    assert found.details["dataset"] == str(tmp_path)


def test_part_scenes_brings_its_finer_column():
    data = EvaluationData(DataSource("part-scenes"))
    assert FineGrained().source(data).label_column == "fine_label"
    assert FineGrained(label_column="label").source(data).label_column == "label"


def test_without_finer_labels_it_is_refused(source):
    with pytest.raises(LabelError, match="fine_grained_label_column.*fine_grained_dataset"):
        FineGrained().prepare(EvaluationData(source))


def test_a_wrong_column_is_named(source):
    with pytest.raises(ValueError, match="species"):
        FineGrained(label_column="species").prepare(EvaluationData(source))
