"""The page: an image and a model above, a tab for each question below, and how it is served."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from .boards import asset
from .controls import Page, Shared, add_examples, model_box, preview, upload_box
from .shelf import Shelf
from .tab_compare import Settings, add_compare
from .tab_jigsaw import add_jigsaw
from .tab_patches import add_patches
from .tab_where import add_where
from .uploads import MAX_BYTES, UploadError

_HEAD = """
# What does a vision model know about *where*?

Take an image and a model, and see what the model's features tell about where things are.
"""
_NAME_EXAMPLES = """() => document.querySelectorAll("#examples button").forEach(
  (button, index) => button.setAttribute("aria-label", `Example image ${index + 1}`))"""
# The browser puts an image on the boards as they are when it comes: someone may have moved something meanwhile.
_ON_BOARDS = "(shown, boxes, point) => [{ ...boxes, ...shown }, { ...point, ...shown }]"
_KEPT = 3600  # seconds for which uploads and results are kept
_WAITING = 100  # visitors in the queue


def build_page(shelf: Shelf, examples: Sequence[Path]) -> gr.Blocks:
    """The app, not running yet.

    Args:
        shelf: of models; the first one it offers is chosen.
        examples: images to choose from.
    """
    models = shelf.options.choices()
    with Page(title="Spatial probes", analytics_enabled=False, delete_cache=(_KEPT, _KEPT)) as page:
        gr.Markdown(_HEAD, elem_id="head")
        with gr.Row():
            with gr.Column(scale=2, min_width=280):
                image = upload_box(
                    value=str(examples[0]) if examples else None,
                    label="Image",
                    alt_text="The image to probe",
                    elem_id="image",
                    height=280,
                    buttons=[],
                )
                if examples:
                    add_examples(examples, image)
                model = model_box(models, models[0][1], "Model", "model")
            with gr.Column(scale=5, min_width=280):
                shared = Shared(image, model)
                with gr.Tabs(elem_id="tabs"):
                    with gr.Tab("Jigsaw", id="jigsaw"):
                        grid, seed = add_jigsaw(shared, shelf)
                    with gr.Tab("Where", id="where"):
                        boxes, first, second = add_where(shared, shelf)
                    with gr.Tab("Patches", id="patches"):
                        point, x, y = add_patches(shared, shelf)
                    with gr.Tab("Compare", id="compare"):
                        add_compare(shared, shelf, Settings(grid, seed, first, second, x, y))
        shown = gr.JSON(visible=False)
        opened = gr.on(
            [image.change, page.load], show_image, image, shown, show_progress="hidden", api_visibility="private"
        )
        opened.success(None, [shown, boxes, point], [boxes, point], js=_ON_BOARDS, api_visibility="private")
        page.load(None, js=_NAME_EXAMPLES, api_visibility="private")  # Gradio leaves these buttons without names
    return page.queue(default_concurrency_limit=8, max_size=_WAITING)


def show_image(path: str | None) -> dict[str, Any]:
    """A new image for the boards. Says at once what is wrong with an upload, and the boards then show none.

    This is no error for Gradio: after one it forgets the image that was chosen meanwhile.
    """
    try:
        return preview(path)
    except UploadError as error:
        gr.Warning(html.escape(str(error), quote=False), title="That did not work")
        return preview(None)


def serving() -> dict[str, Any]:
    """Arguments of ``launch``: looks, limits, and nothing asked of other servers."""
    fonts = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]  # no fonts of other servers
    theme = gr.themes.Soft(primary_hue="indigo", neutral_hue="slate", font=fonts, font_mono=["monospace"]).set(
        button_primary_background_fill="*primary_600",  # white on it can be read
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover_dark="*primary_700",
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
