from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.end_to_end.stack import Stack, running
from tests.pages.browser import DESKTOP, chromium, program, watch

WAIT_MILLISECONDS = 30_000
"""How long what should appear may take: the machine may be busy."""
STORED = "cookies,local_storage,indexeddb"
"""What a page may store, besides what goes with it."""
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


@pytest.fixture(scope="module")
def context(browser: Browser, stack: Stack) -> Iterator[BrowserContext]:
    """What the pages of a file share: the files of the service, which a browser keeps."""
    context = browser.new_context(
        base_url=stack.url, viewport={"width": DESKTOP["width"], "height": DESKTOP["height"]}, reduced_motion="reduce"
    )
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext, stack: Stack, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A page on the service, of a browser in which nothing was stored but its files.

    It fails the test in which it complains of anything but what `@pytest.mark.complains(*texts)` says, or does not
    complain of each of these. When a complaint comes makes no difference: requests that go on in the background may
    be refused at any moment until the page is left.
    """
    marker = request.node.get_closest_marker("complains")
    expected: tuple[str, ...] = marker.args if marker else ()
    page = context.new_page()
    faults: list[str] = []
    page.set_default_timeout(WAIT_MILLISECONDS)
    expect.set_options(timeout=WAIT_MILLISECONDS)
    watch(page, faults)
    yield page
    context.new_cdp_session(page).send("Storage.clearDataForOrigin", {"origin": stack.url, "storageTypes": STORED})
    page.close()
    assert [fault for fault in faults if not any(text in fault for text in expected)] == []
    for text in expected:
        assert any(text in fault for fault in faults), f"nothing complained of {text!r}: {faults}"
