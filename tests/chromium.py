"""A headless Chromium for tests of pages; what is missing skips a test, with the reason."""

import contextlib
import dataclasses
import io
import shutil

import numpy as np
import pytest
from PIL import Image

PATIENCE = 120_000  # milliseconds: pictures are drawn without a GPU


@dataclasses.dataclass
class Tab:
    """A page in the browser, what its console told, and the addresses it asked for."""

    page: object
    told: list
    asked: list

    def picture(self, selector="#canvas"):
        """Pixels (H, W, 3) of a part of the page, 0 to 255."""
        image = self.page.locator(selector).screenshot(timeout=PATIENCE)
        return np.asarray(Image.open(io.BytesIO(image)).convert("RGB"), float)

    def plays(self):
        """Wait until the player is there and its time moves."""
        self.page.wait_for_function("window.player !== undefined", timeout=PATIENCE)
        before = self.page.evaluate("player.seconds")
        self.page.wait_for_function(f"player.seconds !== {before}", timeout=PATIENCE)


@contextlib.contextmanager
def opened(address, width=1280, scheme="light"):
    """A tab with the page at an address; skips where playwright or Chromium is missing."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install -e '.[browser]'")
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no Chromium is installed (Debian: apt install chromium)")
    with api.sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=found, args=["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader"]
        )
        page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
        tab = Tab(page, [], [])
        page.on("console", lambda line: tab.told.append(line.text))
        page.on("pageerror", lambda error: tab.told.append(str(error)))
        page.on("request", lambda request: tab.asked.append(request.url))
        page.goto(address, timeout=PATIENCE)
        yield tab
        browser.close()
