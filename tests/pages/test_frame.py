"""The frame around the views: addresses, navigation, theme, focus, and what a browser may load."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.end_to_end.stack import Stack
from tests.pages.browser import PHONE, assert_accessible, assert_accessible_in_both_themes, assert_fits, heading, shot


def test_the_frame_is_accessible_in_both_themes(page: Page) -> None:
    page.goto("/ui/")
    expect(page.get_by_role("heading", level=1, name="Models")).to_be_visible()
    expect(page).to_have_title("Models · tailprune")
    expect(page.get_by_text(re.compile(r"^1 worker, 0 queued"))).to_be_visible()
    assert_accessible_in_both_themes(page, "frame")


def test_a_browser_is_sent_from_the_root_to_the_pages(page: Page) -> None:
    page.goto("/")
    expect(page).to_have_url(re.compile(r"/ui/$"))


def test_following_a_link_changes_address_title_and_focus_and_back_returns(page: Page) -> None:
    page.goto("/ui/")
    page.get_by_role("link", name="shapes-sit", exact=True).click()
    expect(page).to_have_url(re.compile(r"/ui/models/shapes-sit"))
    expect(page).to_have_title("shapes-sit · tailprune")
    expect(page.get_by_role("heading", level=1)).to_be_focused()
    page.go_back()
    expect(page).to_have_url(re.compile(r"/ui/$"))
    expect(page.get_by_role("heading", level=1, name="Models")).to_be_focused()
    assert heading(page) == "Models"


def test_the_first_key_reaches_a_link_over_the_navigation_to_the_content(page: Page) -> None:
    page.goto("/ui/")
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to the content")
    expect(skip).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()


def test_the_chosen_theme_is_kept(page: Page) -> None:
    page.emulate_media(color_scheme="light")
    page.goto("/ui/")
    background = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)
    page.get_by_role("radio", name="Dark").check(force=True)
    dark = page.evaluate(background)
    assert dark != light
    page.reload()
    expect(page.get_by_role("radio", name="Dark")).to_be_checked()
    assert page.evaluate(background) == dark
    page.get_by_role("radio", name="Auto").check(force=True)
    assert page.evaluate(background) == light


def test_an_unknown_address_says_so_and_leads_back(page: Page) -> None:
    page.goto("/ui/nowhere/at/all")
    expect(page.get_by_role("heading", level=1, name="No such page")).to_be_visible()
    page.get_by_role("link", name="The models").click()
    expect(page.get_by_role("heading", level=1, name="Models")).to_be_visible()


def test_an_address_that_is_not_encoded_is_no_page(page: Page) -> None:
    page.goto("/ui/")
    page.evaluate("history.pushState(null, '', '/ui/models/%E0%A4'); dispatchEvent(new PopStateEvent('popstate'))")
    expect(page.get_by_role("heading", level=1, name="No such page")).to_be_visible()


def test_an_address_that_is_not_encoded_is_no_page_when_it_is_opened_either(page: Page) -> None:
    page.goto("/ui/models/%E0%A4")
    expect(page.get_by_role("heading", level=1, name="No such page")).to_be_visible()
    page.get_by_role("link", name="The models").click()
    expect(page.get_by_role("heading", level=1, name="Models")).to_be_visible()


def test_what_is_announced_is_told_at_once_again_if_it_is_the_same_and_at_last_if_it_is_too_much(page: Page) -> None:
    page.goto("/ui/nowhere")
    expect(page.get_by_role("heading", level=1, name="No such page")).to_be_visible()
    told = page.evaluate("""async () => {
      const app = document.querySelector("script[type=module]").src;
      const { announce } = await import(new URL("lib/parts.js", app));
      const told = [];
      const region = document.querySelector("#app > [role=status]");
      new MutationObserver(() => told.push(region.textContent))
        .observe(region, {childList: true, characterData: true, subtree: true});
      const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
      announce("first");
      await pause(300);
      for (let n = 0; n < 20; n += 1) { announce(`step ${n}`); await pause(100); }
      await pause(1500);
      announce("step 19");
      await pause(1500);
      return told;
    }""")
    assert told[0] == "first"
    assert len(told) < 15  # of 22
    assert [each.strip() for each in told[-2:]] == ["step 19", "step 19"]


def test_a_value_of_the_address_that_a_page_cannot_use_is_a_notice_with_a_way_out(page: Page) -> None:
    page.goto('/ui/new?model=shapes-sit&request={"labels":5}')
    expect(page.get_by_role("heading", level=1, name="This page cannot be shown")).to_be_visible()
    expect(page.get_by_role("alert")).to_be_visible()
    assert_accessible(page)
    page.get_by_role("link", name="Open it without").click()
    expect(page.get_by_role("button", name="Start the job")).to_be_visible()


def test_the_frame_fits_a_narrow_screen(page: Page) -> None:
    page.set_viewport_size(PHONE)
    page.goto("/ui/")
    expect(page.get_by_role("link", name="shapes-sit", exact=True)).to_be_visible()
    assert_fits(page)
    shot(page, "frame-phone")


@pytest.mark.complains("Content-Security-Policy: script-src-elem forbids inline", "Content Security Policy")
def test_an_inline_script_would_be_reported(page: Page) -> None:
    page.goto("/ui/")
    with page.expect_console_message(lambda message: "Content-Security-Policy:" in message.text):
        page.evaluate("document.body.append(Object.assign(document.createElement('script'), {textContent: 'bad = 1'}))")
    assert page.evaluate("typeof bad") == "undefined"


def test_every_file_of_a_page_is_of_the_service(page: Page, stack: Stack) -> None:
    loaded: list[str] = []
    page.on("request", lambda request: loaded.append(request.url))
    page.goto("/ui/")
    expect(page.get_by_role("link", name="shapes-sit", exact=True)).to_be_visible()
    assert loaded
    assert all(url.startswith(stack.url) for url in loaded)


def test_the_pages_work_under_the_prefix_of_a_proxy(page: Page, stack: Stack) -> None:
    with stack.another_service(TAILPRUNE_ROOT_PATH="/tail") as url:
        page.goto(f"{url}/tail/")
        expect(page).to_have_url(f"{url}/tail/ui/")
        page.get_by_role("link", name="shapes-sit", exact=True).click()
        expect(page.get_by_role("application")).to_be_visible()
        assert page.url.startswith(f"{url}/tail/ui/models/shapes-sit?")
        expect(page.get_by_text("of all components, over the ")).to_be_visible()
        page.goto("about:blank")  # nothing is under way when the service stops


@pytest.mark.complains("404")
def test_a_page_of_an_earlier_version_says_that_it_has_to_be_loaded_again(page: Page) -> None:
    page.route("**/views/compare.js", lambda route: route.fulfill(status=404))
    page.goto("/ui/")
    page.get_by_role("link", name="Compare").click()
    expect(page.get_by_role("alert")).to_contain_text("tailprune was probably updated since this page was opened")
    page.unroute("**/views/compare.js")
    page.get_by_role("link", name="Load the page again").click()
    expect(page.get_by_role("heading", level=1, name="Compare")).to_be_visible()
