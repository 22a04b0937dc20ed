"""kNN against scikit-learn, by hand, and its refusals."""

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from sp_hf.evaluation.accuracy import LabelError, check_labels
from sp_hf.evaluation.probes import knn
from sp_hf.evaluation.probes.knn import evaluate_knn, knn_votes
from sp_hf.evaluation.what.knn import KNN


def clusters(n, classes, *, noise, seed):
    """Points around class centres of very different lengths: only their direction tells the class."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, 12, generator=torch.Generator().manual_seed(99))
    labels = torch.randint(classes, (n,), generator=generator)
    points = centres[labels] + noise * torch.randn(n, 12, generator=generator)
    return points * (0.1 + 10 * torch.rand(n, 1, generator=generator)), labels


@pytest.mark.parametrize("neighbours", [1, 5, 20])
@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_votes_are_those_of_scikit_learn(neighbours, temperature):
    train, labels = clusters(300, 7, noise=1.5, seed=0)
    queries, truth = clusters(200, 7, noise=1.5, seed=1)
    votes = knn_votes(train, labels, queries, classes=7, neighbours=neighbours, temperature=temperature)
    reference = KNeighborsClassifier(
        neighbours, metric="cosine", algorithm="brute", weights=lambda distance: np.exp((1 - distance) / temperature)
    ).fit(train.numpy(), labels.numpy())
    shares = votes / votes.sum(-1, keepdim=True)
    np.testing.assert_allclose(shares.numpy(), reference.predict_proba(queries.numpy()), atol=1e-4)
    predicted, asked = evaluate_knn(train, labels, queries, truth, neighbours=neighbours, temperature=temperature)
    assert torch.equal(asked, truth)
    accuracy = (predicted == truth).double().mean().item()
    assert accuracy == pytest.approx(reference.score(queries.numpy(), truth.numpy()))
    assert 0.3 < accuracy < 0.99  # neither trivial nor hopeless, or the comparison says nothing


def test_weights_can_overrule_the_majority():
    """Two far neighbours of class 0 against one near one of class 1; by hand."""
    angles = torch.tensor([1.0, 1.1, 0.1])
    train = torch.stack([angles.cos(), angles.sin()], dim=-1)
    labels, query = torch.tensor([0, 0, 1]), torch.tensor([[1.0, 0.0]])
    votes = knn_votes(train, labels, query, classes=2, neighbours=3, temperature=0.07)
    weights = ((angles.cos() - 1) / 0.07).exp()
    torch.testing.assert_close(votes, torch.stack([weights[0] + weights[1], weights[2]])[None])
    assert votes.argmax() == 1
    assert knn_votes(train, labels, query, classes=2, neighbours=3, temperature=100.0).argmax() == 0


def test_fewer_images_than_neighbours_and_classes_with_gaps():
    train, labels = torch.eye(4), torch.tensor([3, 3, 90, 90])
    predicted, asked = evaluate_knn(train, labels, train, labels)
    assert predicted.tolist() == asked.tolist() == [3, 3, 90, 90]


def test_images_without_a_label_do_not_count():
    train, labels = clusters(100, 3, noise=0.1, seed=0)
    queries, truth = clusters(50, 3, noise=0.1, seed=1)
    expected = evaluate_knn(train, labels, queries, truth)
    padded = evaluate_knn(
        torch.cat([train, queries]),
        torch.cat([labels, torch.full_like(truth, -1)]),
        torch.cat([queries, train]),
        torch.cat([truth, torch.full_like(labels, -1)]),
    )
    assert all(map(torch.equal, padded, expected))


@pytest.mark.parametrize(
    ("train", "validation", "message"),
    [
        (None, torch.tensor([0, 1]), "training images have none"),
        (torch.tensor([0, 1]), None, "validation images have none"),
        (torch.tensor([-1, -1]), torch.tensor([0, 1]), "training images have none"),
        (torch.tensor([1, 1, -1]), torch.tensor([1]), r"two classes.*1 \(dog\)"),
        (torch.tensor([0, 1]), torch.tensor([0, 2]), r"1 of the 2 classes.*2 \(owl\).*max_images"),
    ],
)
def test_labels_that_cannot_do_are_refused(train, validation, message):
    with pytest.raises(LabelError, match=message):
        check_labels(train, validation, names=["cat", "dog", "owl"])


def test_good_labels_pass():
    check_labels(torch.tensor([0, 1, 2]), torch.tensor([2, -1]))


@pytest.mark.parametrize("options", [{"neighbours": 0}, {"temperature": 0.0}])
def test_options_out_of_their_range_are_refused(options):
    with pytest.raises(ValueError, match="k >= 1 and T > 0; got"):
        KNN(**options)


def test_neighbours_are_found_chunk_by_chunk(monkeypatch):
    train, labels = clusters(300, 7, noise=1.5, seed=0)
    queries, _ = clusters(50, 7, noise=1.5, seed=1)
    options = {"classes": 7, "neighbours": 20, "temperature": 0.07}
    whole = knn_votes(train, labels, queries, **options)
    monkeypatch.setattr(knn, "_CHUNK", 17)  # fewer than there are neighbours
    torch.testing.assert_close(knn_votes(train, labels, queries, **options), whole)
