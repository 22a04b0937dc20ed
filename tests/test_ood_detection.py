"""Out-of-distribution detection against scikit-learn, and its intervals against a simulation."""

import numpy as np
import pytest
import torch
from dense_samples import constant, evaluation, model
from sklearn.metrics import roc_auc_score, roc_curve
from sklearn.neighbors import NearestNeighbors

from sp_hf.evaluation.source import DataSource
from sp_hf.evaluation.what.ood_detection import OODDetection, auroc, false_positives, neighbour_distance, placements

GENERATOR = torch.Generator().manual_seed(0)


def scores(m, o, shift=1.0, ties=False):
    here, elsewhere = torch.randn(m, generator=GENERATOR), shift + torch.randn(o, generator=GENERATOR)
    return (here.round(), elsewhere.round()) if ties else (here, elsewhere)


@pytest.mark.parametrize("ties", [False, True])
def test_auroc_is_scikit_learns_by_either_kind_of_image(ties):
    here, elsewhere = scores(70, 40, ties=ties)
    truth = np.r_[np.zeros(70), np.ones(40)]
    reference = roc_auc_score(truth, torch.cat([here, elsewhere]).numpy())
    above, below = placements(here, elsewhere)
    assert above.mean().item() == pytest.approx(reference) == below.mean().item()
    measure = auroc(here, {"a": elsewhere})
    assert measure.value == pytest.approx(reference) and measure.n == 110 and not measure.is_proportion


def test_means_over_datasets():
    here, first = scores(50, 20)
    second = first[:10] + 1
    single = [auroc(here, {"x": scores}).value for scores in (first, second)]
    assert auroc(here, {"a": first, "b": second}).value == pytest.approx(np.mean(single))
    passed = [(scores <= here.double().quantile(0.95)).double().mean().item() for scores in (first, second)]
    assert false_positives(here, {"a": first, "b": second}).value == pytest.approx(np.mean(passed))


def test_false_positives_are_one_point_of_scikit_learns_curve():
    here, elsewhere = scores(400, 300)
    truth = np.r_[np.ones(400), np.zeros(300)]  # "positive" is what is to be accepted
    rate, accepted, _ = roc_curve(truth, -torch.cat([here, elsewhere]).numpy())
    reference = np.interp(0.95, accepted, rate)
    assert false_positives(here, {"a": elsewhere}).value == pytest.approx(reference, abs=0.01)


def test_the_interval_covers_the_truth():
    """Two normal distributions a standard deviation apart: AUROC = Phi(1 / sqrt 2)."""
    true = torch.distributions.Normal(0.0, 1.0).cdf(torch.tensor(0.5**0.5)).item()
    inside = 0
    for _ in range(60):
        here, elsewhere = scores(60, 30)
        estimate = auroc(here, {"a": elsewhere}).estimate(resamples=300)
        inside += estimate.low <= true <= estimate.high
    assert inside >= 51  # 57 expected; with placements that are not doubled, 41 are


def test_distances_are_scikit_learns():
    train, asked = torch.randn(40, 5, generator=GENERATOR), 3 * torch.randn(7, 5, generator=GENERATOR)
    unit = [torch.nn.functional.normalize(x, dim=-1).numpy() for x in (train, asked)]
    reference = NearestNeighbors(n_neighbors=3).fit(unit[0]).kneighbors(unit[1])[0][:, -1]
    np.testing.assert_allclose(neighbour_distance(train, asked, 3), reference, atol=1e-3)


def test_on_part_scenes_what_looks_otherwise_is_told_and_constant_features_tell_nothing():
    data, task = evaluation(DataSource("part-scenes?size=32&num_images=40")), OODDetection()
    task.prepare(data)
    measures = task.run(model(), data).measures
    assert measures["auroc_silhouettes"].value > 0.95 > measures["auroc_jumbled"].value
    names = ("new-textures", "new-backgrounds", "silhouettes", "jumbled")
    assert measures["auroc"].value == pytest.approx(np.mean([measures[f"auroc_{name}"].value for name in names]))
    assert task.run(constant(), data).measures["auroc"].value == pytest.approx(0.5, abs=0.01)


def test_what_cannot_be_measured_is_refused(tmp_path):
    with pytest.raises(ValueError, match="k >= 1"):
        OODDetection(neighbours=0)
    data = evaluation(DataSource("part-scenes?size=32&num_images=12"))
    with pytest.raises(ValueError, match="k = 13 is more than the 12 training images"):
        OODDetection(neighbours=13).prepare(data)
