import math

import pytest
import torch
from torch.nn import functional as F

from sp_hf.objectives import build_objective
from sp_hf.objectives.what.supervised import accuracy, classification_loss

from .harness import Step, TinyEncoder, make_batch

VIEWS = {"count": 2, "size": 32, "area": [0.2, 1.0]}
TINY = {"name": "supervised", "views": VIEWS, "num_labels": 3}


def build(**options):
    encoder = TinyEncoder()
    return Step(build_objective({**TINY, **options}, encoder), encoder)


def test_loss_by_hand():
    """Two classes, odds of 3 to 1 for the right one, smoothing 0.2: targets are 0.9 and 0.1."""
    logits = torch.tensor([[[math.log(3.0), 0.0]]], dtype=torch.float64)
    ours = classification_loss(logits, torch.tensor([0]), 0.2)
    assert ours.item() == pytest.approx(-0.9 * math.log(0.75) - 0.1 * math.log(0.25), rel=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_is_the_cross_entropy_of_every_view(smoothing):
    logits, labels = torch.randn(5, 3, 7), torch.tensor([0, 6, 2, 2, 5])
    each = [F.cross_entropy(logits[:, v], labels, label_smoothing=smoothing) for v in range(3)]
    torch.testing.assert_close(classification_loss(logits, labels, smoothing), torch.stack(each).mean())


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_images_without_label_are_left_out(smoothing):
    logits, labels = torch.randn(5, 2, 4), torch.tensor([3, -1, 0, -1, 1])
    logits.requires_grad_()
    kept = labels >= 0
    loss = classification_loss(logits, labels, smoothing)
    torch.testing.assert_close(loss, classification_loss(logits[kept], labels[kept], smoothing))
    loss.backward()
    assert logits.grad[~kept].abs().max() == 0
    assert logits.grad[kept].abs().amin(dim=(1, 2)).min() > 0
    torch.testing.assert_close(accuracy(logits, labels), accuracy(logits[kept], labels[kept]))


def test_accuracy_by_hand():
    logits = torch.eye(3)[torch.tensor([[0, 1], [2, 2], [1, 0]])]  # the classes found: [B, V]
    assert accuracy(logits, torch.tensor([0, 2, -1])).item() == pytest.approx(3 / 4)


def test_a_batch_without_any_label_is_a_loss_of_zero_with_a_graph():
    """Several processes step together: one whose images have no label still has every gradient."""
    step = build()
    batch = make_batch(step.objective)
    output = step(batch._replace(labels=torch.full_like(batch.labels, -1)))
    output.loss.backward()
    assert output.loss.item() == 0 and output.logs["accuracy"].item() == 0
    for name, parameter in step.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and parameter.grad.abs().max() == 0, name


def test_forward_is_a_linear_layer_on_the_class_token_of_each_view():
    step = build(label_smoothing=0.3)
    batch = make_batch(step.objective)
    head, pixels = step.objective.head, batch.views["views"].pixels
    logits = torch.stack([step.encoder(pixels[:, v]).cls @ head.weight.T + head.bias for v in (0, 1)])
    expected = F.cross_entropy(logits.flatten(0, 1), batch.labels.repeat(2), label_smoothing=0.3)
    output = step(batch)
    torch.testing.assert_close(output.loss, expected)
    hits = (logits.argmax(-1) == batch.labels).float().mean()
    torch.testing.assert_close(output.logs["accuracy"], hits)


def test_labels_matter_and_teach_the_encoder():
    step = build()
    batch = make_batch(step.objective)
    output = step(batch)
    assert output.loss != step(batch._replace(labels=batch.labels.roll(1))).loss
    output.loss.backward()
    assert step.encoder.projection.weight.grad.abs().sum() > 0


def test_a_batch_that_brings_no_labels_is_refused():
    step = build()
    with pytest.raises(ValueError, match="the batch has no labels"):
        step(make_batch(step.objective)._replace(labels=None))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"num_labels": None}, "num_labels is not given"),
        ({"num_labels": 1}, "num_labels is 1; it must be at least 2"),
        ({"label_smoothing": 1.5}, "label_smoothing is 1.5; it must be from 0 to 1"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)
