"""The page: what SP is and what was measured of it, a photograph and a line-up, a tab for each question."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from .boards import asset, photograph_strip
from .controls import Page, Shared, image_box, models_box, preview
from .drawing import image_url
from .first import First
from .leaderboard import Leaderboard
from .markup import evidence, waiting
from .score import Benchmark
from .shelf import Shelf
from .tab_jigsaw import WAITING, PlayTab, add_jigsaw, shown_board
from .tab_leaderboard import add_leaderboard
from .tab_patches import WAITING as PATCHES_WAITING
from .tab_patches import add_patches
from .tab_where import WAITING as WHERE_WAITING
from .tab_where import add_where
from .uploads import MAX_BYTES, UploadError, open_upload

_HEAD = """
# Does it know *where*?

An eye and a nose make a face only in their places. Vision models are trained to know *what* is in a photo; **Spatial
Prediction (SP)** also teaches them *where* its parts belong, without labels: from two crops alone, say where one lies
seen from the other. ([paper](https://arxiv.org/abs/2605.09963))
"""
_ABOUT = """
**Models.** *With SP* and *Without SP* are one small vision transformer (1.2 million parameters), pretrained on the same
photographs (Caltech-101) without labels, in the same way and for as long; Spatial Prediction beside it is all that
differs. *Untrained* is the same network with random weights: what it gets right, light and texture give away.

**Questions.** Models are frozen. Answers are read from their features by linear probes, fitted to photographs that are
in no puzzle (of a model that you name, to drawn scenes when it is first asked). Tiles and crops are encoded one by one,
each with colours of its own, so that a model can only go by what is in them.

**Images** are squashed to a square for every model, and kept for an hour at most.
"""
_KEPT = 3600  # seconds for which uploads are kept
_WAITING = 100  # visitors in the queue
_OPEN = "Math.floor(Math.random() * 2 ** 31)"


@dataclasses.dataclass(frozen=True)
class Content:
    """What a page shows besides its questions.

    Args:
        photographs: to choose from; the first is chosen.
        line_up: models that are asked at first, of those on the shelf.
        benchmark: measured of them beforehand, if it was.
        first: answered beforehand about the first photograph, if it was.
        results: where the leaderboard looks.
    """

    photographs: Sequence[Path]
    line_up: Sequence[str]
    benchmark: Benchmark | None = None
    first: First | None = None
    results: Leaderboard = dataclasses.field(default_factory=Leaderboard)

    def with_results(self, results: Leaderboard) -> Content:
        """With another leaderboard."""
        return dataclasses.replace(self, results=results)


def build_page(shelf: Shelf, content: Content) -> gr.Blocks:
    """The app, not running yet."""
    paths = content.photographs
    with Page(title="Does it know where?", analytics_enabled=False, delete_cache=(_KEPT, _KEPT)) as page:
        gr.Markdown(_HEAD, elem_id="head")
        if content.benchmark is not None:
            said = content.benchmark.verdict(*list(content.benchmark.right)[:2])
            gr.HTML(evidence(content.benchmark, said), apply_default_css=False, elem_id="evidence")
        photographs = _photographs(paths)
        with gr.Accordion(f"Models: {', '.join(content.line_up)}", open=False, elem_id="line-up"):
            models = models_box(list(shelf.options.places()), content.line_up)
        questions = _questions(Shared(photographs.image, models), shelf, content)
        with gr.Accordion("How this is measured", open=False):
            gr.Markdown(_ABOUT)
        _follow(photographs, questions)
    return page.queue(default_concurrency_limit=8, max_size=_WAITING)


class _Photographs(NamedTuple):
    """The one that is asked about, and what changes it."""

    image: gr.Image
    hidden: list[gr.Image]  # all of them: their addresses, for the browser
    strip: gr.HTML
    own: gr.UploadButton


class _Questions(NamedTuple):
    """What shows a photograph, and what must go when another is chosen."""

    play: PlayTab
    boards: list[gr.HTML]  # that show it as it is
    answers: list[gr.HTML]


def _photographs(paths: Sequence[Path]) -> _Photographs:
    image = image_box(str(paths[0]))
    hidden = [gr.Image(str(path), type="filepath", visible=False) for path in paths]
    with gr.Row(elem_id="photos", equal_height=True):
        strip = photograph_strip([_thumbnail(path) for path in paths])
        own = gr.UploadButton("Your own photo", file_types=["image"], elem_id="own", size="sm", min_width=130)
    return _Photographs(image, hidden, strip, own)


def _questions(shared: Shared, shelf: Shelf, content: Content) -> _Questions:
    """A tab for each."""
    paths, first = content.photographs, content.first or First.unanswered()
    upload, shown = open_upload(paths[0]), preview(str(paths[0]))
    with gr.Tabs(elem_id="tabs"):
        with gr.Tab("Play", id="play"):
            play = add_jigsaw(shared, shelf, paths, shown_board(upload, first.seed), first.puzzle(upload))
        with gr.Tab("Where", id="where"):
            boxes, where = add_where(shared, shelf, shown, first.boxes, first.where(upload))
        with gr.Tab("Patches", id="patches"):
            point, patches = add_patches(shared, shelf, shown, first.patches(upload))
        with gr.Tab("Leaderboard", id="leaderboard"):
            add_leaderboard(content.results)
    return _Questions(play, [boxes, point], [play.answer, where, patches])


def _follow(photographs: _Photographs, questions: _Questions) -> None:
    """Another photograph: answers go at once, in the browser; its puzzle and its boards come from the server."""
    seed, shown = gr.Number(0, visible=False, precision=0), gr.JSON(visible=False)
    image, strip, play = photographs.image, photographs.strip, questions.play
    gone = "".join(f", {_text(waiting(text))}" for text in (WAITING, WHERE_WAITING, PATCHES_WAITING))
    chosen = f"(strip, ...images) => [strip, images[strip.chosen], {_OPEN}{gone}]"
    following = (
        "(strip, ...images) => { const chosen = (strip.chosen + 1) % images.length;"
        f" return [{{ ...strip, chosen }}, images[chosen], {_OPEN}{gone}]; }}"
    )
    uploaded = f"(file, strip) => [{{ ...strip, chosen: -1 }}, file, {_OPEN}{gone}]"
    listed = [strip, *photographs.hidden]
    for change, inputs, script in (
        (strip.input, listed, chosen),
        (play.next_photograph.click, listed, following),
        (photographs.own.upload, [photographs.own, strip], uploaded),
    ):
        event = change(None, inputs, [strip, image, seed, *questions.answers], js=script, api_visibility="private")
        opened = event.then(
            show_image, [image, seed], [play.board, shown], show_progress="hidden", api_visibility="private"
        )
        # The browser puts it on the boards as they are when it comes: someone may have moved a box meanwhile.
        put = "(shown, boxes, point) => [{ ...boxes, ...shown }, { ...point, ...shown }]"
        opened.success(None, [shown, *questions.boards], questions.boards, js=put, api_visibility="private")


def show_image(path: str | None, seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Another photograph: its puzzle, and the other boards. Says what is wrong with an upload; boards then show none.

    This is no error for Gradio: after one it forgets the image that was chosen meanwhile.
    """
    try:
        return shown_board(open_upload(path), int(seed or 0)), preview(path)
    except UploadError as error:
        gr.Warning(html.escape(str(error), quote=False), title="That did not work")
        return {"src": None}, preview(None)


def _thumbnail(path: Path) -> dict[str, str]:
    upload = open_upload(path)
    side = min(upload.image.size)
    left, top = ((length - side) // 2 for length in upload.image.size)
    square = upload.image.crop((left, top, left + side, top + side)).resize((96, 96))
    return {"src": image_url(square), "name": path.stem.partition("-")[2].replace("-", " ") or path.stem}


def _text(markup: str) -> str:
    """As a string of JavaScript."""
    return '"' + markup.replace("\\", "\\\\").replace('"', '\\"') + '"'


def serving() -> dict[str, Any]:
    """Arguments of ``launch``: looks, limits, and nothing asked of other servers."""
    fonts = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]  # no fonts of other servers
    theme = gr.themes.Soft(primary_hue="indigo", neutral_hue="slate", font=fonts, font_mono=["monospace"]).set(
        button_primary_background_fill="*primary_600",  # white on it can be read
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover_dark="*primary_700",
        block_label_text_color="*neutral_700",
        block_info_text_color="*neutral_600",
        block_title_text_color="*neutral_800",
        body_text_color_subdued="*neutral_600",
    )
    return {
        "theme": theme,
        "head": f"<style>{asset('page.css')}</style>",  # `css` reaches only what is inside of Gradio's own wrappers
        "max_file_size": MAX_BYTES,
        "show_error": False,
        "ssr_mode": False,
        "footer_links": ["api"],
        "strict_cors": True,
    }
