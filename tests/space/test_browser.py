"""The page in a real browser, on a desk and on a phone, light and dark: every tab is used, and answers.

Screenshots are left in pytest's temporary folder (``space0``), or where ``SPACE_SCREENSHOTS`` says.
"""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("gradio", reason="the Space needs Gradio: pip install gradio")
pytest.importorskip("playwright", reason="a browser is driven by Playwright: pip install playwright")
from playwright.sync_api import Browser, expect, sync_playwright  # noqa: E402

from .hostile import REFUSED, TAKEN  # noqa: E402
from .visitor import SIZES, TABS, Visitor, ask_all, find_chromium, start  # noqa: E402

pytestmark = pytest.mark.skipif(find_chromium() is None, reason="no browser: apt-get install chromium")
LOOKS = [("desktop", "light"), ("phone", "dark"), ("desktop", "dark"), ("phone", "light")]
TILES = "#jigsaw-board button"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright, start(playwright) as browser:
        yield browser


@pytest.fixture(scope="module")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    named = os.environ.get("SPACE_SCREENSHOTS")
    folder = Path(named) if named else tmp_path_factory.mktemp("space")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def visitor(browser: Browser, app: str, request: pytest.FixtureRequest) -> Iterator[Visitor]:
    """On a desk, unless the test says otherwise; nothing may go wrong, and nobody else be asked."""
    size, scheme = getattr(request, "param", ("desktop", "light"))
    context = browser.new_context(viewport=SIZES[size], color_scheme=scheme, has_touch=size == "phone")
    visitor = Visitor(context, app)
    yield visitor
    assert visitor.strangers == [] and visitor.problems == [] and visitor.overflow <= 0
    context.close()


@pytest.fixture(scope="module")
def axe() -> str:
    """The script of axe-core, which finds what people with disabilities cannot use."""
    found = importlib.util.find_spec("axe_playwright_python")
    if found is None or found.origin is None:
        pytest.skip("axe-core comes with axe-playwright-python: pip install axe-playwright-python")
    return (Path(found.origin).parent / "axe.min.js").read_text(encoding="utf-8")


@pytest.mark.parametrize("visitor", LOOKS, indirect=True, ids=["-".join(look) for look in LOOKS])
def test_every_tab_answers_and_is_accessible(visitor, screenshots, request, axe):
    look = request.node.callspec.id
    visitor.page.evaluate(axe)
    for tab, ask in ask_all(visitor).items():
        ask()
        path = screenshots / f"{tab.lower()}-{look}.png"
        visitor.photograph(path)
        assert (Image.open(path).convert("L").getpixel((2, 2)) > 200) == look.endswith("light")
        assert visitor.overflow <= 0
        found = visitor.page.evaluate("axe.run({ resultTypes: ['violations'] })")["violations"]
        assert [(f["id"], [node["html"][:200] for node in f["nodes"][:3]]) for f in found] == []


def test_the_answer_is_near_the_button_on_a_phone(browser, app):
    visitor = Visitor(browser.new_context(viewport=SIZES["phone"], has_touch=True), app)
    for tab, ask in ask_all(visitor).items():
        ask()
        names = {"Play": "jigsaw", "Where": "where", "Patches": "patches", "Leaderboard": "board"}
        button, answer = (visitor.page.locator(f"#{names[tab]}-{what}").bounding_box() for what in ("run", "answer"))
        assert 0 < answer["y"] - button["y"] - button["height"] < 140, tab


def expect_order(visitor: Visitor, *order: int) -> None:
    expect(visitor.page.locator(TILES)).to_have_count(len(order))
    for place, tile in enumerate(order):
        expect(visitor.page.locator(TILES).nth(place)).to_have_attribute("aria-label", re.compile(f"^Tile {tile},"))


def sheet(visitor: Visitor) -> str:
    return visitor.page.locator(TILES).first.evaluate("node => node.style.backgroundImage")


def test_a_puzzle_is_played_by_mouse_and_keys_shuffled_and_counted(visitor):
    page = visitor.page
    expect_order(visitor, *range(1, 10))
    page.locator(TILES).nth(0).click()
    page.locator(TILES).nth(3).click()
    expect_order(visitor, 4, 2, 3, 1, 5, 6, 7, 8, 9)
    for key in ("Enter", "ArrowRight", "Enter"):  # the fourth place with the one right of it
        page.keyboard.press(key)
    expect_order(visitor, 4, 2, 3, 5, 1, 6, 7, 8, 9)
    visitor.press("jigsaw-run")
    visitor.says("jigsaw-score", "Of 1 puzzle, tiles right of 9: you ")
    expect(page.locator("#jigsaw-answer .mini-board")).to_have_count(3)
    right = page.locator("#jigsaw-board button.right").count()
    assert right + page.locator("#jigsaw-board button.wrong").count() == 9
    visitor.says("jigsaw-score", f"you {right}.0")
    before = sheet(visitor)
    visitor.press("jigsaw-shuffle")
    page.wait_for_function(f"old => document.querySelector('{TILES}').style.backgroundImage !== old", arg=before)
    visitor.says("jigsaw-answer", "then compare with the models")  # no stale answer beside a new puzzle
    visitor.press("jigsaw-many")
    visitor.says("jigsaw-score", "Of 51 puzzles, tiles right of 9: Tiny ViT")
    before = sheet(visitor)
    visitor.press("jigsaw-next")
    expect(page.locator("#strip button").nth(1)).to_have_attribute("aria-pressed", "true")
    page.wait_for_function(f"old => document.querySelector('{TILES}').style.backgroundImage !== old", arg=before)


def test_boxes_are_dragged_typed_and_moved_by_keys(visitor):
    visitor.tab("Where")
    visitor.page.get_by_role("button", name="The boxes as numbers").click()
    first, box = visitor.page.locator("#where-first input, #where-first textarea"), visitor.page.locator(".box.first")
    expect(box).to_be_visible()
    start, board = first.input_value(), visitor.page.locator(".box-board").bounding_box()
    area = box.bounding_box()
    x, y = area["x"] + area["width"] / 2, area["y"] + area["height"] / 2
    visitor.page.mouse.move(x, y)
    visitor.page.mouse.down()
    visitor.page.mouse.move(x + board["width"] / 5, y - board["height"] / 10, steps=4)
    visitor.page.mouse.up()
    expect(first).not_to_have_value(start)
    left, top, width, height = (float(n) for n in first.input_value().split(","))
    assert (left, top) == (pytest.approx(28, abs=1), pytest.approx(35, abs=1)) and (width, height) == (36, 40)
    box.focus()
    visitor.page.keyboard.press("ArrowRight")
    expect(first).to_have_value(f"{left + 2:g}, {top:g}, 36, 40")
    visitor.page.keyboard.press("Shift+ArrowDown")
    expect(first).to_have_value(f"{left + 2:g}, {top:g}, 36, 42")
    first.fill("0, 0, 50, 50")
    expect(box).to_have_attribute("style", "left: 0%; top: 0%; width: 50%; height: 50%;")
    visitor.press("where-run")
    expect(visitor.page.locator("#where-answer .guess")).to_have_count(5)  # both crops, and three guesses
    visitor.says("where-answer", "Tiny DINOv2")


def test_a_patch_is_clicked_and_chosen_by_keys_in_all_models_at_once(visitor):
    visitor.tab("Patches")
    board = visitor.page.locator(".point-board")
    expect(board).to_be_visible()
    area = board.bounding_box()
    board.click(position={"x": area["width"] * 0.9, "y": area["height"] * 0.1})
    expect(visitor.page.locator("#patches-answer article")).to_have_count(3)
    visitor.says("patches-answer", "Patch in row 1, column 4 of 4 x 4")
    board.focus()
    visitor.page.keyboard.press("ArrowDown")
    visitor.page.keyboard.press("Enter")
    visitor.says("patches-answer", "Patch in row 2, column 4")
    with visitor.slow_server():
        board.click(position={"x": area["width"] * 0.9, "y": area["height"] * 0.1})
        board.click(position={"x": area["width"] * 0.1, "y": area["height"] * 0.9})
    visitor.says("patches-answer", "Patch in row 4, column 1")  # of two, the last is answered


def test_another_photograph_takes_every_answer_with_it(visitor, tmp_path):
    for ask in (ask for tab, ask in ask_all(visitor).items() if tab != "Leaderboard"):
        ask()
    board = visitor.page.locator("#where-board .box-board")
    before = board.evaluate("node => node.style.backgroundImage")
    with visitor.slow_server():  # at once, before the server knows of it
        visitor.choose(2)
        for name in ("jigsaw", "where", "patches"):
            expect(visitor.page.locator(f"#{name}-answer .waiting")).to_have_count(1)
        visitor.tab("Where")
        visitor.page.locator(".box.first").focus()
        visitor.page.keyboard.press("ArrowRight")
    visitor.page.wait_for_function(
        "old => document.querySelector('#where-board .box-board').style.backgroundImage !== old", arg=before
    )
    expect(visitor.page.locator(".box.first")).to_have_attribute(
        "style", "left: 10%; top: 45%; width: 36%; height: 40%;"
    )
    name, content = TAKEN["cmyk"]
    (tmp_path / name).write_bytes(content)
    visitor.upload(tmp_path / name)
    expect(board).to_have_css("aspect-ratio", "480 / 320")
    expect(visitor.page.locator("#strip button[aria-pressed=true]")).to_have_count(0)
    visitor.tab("Play")
    visitor.press("jigsaw-run")
    expect(visitor.page.locator("#jigsaw-answer .mini-board")).to_have_count(3)


def test_what_is_wrong_is_told(visitor, tmp_path):
    name, content, reason = REFUSED["1 pixel"]
    (tmp_path / name).write_bytes(content)
    visitor.upload(tmp_path / name)
    expect(visitor.page.locator(".toast-wrap")).to_contain_text(reason)
    expect(visitor.page.locator(TILES)).to_have_count(0)
    visitor.choose(1)
    expect(visitor.page.locator(TILES)).to_have_count(9)
    visitor.page.get_by_role("button", name="Models: Tiny ViT").click()
    models = visitor.page.locator("#models input")
    models.fill("../../etc")
    models.press("Enter")
    visitor.press("jigsaw-run")
    expect(visitor.page.locator(".toast-wrap")).to_contain_text("not one of the models here")


def test_keys_reach_everything(visitor):
    page = visitor.page
    page.locator("#strip button").nth(0).focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#strip button").nth(1)).to_have_attribute("aria-pressed", "true")
    page.get_by_role("tab", name=TABS[0]).focus()
    for key in ("Tab", "Enter"):
        page.keyboard.press(key)
    expect(page.locator("#where-run")).to_be_visible()
    page.locator("#where-run").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#where-answer .guess")).to_have_count(5)
