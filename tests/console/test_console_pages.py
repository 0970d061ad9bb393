"""Every page: on an empty store, on a filled one, and that it says what the command line says."""

import json
import re
import threading
import tomllib
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from desk import BASIC, Browser, console, sign_in, stocked
from house import CONFIGURATION, House, house
from test_console_faxes import take

import receiver
from receiver import bootstrap
from receiver.cli import main
from receiver.showing.masking import masked
from receiver.store import discrepancies, jobs, now_ms
from receiver.store.discrepancies import Discrepancy
from receiver.store.jobs import ExpectedFax
from receiver.store.trouble import Limits
from receiver.web.console import rendering
from receiver.web.console.pages import PAGES

EMPTY = [page.rule for page in PAGES if "<" not in page.rule]
CANARIES = ("2085550139", "Canary", "order-4711", "8005550100", "Secret Sender")


def printed(at: House, *arguments: str) -> Any:
    """What the command prints as JSON, whatever its exit code."""
    is_json_anyway = arguments[:2] in [("dead-letters", "show"), ("receipts", "show")]
    options = [] if is_json_anyway else ["--json"]
    return json.loads(CliRunner().invoke(main, [*arguments, *options, "--config", str(at.config)]).stdout)


def fill(at: House) -> dict[str, str]:
    """Something on every page; by the names that the rules have for it."""
    made = stocked(at)
    receipt = take(at, reference="order-4711", shortstatus="failure", longstatus="Canary 2085550139 was busy")
    take(at, reference="order-4711", completetime="2026-07-01 10:09:00")
    take(at, jobid="115893797", reference="order-4711")
    made.take("openfax", b"AccountID=123456789&From=Secret+Sender")
    made.take("retarus", b'{"order-4711": 2085550139')
    made.fax(9, status="999", From="Secret Sender", To="Anna Canary")
    events = made.events()
    made.park(events[0]["id"])
    made.project()
    store = at.runtime.store
    rows = [{"dst": "2085550139", "name": "Anna Canary", "duration": 4}]
    account = ("faxage", "acme", "faxage")
    facts = {"recipient.number": "+12085550139", "reference.id": "order-4711", "sender.number": "+18005550100"}
    with store.writing() as connection:
        discrepancies.note(
            connection, store.tables, [Discrepancy(*account, "tally", "calls", {"calls": 3}, rows)], now_ms()
        )
        late = ExpectedFax(events[0]["fax_id"][:-4] + "0000", *account, "77", facts, now_ms() - 1000)
        jobs.register(connection, store.tables, [late], now_ms())
        discrepancies.note(connection, store.tables, [Discrepancy(*account, "missing", "77", {"faxes": 1})], now_ms())
    return {
        "fax_id": next(event["fax_id"] for event in events if event["receipt"] == receipt),
        "receipt_id": receipt,
        "event_id": events[0]["id"],
        "seq": "2",  # the first one is of the contradiction
    }


def named(rule: str, ids: dict[str, str]) -> str:
    return re.sub(r"<(?:int:)?(\w+)>", lambda found: ids[found[1]], rule)


def test_templates_and_style_are_in_the_package() -> None:
    folder = Path(receiver.__path__[0])
    patterns = tomllib.loads((folder.parent / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    packed = {path for pattern in patterns["receiver"] for path in folder.glob(pattern)}
    own = folder / "web" / "console"
    assert {path for path in own.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")} <= packed
    assert len(packed) > 15


def test_every_page_of_an_empty_store(desk_anywhere: House) -> None:
    browser = sign_in(desk_anywhere, "chef")
    for path in EMPTY:
        assert "faxhook" in browser.words(path), path
        assert browser.get(path, Accept="application/json").status == 200, path
    for path in ("/console/receipts/x", "/console/events/x", "/console/discrepancies/7", "/console/discrepancies/x"):
        assert browser.get(path).status == 404


def test_every_page_says_what_the_commands_say_and_nothing_personal(desk_anywhere: House) -> None:
    at = desk_anywhere
    ids = fill(at)
    browser = sign_in(at, "vera")
    for page in PAGES:
        if page.role != "viewer":
            continue
        path = named(page.rule, ids)
        for reply in (
            browser.get(path),
            browser.get(path, Accept="application/json"),
            browser.get(f"{path}?format=csv"),
        ):
            assert reply.status == 200, (path, reply.body)
            assert not [canary for canary in CANARIES if canary in reply.body.decode()], path
    same = {
        "/console/receipts": ("receipts", "list"),
        "/console/receipts?state=rejected": ("receipts", "list", "--state", "rejected"),
        "/console/events": ("events", "list"),
        "/console/events?state=dead": ("events", "list", "--state", "dead"),
        "/console/queue": ("dead-letters", "list"),
        "/console/expected": ("jobs", "list"),
        "/console/expected?overdue=1": ("jobs", "list", "--overdue"),
        "/console/endpoints": ("endpoints",),
        f"/console/faxes/{ids['fax_id']}": ("fax", "show", ids["fax_id"]),
        f"/console/events/{ids['event_id']}": ("dead-letters", "show", ids["event_id"]),
        f"/console/receipts/{ids['receipt_id']}": ("receipts", "show", ids["receipt_id"]),
    }
    for path, command in same.items():
        assert browser.json(path) == printed(at, *command), path
    found = browser.json("/console/discrepancies")
    assert [without_age(one) for one in found] == [without_age(one) for one in printed(at, "discrepancies", "list")]
    one = browser.json("/console/discrepancies/2")
    assert without_age(one) == without_age(printed(at, "discrepancies", "show", "2"))


def without_age(one: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in one.items() if name != "age_seconds"}


@pytest.mark.parametrize(
    ("path", "prefix", "count"),
    [
        ("/console/receipts", "/console/receipts/", 25),
        ("/console/receipts?endpoint=openfax", "/console/receipts/", 25),
        ("/console/events", "/console/events/", 25),
        ("/console/events?state=pending", "/console/events/", 19),
        ("/console/events?state=dead", "/console/events/", 6),
        ("/console/queue", "/console/events/", 6),
        ("/console/discrepancies", "/console/discrepancies/", 9),
        ("/console/expected", "/console/faxes/", 9),
        ("/console/audit", "", 0),
    ],
)
def test_lists_go_on_where_the_page_ends(
    stocked_desk: House, path: str, prefix: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("receiver.web.console.visiting.ON_A_PAGE", 4)
    browser = sign_in(stocked_desk, "vera")
    seen: list[str] = []
    pages, following = 0, path
    while following:
        links = browser.links(following)
        seen += [link for link in links if prefix and link.startswith(prefix)]
        following = next(
            (link for link in links if re.search("[?&](before|after)=", link) and "format" not in link), ""
        )
        pages += 1
        assert pages < 20
    assert len(seen) == len(set(seen)) == count
    assert pages == -(-count // 4) or not prefix
    for bad in ("before=x", "after=x", "after=1.", "since=x", "state=x"):
        status = browser.get(f"{path.partition('?')[0]}?{bad}").status
        assert status in (200, 422), bad


@pytest.fixture(scope="module")
def stocked_desk(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder: Path = tmp_path_factory.mktemp("desk")
    with console(folder, f"sqlite:///{folder}/store/faxhook.db") as at:
        made, store = stocked(at), at.runtime.store
        made.fill(25)
        made.park(*[event["id"] for event in made.events()][::4][:6])
        with store.writing() as connection:
            for number in range(9):
                one = Discrepancy("faxage", "acme", "faxage", "tally", f"day {number}")
                discrepancies.note(connection, store.tables, [one], now_ms() - number // 4)
            late = [
                ExpectedFax(
                    f"d0fbe9d4-3aab-5a4e-8862-dee22a10cd{n:02d}", "faxage", "acme", "faxage", str(n), {}, n // 4
                )
                for n in range(9)
            ]
            jobs.register(connection, store.tables, late, now_ms())
        yield at


def test_the_overview_says_what_needs_somebody(desk: House) -> None:
    browser = sign_in(desk, "vera")
    assert "Nothing: no dead letter" in browser.words("/console/")
    fill(desk)
    words = browser.words("/console/")
    assert "Events that could not be sent: 1." in words
    assert "a provider's counts differ from ours" in words
    desk.ask("POST", "/callbacks/openfax/wrong", b"x=1", Content_Type="text/plain")
    desk.runtime.refusals.tell()
    assert browser.json("/console/")["refused"] == [{"endpoint": "openfax", "reason": "wrong_token", "count": 1}]


def test_endpoints_show_when_they_were_called_and_what_ends(tmp_path: Path, sqlite_url: str) -> None:
    soon = f"{datetime.now(UTC) + timedelta(days=9):%Y-%m-%d}"
    credentials = f'[{{{{ id = "2026", user = "u", password = "p-0123456789", not_after = "{soon}" }}}}]'
    other = f'\n[endpoints.basic]\nprovider = "openfax"\nauth = {{{{ mode = "basic", credentials = {credentials} }}}}\n'
    with house(tmp_path, sqlite_url, CONFIGURATION + BASIC + other) as at:
        take(at)
        browser = sign_in(at, "vera")
        words = browser.words("/console/endpoints")
        assert f"Credential 2026 ends {soon} 00:00" in words
        assert "1 in two weeks" in words
        assert "p-0123456789" not in words
        assert browser.get("/console/endpoints").body.decode().count("<rect") > 14 * 3


def test_a_page_that_takes_too_long_is_given_up(
    tmp_path: Path, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    endless = "WITH RECURSIVE t(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM t) SELECT max(x) FROM t"

    def listing(connection: Any, *_: Any, **__: Any) -> Any:
        return connection.exec_driver_sql(endless).all()

    monkeypatch.setattr("receiver.store.browsing.audited", listing)
    assert bootstrap._OF_THE_CONSOLE.seconds == 2
    monkeypatch.setattr(bootstrap, "_OF_THE_CONSOLE", Limits(seconds=0.2, connections=2))
    with console(tmp_path, store_url) as at:
        browser = sign_in(at, "vera")
        reply = browser.get("/console/audit")
        assert reply.status == 503
        assert "longer than two seconds" in reply.body.decode()
        assert browser.get("/console/receipts").status == 200


def test_few_pages_read_at_once_and_the_others_are_asked_to_come_again(
    tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Semaphore(0), threading.Event()

    def listing(*_: Any, **__: Any) -> Any:
        begun.release()
        assert go_on.wait(60)
        return []

    monkeypatch.setattr("receiver.store.browsing.audited", listing)
    monkeypatch.setattr("receiver.web.console.dispatching._MOST_WAITING", 0)
    with console(tmp_path, sqlite_url) as at, ThreadPoolExecutor(2) as others:
        browser = sign_in(at, "vera")
        slow = [others.submit(Browser(at, browser.cookie).get, "/console/audit") for _ in range(2)]
        assert begun.acquire(timeout=60)
        assert begun.acquire(timeout=60)
        reply = browser.get("/console/receipts")
        assert (reply.status, reply.headers["Retry-After"]) == (503, "2")
        assert take(at), "callbacks are taken meanwhile"
        go_on.set()
        assert [one.result().status for one in slow] == [200, 200]
        assert browser.get("/console/receipts").status == 200


def test_a_number_that_no_database_has_is_nothing_and_no_fault_of_ours(desk: House) -> None:
    browser = sign_in(desk, "otto")
    much = "9" * 25
    for path in (f"/console/discrepancies/{much}", f"/console/discrepancies/{much}/close"):
        assert browser.get(path).status == 404
    assert browser.get(f"/console/discrepancies?after=1.{much}").status == 200


@pytest.mark.parametrize("text", ["=1+1", "a;=1+1", "a\n=1+1", "a\t @x", "\n=1+1"])
def test_no_cell_of_a_csv_is_a_formula_whatever_separates_them(text: str) -> None:
    assert rendering._cell(text) == f"'{text}"
    assert rendering._cell("-12.5") == "-12.5"


def test_a_code_that_may_be_a_number_is_hidden() -> None:
    for code, shown in (("NOANSWER +4930123456", "********"), ("-1", "-1"), ("success", "success"), (None, None)):
        assert masked({"data": {"provider_status": {"code": code}}})["data"]["provider_status"]["code"] == shown
