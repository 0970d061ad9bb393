"""The list of faxes, and the page of one."""

import json
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from click.testing import CliRunner
from desk import Browser, path_of, sign_in, stocked
from house import House

from receiver.cli import main

NUMBER = "+12085550139"
SENT = {
    "jobid": "115893796",
    "commid": "5",
    "destname": "Anna Canary",
    "destnum": "2085550139",
    "shortstatus": "success",
    "longstatus": "Success",
    "sendtime": "2026-07-01 10:00:00",
    "completetime": "2026-07-01 10:01:00",
    "xmittime": "00:01:00",
    "pagecount": "1",
}


def take(at: House, reference: str = "", **changed: str) -> str:
    """The receipt of one callback."""
    return stocked(at).take("faxage", urlencode(SENT | changed).encode(), reference=reference)


def printed(at: House, *arguments: str) -> Any:
    """What the command prints as JSON."""
    return json.loads(CliRunner().invoke(main, [*arguments, "--json", "--config", str(at.config)]).stdout)


def test_an_empty_store_has_pages_too(desk_anywhere: House) -> None:
    browser = sign_in(desk_anywhere, "vera")
    assert "There is no such fax" in browser.words("/console/faxes")
    assert "Nothing is found" in browser.words("/console/faxes?q=0139")
    assert browser.get(path_of("d0fbe9d4-3aab-5a4e-8862-dee22a10cd24")).status == 404
    assert browser.get(path_of("x'\"<")).status == 404


def test_a_search_leads_to_the_fax_and_json_is_what_the_command_prints(desk_anywhere: House) -> None:
    at = desk_anywhere
    take(at, reference="order-4711")
    take(at, jobid="115893797", destnum="2085550140")
    (one, _) = rows = printed(at, "fax", "list")
    browser = sign_in(at, "vera")
    assert browser.json("/console/faxes") == rows
    for text in (NUMBER, "(208) 555-0139", "0139", "order-4711", "115893796"):
        found = browser.json(f"/console/faxes?q={quote(text)}")
        assert found == printed(at, "fax", text), text
    assert browser.json(path_of(one["fax_id"])) == printed(at, "fax", "show", one["fax_id"])
    assert len(browser.json(f"/console/faxes?q={quote('208 555')}")) == 0


def test_the_page_of_a_fax_tells_what_happened_and_what_to_do(desk: House) -> None:
    take(desk, reference="order-4711", shortstatus="failure", longstatus="The line was busy")
    take(desk, reference="order-4711", shortstatus="failure", longstatus="The line was busy")
    browser = sign_in(desk, "vera")
    (row,) = browser.json("/console/faxes")
    words = browser.words(path_of(row["fax_id"]))
    assert "Fax to ********39" in words
    assert "What to do now" in words
    assert words.count("Callback at endpoint faxage") == 2
    assert "accepted" in words
    assert "duplicate" in words
    assert "Completed: failed" in words
    take(desk, reference="order-4711", jobid="115893797")
    assert "Another fax with the same reference was delivered" in browser.words(path_of(row["fax_id"]))


def test_filters_and_the_page_stand_in_the_url(desk_anywhere: House) -> None:
    at = desk_anywhere
    for number in range(120):
        take(at, jobid=str(2000 + number), shortstatus="success" if number % 3 else "failure")
    browser = sign_in(at, "vera")
    seen: list[str] = []
    path = "/console/faxes?outcome=delivered&endpoint=faxage"
    while path:
        seen += [link for link in browser.links(path) if link.startswith("/console/faxes/")]
        path = next((link for link in browser.links(path) if "before=" in link and "format" not in link), "")
        path = path if len(seen) < 80 else ""
    assert seen == [path_of(row["fax_id"]) for row in printed(at, "fax", "list", "--outcome", "delivered")]
    assert len(seen) == 80
    assert "There is no such fax" in browser.words("/console/faxes?until=2026-01-01")
    assert "There is no such fax" in browser.words("/console/faxes?reason=busy")
    for bad in ("since=yesterday", "outcome=lost", "state=x", "before=x", "before=-1", "endpoint=%00"):
        assert browser.get(f"/console/faxes?{bad}").status == 422, bad


def test_what_is_rare_is_looked_for_in_parts(desk_anywhere: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("receiver.store.finding._WINDOW", 10)
    monkeypatch.setattr("receiver.web.console.faxes._MOST", 30)
    at = desk_anywhere
    take(at, jobid="1", shortstatus="failure")
    for number in range(1000, 1075):
        take(at, jobid=str(number))
    browser = sign_in(at, "vera")
    path, pages, seen = "/console/faxes?outcome=failed", 0, []
    while path:
        assert ("events were looked at" in browser.words(path)) == (pages < 2)
        links = browser.links(path)
        seen += [link for link in links if link.startswith("/console/faxes/")]
        path = next((link for link in links if "before=" in link and "format" not in link), "")
        pages += 1
    assert (pages, len(seen)) == (3, 1)


def test_csv_has_whole_rows_and_no_formula(desk: House) -> None:
    take(desk, reference="order-4711")
    browser: Browser = sign_in(desk, "vera")
    reply = browser.get("/console/faxes?format=csv")
    assert reply.headers["Content-Type"] == "text/csv; charset=utf-8"
    head, line = reply.body.decode("utf-8-sig").splitlines()
    assert head.startswith("fax_id,provider,account")
    assert "order-4711" not in line
    assert "********39" in line


def test_who_may_not_see_numbers_does_not_learn_them_digit_by_digit(desk: House) -> None:
    take(desk, destnum="2085550139")
    stocked(desk).project()
    viewer, privacy = sign_in(desk, "vera"), sign_in(desk, "paul")
    for ending, found in (("0139", (1, 1)), ("50139", (0, 1)), ("5550139", (0, 1)), ("+12085550139", (1, 1))):
        shown = [isinstance(who.json(f"/console/faxes?q={quote(ending)}"), dict) for who in (viewer, privacy)]
        assert tuple(map(int, shown)) == found, ending
    assert "has 4 digits here" in viewer.words("/console/faxes?q=50139")
