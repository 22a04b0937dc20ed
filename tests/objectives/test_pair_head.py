import pytest
import torch
from torch import nn

from sp_hf.objectives.pair_head import DifferenceHead, PairHead

PAIRS = [(i, j) for i in range(4) for j in range(4) if i != j]
first, second = (torch.tensor(index) for index in zip(*PAIRS, strict=True))


@pytest.mark.parametrize("depth", [2, 4])
def test_head_is_an_mlp_on_the_concatenation(depth):
    head = PairHead(5, 7, depth)
    embeddings = torch.randn(2, 4, 5)
    mlp = nn.Sequential(head.first_layer, *head.rest)
    assert sum(isinstance(layer, nn.Linear) for layer in mlp) == depth
    pairs = [torch.cat([embeddings[:, i], embeddings[:, j]], dim=-1) for i, j in PAIRS]
    torch.testing.assert_close(head(embeddings), mlp(torch.stack(pairs, dim=1)))


@pytest.mark.parametrize("depth", [2, 4])
def test_difference_head_is_an_mlp_on_the_second_less_the_first(depth):
    head = DifferenceHead(5, 7, depth, outputs=3)
    embeddings = torch.randn(2, 4, 5)
    mlp = nn.Sequential(head.first_layer, *head.rest)
    assert sum(isinstance(layer, nn.Linear) for layer in mlp) == depth
    steps = torch.stack([embeddings[:, j] - embeddings[:, i] for i, j in PAIRS], dim=1)
    torch.testing.assert_close(head(embeddings), mlp(steps))
    torch.testing.assert_close(head(embeddings + 3 * torch.randn(5)), head(embeddings))  # the common part cancels


def test_one_layer_of_differences_is_odd_and_transitive():
    head = DifferenceHead(5, 7, depth=1)
    assert [name for name, _ in head.named_parameters()] == ["first_layer.weight"]
    said = dict(zip(PAIRS, head(torch.randn(2, 4, 5)).unbind(1), strict=True))
    torch.testing.assert_close(said[2, 0], -said[0, 2])
    torch.testing.assert_close(said[0, 1] + said[1, 3], said[0, 3])


@pytest.mark.parametrize("kind", [PairHead, DifferenceHead])
def test_pairs_given_are_those_of_all_pairs(kind):
    head = kind(5, 7, 3)
    embeddings = torch.randn(2, 4, 5)
    torch.testing.assert_close(head.of_pairs(embeddings[:, first], embeddings[:, second]), head(embeddings))
