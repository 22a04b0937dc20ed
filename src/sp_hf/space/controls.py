"""What all tabs share: the image and the model, how errors reach visitors, and how long work is announced."""

from __future__ import annotations

import functools
import html
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import gradio as gr
from gradio.data_classes import ImageData
from gradio.processing_utils import hash_bytes
from gradio.utils import get_upload_folder
from PIL import Image

from ..whole_file import write_whole
from .probes import Say
from .uploads import open_upload

COMPUTE: dict[str, Any] = {"concurrency_id": "compute", "concurrency_limit": 2}
"""Of everything that computes: so many at a time, the others wait in a queue."""

F = TypeVar("F", bound=Callable)


class Page(gr.Blocks):
    """Blocks that answer a request in another form than the page's with a sentence, where Gradio says nothing."""

    async def preprocess_data(self, block_fn: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Gradio's; of what is in a request nothing else has been looked at before."""
        try:
            return await super().preprocess_data(block_fn, inputs, *args, **kwargs)
        except gr.Error:
            raise
        except Exception as error:  # components raise anything over what is not theirs
            raise gr.Error(
                f"This is not what this page sends: {block_fn.api_name or 'it'} takes"
                f" {', '.join(str(box.label) for box in block_fn.inputs)}; see the API page.",
                print_exception=False,
            ) from error


class Shared(NamedTuple):
    """Components above the tabs."""

    image: gr.Image
    model: gr.Dropdown


def shows_mistakes(function: F) -> F:
    """Tell the visitor what is wrong with what they gave; anything else is a defect, and is logged."""

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except ValueError as error:
            raise gr.Error(
                html.escape(str(error), quote=False), title="That did not work", print_exception=False
            ) from error

    return wrapped  # type: ignore[return-value]


def announce(progress: gr.Progress) -> Say:
    """Show what takes time over the outputs that wait for it."""
    steps = iter((0.15, 0.4, 0.6, 0.75, 0.85, 0.9))
    return lambda text: progress(next(steps, 0.95), desc=text)


def upload_box(**options: Any) -> gr.Image:
    """An image that reaches its handler as the path of the file, whatever is in it.

    Gradio would decode it here, without bounds and with any format's decoder; :func:`~sp_hf.space.uploads.open_upload`
    does it with both.
    """
    box: Any = gr.Image(type="filepath", image_mode=None, sources=["upload", "clipboard"], **options)
    box.preprocess = lambda payload: None if payload is None else uploaded_path(payload.path)
    return box


def add_examples(paths: Sequence[Path], image: gr.Image) -> None:
    """Images to choose from instead of an upload.

    The browser itself puts a chosen one in place. ``gr.Examples`` would ask the server for it, and what is pressed
    before the answer comes would still get the old image.
    """
    images = [gr.Image(str(path), type="filepath", visible=False) for path in paths]
    choice = gr.Dataset(
        components=[image], samples=[[str(path)] for path in paths], label="or one of these", elem_id="examples"
    )
    choose = "(index, ...images) => images[index]"
    choice.click(None, [choice, *images], [image], js=choose, api_visibility="private")


def uploaded_path(path: str | None) -> str | None:
    """The path of an image that came to this server as an upload, or that it offered.

    Gradio checks this only of files that say they are files: a forged request would name any image of the server.

    Raises:
        gr.Error: it is another.
    """
    if path is not None and not Path(path).resolve().is_relative_to(Path(get_upload_folder()).resolve()):
        raise gr.Error("This image was not uploaded here.", print_exception=False)
    return path


def model_box(models: list[tuple[str, str]], value: str, label: str, elem_id: str) -> gr.Dropdown:
    """A choice of models, which also takes what a visitor types."""
    box = gr.Dropdown(
        models,
        value=value,
        label=label,
        elem_id=elem_id,
        allow_custom_value=True,
        filterable=True,
        info="or type a Hub id: owner/name",
    )
    box.preprocess = _model_name  # type: ignore[method-assign]  # no other hook for what is posted
    return box


def _model_name(payload: Any) -> str:
    if not isinstance(payload, str):
        raise gr.Error("Name a model: one of the list, or owner/name of the Hub.", print_exception=False)
    return payload


def report_box(elem_id: str) -> gr.HTML:
    """Where a :func:`report` goes; screen readers are told of changes."""
    return gr.HTML(elem_id=elem_id, apply_default_css=False)


def picture_box(alt: str, elem_id: str) -> gr.Image:
    """A picture that comes back, without a label over it: a caption stands above."""
    box: Any = gr.Image(
        label=alt,
        alt_text=alt,
        elem_id=elem_id,
        interactive=False,
        buttons=["fullscreen"],
        show_label=False,
        container=False,
        format="png",
    )
    keep = Path(box.GRADIO_CACHE)
    box.postprocess = lambda picture: None if picture is None else sent(picture, keep)
    return box


def sent(picture: Image.Image, cache: Path) -> ImageData:
    """A picture as a file that Gradio sends, named by its content.

    Gradio would write the file in place: a visitor who is just being sent the same picture would get half of it.
    """
    content = io.BytesIO()
    picture.save(content, "PNG")
    folder = cache.resolve() / hash_bytes(content.getvalue())
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "image.png", content.getvalue())
    return ImageData(path=str(folder / "image.png"), orig_name="image.png")


def preview(path: str | None) -> dict[str, Any]:
    """An uploaded image as boards show it: its address and its size on the page."""
    from .drawing import image_url

    if path is None:
        return {"src": None}
    upload = open_upload(path)
    width, height = upload.shape
    return {"src": image_url(upload.image.resize((width, height))), "width": width, "height": height}


def report(big: str, rows: Mapping[str, str] = {}, note: str = "") -> str:  # noqa: B006  # never written to
    """Metrics as HTML; everything is escaped."""
    cells = "".join(f"<tr><th scope='row'>{html.escape(k)}</th><td>{html.escape(v)}</td></tr>" for k, v in rows.items())
    return (
        f"<div class='report' role='status'><div class='big'>{html.escape(big)}</div>"
        + (f"<table>{cells}</table>" if cells else "")
        + (f"<div class='note'>{html.escape(note)}</div>" if note else "")
        + "</div>"
    )
