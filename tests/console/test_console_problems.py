"""What was refused, in groups that can be processed again; and which provider fails."""

import random

import pytest
from desk import audited, sign_in, stocked, text
from house import House
from test_console_faxes import SENT, printed, take


def test_what_was_refused_is_grouped_and_processed_again_at_once(
    desk_anywhere: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = desk_anywhere
    made = stocked(at)
    refused = [take(at, jobid=str(number), shortstatus="frob") for number in range(5)]
    made.take("openfax", b"AccountID=1")
    made.take("retarus", b"{")
    browser = sign_in(at, "otto")
    found = {(one["endpoint"], one["state"], one["reason"]): one for one in browser.json("/console/problems")}
    assert {which: one["count"] for which, one in found.items()} == {
        ("faxage", "rejected", "unprocessable"): 5,
        ("openfax", "rejected", "unprocessable"): 1,
        ("retarus", "rejected", "undecodable"): 1,
    }
    assert "shortstatus" in found["faxage", "rejected", "unprocessable"]["fields"]
    path = next(
        link for link in browser.links("/console/problems?since=1h") if "problems/replay?endpoint=faxage" in link
    )
    assert "since=1h" in path
    monkeypatch.setattr("receiver.web.console.problems._REHEARSED", 3)
    words = browser.words(path)
    assert "Receipts that are processed again: 5." in words
    assert "Of the first 3, 3 would be refused again (unprocessable)." in words
    mend(at, refused)
    assert "Of the first 3, 3 would be accepted." in browser.words(path)
    late = take(at, jobid="77", shortstatus="frob")
    page = browser.get(path)
    assert "processed again: 6" in text(page)
    assert "They were processed again" in text(browser.submit(path))
    assert len(printed(at, "events", "list")) == 5
    replayed = [subject for _, action, subject in audited(at) if action == "receipts.replay"]
    assert sorted(replayed) == sorted([*refused, late])  # those of one millisecond have no order
    assert {one["count"] for one in browser.json("/console/problems") if one["endpoint"] == "faxage"} == {1}


def mend(at: House, receipts: list[str]) -> None:
    """What these hold can be read now, as after an upgrade."""
    table = at.runtime.store.tables.rejected_receipts
    with at.runtime.store.writing() as connection:
        for number, receipt in enumerate(receipts):
            body = "&".join(f"{name}={value}" for name, value in (SENT | {"jobid": str(number)}).items())
            values = {"body": body.replace(" ", "+").encode()}
            connection.execute(table.update().where(table.c.id == receipt).values(values))


def test_only_so_many_are_processed_at_once_and_none_that_came_later(
    desk: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("receiver.web.console.problems._AT_ONCE", 3)
    # Those of one millisecond have no order.
    receipts = sorted(take(desk, jobid=str(number), shortstatus="frob") for number in range(5))
    browser = sign_in(desk, "otto")
    path = "/console/problems/replay?endpoint=faxage&state=rejected&reason=unprocessable"
    assert "There are more" in browser.words(path)
    browser.submit(path)
    assert [subject for *_, subject in audited(desk)] == receipts[:3]
    fields = {"token": browser.token(), "endpoint": "faxage", "state": "rejected", "newest": receipts[0]}
    assert browser.post("/console/problems/replay", fields).status == 303
    assert [subject for *_, subject in audited(desk)] == [*receipts[:3], receipts[0]]
    assert browser.get("/console/problems/replay?state=accepted").status == 422
    assert "Nothing" in browser.words("/console/problems/replay?endpoint=nowhere")


def test_reports_are_the_figures_of_the_projector(desk_anywhere: House) -> None:
    at, chance = desk_anywhere, random.Random(7)
    for number in range(60):
        state = chance.choice(["success", "success", "failure"])
        stocked(at).fax(number, status=chance.choice(["0", "2", "999"]))
        take(at, jobid=str(number), shortstatus=state)
    stocked(at).project()
    browser = sign_in(at, "vera")
    for by in ("provider", "provider,reason", "endpoint", "hour", "country", "reason,provider"):
        expected = printed(at, "stats", "--since", "500d", "--by", by)
        assert browser.json(f"/console/reports?since=500d&by={by}") == expected
    words = browser.words("/console/reports?since=500d")
    assert "openfax 60" in words
    assert "faxage 60" in words
    assert browser.get("/console/reports?since=500d").body.count(b"<rect") > 2
    assert "openfax" in browser.get("/console/reports?since=500d&format=csv").body.decode()
    assert browser.get("/console/reports?by=name").status == 422
    assert "openfax" in browser.words("/console/problems")
