import numpy as np
import pytest
import torch

from sp_hf.objectives import build_objective
from sp_hf.objectives.where.lorot import draw_squares, rotation_loss
from sp_hf.views.keyed_random import sample_keys, uniform

from .harness import Step, TinyEncoder, make_batch

TINY = {"name": "lorot", "views": {"count": 2, "size": 16, "area": [0.2, 1.0]}}
DRAWS = True


def build(**options):
    encoder = TinyEncoder()
    return Step(build_objective({**TINY, **options}, encoder), encoder)


def squares(variant, size=20, count=2000):
    return draw_squares(uniform(sample_keys(0, 0, count), "squares", (1, 4)), size, variant)


def test_loss_by_hand():
    logits, classes = torch.randn(3, 2, 4, dtype=torch.float64), torch.tensor([[0, 1], [2, 3], [1, 1]])
    expected = 0.0
    for row, label in zip(logits.flatten(0, 1).numpy(), classes.flatten().tolist(), strict=True):
        expected -= np.log(np.exp(row[label]) / np.exp(row).sum()) / 6
    assert rotation_loss(logits, classes).item() == pytest.approx(expected)


@pytest.mark.parametrize("variant, classes", [("I", 4), ("E", 16)])
def test_every_view_has_its_square_turned_and_nothing_else(variant, classes):
    step = build(variant=variant)
    batch = make_batch(step.objective, images=8)
    prepared, requests = step.objective.prepared(batch)
    drawn = draw_squares(uniform(batch.keys, "lorot/square", (2, 4)), 16, variant)
    for b in range(8):
        for v in range(2):
            expected = batch.views["image"].pixels[b, v].clone()
            top, left, side, turns = (int(x[b, v]) for x in drawn[:4])
            square = expected[:, top : top + side, left : left + side]
            expected[:, top : top + side, left : left + side] = torch.rot90(square, turns, (1, 2))
            assert torch.equal(prepared.views["turned"].pixels[b, v], expected)
    assert torch.equal(prepared.state, drawn.classes)
    assert requests["turned"].view == "turned"
    assert step.objective.head.out_features == classes
    assert torch.equal(prepared.views["turned"].boxes, batch.views["image"].boxes)


def test_squares_of_the_implicit_variant_are_of_all_sides_and_places():
    drawn = squares("I")
    sides = drawn.sides
    assert sides.min() == 2 and sides.max() == 10  # 2 .. half the view
    assert drawn.tops.min() == drawn.lefts.min() == 0
    assert (drawn.tops + sides).max() == (drawn.lefts + sides).max() == 20
    assert torch.equal(drawn.classes, drawn.turns)
    assert drawn.turns.flatten().bincount().min() > 400


def test_squares_of_the_explicit_variant_are_the_quadrants():
    drawn = squares("E")
    assert (drawn.sides == 10).all()
    for label in range(16):
        mine = drawn.classes == label
        assert mine.sum() > 60
        assert (drawn.tops[mine] == 10 * (label // 8)).all() and (drawn.lefts[mine] == 10 * (label // 4 % 2)).all()
        assert (drawn.turns[mine] == label % 4).all()


def test_accuracy_counts_the_classes_found():
    step = build()
    batch = make_batch(step.objective)
    _, requests = step.objective.prepared(batch)
    with torch.no_grad():
        step.objective.head.weight.zero_()
        step.objective.head.bias.copy_(torch.tensor([0.0, 5.0, 0.0, 0.0]))
    share = (step.objective.prepared(batch)[0].state == 1).float().mean()
    torch.testing.assert_close(step(batch).logs["accuracy"], share)


def test_an_unknown_variant_is_refused():
    with pytest.raises(ValueError, match="variant is 'X'; choose one of 'I', 'E'"):
        build(variant="X")
