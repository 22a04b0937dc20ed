"""The Play tab: a visitor and models put the same tiles back, and their scores run on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
import torch

from ..errors import InputError
from .accelerator import on_gpu
from .boards import board_value, tile_board
from .controls import COMPUTE, Shared, announce, answer_box, fitted_note, number_box, open_all, shows_mistakes
from .drawing import data_url, image_url
from .jigsaw import TILES, Cut, Solved, check_arrangement, sheet, solve
from .markup import cards, esc, picture, puzzle, puzzles, scoreboard, waiting
from .score import Tally
from .shelf import Say, Shelf
from .uploads import Upload, open_upload

_INTRO = (
    "Nine tiles of a photograph, shuffled. Edges are cut away and colours changed, so only *what* a tile shows tells"
    " *where* it belongs. Choose two tiles to swap them."
)
WAITING = "Swap tiles until the picture makes sense, then compare with the models."
MANY = 50
MOST = 200
_DRAW = "Math.floor(Math.random() * 2 ** 31)"
_SHUFFLE = f"(image, board) => [image, {{ ...board, seed: {_DRAW} }}]"
_MANY = f"(image, models, count, seed, tally) => [null, models, count, {_DRAW}, tally]"


class PlayTab(NamedTuple):
    """Components that the page needs."""

    board: gr.HTML
    answer: gr.HTML
    next_photograph: gr.Button


def add_jigsaw(shared: Shared, shelf: Shelf, examples: Sequence[Path], start: dict[str, Any], answer: str) -> PlayTab:
    """Lay out the tab.

    Args:
        examples: photographs that many puzzles are made of.
        start: the board at first.
        answer: the models' at first.
    """
    gr.Markdown(_INTRO, elem_classes="tab-intro")
    with gr.Row(elem_classes="halves"):
        with gr.Column(scale=4, min_width=280):
            board = tile_board(value=start, label="board", elem_id="jigsaw-board")
            compare = gr.Button("Compare with the models", variant="primary", elem_id="jigsaw-run")
            with gr.Row(elem_classes="buttons"):
                shuffle = gr.Button("Shuffle", elem_id="jigsaw-shuffle", min_width=100)
                next_photograph = gr.Button("Next photo", elem_id="jigsaw-next", min_width=100)
        with gr.Column(scale=6, min_width=280):
            answered = answer_box("jigsaw-answer", answer)
            score = answer_box("jigsaw-score")
            many = gr.Button(f"Let the models play {MANY} puzzles", elem_id="jigsaw-many")
    tally, metrics = gr.JSON(visible=False, label="tally"), gr.JSON(visible=False)
    count, seed = number_box(MANY, "The number of puzzles"), number_box(0, "The seed")
    answers = Answers(shelf, examples)
    shuffle.click(
        shuffle_board, [shared.image, board], [board, answered], js=_SHUFFLE, api_name="shuffle", show_progress="hidden"
    )
    compare.click(
        answers.compare,
        [shared.image, shared.models, board, tally],
        [board, answered, tally, score, metrics],
        api_name="jigsaw",
        show_progress_on=[answered],
        **COMPUTE,
    )
    many.click(
        answers.play_many,
        [shared.image, shared.models, count, seed, tally],
        [tally, score, metrics],
        js=_MANY,
        api_name="puzzles",
        show_progress_on=[score],
        **COMPUTE,
    )
    return PlayTab(board, answered, next_photograph)


def shown_board(upload: Upload, seed: int) -> dict[str, Any]:
    """The board of a puzzle, as its tiles are handed out."""
    width, height = upload.shape
    return {
        "src": data_url(sheet(upload, Cut.of(seed))),
        "grid": 3,
        "seed": seed,
        "width": width,
        "height": height,
        "placed": list(range(TILES)),
        "right": None,
    }


def shown_answer(upload: Upload, cut: Cut, placed: Mapping[str, Sequence[int]], note: str = "") -> str:
    """Every model's arrangement beside the photograph."""
    items = []
    for name, arrangement in placed.items():
        right = cut.right(torch.tensor(arrangement)).tolist()
        said = f"{sum(right)} of {TILES} right"
        board = puzzle(arrangement, right, f"{name}: {said}; wrong tiles are crossed out")
        items.append((name, f"<b>{sum(right)}</b> of {TILES} right", board))
    width, height = upload.shape
    photograph = picture(image_url(upload.image.resize((width // 2, height // 2))), "The photograph as it is")
    items.append(("The photograph", "By chance, 1 of 9 is right", photograph))
    shown = puzzles(data_url(sheet(upload, cut)), width / height, cards(items))
    return shown + (f"<p class='note'>{esc(note)}</p>" if note else "")


@shows_mistakes
def shuffle_board(image: str | None, board: Any) -> tuple[dict[str, Any], str]:
    """A puzzle by its seed; the answer to the one before goes."""
    return shown_board(open_upload(image), _seed_of(board)), waiting(WAITING)


def _seed_of(board: Any) -> int:
    return int(board_value(board, "seed", 1)[0])


class Answers:
    """The tab's handlers."""

    def __init__(self, shelf: Shelf, examples: Sequence[Path]) -> None:
        @on_gpu
        def compute(names: list[str], images: list[Upload], seeds: list[int], say: Say) -> list[list[Solved]]:
            asked = [(images[index % len(images)], Cut.of(seed)) for index, seed in enumerate(seeds)]
            return [solve(one.model, one.probes(say), asked) for one in open_all(shelf, names, say)]

        self._shelf, self._compute, self._examples = shelf, compute, tuple(examples)

    @shows_mistakes
    def compare(
        self,
        image: str | None,
        models: list[str],
        board: Any,
        tally: Any,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> tuple[Any, ...]:
        """One puzzle: how many tiles the visitor has right, and what each model makes of it."""
        upload, seed, score = open_upload(image), _seed_of(board), Tally.of(tally)
        cut = Cut.of(seed)
        mine = board_value(board, "placed", TILES) if board.get("placed") is not None else list(range(TILES))
        right = cut.right(check_arrangement(mine))
        touched = mine != list(range(TILES))  # who has not moved a tile has not played
        say = announce(progress)
        contestants = open_all(self._shelf, models, say)  # before a GPU is lent
        solved = {name: one[0] for name, one in zip(models, self._compute(models, [upload], [seed], say), strict=True)}
        counts = {name: one.right for name, one in solved.items()}
        yours = int(right.sum()) if touched else None
        score = score.with_puzzle(f"{Path(str(image)).parent.name[:16]}/{seed}", counts, yours)
        placed = {name: one.placed.tolist() for name, one in solved.items()}
        metrics = {
            "tiles": TILES,
            "cells": cut.cells.tolist(),
            "you": yours,
            "models": {name: {"right": counts[name], "placed": placed[name]} for name in solved},
        }
        laid = shown_board(upload, seed) | {"placed": [int(tile) for tile in mine]}
        laid["right"] = right.tolist() if touched else None
        answer = shown_answer(upload, cut, placed, fitted_note(contestants, say))
        return laid, answer, score.to_dict(), _score_of(score, models), metrics

    @shows_mistakes
    def play_many(
        self,
        image: str | None,
        models: list[str],
        count: int,
        seed: int,
        tally: Any,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> tuple[Any, ...]:
        """Many puzzles of an image, or without one of the examples in turn, by the models alone."""
        if not 1 <= count <= MOST:
            raise InputError(f"{count} puzzles were asked for; from 1 to {MOST} can be.")
        first = int(seed)
        Cut.of(first)  # refuses what is no seed
        images = [open_upload(image)] if image else [open_upload(path) for path in self._examples]
        seeds = [(first + index) % 2**31 for index in range(int(count))]
        say, score = announce(progress), Tally.of(tally)
        open_all(self._shelf, models, say)
        solved = dict(zip(models, self._compute(models, images, seeds, say), strict=True))
        for index, number in enumerate(seeds):
            score = score.with_puzzle(f"many/{number}", {name: one[index].right for name, one in solved.items()})
        metrics = {"tiles": TILES, "models": {name: [s.right for s in one] for name, one in solved.items()}}
        return score.to_dict(), _score_of(score, models), metrics


def _score_of(score: Tally, models: Sequence[str]) -> str:
    solved = score.solved(models)
    verdict = solved.verdict(models[0], models[1]) if solved is not None and len(models) > 1 else ""
    return scoreboard(score.played(models), solved, verdict)
