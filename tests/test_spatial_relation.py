"""Spatial relation: relations by hand, probes that can and cannot know them, SpaRRTa's form of data."""

import datasets
import numpy as np
import pytest
import torch
from dense_samples import constant, evaluation
from PIL import Image

from sp_hf.data.part_scenes.objects import PART_ORDER, PARTS
from sp_hf.data.part_scenes.paints import PAINTS
from sp_hf.encoders.encoder import Encoding
from sp_hf.evaluation.model import EvaluatedModel, Preprocess
from sp_hf.evaluation.source import DataSource
from sp_hf.evaluation.where.spatial_relation.attentive_probe import AttentivePooling, fit_attentive
from sp_hf.evaluation.where.spatial_relation.relations import RELATIONS, relation_of, relation_of_parts
from sp_hf.evaluation.where.spatial_relation.task import SpatialRelation

SIDE = 8


class Tokens(torch.nn.Module):
    """How much of each of some colours a patch has, and with ``places`` also where it is.

    Args:
        colours: [C, 3], in [0, 1].
        places: whether tokens have them.
    """

    def __init__(self, colours, places):
        super().__init__()
        self.colours, self.places = torch.tensor(np.array(colours), dtype=torch.float32), places

    def patches_of(self, size):
        return SIDE, SIDE

    def forward(self, pixels):
        distance = (pixels[:, None] - self.colours[:, :, None, None]).norm(dim=2)  # [B, C, H, W]
        shares = torch.nn.functional.adaptive_avg_pool2d((distance < 0.08).float(), SIDE).flatten(2).transpose(1, 2)
        tokens = shares
        if self.places:
            axis = torch.linspace(-1, 1, SIDE)
            places = torch.cartesian_prod(axis, axis)
            tokens = torch.cat([shares, (shares[..., None] * places[:, None]).flatten(2)], dim=-1)
        return Encoding(tokens.mean(1), tokens, (SIDE, SIDE))


def seeing(colours, places, size=64):
    return EvaluatedModel("tokens", Tokens(colours, places), Preprocess.squash(size))


@pytest.mark.parametrize(
    ("dx", "dy", "relation"),
    [
        (1, 0, "right"),
        (-2, 0.3, "left"),
        (0.2, -1, "above"),
        (-0.1, 1, "below"),
        (1, 1, None),
        (1, 0.9, None),
        (0, 0, None),
    ],
)
def test_relations(dx, dy, relation):
    assert relation_of(dx, dy) == (-1 if relation is None else RELATIONS.index(relation))


def test_relations_of_parts():
    parts = [{"part": 1, "box": [0.2, 0.5, 0.1, 0.1]}, {"part": 2, "box": [0.8, 0.5, 0.1, 0.1]},
             {"part": 8, "box": [0.8, 0.5, 0.1, 0.1]}, {"part": 8, "box": [0.1, 0.5, 0.1, 0.1]}]  # fmt: skip
    assert RELATIONS[relation_of_parts(parts, 1, 2)] == "left"
    assert RELATIONS[relation_of_parts(parts, 2, 1)] == "right"
    assert relation_of_parts(parts, 1, 3) == relation_of_parts(parts, 8, 1) == -1


def test_attention_pools_what_stands_out():
    """By hand: one query that points along the first feature, weights that read it back."""
    network = AttentivePooling(2, 1, seed=0)
    with torch.no_grad():
        network.queries.zero_()
        network.queries[0, 0] = 2**0.5 * 3.0
        network.weight[0, 0] = 1.0
    x = torch.tensor([[[1.0, 0.0], [0.0, 5.0]]])
    weights = torch.tensor([3.0, 0.0]).softmax(0)
    assert network(x).item() == pytest.approx(weights[0].item())


def test_the_attentive_probe_finds_one_token_among_many():
    """The class is the sign of the one token that is marked; a mean over tokens drowns it."""
    generator = np.random.default_rng(0)
    values = generator.normal(size=(400, 30, 6)).astype(np.float32)
    labels = generator.integers(0, 2, 400)
    values[:, :, 0] = 0
    place = generator.integers(0, 30, 400)
    values[np.arange(400), place, 0] = 4
    values[np.arange(400), place, 1] = 2 * labels - 1
    probe = fit_attentive(values[:300], torch.from_numpy(labels[:300]), 2, seed=0)
    accuracy = (probe.predict(values[300:]).numpy() == labels[300:]).mean()
    assert accuracy > 0.9
    again = fit_attentive(values[:300], torch.from_numpy(labels[:300]), 2, seed=0)
    assert torch.equal(again.network.queries, probe.network.queries)


def test_tokens_with_places_tell_relations_and_tokens_without_do_not():
    data, task = evaluation(DataSource("part-scenes?size=64&num_images=120")), SpatialRelation(images=120)
    paints = [tone for part in task.parts for tone in PAINTS[PART_ORDER.index(part)]]
    results = {name: task.run(seeing(paints, name == "places"), data) for name in ("places", "colours")}
    known, blind = (results[name].measures["accuracy"] for name in ("places", "colours"))
    assert known.value > 0.5 and known.value > blind.value + 0.2
    nothing = task.run(constant(), data)
    assert nothing.measures["accuracy"].value < 0.45 and nothing.measures["accuracy_pooled"].value < 0.45
    details = results["places"].details
    assert set(details["relations"]) == set(RELATIONS) and sum(details["relations"].values()) == known.n
    assert "jumbled" in details["data"]["validation"] and known.chance == 0.25
    with pytest.raises(ValueError, match="two parts of .*got star wheel"):
        SpatialRelation(parts=("star", "wheel"))
    assert set(task.parts) < set(PARTS)


def test_images_labelled_by_their_relation_as_sparrta_does(tmp_path):
    """A folder a class, one split: divided, and the class is where the bright patch is."""
    random = np.random.default_rng(0)
    places = {"front": (6, 3), "back": (1, 3), "left": (3, 1), "right": (3, 6)}
    images, labels = [], []
    for index in range(160):
        label = index % 4
        row, column = list(places.values())[label]
        pixels = random.integers(0, 60, (32, 32, 3))
        row, column = 4 * (row + random.integers(-1, 2)), 4 * (column + random.integers(-1, 2))
        pixels[row : row + 4, column : column + 4] = 255
        images.append(Image.fromarray(pixels.astype(np.uint8)))
        labels.append(label)
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(places))})
    path = tmp_path / "relations.parquet"
    datasets.Dataset.from_dict({"image": images, "label": labels}, features=features).to_parquet(str(path))
    data, task = evaluation(DataSource("part-scenes?size=32&num_images=12")), SpatialRelation(dataset=str(path))
    task.prepare(data)
    result = task.run(seeing([[1.0, 1.0, 1.0]], True, 32), data)
    assert result.measures["accuracy"].value > 0.8 and result.measures["accuracy"].n == 32
    assert set(result.details["relations"]) == set(places)
    with pytest.raises(ValueError, match="--spatial_relation_dataset"):
        SpatialRelation().prepare(evaluation(DataSource(str(path))))
