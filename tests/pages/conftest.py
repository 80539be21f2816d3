from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.end_to_end.stack import Stack, running
from tests.pages.browser import DESKTOP, chromium, program, watch

WAIT_MILLISECONDS = 30_000
"""How long what should appear may take: the machine may be busy."""
REGISTRY = Path(__file__).parents[2] / "models" / "models.toml"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for the tests of a file; it is closed before those of another, which may run an event loop."""
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A service with one worker and the shipped models; it is not started where there is no browser."""
    program()
    with running(tmp_path_factory.mktemp("pages"), TAILPRUNE_REGISTRY=str(REGISTRY)) as stack:
        yield stack


@pytest.fixture
def faults() -> list[str]:
    """What the page has complained of; a test that expects something takes it out."""
    return []


@pytest.fixture
def page(browser: Browser, stack: Stack, faults: list[str]) -> Iterator[Page]:
    """A page of a browser that was never here, on the service; it fails the test that leaves a fault."""
    context = browser.new_context(
        base_url=stack.url, viewport={"width": DESKTOP["width"], "height": DESKTOP["height"]}, reduced_motion="reduce"
    )
    page = context.new_page()
    page.set_default_timeout(WAIT_MILLISECONDS)
    expect.set_options(timeout=WAIT_MILLISECONDS)
    watch(page, faults)
    yield page
    context.close()
    assert not faults
