"""Openfax's report by date and its credit: what is asked, where reading goes on, what each answer comes to."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from flask import Flask, Response, request
from house import TOKEN, house, serving
from ports import listener
from providers.samples import FIXTURES, event, sample
from standins import openfax
from standins.world import SentFax, World, standing

from receiver import facts, providers, stations
from receiver.errors import AccountMismatch, Inbound, ReportTrouble, Unprocessable
from receiver.providers import Ask, Client, Source
from receiver.reconcile import Choice, reconcile
from receiver.system.stopping import Stop
from schemas.event import Pages, Recipient, Sender, TimeQuality
from schemas.identity import fax_id

OPENFAX = providers.load()["openfax"]
(REPORT,) = OPENFAX.reports.records
ACCOUNT, KEY = "123456789", "IEYRtw2cd8aGa54"
NOW = datetime(2026, 7, 15, 18, 30, tzinfo=UTC)


def ask(url="", cursor=None, **changes):
    window = {"begin": NOW - timedelta(days=1), "end": NOW, "jobs": (), "zone": None} | changes
    return Ask(ACCOUNT, cursor=cursor, options={"api_key": KEY, "url": url, "low_credit": ""}, **window)


def calling(function, asked, budget=50):
    """What a fetch of the provider gives, over a client that does not wait."""
    client = Client("Openfax", budget, lambda _seconds: False)
    try:
        found = function(asked, client)
        return found if isinstance(found, Decimal) else list(found)
    finally:
        client.close()


def answering(*answers, function=REPORT.fetch, **changes):
    """Fetched from an Openfax that gives these answers in turn and then empty lists; and what it was asked."""
    app, asked = Flask("openfax"), []

    @app.post("/<page>")
    def answer(page):
        assert not request.args
        asked.append(request.form.to_dict() | {"page": page})
        body = answers[len(asked) - 1] if len(asked) <= len(answers) else []
        return Response(body if isinstance(body, bytes | str) else json.dumps(body), content_type="text/html")

    with listener() as sock, serving(app, sock) as port:
        return calling(function, ask(f"http://127.0.0.1:{port}", **changes)), asked


def answer(name):
    return (FIXTURES / "openfax" / name).read_bytes()


def record(call_id, fax=779029, state=8, **more):
    return {"HistoryOutboundFaxID": call_id, "OutTransID": fax, "AccountID": int(ACCOUNT), "CurrentState": state} | more


def events(rows):
    found = []
    for row in rows:
        data, _ = stations.check(REPORT.shape(row), REPORT.schema)
        found += REPORT.normalise(data, Source(ACCOUNT, None, "US"))
    return found


def told(pages):
    return events(row for page in pages for row in page.rows)


# --- what a row comes to -------------------------------------------------------------------------------------------


def test_each_finalized_record_of_the_sample_is_an_event():
    pages, _ = answering(answer("poll_outbound_details_summary.json"))
    found = told(pages)
    assert [(one.key, one.outcome, one.failure and one.failure.reason) for one in found] == [
        (("779029",), "delivered", None),
        (("779030",), "failed", "unknown"),
        (("779031",), "failed", "document_conversion"),
        (("779032",), "canceled", None),
    ]
    first, failed, unconverted, _ = found
    assert first.recipient == Recipient("+15555551212", "15555551212", "Jones Smith")
    assert first.sender == Sender("Mike T.", "+17205550121")
    assert (first.pages, first.attempts, first.provider_job_id) == (Pages(2, 2), 1, "779029")
    assert (first.status_code, first.status_text) == ("8", "CurrentState")
    assert (first.completed_at, first.time_quality, first.duration_seconds) == (None, TimeQuality.NONE, None)
    assert (failed.pages, failed.attempts) == (Pages(2, None), 3)
    assert (unconverted.pages, unconverted.attempts) == (Pages(0, None), 0)


def test_of_several_calls_the_last_is_told_and_what_is_not_final_is_not():
    pages, _ = answering(answer("poll_outbound_details_detail.json"), cursor="0")
    assert [(one.key, one.attempts) for one in told(pages)] == [(("779030",), 3)]


def test_no_records_are_no_events():
    assert told(answering(answer("poll_outbound_details_empty.json"))[0]) == []


@pytest.mark.parametrize(
    ("state", "status", "expected"),
    [
        (9, 2, ("failed", "busy", "2")),
        (9, "01", ("failed", "no_answer", "01")),
        (10, 8, ("failed", "document_conversion", "8")),
        (8, 0, ("delivered", None, "0")),
        (13, -1, ("canceled", None, "13")),
        (9, -1, ("failed", "unknown", "9")),
        (9, 77, ("failed", "unknown", "77")),
        (8, None, ("delivered", None, "8")),
        (8, "", ("delivered", None, "8")),
        (13, 2, ("canceled", None, "13")),
    ],
)
def test_a_last_status_says_how_a_final_fax_ended(state, status, expected):
    (found,) = events([record(1, state=state, LastStatus=status)])
    assert (found.outcome, found.failure and found.failure.reason, found.status_code) == expected


@pytest.mark.parametrize(("state", "status"), [(9, 0), (10, "00"), (13, 0), (8, 2), (8, 9)])
def test_where_state_and_last_status_disagree_on_delivery_nobody_can_tell(state, status):
    (found,) = events([record(1, state=state, PageCount=2, LastStatus=status)])
    assert (found.outcome, found.failure, found.pages.sent) == ("unconfirmed", None, None)
    assert (found.status_code, found.status_text) == (str(state), f"CurrentState; LastStatus {status}")
    assert REPORT.is_listed(found)


def test_a_last_status_says_nothing_of_a_fax_that_is_not_final():
    assert events([record(1, state=7, LastStatus=2)]) == []


def test_a_row_of_a_fax_that_came_in_is_left_out_and_holds_nothing_back():
    with pytest.raises(Inbound):
        stations.understand(REPORT, record(1, Direction="IN"), Source(ACCOUNT, None, "US"))
    pages, _ = answering([record(1, state=1, direction="inbound"), *LATER], cursor="0")
    assert [page.cursor for page in pages] == ["1"]


def test_a_number_has_its_country_code():
    assert events([record(1, FaxNumber=861069445000)])[0].recipient.number == "+861069445000"
    assert events([record(1)])[0].recipient.number is None


def test_a_record_of_another_account_is_refused():
    with pytest.raises(AccountMismatch):
        events([record(1, AccountID=987654321)])
    assert events([record(1, AccountID=None)])[0].account == ACCOUNT


@pytest.mark.parametrize(
    "changes", [{"CurrentState": "Finalized"}, {"CurrentState": 14}, {"OutTransID": ""}, {"LastStatus": "busy"}]
)
def test_a_record_that_cannot_be_trusted_is_refused(changes):
    with pytest.raises(Unprocessable) as caught:
        events([record(1) | changes])
    assert list(caught.value.fields) == list(changes)


def test_a_record_and_the_postback_of_one_fax_agree():
    postback = event("openfax", sample("openfax/01_success.form"))
    (row,) = events([record(1, FaxNumber=15555551212, PageCount=2, ToHeader="My Customer", FromHeader="My Company")])
    assert (row.account, row.key) == (postback.account, postback.key)
    merged = facts.merge(facts.of(postback), facts.of(row))
    assert merged.changed == ("recipient.number", "pages.total")
    assert not merged.conflict
    busy = event("openfax", sample("openfax/03_failed_busy.form"))
    (row,) = events([record(1, fax=busy.key[0], state=9)])
    merged = facts.merge(facts.of(busy), facts.of(row))
    assert (merged.changed, merged.conflict, merged.facts["failure"]["reason"]) == ((), False, "busy")


# As many calls as the cursor stays behind the highest id: it can reach the last call before them, and no further.
LATER = [record(call_id, fax=call_id) for call_id in range(50001, 50301)]


# --- what is asked, and where reading goes on ------------------------------------------------------------------------


def test_a_window_without_a_cursor_is_asked_for_its_finalized_records_and_a_day_more():
    pages, (asked, _) = answering([record(1)])
    assert asked == {
        "page": "outboundDetailsbyDate.php",
        "AccountID": ACCOUNT,
        "APIKey": KEY,
        "FromDate": "2026-07-13",
        "ToDate": "2026-07-16",
        "DetailType": "0",
        "LastHistoryID": "0",
        "Limit": "1000",
    }
    assert [page.cursor for page in pages] == [None, "0"]


def test_behind_a_cursor_every_call_is_asked_for():
    pages, (asked, _) = answering([record(8), record(9, fax=2), *LATER], cursor="7")
    assert (asked["DetailType"], asked["LastHistoryID"]) == ("1", "7")
    assert [page.cursor for page in pages] == ["9"]


def test_a_call_that_is_shown_late_is_read_and_the_cursor_never_goes_back():
    shown = [record(number, fax=number) for number in (1, 2, 4)]
    pages, _ = answering(shown, cursor="0")
    assert [page.cursor for page in pages] == ["0"]
    shown.insert(2, record(3, fax=3))
    pages, _ = answering([*shown, *LATER[:-1]], cursor="0")
    assert ("3",) in [one.key for one in told(pages)]
    assert [page.cursor for page in pages] == ["3"]
    assert [page.cursor for page in answering([shown[-1], *LATER[:9]], cursor="3")[0]] == ["3"]


def test_a_call_that_is_shown_late_and_is_not_final_is_waited_for():
    pages, _ = answering([record(8), record(9, fax=2), record(11, fax=4), *LATER], cursor="7")
    assert [page.cursor for page in pages] == ["11"]
    late = [record(50000, fax=3, state=5), *LATER, *(record(number, fax=number) for number in range(50301, 50401))]
    pages, _ = answering(late, cursor="11")
    assert [page.cursor for page in pages] == ["49999"]


def test_the_cursor_waits_for_a_fax_that_is_not_final():
    rows = [record(8), record(9, fax=2, state=5), record(10, fax=3), record(11, fax=4, state=11)]
    pages, _ = answering([*rows, *LATER], cursor="7")
    assert [page.cursor for page in pages] == ["8"]
    pages, _ = answering([record(9, fax=2, state=8), *rows[2:], *LATER], cursor="8")
    assert [page.cursor for page in pages] == ["10"]
    assert [one.key for one in told(pages)][:2] == [("2",), ("3",)]


def test_the_cursor_does_not_wait_for_a_call_that_has_a_later_one():
    pages, _ = answering([record(8, state=7), record(9, state=7), record(10, state=9), *LATER], cursor="7")
    assert [page.cursor for page in pages] == ["10"]


@pytest.mark.parametrize("state", [14, "Finalized", None])
def test_the_cursor_waits_for_a_state_that_nobody_knows(state):
    pages, _ = answering([record(8), record(9, fax=2, state=state), *LATER], cursor="7")
    assert [page.cursor for page in pages] == ["8"]


def test_reading_goes_on_with_the_highest_id_while_the_cursor_waits():
    first = [record(1, fax=1, state=7), *(record(number, fax=number) for number in range(2, 1001))]
    pages, asked = answering(first, [record(1001, fax=1, state=8)], cursor="0")
    assert [one["LastHistoryID"] for one in asked] == ["0", "1000", "1001"]
    assert [len(page.rows) for page in pages] == [500, 500, 1]
    assert [page.cursor for page in pages] == ["0", "0", "701"]
    assert len(told(pages)) == 1000


@pytest.mark.parametrize("cursor", [None, "0"])
def test_a_smaller_limit_of_openfax_is_not_the_end(cursor):
    rows = [record(number, fax=number) for number in range(1, 1201)]
    pages, asked = answering(rows[:500], rows[500:1000], rows[1000:], cursor=cursor)
    assert len(told(pages)) == 1200
    assert [one["LastHistoryID"] for one in asked] == ["0", "500", "1000", "1200"]


@pytest.mark.parametrize("again", [[record(9)], [record(8), record(9)], []])
def test_an_answer_without_a_higher_id_is_the_end(again):
    pages, asked = answering([record(8), record(9, fax=2)], again, cursor="7")
    assert [one["LastHistoryID"] for one in asked] == ["7", "9"]
    assert len(told(pages)) == 2


def test_a_fax_that_never_ends_holds_back_so_many_calls_and_no_more():
    lists = [[record(1, fax=1, state=11), *(record(number, fax=number) for number in range(2, 1001))]]
    for start in range(1001, 21001, 1000):
        lists.append([record(number, fax=number) for number in range(start, start + 1000)])
    pages, _ = answering(*lists, cursor="0")
    assert {page.cursor for page in pages[:40]} == {"0"}
    assert pages[-1].cursor == "20700"


@pytest.mark.parametrize("call_id", ["9" * 4400, "?", None])
def test_an_id_that_cannot_be_read_stops_nothing(call_id):
    pages, _ = answering([record(call_id), record(9, fax=2)], cursor="7")
    (page,) = pages
    assert [row["OutTransID"] for row in page.rows] == [779029, 2]


def test_a_full_list_that_is_not_by_id_is_trouble():
    rows = [record(number, fax=number) for number in range(1000, 0, -1)]
    for full in (rows, [record("?", fax=number) for number in range(1000)]):
        with pytest.raises(ReportTrouble, match="by id") as caught:
            answering(full)
        assert caught.value.kind == "unreadable"
    with pytest.raises(ReportTrouble, match="LastHistoryID"):
        answering(rows[::-1], rows[::-1])
    assert len(told(answering(rows[1:])[0])) == 999  # all there is, in any order


# --- what goes wrong -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("response", "kind", "words"),
    [
        ("InvalidAuthentication", "refused", "api_key"),
        ("AccountInactive", "refused", "balance"),
        ("Failed", "failed", "tries again"),
        ("RestrictedFaxNumber", "unreadable", "RestrictedFaxNumber"),
        ("InvalidFaxNumberLength", "unreadable", "InvalidFaxNumberLength"),
        ("InvalidFaxResolution", "unreadable", "InvalidFaxResolution"),
        ("InvalidPapersize", "unreadable", "InvalidPapersize"),
        ("InvalidPriority", "unreadable", "InvalidPriority"),
        (f"no such key: {KEY}", "unreadable", "does not document"),
    ],
)
@pytest.mark.parametrize("function", [REPORT.fetch, OPENFAX.reports.credit], ids=["records", "credit"])
@pytest.mark.parametrize("wrap", [lambda one: one, lambda one: [one]], ids=["alone", "in a list"])
def test_each_documented_error_says_what_to_do(response, kind, words, function, wrap, caplog):
    with pytest.raises(ReportTrouble, match=words) as caught:
        answering(wrap({"Response": response}), function=function)
    assert caught.value.kind == kind
    assert KEY not in f"{caught.value!r} {caplog.text}"


def test_the_sample_of_an_error_is_about_the_key():
    with pytest.raises(ReportTrouble, match="api_key"):
        answering(answer("submit_error_InvalidAuthentication.json"))


@pytest.mark.parametrize("body", ["", " \r\n", "null", "{}", "[]", '""', "[null]", "\x00", "\ufeff[]"])
def test_an_answer_that_is_empty_in_whatever_way_is_an_empty_list(body):
    assert told(answering(body)[0]) == []
    assert [page.cursor for page in answering(body, cursor="5")[0]] == []


@pytest.mark.parametrize(
    "body",
    [
        {"0": record(1, 11), "2": record(3, 13)},
        {"2": record(3, 13), "10": record(4, 14), "0": record(1, 11)},
        record(1, 11),
        [None, record(1, 11)],
        json.dumps([record(1, 11)]) + "\n\x00",
        json.dumps([record(1, 11)]) + "\x00\x00\r\n",
        json.dumps([record(1, 11)]).encode("utf-16"),
    ],
)
def test_rows_are_read_in_whatever_way_php_writes_a_list(body):
    first, *others = told(answering(body)[0])
    assert first.key == ("11",)
    assert [one.key for one in others] in ([], [("13",)], [("13",), ("14",)])
    assert len(others) == (len(body) - 1 if isinstance(body, dict) and "0" in body else 0)


def test_a_row_that_is_no_object_is_named_and_the_others_are_told():
    with pytest.raises(Unprocessable) as caught:
        told(answering([record(1, 11), "row"])[0])
    assert caught.value.fields.keys() >= {"OutTransID", "CurrentState"}


@pytest.mark.parametrize("body", ["<html>down</html>", '{"rows": []}', "[1]", "7", "false", '["down"]'])
def test_an_answer_of_another_form_is_trouble_and_moves_nothing(body):
    with pytest.raises(ReportTrouble) as caught:
        answering(body)
    assert caught.value.kind == "unreadable"


# --- credit --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (answer("poll_available_credit.json"), "8956.6637749994"),
        ('[{"AccountBalance": 12}]', "12"),
        ('{"AvailableCredit": "-0.50"}', "-0.50"),
        ('{"AvailableCredit": null, "AccountBalance": "5"}', "5"),
        ('{"AvailableCredit": "", "AccountBalance": "5"}', "5"),
    ],
)
def test_the_credit_is_exact_whatever_it_is_called(body, expected):
    credit, (asked,) = answering(body, function=OPENFAX.reports.credit)
    assert credit == Decimal(expected)
    assert asked == {"page": "getAvailableCredit.php", "AccountID": ACCOUNT, "APIKey": KEY}


UNREADABLE = ["null", "NaN", "-Infinity", "1e99999999999", '"1e99999999999"', '"1_000"', '"1,000"', '""', "true", "[]"]


@pytest.mark.parametrize("body", ["[]", "{}", "[[]]", *(f'[{{"AvailableCredit": {one}}}]' for one in UNREADABLE)])
def test_no_credit_is_trouble(body):
    with pytest.raises(ReportTrouble) as caught:
        answering(body, function=OPENFAX.reports.credit)
    assert caught.value.kind == "unreadable"


# --- all of it, against the stand-in ---------------------------------------------------------------------------------


@pytest.mark.parametrize("has_last_status", [False, True])
def test_every_fax_is_told_whether_it_ends_before_or_after_the_first_runs(has_last_status):
    sent = NOW - timedelta(hours=3)
    ended = [SentFax(str(number), "+12085550139", "2", sent, sent, attempts=3) for number in range(100, 130)]
    pending = SentFax("200", "+12085550140", "0", sent)
    late = SentFax("300", "+12085550141", "0", sent, sent)
    world = World("openfax", ACCOUNT, *ended, pending)
    cursor, found = None, []
    with standing(openfax.application(world, api_key=KEY, has_last_status=has_last_status)) as url:
        for step in range(4):
            if step == 2:
                world.add(late)
            if step == 3:
                world.change(pending, completed_at=NOW)
            pages = calling(REPORT.fetch, ask(url, cursor))
            found.append({one.key[0] for one in told(pages)})
            cursor = next((page.cursor for page in reversed(pages) if page.cursor), cursor)
        credit = calling(OPENFAX.reports.credit, ask(url))
    first = {fax.job_id for fax in ended}
    assert found == [first, first, first | {"300"}, first | {"200", "300"}]
    assert credit == Decimal("8956.6637749994")
    assert str(fax_id("openfax", ACCOUNT, ("779029",))) == "d0fbe9d4-3aab-5a4e-8862-dee22a10cd24"
    assert world.asked == {"outboundDetailsbyDate": 2 * 4, "getAvailableCredit": 1}


def test_an_end_between_two_pages_loses_nothing():
    sent = NOW - timedelta(hours=3)
    faxes = [SentFax(str(number), "+12085550139", "0", sent, sent) for number in range(1000, 2200)]
    world = World("openfax", ACCOUNT, *faxes)
    with standing(openfax.application(world, api_key=KEY)) as url:
        client = Client("Openfax", 50, lambda _seconds: False)
        first = next(REPORT.fetch(ask(url, "0"), client))
        client.close()
        rest = calling(REPORT.fetch, ask(url, first.cursor))
    assert {one.key[0] for one in told([first, *rest])} == {fax.job_id for fax in faxes}


CONFIGURATION = f"""
[server]
bind = "127.0.0.1:{{port}}"
state_dir = "state"

[store]
url = "{{store}}"

[endpoints.fax]
provider = "openfax"
account = "{ACCOUNT}"
auth = {{{{ mode = "none" }}}}
tokens = ["{TOKEN}"]

[endpoints.fax.reports]
api_key = "{KEY}"
low_credit = "5"
url = "URL"
"""


def test_postbacks_and_records_of_the_same_faxes_make_one_fax_each(tmp_path, sqlite_url):
    now = datetime.now(UTC).replace(microsecond=0)
    sent, ended = now - 3 * timedelta(hours=1), now - 2 * timedelta(hours=1)
    world = World(
        "openfax",
        ACCOUNT,
        SentFax("1", "+12085550139", "0", sent, ended),
        SentFax("2", "+12085550140", "2", sent, ended, attempts=3),
        SentFax("3", "+12085550141", "1", sent, ended),
        SentFax("4", "+12085550142", "0", sent),
    )
    with (
        standing(openfax.application(world, api_key=KEY, credit="4.5")) as url,
        house(tmp_path / "house", sqlite_url, CONFIGURATION.replace("URL", url)) as here,
    ):
        address = f"http://127.0.0.1:{here.port}/callbacks/fax/{TOKEN}"
        lost = world.announce(address, lose=["3"])
        runs = [reconcile(here.runtime, here.runtime.accounts["fax"], Choice(), Stop()) for _ in range(3)]
        told = {event["data"]["provider_job_id"]: event["data"] for event in here.events()}
        world.deliver(address, lost)
        late = here.events()[-1]["data"]
    assert [(run.filled, run.amended, run.contradicting, run.trouble) for run in runs] == [
        (1, 2, 0, []),  # of the two that were announced, the number
        (0, 0, 0, []),
        (0, 0, 0, []),
    ]
    assert [run.credit for run in runs] == [Decimal("4.5")] * 3
    assert [run.discrepancies for run in runs] == [1, 0, 0]  # the low credit
    assert {job: (one["outcome"], one["recipient"]["number"], one["attempts"]) for job, one in told.items()} == {
        "1": ("delivered", "+12085550139", 1),
        "2": ("failed", "+12085550140", 3),
        "3": ("failed", "+12085550141", 1),
    }
    assert (told["2"]["failure"]["reason"], told["3"]["failure"]["reason"]) == ("busy", "unknown")
    assert (late["fax_id"], late["failure"]["reason"], late["conflict"]) == (told["3"]["fax_id"], "no_answer", False)
