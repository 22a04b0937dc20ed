"""Measured results as Markdown that can be read back: partial evaluations, pushed one after the other, all stay.

A section holds a block for each data set and sample of it; a block is a sentence about the data and a table, a row a
metric, a column a model. A row measured anew replaces the old one, in whichever block of the same data set that stood.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ..markdown import table
from .model_index import DatasetName, measured_on

BEGIN, END = "<!-- measured by sp-hf evaluate -->", "<!-- end of what sp-hf evaluate measured -->"
_SECTION = re.compile(f"{re.escape(BEGIN)}\n?(.*?)\n?{re.escape(END)}", re.DOTALL)
_BLOCK = re.compile(r"<!-- on (?P<data>.+?) -->\n(?P<caption>[^\n]*)\n\n(?P<table>(?:\|[^\n]*\n?)+)")
_CELLS = re.compile(r"(?<!\\)\|")
_SPELLED = {"r2": "R2", "iou": "IoU", "miou": "mIoU", "mce": "mCE", "rmse": "RMSE", "knn": "kNN"}
_ROLES = ("model", "random", "pixels", "cues")


@dataclasses.dataclass
class Block:
    """The results on one sample of a data set.

    Args:
        data: the data set and its split.
        caption: what the sample is, in a sentence.
        rows: {metric: {model: cell}}, both in order.
    """

    data: str
    caption: str
    rows: dict[str, dict[str, str]]

    def markdown(self) -> str:
        models = list(dict.fromkeys(model for cells in self.rows.values() for model in cells))
        lines = [["", *models], *([name, *(cells.get(m, "") for m in models)] for name, cells in self.rows.items())]
        return "\n".join([f"<!-- on {self.data} -->", self.caption, "", *table(lines)])


def results_section(results: Iterable[Mapping[str, Any]], title: str, before: str = "") -> str:
    """The section between its two comments.

    Args:
        results: of :func:`~sp_hf.cards.results.read_results`.
        title: of the model that they are about.
        before: a card whose section these results are to join.
    """
    section = _SECTION.search(before)
    blocks = _read_blocks(section.group(1)) if section else []
    latest: list[Block] = []  # of these results alone, so that one replaced by another of them moves nothing
    for result in results:
        for block in _blocks_of(result, title):
            _join(block, latest)
    for block in latest:
        _join(block, blocks)
    return "\n".join([BEGIN, "\n\n".join(block.markdown() for block in blocks), END])


def with_section(text: str, section: str, heading: str) -> str:
    """A card with this section in the place of its own, or under a heading at its end."""
    if _SECTION.search(text):
        return _SECTION.sub(lambda _: section, text, count=1)
    gap = "\n" * (2 - len(text) + len(text.rstrip("\n"))) if text.strip() else ""
    return f"{text}{gap}{heading}\n\n{section}\n"


def _join(new: Block, blocks: list[Block]) -> None:
    """Into the block about the same sample, or as the last one; nothing of it stays in others on the same data."""
    for block in blocks:
        if block.data == new.data and block.caption != new.caption:
            block.rows = {name: cells for name, cells in block.rows.items() if name not in new.rows}
    blocks[:] = [block for block in blocks if block.rows]
    same = next((block for block in blocks if (block.data, block.caption) == (new.data, new.caption)), None)
    if same is None:
        blocks.append(new)
    else:
        same.rows.update(new.rows)


def _blocks_of(result: Mapping[str, Any], title: str) -> list[Block]:
    """One a data set, *where* before *what*."""
    blocks: dict[str, Block] = {}
    names = _column_names(result, title)
    for name, task in sorted(result["tasks"].items(), key=lambda item: item[1]["kind"] != "where"):
        measured = task["results"].get(result["this"], {}).get("measures", {})
        for key in (key for key in task["headline"] if key in measured):
            data = _one_line(str(measured_on(result, name))).replace("--", "-")
            block = blocks.setdefault(data, Block(data, _caption(result, name), {}))
            block.rows[_row_name(name, task, key)] = _cells(result, task, key, names)
    return list(blocks.values())


def _caption(result: Mapping[str, Any], task: str) -> str:
    """Where, on how many images, and what the numbers mean."""
    names = {}
    for side, sample in result["data"].items():
        data = measured_on(result, task, side)
        size = f" ({sample['images']} images)" if data == DatasetName.of(sample["description"]) else ""
        names[side] = f"{_one_line(str(data))}{size}"
    return (
        f"Measured on {names['validation']}; probes fitted on {names['train']}; seed {result['seed']}."
        " ±: the wider side of the 95 % interval over images."
    )


def _row_name(name: str, task: Mapping[str, Any], key: str) -> str:
    measure = next(result["measures"][key] for result in task["results"].values() if key in result["measures"])
    less = "" if measure["higher_is_better"] else ", less is better"
    return f"{task['kind']} · {spelled(name, key)}{' %' if measure['percent'] else ''}{less}"


def spelled(task: str, metric: str) -> str:
    """As people write it: ``("knn", "r2_position")`` is ``"kNN: R2 position"``."""
    words = [_SPELLED.get(word, word) for word in metric.replace(" ", "_").split("_")]
    return f"{_SPELLED.get(task, task)}: {' '.join(words)}"


def _column_names(result: Mapping[str, Any], title: str) -> dict[str, str]:
    """{model: what it is called in a table}, this one first: no paths of the author's, and each name once."""
    names: dict[str, str] = {}
    for model in sorted(result["models"], key=lambda m: (m["name"] != result["this"], _ROLES.index(m["role"]))):
        name = model["name"]
        shown = name.rstrip("/").rsplit("/", 1)[-1] if name.startswith(("/", "./", "../", "~")) else name
        shown = _one_line(f"**{title}**" if name == result["this"] else shown)
        repeats = sum(other.partition(" #")[0] == shown for other in names.values())
        names[name] = f"{shown} #{repeats + 1}" if repeats else shown
    return names


def _cells(result: Mapping[str, Any], task: Mapping[str, Any], key: str, names: Mapping[str, str]) -> dict[str, str]:
    """A row: models with their intervals, floors without, and chance."""
    roles = {model["name"]: model["role"] for model in result["models"]}
    cells = {}
    for model, shown in names.items():
        measure = task["results"].get(model, {}).get("measures", {}).get(key)
        if measure is not None:
            cells[shown] = _number(measure, interval=roles[model] in ("model", "random"))
    measure = task["results"][result["this"]]["measures"][key]
    return cells | ({"chance": _number({**measure, "value": measure["chance"]})} if measure["chance"] else {})


def _number(measure: Mapping[str, Any], interval: bool = False) -> str:
    scale, digits = (100, 1) if measure["percent"] else (1, 3)
    text = f"{measure['value'] * scale:.{digits}f}"
    if not interval:
        return text
    wider = max(measure["high"] - measure["value"], measure["value"] - measure["low"])
    return f"{text} ± {wider * scale:.{digits}f}"


def _one_line(text: str) -> str:
    """Fit for a cell of a table, or a comment."""
    return " ".join(text.replace("|", "\\|").replace(">", "").split())


def _read_blocks(section: str) -> list[Block]:
    """What :meth:`Block.markdown` wrote."""
    blocks = []
    for block in _BLOCK.finditer(section + "\n"):
        head, _, *body = [[c.strip() for c in _CELLS.split(line)[1:-1]] for line in block["table"].strip().split("\n")]
        rows = {line[0]: {m: cell for m, cell in zip(head[1:], line[1:], strict=False) if cell} for line in body}
        blocks.append(Block(block["data"], block["caption"], rows))
    return blocks
