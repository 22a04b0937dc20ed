"""A visitor with a browser: what is clicked, and what must then be seen. Also makes the pictures of the documentation:

python tests/space/visitor.py ADDRESS docs/images       # of an app that runs, e.g. by `sp-hf demo`
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, BrowserContext, Page, Playwright, Route, expect, sync_playwright

SIZES = {"desktop": {"width": 1280, "height": 900}, "phone": {"width": 390, "height": 844}}
TABS = ("Play", "Where", "Patches", "Leaderboard")
_PATIENCE = 1000 * int(os.environ.get("SPACE_PATIENCE", "60"))  # ms; a machine that does much else needs more


def find_chromium() -> str | None:
    """The path of a browser that the system has installed; ``CHROMIUM`` names another."""
    return os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")


def start(playwright: Playwright) -> Browser:
    """A browser without a window."""
    expect.set_options(timeout=_PATIENCE)
    return playwright.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox", "--disable-gpu"])


class Visitor:
    """A page of the app, with what went wrong on it.

    Args:
        context: of a browser.
        address: of the app; every request to another host is cut off, and kept in ``strangers``.
    """

    def __init__(self, context: BrowserContext, address: str) -> None:
        self.strangers: list[str] = []
        self.problems: list[str] = []
        self.page: Page = context.new_page()
        self.page.set_default_timeout(_PATIENCE)
        self.page.route(lambda url: not url.startswith((address, "data:", "blob:")), self._cut_off)
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("console", lambda line: self.problems.append(line.text) if line.type == "error" else None)
        self.page.goto(address)
        expect(self.page.locator("#jigsaw-run")).to_be_visible()
        expect(self.page.locator("#strip button").first).to_have_attribute("aria-pressed", "true")

    def _cut_off(self, route: Route) -> None:
        self.strangers.append(route.request.url)
        route.abort()

    def tab(self, name: str) -> None:
        """Open a tab."""
        self.page.get_by_role("tab", name=name, exact=True).click()

    def upload(self, path: Path) -> None:
        """A photograph of one's own."""
        self.page.locator("input[type=file]").first.set_input_files(path)

    def choose(self, index: int) -> None:
        """One of the photographs."""
        button = self.page.locator("#strip button").nth(index)
        button.click()
        expect(button).to_have_attribute("aria-pressed", "true")

    @contextmanager
    def slow_server(self) -> Iterator[None]:
        """Whatever is asked meanwhile reaches the server at the end only; uploads do at once."""
        asked = re.compile("/gradio_api/(queue/join|run/)")
        held: list[Route] = []
        self.page.route(asked, lambda route: held.append(route))
        yield
        self.page.unroute(asked)
        for route in held:
            route.continue_()

    def press(self, name: str) -> None:
        """A button by its id."""
        self.page.locator(f"#{name}").click()

    def says(self, name: str, text: str) -> None:
        """A report reads so."""
        expect(self.page.locator(f"#{name}")).to_contain_text(text)

    @property
    def overflow(self) -> int:
        """How many px the page is wider than the screen."""
        return self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")

    def photograph(self, path: Path, whole: bool = True) -> None:
        """A screenshot, once pictures have loaded and nothing moves."""
        self.page.mouse.move(0, 0)
        self.page.wait_for_timeout(400)
        self.page.screenshot(path=path, full_page=whole, animations="disabled")


def ask_all(visitor: Visitor) -> dict[str, Callable[[], None]]:
    """By tab: press its button and wait for an answer that was not there before."""
    asked = {
        "Play": ("jigsaw-run", "#jigsaw-answer .mini-board"),
        "Where": ("where-run", "#where-answer .located"),
        "Patches": ("patches-run", "#patches-answer img"),
        "Leaderboard": ("board-run", "#board-answer table"),
    }

    def ask(tab: str) -> None:
        button, answer = asked[tab]
        visitor.tab(tab)
        visitor.press(button)
        expect(visitor.page.locator(answer).first).to_be_visible()

    return {tab: (lambda tab=tab: ask(tab)) for tab in TABS}


def photograph_all(address: str, folder: Path) -> None:
    """One picture of each tab, small: as a JPEG-like palette PNG."""
    from PIL import Image

    with sync_playwright() as playwright, start(playwright) as browser:
        visitor = Visitor(browser.new_context(viewport={"width": 1180, "height": 900}), address)
        for tab in TABS:
            visitor.tab(tab)
            if tab == "Play":
                visitor.press("jigsaw-many")
                visitor.says("jigsaw-score", "Of 50 puzzles")
            path = folder / f"space_{tab.lower()}.png"
            visitor.photograph(path)
            image = Image.open(path).convert("RGB")
            image = image.resize((900, round(900 * image.height / image.width)), Image.Resampling.LANCZOS)
            image.quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)
            print(path, f"{path.stat().st_size / 1000:.0f} KB")


if __name__ == "__main__":
    photograph_all(sys.argv[1].rstrip("/"), Path(sys.argv[2]))
