"""Token maps read at boxes, against maps whose tokens know their place in the image."""

import pytest
import torch

from sp_hf.views.token_maps import tokens_at


def centres(box, grid, flip):
    """Places (x, y) of a view's cell centres in the image, [R * C, 2], by loops."""
    (cx, cy, w, h), (rows, columns) = box.tolist(), grid
    places = []
    for r in range(rows):
        for c in range(columns):
            column = columns - 1 - c if flip else c
            places.append((cx - w / 2 + w * (column + 0.5) / columns, cy - h / 2 + h * (r + 0.5) / rows))
    return torch.tensor(places, dtype=torch.float64)


BOX = torch.tensor([[0.4, 0.5, 0.6, 0.8], [0.6, 0.4, 0.5, 0.5]])
INNER = torch.tensor([[0.45, 0.5, 0.2, 0.3], [0.55, 0.4, 0.2, 0.2]])  # whose centres lie within the tokens' centres


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("target_flip", [False, True])
def test_tokens_that_are_linear_in_their_place_give_the_targets_places(flip, target_flip):
    grid, target_grid = (4, 6), (3, 2)
    flips, target_flips = torch.tensor([flip, not flip]), torch.tensor([target_flip, target_flip])
    tokens = torch.stack([centres(BOX[b], grid, flips[b]) for b in range(2)])  # [B, N, 2]
    found, inside = tokens_at(tokens, grid, BOX, flips, INNER, target_grid, target_flips)
    expected = torch.stack([centres(INNER[b], target_grid, target_flip) for b in range(2)])
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    assert inside.all()


def test_a_views_own_box_and_grid_give_back_its_tokens_exactly():
    tokens, flips = torch.randn(2, 3, 20, 5), torch.tensor([[True, False, True], [False, False, True]])
    boxes = torch.rand(2, 3, 4) * 0.3 + 0.3
    found, inside = tokens_at(tokens, (4, 5), boxes, flips, boxes, (4, 5), flips)
    assert torch.equal(found, tokens) and inside.all() and found.shape == tokens.shape


def test_beyond_the_view_edges_are_kept_and_told():
    tokens = torch.arange(4.0).view(1, 4, 1)  # 2 x 2
    box, target = torch.tensor([[0.25, 0.25, 0.5, 0.5]]), torch.tensor([[0.5, 0.5, 1.0, 1.0]])
    found, inside = tokens_at(tokens, (2, 2), box, torch.tensor([False]), target, (2, 2))
    assert inside.tolist() == [[True, False, False, False]]
    assert found[0, 3] == 3.0  # the nearest corner
    mirrored = tokens_at(tokens, (2, 2), box, torch.tensor([False]), target, (2, 2), torch.tensor([True]))
    assert mirrored.inside.tolist() == [[False, True, False, False]]


def test_two_views_of_one_place_agree_and_gradient_flows():
    grid = (4, 4)
    tokens = torch.randn(1, 16, 3, dtype=torch.float64, requires_grad=True)
    box = torch.tensor([[0.5, 0.5, 1.0, 1.0]])
    no, yes = torch.tensor([False]), torch.tensor([True])
    target = torch.tensor([[0.4, 0.6, 0.3, 0.2]])
    plain = tokens_at(tokens, grid, box, no, target, (2, 2)).tokens
    mirrored = tokens.unflatten(1, grid).flip(2).flatten(1, 2)  # the same image in a mirrored view
    torch.testing.assert_close(tokens_at(mirrored, grid, box, yes, target, (2, 2)).tokens, plain)
    assert torch.autograd.gradcheck(lambda t: tokens_at(t, grid, box, no, target, (2, 2)).tokens, tokens)


def test_half_precision_does_not_blur_places():
    tokens = torch.linspace(0, 1, 32).view(1, 32, 1).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = tokens_at(tokens, (1, 32), BOX[:1], torch.tensor([False]), BOX[:1], (1, 32)).tokens
    assert found.dtype == torch.bfloat16 and torch.equal(found, tokens)
