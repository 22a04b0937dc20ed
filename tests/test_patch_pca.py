"""PCA maps of patch tokens against scikit-learn."""

import numpy as np
import pytest
import torch
from dense_samples import constant, evaluation, model
from sklearn.decomposition import PCA

from sp_hf.evaluation.source import DataSource
from sp_hf.evaluation.task import TaskSkipped
from sp_hf.evaluation.what.patch_pca import Components, PatchPCA


def test_components_are_scikit_learns_but_for_signs():
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(500, 10, generator=generator).exp() @ torch.randn(10, 10, generator=generator) + 7
    found, reference = Components.fit(tokens), PCA(3).fit(tokens.numpy())
    overlap = np.abs((found.directions.T.numpy() * reference.components_).sum(1))
    np.testing.assert_allclose(overlap, 1, atol=1e-4)
    projected = found.project(tokens)
    assert (projected.pow(3).sum(0) > 0).all()  # the sign is that of the skew, so that a run can be repeated
    share = projected.square().sum() / (tokens - tokens.mean(0)).square().sum()
    assert share.item() == pytest.approx(reference.explained_variance_ratio_.sum(), abs=1e-4)


def test_fewer_features_than_colours():
    projected = Components.fit(torch.randn(50, 2, generator=torch.Generator().manual_seed(0))).project(torch.ones(4, 2))
    assert projected.shape == (4, 3)
    assert (projected[:, 2] == 0).all()


def test_the_picture_shows_every_model(tmp_path):
    data, task = evaluation(DataSource("part-scenes?size=32&num_images=12")), PatchPCA()
    results = {"means": task.run(model(), data)}
    assert results["means"].measures["variance_of_3"].value == pytest.approx(1, abs=1e-4)  # three colours
    assert results["means"].measures["variance_of_3"].n == 12
    (picture,) = task.draw(results, tmp_path)
    assert picture.path.stat().st_size > 1000
    assert task.draw({}, tmp_path) == []
    with pytest.raises(ValueError, match="15 px cannot be divided"):
        PatchPCA(size=15).check(constant(), data)


def test_tokens_that_never_vary_have_no_components():
    data = evaluation(DataSource("part-scenes?size=32&num_images=12"))
    with pytest.raises(TaskSkipped, match="do not vary"):
        PatchPCA().run(constant(), data)
