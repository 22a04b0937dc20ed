import pytest
import torch

from sp_hf.views.compose import cut_patches, montage, rotate_squares


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 4, 7])
def test_squares_are_turned_as_torch_turns_them(turns):
    pixels = torch.rand(3, 2, 9, 11)
    before = pixels.clone()
    tops, lefts, sides = torch.tensor([0, 3, 2]), torch.tensor([0, 6, 3]), torch.tensor([9, 5, 4])
    expected = pixels.clone()
    for m in range(3):
        part = (m, slice(None), slice(tops[m], tops[m] + sides[m]), slice(lefts[m], lefts[m] + sides[m]))
        expected[part] = torch.rot90(pixels[part], turns, (1, 2))
    assert torch.equal(rotate_squares(pixels, tops, lefts, sides, torch.full((3,), turns)), expected)
    assert torch.equal(pixels, before)


def test_a_montage_has_every_tile_in_its_cell():
    tiles = torch.rand(2, 6, 3, 4, 4)
    pasted = montage(tiles, 2, 3)
    assert pasted.shape == (2, 3, 8, 12)
    for m in range(2):
        for cell in range(6):
            row, column = 4 * (cell // 3), 4 * (cell % 3)
            assert torch.equal(pasted[m, :, row : row + 4, column : column + 4], tiles[m, cell])


def test_patches_are_cut_from_where_they_are_said_to_be():
    pixels = torch.rand(2, 3, 10, 12)
    tops, lefts = torch.tensor([[0, 6, 3], [2, 2, 5]]), torch.tensor([[0, 8, 1], [7, 7, 0]])
    patches = cut_patches(pixels, tops, lefts, 4)
    assert patches.shape == (2, 3, 3, 4, 4)
    for m in range(2):
        for t in range(3):
            top, left = tops[m, t], lefts[m, t]
            assert torch.equal(patches[m, t], pixels[m, :, top : top + 4, left : left + 4])
