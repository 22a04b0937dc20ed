import numpy as np
import pytest
import torch

from sp_hf.objectives import build_objective
from sp_hf.objectives.what.vicreg import covariance, covariance_loss, variance_loss

from .harness import Step, TinyEncoder, make_batch

VIEWS = {"count": 2, "size": 32, "area": [0.2, 1.0]}
TINY = {"name": "vicreg", "views": VIEWS, "head_width": 32, "embedding_size": 8}


def build(**options):
    encoder = TinyEncoder()
    return Step(build_objective({**TINY, **options}, encoder), encoder)


def reference(views, weights=(25, 25, 1)):
    """Equations 1 to 6, by loops over dimensions."""
    first, second = views
    invariance = np.mean([np.mean((a - b) ** 2) for a, b in zip(first, second, strict=True)])
    variance = redundancy = 0.0
    for z in views:
        size = z.shape[1]
        variance += np.mean([max(0, 1 - np.sqrt(np.var(z[:, d], ddof=1) + 1e-4)) for d in range(size)])
        matrix = np.cov(z, rowvar=False)
        redundancy += sum(matrix[i, j] ** 2 for i in range(size) for j in range(size) if i != j) / size
    return np.dot(weights, (invariance, variance, redundancy))


@pytest.mark.parametrize("weights", [(25.0, 25.0, 1.0), (1.0, 0.0, 3.0)])
def test_forward_equals_the_papers_equations(weights):
    names = ("invariance_weight", "variance_weight", "covariance_weight")
    step = build(**dict(zip(names, weights, strict=True)))
    batch = make_batch(step.objective, images=6)
    pixels = batch.views["views"].pixels
    views = [step.objective.expander(step.encoder(pixels[:, v]).cls).detach().double().numpy() for v in (0, 1)]
    assert step(batch).loss.item() == pytest.approx(reference(views, weights), rel=1e-4)


def test_what_each_term_wants():
    spread = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]]) * 2
    alike = torch.ones(4, 2)
    doubled = spread[:, :1].expand(-1, 2)  # both dimensions tell the same
    assert variance_loss(covariance(spread)) == 0
    assert variance_loss(covariance(alike)).item() == pytest.approx(1 - 0.01)
    assert covariance_loss(covariance(spread)) == 0
    assert covariance_loss(covariance(doubled)).item() == pytest.approx((16 / 3) ** 2)


def test_one_image_and_bad_options_are_refused():
    with pytest.raises(ValueError, match="of 1 image"):
        covariance(torch.ones(1, 3))
    with pytest.raises(ValueError, match="vicreg compares 2 views"):
        build(views={**VIEWS, "count": 3})
    with pytest.raises(ValueError, match="variance_weight is -1"):
        build(variance_weight=-1)
