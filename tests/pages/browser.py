"""A browser on the pages: Debian's Chromium, what it complains of, and axe, which checks accessibility."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import axe_playwright_python
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

REQUIRED = "CHROMIUM_IS_NEEDED"
"""Set where a missing browser is a failure, as it is in CI."""
SHOTS = "PAGE_SHOTS"
"""A folder into which `shot` writes pictures of the pages; by default it writes none."""
PROGRAMS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
"""The first without windows, which takes a quarter of the time of the others for a new page."""
OPTIONS = (
    "--no-sandbox",  # it has none where tests run as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 320, "height": 640}
AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text()
RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")
ON_VIOLATION = """addEventListener("securitypolicyviolation", (event) =>
  console.error(`Content-Security-Policy: ${event.violatedDirective} forbids ${event.blockedURI}`));"""


def program() -> str:
    """The path of Chromium; skips, or fails where one is required, if there is none."""
    found = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if found is None:
        (pytest.fail if os.environ.get(REQUIRED) else pytest.skip)(
            "no Chromium: apt-get install chromium-headless-shell"
        )
    return str(found)


@contextmanager
def chromium(*options: str) -> Iterator[Browser]:
    """A browser, with further options. Meanwhile an event loop of Playwright runs in this thread: no other can."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program(), args=[*OPTIONS, *options])
        yield browser
        browser.close()


def watch(page: Page, faults: list[str]) -> None:
    """Collect what the page complains of: errors of scripts, on the console, of its Content-Security-Policy."""
    page.add_init_script(ON_VIOLATION)
    page.on("console", lambda message: faults.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: faults.append(str(error)))


def assert_accessible(page: Page) -> None:
    """No violations of WCAG 2.2 AA, nor of axe's best practices, in the page as it is now."""
    if page.evaluate("typeof axe === 'undefined'"):
        page.evaluate(f"{AXE}; undefined")
    found = page.evaluate("(tags) => axe.run(document, {runOnly: tags, resultTypes: ['violations']})", list(RULES))
    said = [f"{each['id']}: {each['help']}\n{_shown(each['nodes'])}" for each in found["violations"]]
    assert not said, "\n".join(said)


def assert_accessible_in_both_themes(page: Page, name: str) -> None:
    """The same in either theme, which the page follows as it is; with a picture of each, of this name."""
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme)
        assert_accessible(page)
        shot(page, f"{name}-{theme}")


def _shown(nodes: list[dict[str, Any]]) -> str:
    return "\n".join(f"  {node['html']}\n  {node['failureSummary']}" for node in nodes)


def assert_fits(page: Page) -> None:
    """Nothing makes the page scroll sideways."""
    wide, seen = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert wide <= seen, f"{wide} pixels wide, {seen} are seen"


def heading(page: Page) -> str:
    """The heading that has the focus, as it has after a navigation."""
    return str(page.evaluate("document.activeElement?.tagName === 'H1' ? document.activeElement.textContent : ''"))


def shot(page: Page, name: str) -> None:
    """A picture of the whole page, if one is asked for."""
    if folder := os.environ.get(SHOTS):
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.evaluate("scrollTo(0, 0)")
        page.screenshot(path=Path(folder) / f"{re.sub(r'[^a-z0-9-]+', '-', name)}.png", full_page=True)
