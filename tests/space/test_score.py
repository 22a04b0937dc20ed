"""Scores of puzzles: means and intervals against numpy, sentences that follow the numbers, tallies of browsers."""

from __future__ import annotations

import numpy as np
import pytest

from sp_hf.space.markup import bars, boxes_on, evidence, puzzle, scoreboard, table
from sp_hf.space.score import MOST, Benchmark, Tally

RNG = np.random.default_rng(0)
GOOD, POOR = RNG.integers(3, 8, 200).tolist(), RNG.integers(1, 5, 200).tolist()


def test_means_and_their_intervals():
    found = Benchmark({"good": GOOD, "poor": POOR}).estimates()
    error = np.std(GOOD) / np.sqrt(len(GOOD))
    assert found["good"].value == pytest.approx(np.mean(GOOD))
    assert found["good"].low == pytest.approx(np.mean(GOOD) - 1.96 * error, abs=0.05)
    assert found["good"].high == pytest.approx(np.mean(GOOD) + 1.96 * error, abs=0.05)


def test_the_sentence_holds_everybody_and_chance():
    both = Benchmark({"you": [6, 7], "With SP": [5, 5], "Without SP": [3, 4]})
    assert both.sentence() == "Of 2 puzzles, tiles right of 9: you 6.5, With SP 5.0, Without SP 3.5, chance 1."


def test_the_verdict_follows_the_numbers():
    both = Benchmark({"good": GOOD, "poor": POOR, "same": GOOD[::-1]})
    assert both.verdict("good", "poor").startswith(
        f"Of 9 shuffled tiles, good puts {np.mean(GOOD) - np.mean(POOR):.1f}"
    )
    assert both.verdict("poor", "good").startswith("poor does not win here: ")
    assert "no clear difference" in both.verdict("good", "same")
    assert "Too few" in Benchmark({"a": [9, 9], "b": [0, 0]}).verdict("a", "b")


def test_models_were_asked_the_same_puzzles():
    with pytest.raises(ValueError, match="not asked the same"):
        Benchmark({"a": [1, 2], "b": [1]})


def test_a_tally_counts_each_puzzle_once_and_keeps_the_first_answer():
    tally = Tally().with_puzzle("a", {"A": 3}).with_puzzle("a", {"A": 3}, you=7).with_puzzle("a", {"A": 3}, you=9)
    tally = tally.with_puzzle("b", {"A": 5, "B": 2})
    assert tally.played(["A"]).right == {"you": [7], "A": [3]}
    assert tally.solved(["A"]).right == {"A": [3, 5]} and tally.solved(["A", "B"]).right == {"A": [5], "B": [2]}
    assert tally.played(["B"]) is None and Tally().solved(["A"]) is None
    assert Tally.of(tally.to_dict()) == tally


def test_a_tally_does_not_grow_without_bounds():
    tally = Tally.of({"puzzles": [{"name": str(i), "you": None, "models": {}} for i in range(MOST + 50)]})
    assert len(tally.puzzles) == MOST == len(tally.with_puzzle("new", {}).puzzles)


@pytest.mark.parametrize(
    "puzzles", [5, "x", [1], [{"name": "a"}], [{"name": "a", "you": 10, "models": {}}],
                [{"name": "a", "you": True, "models": {}}], [{"name": 3, "you": None, "models": {}}],
                [{"name": "a", "you": None, "models": {"A": 1.5}}]],
)  # fmt: skip
def test_tallies_that_the_page_did_not_send(puzzles):
    with pytest.raises(ValueError, match="not what this page sends"):
        Tally.of({"puzzles": puzzles})


def test_markup_escapes_what_others_named():
    bad = "<script>x</script>\"'"
    both = Benchmark({bad: GOOD, "B": POOR}, bad)
    boxes = [("true", bad, (0.5, 0.5, 0.2, 0.2))]
    made = [bars(both), evidence(both, bad), scoreboard(None, both, bad), table([bad], [[bad, bad]], bad)]
    made += [boxes_on(bad, 1.0, boxes, bad), puzzle(range(9), [True] * 9, bad)]
    assert not any("<script>" in markup or "x</script>" in markup for markup in made)
