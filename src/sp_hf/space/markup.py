"""Answers as HTML: scores as bars, puzzles as their models laid them, boxes on a photograph, maps of patches.

Everything that is not made here is escaped. Each model has the same colour in all of them, by its place in the line-up;
nothing is told by colour alone.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

from ..evaluation.measure import Estimate
from .score import FEW, Benchmark

YOU = "you"


def report(big: str, note: str = "", rows: Mapping[str, str] | None = None) -> str:
    """A sentence, facts below it, and a note."""
    cells = "".join(f"<tr><th scope='row'>{esc(k)}</th><td>{esc(v)}</td></tr>" for k, v in (rows or {}).items())
    return (
        f"<div class='report' role='status'><div class='big'>{esc(big)}</div>"
        + (f"<table>{cells}</table>" if cells else "")
        + (f"<p class='note'>{esc(note)}</p>" if note else "")
        + "</div>"
    )


def waiting(text: str) -> str:
    """In the place of an answer, until it is asked for."""
    return f"<div class='waiting' role='status'>{esc(text)}</div>"


def bars(benchmark: Benchmark, tiles: int = 9, chance: float = 1.0) -> str:
    """Mean tiles right: a bar for each, from 0 to all, with its interval and a line at chance."""
    rows = []
    models = [name for name in benchmark.right if name != YOU]
    for name, counts in benchmark.estimates().items():
        series = "you" if name == YOU else str(models.index(name))
        low, high = (100 * end / tiles for end in (counts.low, counts.high))
        enough = len(benchmark) >= FEW
        whisker = f"<i class='whisker' style='left:{low:.2f}%;width:{high - low:.2f}%'></i>" if enough else ""
        rows.append(
            f"<div class='bar-row series-{series}'><span class='bar-name'>{esc(_shown(name))}</span>"
            "<span class='bar-track' aria-hidden='true'>"
            f"<i class='bar' style='width:{100 * counts.value / tiles:.2f}%'></i>{whisker}"
            f"<i class='chance' style='left:{100 * chance / tiles:.2f}%'></i></span>"
            f"<span class='bar-value'>{_value(counts, enough)}</span></div>"
        )
    rows.append(
        "<div class='bar-row axis'><span class='bar-name'>Chance</span><span class='bar-track none' aria-hidden='true'>"
        f"<i class='chance' style='left:{100 * chance / tiles:.2f}%'></i></span>"
        f"<span class='bar-value'>{chance:.0f} of {tiles}</span></div>"
    )
    return f"<div class='bars'>{''.join(rows)}</div>"


def _value(estimate: Estimate, enough: bool) -> str:
    wider = max(estimate.high - estimate.value, estimate.value - estimate.low)
    return f"{estimate.value:.2f}" + (f" <small>± {wider:.2f}</small>" if enough else "")


def _shown(name: str) -> str:
    return "You" if name == YOU else name


def evidence(benchmark: Benchmark, verdict: str) -> str:
    """What the page claims, and what it is measured on."""
    photographs = f"{len(benchmark)} puzzles, each of another photograph of {benchmark.images}"
    return (
        "<section class='evidence' aria-label='Measured'>"
        f"<h2>{esc(verdict)}</h2>{bars(benchmark)}"
        f"<p class='note'>Tiles right of 9, mean and 95 % interval: {esc(photographs)}, which neither models nor"
        " probes have seen.</p></section>"
    )


def scoreboard(played: Benchmark | None, solved: Benchmark | None, verdict: str) -> str:
    """Of a visitor's session."""
    if solved is None:
        return ""
    parts = []
    if played is not None:
        parts.append(f"<h3>{esc(played.sentence())}</h3>{bars(played)}")
    if played is None or len(solved) > len(played):
        parts.append(f"<h3>{esc(solved.sentence())}</h3>{bars(solved)}<p class='note'>{esc(verdict)}</p>")
    return f"<div class='scoreboard' role='status'>{''.join(parts)}</div>"


def cards(items: Sequence[tuple[str, str, str]]) -> str:
    """Answers side by side: (name, headline, picture as HTML)."""
    shown = "".join(
        f"<article class='card series-{index}'><h3><i class='dot'></i>{esc(name)}</h3>{picture}"
        f"<p>{headline}</p></article>"
        for index, (name, headline, picture) in enumerate(items)
    )
    return f"<div class='cards'>{shown}</div>"


def puzzles(sheet: str, aspect: float, boards: str) -> str:
    """Boards that show tiles of one sheet (an address), once in the page."""
    return f"<div class='answers' style='--sheet:url(&quot;{esc(sheet)}&quot;);--aspect:{aspect:.4f}'>{boards}</div>"


def puzzle(placed: Sequence[int], right: Sequence[bool], label: str) -> str:
    """A board: the tile in each cell, framed, crossed out where it is wrong."""
    cells = []
    for tile, is_right in zip(placed, right, strict=True):
        across, down = 50 * (tile % 3), 50 * (tile // 3)
        verdict = "right" if is_right else "wrong"
        cells.append(f"<i class='{verdict}' style='background-position:{across}% {down}%'></i>")
    return f"<div class='mini-board' role='img' aria-label='{esc(label)}'>{''.join(cells)}</div>"


def picture(url: str, alt: str, kind: str = "") -> str:
    """An image."""
    return f"<img class='{esc(kind)}' src='{esc(url)}' alt='{esc(alt)}'>"


def boxes_on(url: str, aspect: float, boxes: Sequence[tuple[str, str, Sequence[float]]], label: str) -> str:
    """Boxes on a photograph: (class, name, cxcywh), clipped to it where they reach out."""
    drawn = []
    for kind, name, (cx, cy, w, h) in boxes:
        left, top = (min(max(100 * (c - e / 2), 0.4), 97) for c, e in ((cx, w), (cy, h)))
        right, bottom = (
            max(min(100 * (c + e / 2), 99.6), start + 2.5) for c, e, start in ((cx, w, left), (cy, h, top))
        )
        drawn.append(
            f"<span class='guess {kind}' style='left:{left:.2f}%;top:{top:.2f}%;width:{right - left:.2f}%;"
            f"height:{bottom - top:.2f}%'><b>{esc(name)}</b></span>"
        )
    style = f"aspect-ratio:{aspect:.4f};background-image:url(&quot;{esc(url)}&quot;)"
    return f"<div class='located' role='img' aria-label='{esc(label)}' style='{style}'>{''.join(drawn)}</div>"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], caption: str = "") -> str:
    """A table whose first column names the rows; it scrolls sideways where it is too wide."""
    top = "".join(f"<th scope='col'>{esc(cell)}</th>" for cell in head)
    body = "".join(
        f"<tr><th scope='row'>{esc(row[0])}</th>{''.join(f'<td>{esc(cell)}</td>' for cell in row[1:])}</tr>"
        for row in rows
    )
    named = f"<caption>{esc(caption)}</caption>" if caption else ""
    region = f"role='region' tabindex='0' aria-label='{esc(caption or head[0])}'"
    return f"<div class='table' {region}><table>{named}<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"


def esc(text: str) -> str:
    """Text in HTML."""
    return html.escape(str(text))
