"""The linear probe beside scikit-learn's logistic regression, and its choice of hyperparameters."""

import pytest
import torch
from sklearn.linear_model import LogisticRegressionCV
from sklearn.preprocessing import StandardScaler

from sp_hf.evaluation.accuracy import LabelError, accuracy_measures
from sp_hf.evaluation.probes import linear, standardise
from sp_hf.evaluation.probes.linear import fit_linear
from sp_hf.evaluation.probes.standardise import Standardisation


def features(n, classes, *, noise, seed, width=40):
    """Class centres in noise; columns of very different scale, one of them constant."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, width, generator=torch.Generator().manual_seed(99))
    labels = torch.randint(classes, (n,), generator=generator)
    x = (centres[labels] + noise * torch.randn(n, width, generator=generator)) * torch.logspace(-3, 3, width)
    x[:, 5] = 7.0
    return x, labels


@pytest.mark.parametrize(("classes", "noise"), [(3, 4.0), (10, 3.0)])
def test_within_a_point_of_logistic_regression(classes, noise):
    (train, labels), (queries, truth) = (
        features(1500, classes, noise=noise, seed=0),
        features(4000, classes, noise=noise, seed=1),
    )
    scaler = StandardScaler().fit(train.numpy())
    reference = LogisticRegressionCV(
        Cs=[1e-3, 1e-2, 1e-1, 1.0], cv=5, use_legacy_attributes=False, max_iter=500, l1_ratios=(0,), scoring="accuracy"
    )
    reference.fit(scaler.transform(train.numpy()), labels.numpy())
    expected = reference.score(scaler.transform(queries.numpy()), truth.numpy())
    accuracy = (fit_linear(train, labels).predict(queries) == truth).double().mean().item()
    assert abs(accuracy - expected) < 0.01
    assert 0.4 < expected < 0.97  # neither trivial nor hopeless


def test_the_sweep_is_chosen_on_held_out_training_images_and_repeats():
    train, labels = features(400, 4, noise=3.0, seed=0)
    probe, again = fit_linear(train, labels, seed=3), fit_linear(train, labels, seed=3)
    assert torch.equal(probe.weight, again.weight) and probe.train_images == 400
    assert 0.25 < probe.held_out_accuracy < 1.0
    before = torch.get_rng_state()
    fit_linear(train, labels, seed=4)
    assert torch.equal(torch.get_rng_state(), before)


def test_candidates_of_a_sweep_do_not_meet():
    """A candidate trained among others is the one trained alone."""
    train, labels = features(200, 3, noise=2.0, seed=0)
    alone = fit_linear(train, labels, learning_rates=(0.1,), weight_decays=(0.01,))
    among = fit_linear(train, labels, learning_rates=(0.1, 1e-9), weight_decays=(0.01,))
    assert among.learning_rate == 0.1
    torch.testing.assert_close(alone.weight, among.weight)


def test_labels_with_gaps_and_without_are_handled():
    train, labels = features(300, 3, noise=0.5, seed=0)
    sparse = torch.tensor([7, 500, 3])[labels]
    sparse[::10] = -1
    probe = fit_linear(train, sparse)
    assert probe.classes.tolist() == [3, 7, 500] and probe.train_images == 270
    assert (probe.predict(train) == torch.tensor([7, 500, 3])[labels]).double().mean() > 0.97


def test_a_single_class_is_refused():
    with pytest.raises(LabelError, match="two classes or more"):
        fit_linear(torch.randn(10, 4), torch.zeros(10, dtype=torch.int64))


def test_one_image_a_class_is_enough():
    probe = fit_linear(torch.eye(5), torch.arange(5))
    assert probe.predict(torch.eye(5)).tolist() == [0, 1, 2, 3, 4]


def test_mean_per_class_accuracy_weighs_classes_alike():
    labels = torch.tensor([0] * 8 + [1] * 2)
    predicted = torch.tensor([0] * 8 + [1, 0])
    measures = accuracy_measures(predicted, labels)
    assert measures["accuracy"].value == pytest.approx(0.9)
    assert measures["mean_per_class_accuracy"].value == pytest.approx((1.0 + 0.5) / 2)
    assert measures["accuracy"].chance == 0.5 and measures["accuracy"].n == 10


def test_reading_in_chunks_changes_nothing(monkeypatch):
    """Seven held-out images at a time, statistics of nine rows at a time; and images without a label between."""
    train, labels = features(300, 5, noise=3.0, seed=0)
    probe = fit_linear(train, labels, refits=2)
    monkeypatch.setattr(linear, "_ASKED", 7)
    monkeypatch.setattr(standardise, "_ROWS", 9)
    again = fit_linear(train, labels, refits=2)
    assert (again.learning_rate, again.held_out_accuracy) == (probe.learning_rate, probe.held_out_accuracy)
    torch.testing.assert_close(again.weight, probe.weight)
    spaced, of_spaced = torch.full((600, train.shape[1]), 1e4), torch.full((600,), -1)
    spaced[::2], of_spaced[::2] = train, labels
    among = fit_linear(spaced, of_spaced, refits=2)
    torch.testing.assert_close(among.weight, again.weight)
    torch.testing.assert_close(among.refits[1].bias, again.refits[1].bias)


def test_statistics_of_rows_are_those_of_all_at_once():
    features = torch.randn(100, 4, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 1e3, 1e-3, 0.0]) + 5
    rows = torch.arange(0, 100, 3)
    ours, plain = Standardisation.of_rows(features, rows), Standardisation.of(features[rows])
    torch.testing.assert_close(ours.mean, plain.mean)
    torch.testing.assert_close(ours.scale, plain.scale, rtol=1e-3, atol=0)
    assert ours.scale[3] == torch.inf
