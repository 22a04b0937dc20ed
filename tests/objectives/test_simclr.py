import math

import pytest

from sp_hf.objectives import build_objective

from .harness import Step, TinyEncoder, make_batch

VIEWS = {"count": 2, "size": 32, "area": [0.2, 1.0]}
TINY = {"name": "simclr", "views": VIEWS, "head_width": 32, "embedding_size": 8}


def build(**options):
    encoder = TinyEncoder()
    return Step(build_objective({**TINY, **options}, encoder), encoder)


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


@pytest.mark.parametrize("temperature", [0.05, 0.5])
def test_loss_and_accuracy_equal_a_loop_over_all_views(temperature):
    step = build(temperature=temperature)
    batch = make_batch(step.objective, images=5)
    pixels = batch.views["views"].pixels
    views = [step.objective.projector(step.encoder(pixels[:, v]).cls).tolist() for v in (0, 1)]
    everyone = [(image, v, views[v][image]) for v in (0, 1) for image in range(5)]
    terms, hits = [], []
    for image, v, z in everyone:
        others = {(i, w): cosine(z, y) / temperature for i, w, y in everyone if (i, w) != (image, v)}
        terms.append(math.log(sum(map(math.exp, others.values()))) - others[image, 1 - v])
        hits.append(max(others, key=others.get) == (image, 1 - v))
    output = step(batch)
    assert output.loss.item() == pytest.approx(sum(terms) / 10, rel=1e-4)
    assert output.logs["accuracy"].item() == pytest.approx(sum(hits) / 10)


def test_accuracy_is_one_where_both_views_are_the_same():
    step = build()
    batch = make_batch(step.objective)
    batch.views["views"].pixels[:, 1] = batch.views["views"].pixels[:, 0]
    assert step(batch).logs["accuracy"] == 1


@pytest.mark.parametrize(
    "options, message",
    [
        ({"views": {**VIEWS, "count": 3}}, "simclr compares 2 views, but its view set has 3"),
        ({"temperature": 0}, "temperature is 0; it must be greater than 0"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)
