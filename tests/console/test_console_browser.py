"""The console in a real browser: each page in three widths, light and dark; without JavaScript, by keyboard alone."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from desk import console, sign_in
from house import House
from test_console_actions import HOSTILE, send
from test_console_pages import fill, named

from receiver.web.console.pages import ACTIONS, PAGES

pytestmark = [pytest.mark.campaign, pytest.mark.tool("chromium")]
WIDTHS, SCHEMES = (360, 768, 1280), ("light", "dark")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    # Here, since the quick suite reads this file as well.
    api = pytest.importorskip("playwright.sync_api", reason="the library playwright is not installed")
    with api.sync_playwright() as started:
        made = started.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture(scope="module")
def axe() -> Any:
    """What looks through a page for what keeps people out."""
    library = "axe_playwright_python.sync_playwright"
    return pytest.importorskip(library, reason="the library of axe-core is not installed").Axe()


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[House, list[str]]]:
    """A filled console and the paths of all its pages, those that ask before an action as well."""
    folder: Path = tmp_path_factory.mktemp("desk")
    with console(folder, f"sqlite:///{folder}/store/faxhook.db") as at:
        ids = fill(at)
        paths = [named(one.rule, ids) for one in (*PAGES, *ACTIONS)]
        yield at, [*paths, "/console/faxes?outcome=failed&reason=busy", "/console/faxes?q=0139", "/console/nothing"]


def signed_in(browser: Any, at: House, **options: Any) -> Any:
    """A page of somebody who has every role."""
    context = browser.new_context(**options)
    page = context.new_page()
    page.set_default_timeout(60_000)
    page.goto(f"http://localhost:{at.port}/console/")
    page.fill("#user", "chef")
    page.fill("#password", "chef-password")
    page.press("#password", "Enter")
    page.wait_for_selector("nav")
    return page


@pytest.mark.parametrize(("width", "scheme"), list(itertools.product(WIDTHS, SCHEMES)))
def test_axe_finds_nothing_and_nothing_is_wider_than_the_screen(
    browser: Any, axe: Any, shown: tuple[House, list[str]], width: int, scheme: str
) -> None:
    at, paths = shown
    page = signed_in(browser, at, viewport={"width": width, "height": 800}, color_scheme=scheme)
    refused: list[str] = []
    page.on("console", lambda message: refused.append(message.text))
    found = []
    for path in paths:
        page.goto(f"http://localhost:{at.port}{path}")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
        results = axe.run(page)
        assert len(results.response["passes"]) > 15, "it has looked"
        found += [(path, one["id"], one["nodes"][0]["html"][:200]) for one in results.response["violations"]]
    assert found == []
    assert [text for text in refused if "Content Security Policy" in text] == []
    page.context.close()
    page = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme).new_page()
    page.goto(f"http://localhost:{at.port}/console/sign-in")
    assert [one["id"] for one in axe.run(page).response["violations"]] == []
    page.context.close()


def test_the_keyboard_alone_finds_a_fax_and_reveals_it_without_javascript(
    browser: Any, shown: tuple[House, list[str]]
) -> None:
    at, _ = shown
    page = signed_in(browser, at, java_script_enabled=False)
    focus(page, "q")
    page.keyboard.type("order-4711")
    page.keyboard.press("Enter")
    page.wait_for_selector("caption")
    follow(page, "/console/faxes/")
    page.wait_for_selector(".history")
    follow(page, "/reveal")
    page.wait_for_selector(".confirm")
    press(page, "Reveal it")
    page.wait_for_selector(".history")
    assert "+12085550139" in page.inner_text("main")
    assert ("chef", "fax.reveal") in [row[:2] for row in _audited(at)]
    page.context.close()


def test_nothing_that_a_provider_sends_runs(browser: Any, tmp_path: Path, sqlite_url: str) -> None:
    with console(tmp_path, sqlite_url) as at:
        receipts = [one for number in range(0, 40, 5) for one in send(at, number, HOSTILE[number : number + 5])]
        page = signed_in(browser, at)
        ran: list[str] = []
        page.on("dialog", lambda dialog: (ran.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: ran.append(request.url) if "evil" in request.url else None)
        links = sign_in(at, "vera").links("/console/faxes")
        paths = [link for link in links if link.startswith("/console/faxes/")]
        paths += [f"/console/receipts/{receipt}" for receipt in receipts]
        for path in paths:
            page.goto(f"http://localhost:{at.port}{path}/reveal")
            if page.query_selector(".confirm button"):
                page.click(".confirm button")
                page.wait_for_selector("h1")
        page.goto(f"http://localhost:{at.port}/console/faxes")
        assert ran == []
        page.context.close()


def _audited(at: House) -> list[tuple[str, str]]:
    return [(row["actor"], row["action"]) for row in sign_in(at, "vera").json("/console/audit")]


def tabbed(page: Any) -> Iterator[Any]:
    """Each element that the tabulator leads to, once it has the focus and can be seen to have it."""
    for _ in range(120):
        page.keyboard.press("Tab")
        element = page.evaluate_handle("document.activeElement")
        outline = element.evaluate("one => getComputedStyle(one).outlineStyle")
        assert outline != "none", element.evaluate("one => one.outerHTML")
        yield element
    pytest.fail("there is no such element")


def focus(page: Any, its_id: str) -> None:
    next(one for one in tabbed(page) if one.evaluate("one => one.id") == its_id)


def follow(page: Any, part: str) -> None:
    next(one for one in tabbed(page) if part in (one.evaluate("one => one.getAttribute('href')") or ""))
    page.keyboard.press("Enter")


def press(page: Any, words: str) -> None:
    next(one for one in tabbed(page) if one.evaluate("one => one.textContent") == words)
    page.keyboard.press("Enter")
