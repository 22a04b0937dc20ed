import numpy as np
import pytest
import torch
from torch.nn import functional as F

from sp_hf.objectives import build_objective
from sp_hf.objectives.where.jigclu import cluster_loss, location_loss, tile_vectors

from .harness import Step, TinyEncoder, make_batch

TINY = {"name": "jigclu", "tiles": {"size": 8}, "embedding_size": 8}
DRAWS = BATCH_WIDE = True


def build(**options):
    encoder = TinyEncoder()
    return Step(build_objective({**TINY, **options}, encoder), encoder)


def reference(embeddings, images, tau, anchors):
    """The supervised contrastive loss (arXiv:2004.11362, equation 2), item by item."""
    terms = []
    for i in anchors:
        others = [j for j in range(len(images)) if j != i]
        total = sum(np.exp(embeddings[i] @ embeddings[j] / tau) for j in others)
        positives = [j for j in others if images[j] == images[i]]
        terms.append(-np.mean([np.log(np.exp(embeddings[i] @ embeddings[p] / tau) / total) for p in positives]))
    return np.mean(terms)


@pytest.mark.parametrize("own", [slice(0, 12), slice(4, 8)])
def test_cluster_loss_equals_a_loop(own):
    embeddings = F.normalize(torch.randn(12, 5, dtype=torch.float64), dim=-1)
    images = torch.arange(3).repeat_interleave(4)[torch.randperm(12)]
    expected = reference(embeddings.numpy(), images.tolist(), 0.3, range(12)[own])
    loss = cluster_loss(embeddings[own], embeddings, images[own], images, own.start, 0.3)
    assert loss.item() == pytest.approx(expected, rel=1e-9)


def test_corners_are_four_fifths_of_each_side_and_hold_their_tiles():
    step = build()
    views = make_batch(step.objective, images=16).views
    corners, tiles = views["corners"].boxes, views["tiles"].boxes
    expected = torch.tensor([[0.4, 0.4], [0.6, 0.4], [0.4, 0.6], [0.6, 0.6]])
    torch.testing.assert_close(corners, torch.cat([expected, torch.full((4, 2), 0.8)], -1).expand(16, -1, -1))
    assert ((tiles[..., :2] - corners[..., :2]).abs() + tiles[..., 2:] / 2 <= 0.4 + 1e-6).all()
    share = tiles[..., 2:].prod(-1) / 0.64
    assert share.min() >= 0.2 - 1e-6 and share.max() <= 1 + 1e-6


def test_montages_are_of_the_tiles_that_they_say():
    step = build()
    batch, _ = step.objective.prepared(make_batch(step.objective, images=8))
    pixels, tiles, source = batch.views["montage"].pixels, batch.views["tiles"].pixels, batch.state
    for index, (image, corner) in enumerate(zip(*(x.tolist() for x in source), strict=True)):
        row, column = divmod(index % 4, 2)
        quarter = pixels[index // 4, 0, :, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
        assert torch.equal(quarter, tiles[image, corner])
    assert sorted((4 * source.images + source.corners).tolist()) == list(range(32))
    assert len(set(source.images[:4].tolist())) > 1


def test_vectors_are_means_over_quarters():
    patches = torch.randn(2, 24, 3)
    vectors = tile_vectors(patches, (4, 6)).unflatten(0, (2, 2, 2))
    pooled = F.adaptive_avg_pool2d(patches.transpose(1, 2).unflatten(2, (4, 6)), 2)  # [2, 3, 2, 2]
    torch.testing.assert_close(vectors, pooled.permute(0, 2, 3, 1))


def test_forward_sums_both_losses_and_tells_how_good_it_is():
    step = build(cluster_weight=0.5, location_weight=2.0)
    batch = make_batch(step.objective, images=3)
    prepared, _ = step.objective.prepared(batch)
    encoding = step.encoder(prepared.views["montage"].pixels.flatten(0, 1))
    vectors = encoding.patches.flatten(0, 1)  # a tile is one patch here, in order: 2 x 2
    images, corners = prepared.state
    embeddings = F.normalize(step.objective.cluster_head(vectors), dim=-1).detach().double().numpy()
    logits = step.objective.location_head(vectors)
    expected = 0.5 * reference(embeddings, images.tolist(), 0.3, range(12)) + 2 * location_loss(logits, corners).item()
    output = step(batch)
    assert output.loss.item() == pytest.approx(expected, rel=1e-4)
    similarity = embeddings @ embeddings.T - 9 * np.eye(12)
    found = np.mean(images.numpy()[similarity.argmax(1)] == images.numpy())
    assert output.logs["cluster_accuracy"].item() == pytest.approx(found)
    assert output.logs["location_accuracy"] == (logits.argmax(-1) == corners).float().mean()


@pytest.mark.parametrize("tiles", ["dino/local", {"count": 8, "size": 8}, {"size": 8, "inside": "dino/global"}])
def test_tiles_that_have_no_corners_are_refused(tiles):
    with pytest.raises(ValueError, match="4 views with inside: corners"):
        build(tiles=tiles)
