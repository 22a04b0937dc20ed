"""What a pretext task gives one who sees no pixels."""

from collections import Counter

import pytest
import torch

from sp_hf.objectives.prior import blind_answers_right, most_frequent_share
from sp_hf.objectives.where.loca import location_prior


def test_the_most_frequent_answer_by_counting():
    answers = torch.tensor([[3, 1, 1], [0, 1, 3]])
    assert most_frequent_share(answers, 5) == Counter(answers.flatten().tolist()).most_common(1)[0][1] / 6
    assert most_frequent_share(answers[:0], 5) == 0


def test_a_blind_answer_is_what_most_others_have():
    right = torch.rand(7, 3, 5, generator=torch.Generator().manual_seed(0)) < 0.4
    found = blind_answers_right(right)
    for m in range(7):
        for question in range(3):
            others = [sum(bool(right[o, question, n]) for o in range(7) if o != m) for n in range(5)]
            assert found[m, question] == right[m, question, others.index(max(others))]


def test_answers_at_random_have_the_prior_of_chance():
    places = torch.randint(8, (400, 4), generator=torch.Generator().manual_seed(0))
    assert location_prior(places, [(1, 4)], 8).item() == pytest.approx(1 / 8, abs=0.03)


def test_a_place_in_a_view_that_tells_the_place_in_the_reference_is_known_blind():
    """Two views of two patches each, and one of three: the first patch of a view is always at 2, the others nowhere."""
    places = torch.tensor([2, -1, 2, -1, 2, -1, -1]).repeat(5, 1)
    assert location_prior(places, [(2, 2), (1, 3)], 4) == 1
    places[0, 0] = 3  # one of five images differs, and is not answered
    assert location_prior(places, [(2, 2), (1, 3)], 4) == pytest.approx(14 / 15)
