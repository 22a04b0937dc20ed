"""What no page would send, by bare HTTP: every answer is a sentence, never ``{"error": null}``."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("gradio", reason="the Space needs Gradio: pip install gradio")
import httpx  # noqa: E402  # comes with Gradio

from .conftest import NAMES, PHOTO  # noqa: E402
from .hostile import TAKEN  # noqa: E402

ODD = [None, True, 1e300, "x", [[]], {}, {"path": 5}, [{"a": 1}]]
BOARD = {"seed": 3, "placed": [0, 1, 2, 3, 4, 5, 6, 7, 8]}
ENDPOINTS = {
    "jigsaw": ["IMAGE", "MODELS", BOARD, None],
    "puzzles": ["IMAGE", "MODELS", 2, 0, None],
    "shuffle": ["IMAGE", BOARD],
    "where": ["IMAGE", "MODELS", "8, 45, 36, 40", "52, 8, 38, 42"],
    "patches": ["IMAGE", "MODELS", 10, 90],
    "leaderboard": ["", None],
}


def answer(app: str, name: str, body: object) -> tuple[str, object]:
    """(event, its data) of a call; of one that was refused at once, ("refused", the answer)."""
    asked = httpx.post(f"{app}/gradio_api/call/{name}", json=body, timeout=60)
    if "event_id" not in asked.text:
        return "refused", asked.json()
    stream = httpx.get(f"{app}/gradio_api/call/{name}/{asked.json()['event_id']}", timeout=120).text
    last = stream.strip().split("\n\n")[-1]
    event, data = (line.partition(": ")[2] for line in last.splitlines()[:2])
    return event, json.loads(data)


@pytest.fixture(scope="module")
def image(app: str) -> dict:
    with open(PHOTO, "rb") as photo:
        path = httpx.post(f"{app}/gradio_api/upload", files={"files": photo}).json()[0]
    return {"path": path, "meta": {"_type": "gradio.FileData"}}


@pytest.mark.parametrize("name", ENDPOINTS)
def test_every_odd_argument_gets_a_sentence(app, image, name):
    usual = [{"IMAGE": image, "MODELS": NAMES[:2]}.get(given, given) if isinstance(given, str) else given
             for given in ENDPOINTS[name]]  # fmt: skip
    assert answer(app, name, {"data": usual})[0] == "complete"
    silent = []
    for index in range(len(usual)):
        for odd in ODD:
            event, data = answer(app, name, {"data": [*usual[:index], odd, *usual[index + 1 :]]})
            said = data.get("error") if isinstance(data, dict) else data
            if event == "error" and not (isinstance(said, str) and len(said) > 10):
                silent.append((index, odd, data))
    assert silent == []


@pytest.mark.parametrize("body", [{"data": []}, {"data": [1]}, {"data": None}, {"data": {}}, {}, [], 5, None, "x"])
def test_bodies_of_another_form_get_a_sentence(app, body):
    event, data = answer(app, "jigsaw", body)
    assert event in ("error", "refused")
    assert data != {"error": None} and len(json.dumps(data)) > 20


@pytest.mark.parametrize("name", ["photo.html", "photo", "photo.svg", "photo.js", "фото.jpg", "a b;c.HTM", ".html"])
def test_an_image_by_any_name_is_taken_and_never_served_as_a_page(app, name):
    files = {"files": (name, TAKEN["photo"][1], "text/html")}
    path = httpx.post(f"{app}/gradio_api/upload", files=files).json()[0]
    event, _ = answer(
        app, "jigsaw", {"data": [{"path": path, "meta": {"_type": "gradio.FileData"}}, NAMES[:1], BOARD, None]}
    )
    assert event == "complete"
    served = httpx.get(f"{app}/gradio_api/file={path}")
    kind, how = served.headers.get("content-type", ""), served.headers.get("content-disposition", "")
    assert kind.startswith("image/") and "svg" not in kind or how.startswith("attachment"), (kind, how)


def test_a_page_by_any_name_is_never_served_as_one(app):
    for name in ("page.html", "page.htm", "page.xhtml", "page.svg", "page.jpg", "page"):
        files = {"files": (name, b"<html><script>alert(1)</script></html>", "text/html")}
        path = httpx.post(f"{app}/gradio_api/upload", files=files).json()[0]
        served = httpx.get(f"{app}/gradio_api/file={path}")
        kind, how = served.headers.get("content-type", ""), served.headers.get("content-disposition", "")
        assert how.startswith("attachment") or kind.startswith("image/jpeg"), (name, kind, how)
