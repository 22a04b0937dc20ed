"""The page in a real browser, on a desk and on a phone, light and dark: every tab is used, and answers.

Screenshots are left in pytest's temporary folder (``space0``), or where ``SPACE_SCREENSHOTS`` says.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("gradio", reason="the Space needs Gradio: pip install 'sp-hf[demo]'")
pytest.importorskip("playwright", reason="a browser is driven by Playwright: pip install playwright")
from playwright.sync_api import Browser, Request, expect, sync_playwright  # noqa: E402

from .hostile import REFUSED, TAKEN  # noqa: E402
from .visitor import SIZES, Visitor, ask_all, find_chromium, start  # noqa: E402

pytestmark = pytest.mark.skipif(find_chromium() is None, reason="no browser: apt-get install chromium")


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


def brightness(path: Path) -> float:
    """Of the page's margin, 0 to 255."""
    return Image.open(path).convert("L").getpixel((2, 2))


LOOKS = [(size, scheme) for size in SIZES for scheme in ("light", "dark")]


@pytest.mark.parametrize("visitor", LOOKS, indirect=True, ids=["-".join(look) for look in LOOKS])
def test_every_tab_answers(visitor, screenshots, request):
    look = request.node.callspec.id
    for tab, ask in ask_all(visitor).items():
        ask()
        path = screenshots / f"{tab.lower()}-{look}.png"
        visitor.photograph(path)
        assert (brightness(path) > 200) == look.endswith("light")
        assert visitor.overflow <= 0


def tiles(visitor: Visitor):
    return visitor.page.locator("#jigsaw-board button")


def expect_order(visitor: Visitor, *order: int) -> None:
    expect(tiles(visitor)).to_have_count(len(order))
    for place, tile in enumerate(order):
        expect(tiles(visitor).nth(place)).to_have_attribute("aria-label", re.compile(f"^Tile {tile},"))


def test_jigsaw_is_solved_by_mouse_and_keyboard(visitor):
    visitor.page.get_by_label("2 x 2").check()
    visitor.changes(visitor.picture("jigsaw-solved"), lambda: visitor.press("jigsaw-run"))
    expect_order(visitor, 1, 2, 3, 4)
    tiles(visitor).nth(0).click()
    expect(tiles(visitor).nth(0)).to_have_attribute("aria-pressed", "true")
    tiles(visitor).nth(3).click()
    expect_order(visitor, 4, 2, 3, 1)
    for key in ("Enter", "ArrowLeft", "Enter"):  # the last place with the one left of it
        visitor.page.keyboard.press(key)
    expect_order(visitor, 4, 2, 1, 3)
    visitor.press("jigsaw-check")
    visitor.says("jigsaw-verdict", "the model")
    expect(visitor.page.locator("#jigsaw-board").locator("button.right, button.wrong")).to_have_count(4)
    visitor.says("jigsaw-verdict", f"You {visitor.page.locator('#jigsaw-board button.right').count()}")
    picture = visitor.picture("jigsaw-true")
    visitor.page.get_by_role("button", name="The truth").click()
    expect(picture).to_be_visible()
    assert picture.get_attribute("alt") == "The tiles in their true order"


def test_boxes_are_dragged_typed_and_moved_by_keys(visitor):
    visitor.tab("Where")
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
    drawn = visitor.picture("where-drawn")
    visitor.changes(drawn, lambda: visitor.press("where-run"))
    visitor.says("where-report", "The model is")
    first.fill("40, 40, 30, 30")
    visitor.changes(drawn, lambda: visitor.press("where-run"))


def test_a_patch_is_clicked_and_chosen_by_keys(visitor):
    visitor.tab("Patches")
    board = visitor.page.locator(".point-board")
    expect(board).to_be_visible()
    area, similarity = board.bounding_box(), visitor.picture("patches-similarity")
    visitor.changes(similarity, lambda: board.click(position={"x": area["width"] * 0.9, "y": area["height"] * 0.1}))
    visitor.says("patches-report", "row 1, column 4")
    board.focus()
    visitor.page.keyboard.press("ArrowDown")
    visitor.changes(similarity, lambda: visitor.page.keyboard.press("Enter"))
    visitor.says("patches-report", "row 2, column 4")


def test_two_models_and_every_question(visitor):
    visitor.tab("Compare")
    first, second = visitor.picture("compare-picture-1"), visitor.picture("compare-picture-2")
    for question in ("Jigsaw", "Where", "Similarity", "Components"):
        visitor.page.get_by_label(question, exact=True).check()
        visitor.changes(second, lambda: visitor.press("compare-run"))
        assert first.get_attribute("src") != second.get_attribute("src")
    visitor.says("compare-report-1", "Tiny ViT")
    visitor.says("compare-report-2", "Tiny DINOv2")


def test_images_are_uploaded_and_examples_chosen(visitor, tmp_path):
    board = visitor.page.locator("#where-board .box-board")
    shown = "node => node.style.backgroundImage + node.style.aspectRatio"
    visitor.tab("Where")
    expect(board).to_be_visible()
    before = board.evaluate(shown)
    name, content = TAKEN["cmyk"]
    (tmp_path / name).write_bytes(content)
    visitor.remove()
    visitor.upload(tmp_path / name)
    other = "old => { const node = document.querySelector('#where-board .box-board'); return !node.hidden"
    other += " && node.style.backgroundImage + node.style.aspectRatio !== old }"
    visitor.page.wait_for_function(other, arg=before)
    assert "480 / 320" in board.evaluate(shown)
    visitor.choose_example(2)
    expect(board).to_have_css("aspect-ratio", "480 / 480")


@pytest.mark.parametrize("kind", ["svg", "text in disguise", "1 pixel"])
def test_what_is_wrong_with_an_upload_is_told(visitor, tmp_path, kind):
    name, content, reason = REFUSED[kind]
    (tmp_path / name).write_bytes(content)
    visitor.remove()
    visitor.upload(tmp_path / name)
    expect(visitor.page.locator(".toast-wrap")).to_contain_text(reason)
    visitor.choose_example(0)
    visitor.changes(visitor.picture("jigsaw-solved"), lambda: visitor.press("jigsaw-run"))
    visitor.problems.clear()  # the browser could not show the broken picture, and says so


def asks(text: str, inputs: int) -> Callable[[Request], bool]:
    """Is it a question with so many inputs, this among them?"""
    return lambda request: (
        "/queue/join" in request.url and len(request.post_data_json["data"]) == inputs and text in request.post_data
    )


def test_an_example_is_asked_about_at_once(visitor):
    with visitor.slow_server(), visitor.page.expect_request(asks("Tiny ViT", 4)) as asked:
        visitor.page.locator("#examples button").nth(2).click()
        visitor.press("jigsaw-run")
    assert asked.value.post_data_json["data"][0]["path"].endswith(visitor.example(2))
    expect(visitor.picture("jigsaw-solved")).to_be_visible()


def test_an_example_chosen_while_an_upload_is_being_refused(visitor, tmp_path):
    name, content, reason = REFUSED["1 pixel"]
    (tmp_path / name).write_bytes(content)
    visitor.tab("Where")
    board = visitor.page.locator("#where-board .box-board")
    expect(board).to_be_visible()
    visitor.remove()
    expect(board).to_be_hidden()
    with visitor.slow_server():
        with visitor.page.expect_request(asks(name, 1)):
            visitor.upload(tmp_path / name)
        visitor.choose_example(2)
    expect(visitor.page.locator(".toast-wrap")).to_contain_text(reason)
    expect(board).to_be_visible()


def test_a_box_moved_while_an_image_is_opened_stays_there(visitor):
    visitor.tab("Where")
    board, box = visitor.page.locator("#where-board .box-board"), visitor.page.locator(".box.first")
    expect(box).to_be_visible()
    before = board.evaluate("node => getComputedStyle(node).backgroundImage")
    with visitor.slow_server():
        visitor.choose_example(2)
        box.focus()
        visitor.page.keyboard.press("ArrowRight")
    expect(board).not_to_have_css("background-image", before)
    expect(box).to_have_attribute("style", "left: 10%; top: 45%; width: 36%; height: 40%;")


def test_of_two_patches_the_last_one_is_answered(visitor):
    visitor.tab("Patches")
    board = visitor.page.locator(".point-board")
    expect(board).to_be_visible()
    area = board.bounding_box()
    with visitor.slow_server():
        with visitor.page.expect_request(asks("Tiny ViT", 4)):
            board.click(position={"x": area["width"] * 0.9, "y": area["height"] * 0.1})
        board.click(position={"x": area["width"] * 0.1, "y": area["height"] * 0.9})
    visitor.says("patches-report", "row 4, column 1")


def test_a_model_that_is_not_offered_is_told(visitor):
    model = visitor.page.locator("#model input")
    model.fill("../../etc")
    model.press("Enter")
    visitor.press("jigsaw-run")
    expect(visitor.page.locator(".toast-wrap")).to_contain_text("not one of the models here")


def test_everything_has_a_name_and_keys_reach_it(visitor):
    nameless = visitor.page.evaluate(
        """() => [...document.querySelectorAll("button, input, textarea, [tabindex='0']")]
        .filter(node => node.offsetParent && !(node.ariaLabel || node.title || node.innerText || node.closest("label")
                || node.labels?.length || node.getAttribute("aria-labelledby") || node.type === "file"))
        .map(node => node.outerHTML.slice(0, 200))"""
    )
    assert nameless == []
    visitor.page.locator("#jigsaw-run").focus()
    visitor.page.keyboard.press("Enter")
    expect(tiles(visitor).first).to_be_visible()
    visitor.page.get_by_role("tab", name="Jigsaw").focus()
    for key in ("Tab", "Enter"):
        visitor.page.keyboard.press(key)
    expect(visitor.page.locator("#where-run")).to_be_visible()
