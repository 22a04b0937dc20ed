"""What all tabs share: the photograph and the line-up, how errors reach visitors, and how long work is announced."""

from __future__ import annotations

import functools
import html
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import gradio as gr
from gradio.utils import get_upload_folder

from .drawing import image_url
from .hub_models import ModelError
from .shelf import Contestant, Say, Shelf
from .uploads import open_upload

COMPUTE: dict[str, Any] = {"concurrency_id": "compute", "concurrency_limit": 2}
"""Of everything that computes: so many at a time, the others wait in a queue."""
LINE_UP = 5
"""Models that are asked at once, at most."""

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
    models: gr.Dropdown


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


def image_box(value: str | None) -> gr.Image:
    """The photograph that is asked about, chosen elsewhere, as the path of its file, whatever is in it.

    Gradio would decode it here, without bounds and with any format's decoder; :func:`~sp_hf.space.uploads.open_upload`
    does it with both.
    """
    box: Any = gr.Image(value, type="filepath", image_mode=None, label="Image", elem_id="image", visible=False)
    box.preprocess = lambda payload: None if payload is None else uploaded_path(payload.path)
    return box


def uploaded_path(path: str | None) -> str | None:
    """The path of an image that came to this server as an upload, or that it offered.

    Gradio checks this only of files that say they are files: a forged request would name any image of the server.

    Raises:
        gr.Error: it is another.
    """
    if path is not None and not Path(path).resolve().is_relative_to(Path(get_upload_folder()).resolve()):
        raise gr.Error("This image was not uploaded here.", print_exception=False)
    return path


def models_box(names: Sequence[str], chosen: Sequence[str]) -> gr.Dropdown:
    """The line-up: some of these, and what a visitor types."""
    box: Any = gr.Dropdown(
        list(names),
        value=list(chosen),
        multiselect=True,
        max_choices=LINE_UP,
        label="Models that play",
        info="Choose, or type the id of any vision model on the Hub: owner/name",
        elem_id="models",
        allow_custom_value=True,
        filterable=True,
    )
    box.preprocess = _model_names  # no other hook for what is posted
    return box


def number_box(value: float, label: str) -> gr.Number:
    """A number that the page itself sends."""
    box: Any = gr.Number(value, label=label, visible=False)
    box.preprocess = functools.partial(_number, label)  # Gradio's lets lists through
    return box


def _number(label: str, payload: Any) -> float:
    if isinstance(payload, bool) or not isinstance(payload, int | float) or not abs(payload) < 2**53:
        raise gr.Error(f"{label} must be a number.", print_exception=False)
    return payload


def _model_names(payload: Any) -> list[str]:
    names = [payload] if isinstance(payload, str) else payload
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or len(names) > LINE_UP:
        raise gr.Error(f"Name one to {LINE_UP} models, each of the list or owner/name.", print_exception=False)
    return list(dict.fromkeys(name.strip() for name in names))


def open_all(shelf: Shelf, names: Sequence[str], say: Say) -> list[Contestant]:
    """Every model of a line-up.

    Raises:
        ModelError: one cannot be had, or none is named.
    """
    if not names:
        raise ModelError("Name a model: choose one, or type the id of one on the Hub, owner/name.")
    return [shelf.open(name, say) for name in names]


def fitted_note(contestants: Sequence[Contestant], say: Say) -> str:
    """What their probes were fitted to, where that is not the same for all."""
    probes = {one.model.name: one.probes(say).fitted for one in contestants}
    fitted = {name: f"{of.count} of {of.images}" for name, of in probes.items()}
    if len(set(fitted.values())) < 2:
        return ""
    said = "; ".join(f"{name}: {images}" for name, images in fitted.items())
    return f"Their probes were fitted to different images, so compare with care: {said}."


def answer_box(elem_id: str, value: str = "") -> gr.HTML:
    """Where an answer goes; screen readers are told of changes."""
    return gr.HTML(value, elem_id=elem_id, apply_default_css=False, elem_classes="answer")


def preview(path: str | None) -> dict[str, Any]:
    """A photograph as boards show it: its address and its size on the page."""
    if path is None:
        return {"src": None}
    upload = open_upload(path)
    width, height = upload.shape
    return {"src": image_url(upload.image.resize((width, height))), "width": width, "height": height}
