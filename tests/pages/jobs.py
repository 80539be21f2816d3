"""Jobs for the tests of pages: small ones, and one that takes long enough to be followed."""

from __future__ import annotations

import json
import re
from typing import Any

from playwright.sync_api import Locator, Page, expect

from tests.end_to_end.stack import Stack

MODEL = "shapes-sit"
QUICK = {"model": MODEL, "labels": [0, 11], "steps": 6}
LONG = {"model": MODEL, "labels": [0], "steps": 1000, "threshold": 0.05}
"""Some ten seconds or more; cancel it once it has been looked at."""
LONGER = LONG | {"labels": list(range(16))}
"""Several times as long, for what is to be seen running and cancelled on a slow machine."""
SECONDS = 90_000
"""How long a job may take, in milliseconds, on a machine that does other things too."""


def start(stack: Stack, path: str, **body: Any) -> str:
    """Posts a job; its id."""
    return str(stack.http.post(path, json=body).raise_for_status().json()["id"])


def finished(stack: Stack, path: str, **body: Any) -> dict[str, Any]:
    """Posts a job, and waits until it has succeeded."""
    job = stack.finished(start(stack, path, **body), seconds=SECONDS / 1000)
    assert job["status"] == "succeeded", job
    return job


def request_of(page: Page) -> dict[str, Any]:
    """The request as the page shows it."""
    return dict(json.loads(page.get_by_role("region", name="Copy the request as JSON").inner_text()))


def cell(page: Page, table: str, row: str, column: str) -> Locator:
    """A cell of a table by the names of its row and column."""
    found = page.get_by_role("table", name=table)
    expect(found).to_be_visible()
    headers = found.get_by_role("columnheader").all_inner_texts()
    place = next(index for index, header in enumerate(headers) if header.startswith(column))
    named = found.get_by_role("row").filter(has=page.get_by_role("rowheader", name=row, exact=True))
    return named.get_by_role("cell").nth(place - 1)


def tab_to(page: Page, name: str, kind: str = "*") -> None:
    """Presses Tab until the focus is on the element of this label or text; fails if it never is."""
    for _ in range(120):
        page.keyboard.press("Tab")
        focused = page.locator(f"{kind}:focus")
        if focused.count() and re.match(name, _name(focused)):
            return
    raise AssertionError(f"Tab does not reach {name}")


def _name(element: Locator) -> str:
    said = element.evaluate(
        "(e) => e.getAttribute('aria-label') || (e.labels && e.labels[0] && e.labels[0].innerText) || e.innerText || ''"
    )
    return str(said).strip()


def expect_status(page: Page, status: str) -> None:
    """The job of the page comes to this status, without the page being loaded again."""
    expect(page.locator(".page-head .badge")).to_have_text(status, timeout=SECONDS)


def unseen(page: Page) -> None:
    """The page is hidden, as it is by another tab."""
    page.evaluate("Object.defineProperty(document, 'hidden', {configurable: true, get: () => true})")
    page.evaluate("document.dispatchEvent(new Event('visibilitychange')) && undefined")


def seen(page: Page) -> None:
    """The page is shown again."""
    page.evaluate("delete document.hidden && document.dispatchEvent(new Event('visibilitychange')) && undefined")
