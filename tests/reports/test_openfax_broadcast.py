"""Openfax Broadcast: which jobs are read, by a WSDL nobody has seen, and what each transmission comes to."""

import json
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from flask import Flask, Response, request
from house import serving
from ports import listener
from providers.samples import FIXTURES, manifest
from standins import openfax_broadcast as standin
from standins.world import SentFax, World, standing

from receiver import providers, stations
from receiver.errors import ReportTrouble, Unprocessable
from receiver.providers import Ask, Client, Source
from schemas.event import Pages, Recipient, TimeQuality
from schemas.identity import fax_id

BROADCAST = providers.load()["openfax-broadcast"]
(REPORT,) = BROADCAST.reports.records
ACCOUNT, KEY = "123456789", "broadcast-key"
ZONE = ZoneInfo("America/Chicago")
NOW = datetime(2026, 7, 15, 18, 30, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
OPERATIONS = ("getRealtime", "getRecentHistory", "getCDRByJobID")
SAMPLES = {name: (FIXTURES / f"openfax/soap_{name}_response.xml").read_bytes() for name in OPERATIONS}
FAULT = (FIXTURES / "openfax/soap_fault.xml").read_bytes()
WSDL = standin.application(World("openfax", ACCOUNT)).test_client().get(f"{standin.PATH}?WSDL").text


def ask(url="", cursor=None, **changes):
    options = {"api_key": changes.pop("api_key", KEY), "url": url}
    window = {"begin": NOW - DAY, "end": NOW, "jobs": (), "zone": ZONE} | changes
    return Ask(ACCOUNT, cursor=cursor, options=options, **window)


def pages_of(asked, budget=50):
    client = Client("Openfax Broadcast", budget, lambda _seconds: False)
    try:
        yield from REPORT.fetch(asked, client)
    finally:
        client.close()


def fetched(asked, budget=50):
    return list(pages_of(asked, budget))


def from_world(world, cursor=None, **changes):
    with standing(standin.application(world, api_key=KEY)) as url:
        return fetched(ask(url + standin.PATH, cursor, **changes))


def answering(answers, **more):
    return list(pages_answered(answers, **more))


def pages_answered(answers, *, wsdl=WSDL, status=200, seen=None, budget=50, **changes):
    """Fetched from a service with this WSDL and these answers by operation."""
    app = Flask("broadcast")

    @app.route("/<path:path>", methods=["GET", "POST"])
    def answer(path):
        if seen is not None:
            seen.append((request.method, request.full_path, request.get_data(as_text=True)))
        if request.method == "GET":
            return Response(wsdl, content_type="text/xml")
        operation = request.headers["SOAPAction"].strip('"').rpartition("/")[2]
        return Response(answers[operation], status, content_type="text/xml")

    with listener() as sock, serving(app, sock) as port:
        yield from pages_of(ask(f"http://127.0.0.1:{port}/reporting.asmx", **changes), budget)


def events(pages):
    found = []
    for page in pages:
        for row in page.rows:
            data, _ = stations.check(REPORT.shape(row), REPORT.schema)
            found += REPORT.normalise(data, Source(ACCOUNT, ZONE, "US"))
    return found


def fax(job, number, status="0", ago=HOUR, **more):
    at = NOW - ago
    return SentFax(str(job), f"+1208555{number:04}", status, at, at, fax_id=f"T{number}", bill_code=f"b{job}", **more)


def world(*faxes):
    return World("openfax", ACCOUNT, *faxes, timezone=ZONE, now=lambda: NOW)


def done(pages):
    return json.loads(pages[-1].cursor)["done"]


def history(*jobs):
    """getRecentHistory's answer: (id, total, delivered) each."""
    rows = "".join(
        f"<HistoryJob><JobID>{job}</JobID><BillCode/><TotalDestinations>{total}</TotalDestinations>"
        f"<TotalSuccessful>{delivered}</TotalSuccessful></HistoryJob>"
        for job, total, delivered in jobs
    )
    return f"<e:Envelope xmlns:e='e'><getRecentHistoryResponse xmlns='x'>{rows}</getRecentHistoryResponse></e:Envelope>"


def answers(cdr, *jobs):
    return {
        "getRealtime": SAMPLES["getRealtime"],
        "getRecentHistory": history(*jobs),
        "getCDRByJobID": f"<r><getCDRByJobIDResponse>{cdr}</getCDRByJobIDResponse></r>",
    }


def transmission(number=1, code="0", **more):
    fields = {"TransactionID": number, "ErrorCode": code} | more
    return f"<FaxTransmission>{''.join(f'<{name}>{text}</{name}>' for name, text in fields.items())}</FaxTransmission>"


# --- what a transmission comes to ------------------------------------------------------------------------------------

LONG_AGO = {"begin": datetime(2016, 5, 27, tzinfo=UTC), "end": datetime(2016, 5, 28, tzinfo=UTC)}


def test_the_samples_come_to_what_they_say():
    assert {row["file"] for row in manifest() if row["file"].startswith("soap_")} == {
        "soap_fault.xml",
        *(f"soap_{name}_response.xml" for name in OPERATIONS),
    }
    pages = answering(SAMPLES | {"getRecentHistory": history((500102, 3, 1))}, **LONG_AGO)
    first, busy, bad = events(pages)
    assert first.key == ("500102", "90000001")
    assert (first.outcome, first.status_code, first.status_text) == ("delivered", "0", None)
    assert first.recipient == Recipient("+15555551212", "15555551212", "My Customer", country="US")
    assert (first.pages, first.duration_seconds, first.attempts) == (Pages(sent=2), 66, None)
    assert first.completed_at == datetime(2016, 5, 27, 15, 11, 12, tzinfo=UTC)
    assert first.time_quality == TimeQuality.ASSUMED_ZONE
    assert (first.provider_job_id, first.provider_fax_id) == ("500102", "90000001")
    assert (busy.failure.reason, busy.recipient.name, busy.duration_seconds) == ("busy", None, 6)
    assert (bad.failure.reason, bad.recipient.name, bad.pages) == ("bad_number", "Café Zürich", Pages(sent=0))
    assert (done(pages), pages[-1].findings) == (["500102"], ())


def test_a_job_of_which_the_history_counts_otherwise_is_read_but_not_done():
    pages = answering(SAMPLES, **LONG_AGO)
    assert [(one.kind, one.subject, dict(one.detail)) for page in pages for one in page.findings] == [
        ("tally", "job 500102", {"total": 3, "delivered": 3, "listed_total": 3, "listed_delivered": 1}),
        ("tally", "job 500101", {"total": 1000, "delivered": 930, "listed_total": 3, "listed_delivered": 1}),
    ]
    assert len(events(pages)) == 6
    assert done(pages) == []
    assert {one.reference.billing_code for one in events(pages)} == {"order-70", None}


@pytest.mark.parametrize("total", ["", "two", "-1", "2,0"])
def test_a_total_that_cannot_be_read_is_named_and_its_job_and_the_others_are_told(total):
    pages = answering(answers(transmission(), (1, total, 1), (2, 1, 1)))
    assert len(events(pages)) == 2
    assert done(pages) == ["2"]
    assert [(one.kind, one.subject, dict(one.detail)) for page in pages for one in page.findings] == [
        ("unreadable", "job 1", {"TotalDestinations": "expected a whole number"})
    ]


@pytest.mark.parametrize(("code", "reason"), [("6", "unknown"), ("99", "unknown"), ("04", "circuits_busy")])
def test_a_code_beyond_the_known_list_is_a_failure(code, reason):
    (found,) = events(answering(answers(transmission(code=code), (1, 1, 0))))
    assert (found.outcome, found.failure.reason, found.status_code) == ("failed", reason, code)


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        (transmission(2, ""), "ErrorCode"),
        (transmission(2, "busy"), "ErrorCode"),
        (transmission(2, "0", ErrorCode="1.5"), "ErrorCode"),
        (transmission("", "0"), "TransactionID"),
    ],
)
def test_a_transmission_that_cannot_be_trusted_is_refused_alone_and_its_job_read_again(wrong, field):
    pages = answering(answers(transmission() + wrong, (1, 2, 1)))
    good, bad = (row for page in pages for row in page.rows)
    assert stations.check(good, REPORT.schema)[0]["fax_id"] == "1"
    with pytest.raises(Unprocessable) as caught:
        stations.check(bad, REPORT.schema)
    assert list(caught.value.fields) == [field]
    assert (done(pages), pages[-1].findings) == ([], ())


def test_types_and_elements_nobody_expects_do_no_harm():
    odd = transmission(1, " 2 ", Pages="many", Duration="1,5", CompletedDate="5/27/2026 10:11 AM", Shade="blue")
    (found,) = events(answering(answers(odd, (1, 1, 0))))
    assert (found.outcome, found.pages, found.duration_seconds, found.completed_at) == ("failed", Pages(), None, None)
    zoned = transmission(1, CompletedDate="2026-07-15T10:00:00.1234567-07:00", Duration="0.025")
    (found,) = events(answering(answers(zoned, (1, 1, 1))))
    assert (found.completed_at.hour, found.time_quality, found.duration_seconds) == (17, TimeQuality.PROVIDER, 2)


@pytest.mark.parametrize(
    ("written", "number"),
    [
        *(("12085550139", "+12085550139"), ("(208) 555-0139", "+12085550139"), ("861069445000", "+861069445000")),
        *((" 4930123456", None), ("4930123456", None), (" 12085550139", "+12085550139")),  # that have lost a +
    ],
)
def test_a_number_is_read_with_or_without_its_country_code(written, number):
    (found,) = events(answering(answers(transmission(Phone=written), (1, 1, 1))))
    assert (found.recipient.number, found.recipient.number_raw) == (number, written)


# --- which jobs are read ---------------------------------------------------------------------------------------------


def test_a_job_is_read_once_and_two_runs_give_the_same_ids():
    where = world(fax(5, 1), fax(5, 2, "2"), fax(6, 3))
    first, again = from_world(where), from_world(where)
    assert done(first) == ["6", "5"]
    ids = [str(fax_id("openfax-broadcast", ACCOUNT, one.key)) for one in events(first)]
    assert ids == [str(fax_id("openfax-broadcast", ACCOUNT, one.key)) for one in events(again)]
    assert len(set(ids)) == 3
    where.add(fax(7, 4))
    later = from_world(where, first[-1].cursor)
    assert [one.key for one in events(later)] == [("7", "T4")]
    assert done(later) == ["6", "5", "7"]
    assert where.asked["getCDRByJobID"] == 2 + 2 + 1


def test_a_running_job_is_read_when_it_is_completed():
    pending = SentFax("5", "+12085550002", "0", NOW - HOUR, fax_id="T2")
    where = world(fax(5, 1), pending)
    assert from_world(where) == []
    where.change(pending, completed_at=NOW)
    assert [one.key for one in events(from_world(where))] == [("5", "T1"), ("5", "T2")]


def test_a_job_that_is_said_to_be_running_is_left_whatever_the_history_says():
    assert answering(answers(transmission(), (500123, 1, 1))) == []


def test_jobs_that_ended_before_the_first_window_are_not_told_then_or_later():
    where = world(fax(4, 1, ago=3 * DAY), fax(5, 2, ago=3 * DAY), fax(5, 3))
    first = from_world(where)
    assert [one.key for one in events(first)] == [("5", "T2"), ("5", "T3")]
    assert done(first) == ["5", "4"]
    assert from_world(where, first[-1].cursor) == []
    with standing(standin.application(where, api_key=KEY)) as url:
        cut = pages_of(ask(url + standin.PATH))
        cursor = next(cut).cursor
        cut.close()  # the run ends after the first job
    assert events(from_world(where, cursor, begin=NOW - 9 * DAY)) == []


def test_a_window_that_somebody_asks_for_takes_the_jobs_that_touch_it():
    where = world(fax(3, 1, ago=9 * DAY), fax(4, 2, ago=5 * DAY), fax(5, 3))
    pages = from_world(where, begin=NOW - 6 * DAY, end=NOW - 4 * DAY)
    assert [one.key for one in events(pages)] == [("4", "T2")]


def test_a_job_of_many_transmissions_comes_in_bounded_pages_and_is_done_with_the_last():
    pages = from_world(world(*(fax(5, number) for number in range(1201))))
    assert [len(page.rows) for page in pages] == [500, 500, 201]
    assert [page.cursor is None for page in pages] == [True, True, False]
    assert len({one.key for one in events(pages)}) == 1201


def test_the_cursor_forgets_jobs_with_the_history():
    where = world(fax(4, 1, ago=29 * DAY), fax(5, 2))
    cursor = from_world(where)[-1].cursor
    assert json.loads(cursor)["done"] == ["5", "4"]
    where.now = lambda: NOW + 2 * DAY
    where.add(fax(6, 3))
    assert done(from_world(where, cursor)) == ["5", "6"]


def until_trouble(pages):
    """What came before the trouble, and the trouble."""
    found = []
    with pytest.raises(ReportTrouble) as caught:
        found.extend(iter(lambda: next(pages), None))
    return found, caught.value


def test_a_job_that_cannot_be_read_does_not_stop_the_others():
    where = world(fax(5, 1), fax(6, 2))
    where.garble(operation="getCDRByJobID")
    with standing(standin.application(where, api_key=KEY)) as url:
        found, trouble = until_trouble(pages_of(ask(url + standin.PATH)))
        where.fail(operation="getCDRByJobID", times=9)
        none, failure = until_trouble(pages_of(ask(url + standin.PATH)))
    assert [one.key for one in events(found)] == [("5", "T1")]
    assert (done(found), trouble.kind) == (["5"], "unreadable")
    assert (none, failure.kind) == ([], "failed")
    assert where.asked["getCDRByJobID"] == 2 + 3  # a service in trouble is not asked for job after job


def test_a_job_without_an_id_is_trouble_once_the_others_are_read():
    found, trouble = until_trouble(pages_answered(answers(transmission(), ("", 1, 1), (5, 1, 1))))
    assert (done(found), trouble.kind) == (["5"], "unreadable")


def test_a_budget_that_ends_loses_nothing():
    where = world(*(fax(job, job) for job in range(1, 6)))
    cursor, found, kinds = None, [], []
    with standing(standin.application(where, api_key=KEY)) as url:
        for _ in range(2):
            pages, trouble = until_trouble(pages_of(ask(url + standin.PATH, cursor), budget=5))
            cursor = pages[-1].cursor
            found += events(pages)
            kinds.append(trouble.kind)
        found += events(fetched(ask(url + standin.PATH, cursor)))
    assert kinds == ["budget", "budget"]
    assert sorted(one.key for one in found) == [(str(job), f"T{job}") for job in range(1, 6)]


@pytest.mark.parametrize("cdr", [transmission(), "</broken>"], ids=["of another total", "unreadable"])
def test_jobs_that_never_add_up_keep_no_other_waiting_and_take_turns(cdr):
    given = answers(cdr, *((job, 7, 7) for job in range(1, 11)))
    cursor, asked = None, []
    for _ in range(4):
        seen = []
        pages, trouble = until_trouble(pages_answered(given, seen=seen, cursor=cursor, budget=8))
        cursor = pages[-1].cursor
        asked.append([int(found[1]) for _, _, body in seen if (found := re.search(r"JobID>(\d+)<", body))])
        assert trouble.kind == "budget"
    assert asked == [[10, 9, 8, 7, 6], [5, 4, 3, 2, 1]] * 2
    given["getRecentHistory"] = history((11, 7, 7), (10, 7, 7), (5, 7, 7))
    mended = given | {"getCDRByJobID": answers("".join(map(transmission, range(7))))["getCDRByJobID"]}
    kept = json.loads(answering(mended, cursor=cursor)[-1].cursor)
    assert (kept["done"], kept["asked"]) == (["11", "10", "5"], [])


# --- the service -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 500])
def test_a_fault_says_to_retrieve_the_key_again(status, caplog):
    seen = []
    with pytest.raises(ReportTrouble, match="retrieve the API key in Web Launch again") as caught:
        answering(dict.fromkeys(OPERATIONS, FAULT), status=status, seen=seen)
    assert caught.value.kind == "refused"
    assert len(seen) == 2  # the WSDL, and no further try
    assert KEY not in f"{caught.value!r} {caplog.text}"


def test_a_failure_without_a_fault_is_the_services_own():
    with pytest.raises(ReportTrouble, match="next run tries again") as caught:
        answering(dict.fromkeys(OPERATIONS, "<html><body>Runtime Error</body></html>"), status=500)
    assert caught.value.kind == "failed"


def test_the_stand_in_refuses_another_key():
    with pytest.raises(ReportTrouble, match="API key"):
        from_world(world(), api_key="wrong")


def test_the_key_goes_into_bodies_and_to_the_configured_address_only():
    seen = []
    elsewhere = re.sub(r'location="[^"]*"', 'location="https://elsewhere.example/x.asmx"', WSDL)
    answering(answers(transmission(), (1, 1, 1)), wsdl=elsewhere, seen=seen)
    assert [(method, path) for method, path, _ in seen] == [
        ("GET", "/reporting.asmx?WSDL"),
        *[("POST", "/reporting.asmx?")] * 3,
    ]
    assert [KEY in body for _, _, body in seen] == [False, True, True, True]


@pytest.mark.parametrize(("key", "job"), [("apiKey", "jobID"), ("APIKey", "ID"), ("Token", "JobID"), ("key", "JobKey")])
def test_the_wsdl_says_what_the_arguments_are_called(key, job):
    wsdl = WSDL.replace('name="APIKey"', f'name="{key}"').replace('name="JobID" type', f'name="{job}" type', 1)
    seen = []
    answering(answers(transmission(), (4711, 1, 1)), wsdl=wsdl, seen=seen)
    assert f"{key}>{KEY}<" in seen[-1][2]
    assert f"{job}>4711<" in seen[-1][2]


IMPORT = '<s:import namespace="urn:x" schemaLocation="{}"/>'
SCHEMA = '<s:schema elementFormDefault="qualified" targetNamespace="http://tempuri.org/">'
DOCTYPE = '<!DOCTYPE a [<!ENTITY e "x">]>'


@pytest.mark.parametrize(
    "wsdl",
    [
        "",
        "<html><body>Down</body></html>",
        "not XML",
        WSDL[: len(WSDL) // 2],
        WSDL.replace("getRecentHistory", "getHistory"),
        WSDL.replace("?>", f"?>{DOCTYPE}", 1),
        WSDL.replace('name="APIKey"', 'name="User"').replace('name="JobID"', 'name="Password"'),
        WSDL.replace(SCHEMA, SCHEMA + IMPORT.format("http://127.0.0.1:9/x.xsd")),
        WSDL.replace(SCHEMA, SCHEMA + IMPORT.format("file:///etc/passwd")),
        WSDL.replace(SCHEMA, SCHEMA + IMPORT.format("other.xsd")),
    ],
    ids=[
        *("empty", "page", "text", "cut", "other operation", "doctype", "other arguments"),
        *("import by http", "import of a file", "relative import"),
    ],
)
def test_a_wsdl_that_cannot_be_used_is_trouble_and_nothing_else_is_fetched(wsdl):
    seen = []
    with pytest.raises(ReportTrouble, match="WSDL") as caught:
        answering(answers(""), wsdl=wsdl, seen=seen)
    assert caught.value.kind == "unreadable"
    assert len(seen) <= 2
    assert not any(path.startswith("/other") for _, path, _ in seen)


@pytest.mark.parametrize(
    "body",
    [
        "",
        "<html><body>Down</body></html>",
        "<getRealtimeResponse>",
        f"{DOCTYPE}<getRealtimeResponse>&e;</getRealtimeResponse>",
        "<getRecentHistoryResponse/>",
        "<getRealtimeResponse><z:q/></getRealtimeResponse>",
    ],
)
def test_an_answer_of_another_form_is_trouble(body):
    with pytest.raises(ReportTrouble) as caught:
        answering(dict.fromkeys(OPERATIONS, body))
    assert caught.value.kind == "unreadable"


def test_without_the_library_the_message_says_how_to_get_it():
    script = """
import sys
sys.modules["zeep"] = None
from datetime import UTC, datetime
from receiver import providers, stations
from receiver.errors import ReportTrouble
from receiver.providers import Ask, Client
now = datetime.now(UTC)
(report,) = providers.load()["openfax-broadcast"].reports.records
try:
    list(report.fetch(Ask("1", now, now, None, (), None, {"api_key": "x", "url": "x"}), None))
except ReportTrouble as trouble:
    print(trouble.kind, trouble.detail)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("not_installed ")
    assert "pip install 'faxhook[reports]'" in done.stdout


def test_the_library_is_loaded_by_a_fetch_alone():
    script = "from receiver import providers; import sys; providers.load(); print({'zeep', 'lxml'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("name", ["TransactionID", "ErrorCode", "Phone", "Reference"])
@pytest.mark.parametrize("odd", ["<{0}>1</{0}><{0}>0</{0}>", "<{0}>1<b/></{0}>"])
def test_what_is_repeated_or_has_parts_is_no_value(name, odd):
    """Which of them is meant cannot be told: no id, no result, and no text is made of it."""
    values = {"TransactionID": "1", "ErrorCode": "0", "Phone": "12085550139", "Reference": "A"}
    elements = {field: f"<{field}>{value}</{field}>" for field, value in values.items()} | {name: odd.format(name)}
    row = f"<FaxTransmission>{''.join(elements.values())}</FaxTransmission>"
    calls = f"<e:E xmlns:e='e'><getCDRByJobIDResponse>{row}</getCDRByJobIDResponse></e:E>"
    answers = {"getRealtime": SAMPLES["getRealtime"], "getRecentHistory": history((1, 1, 1)), "getCDRByJobID": calls}
    pages = answering(answers)
    if name in ("TransactionID", "ErrorCode"):
        with pytest.raises(Unprocessable) as refused:
            events(pages)
        assert list(refused.value.fields) == [name]
        assert done(pages) == []  # it is asked for again
    else:
        (found,) = events(pages)
        assert found.outcome == "delivered"
        assert None in (found.recipient.name, found.recipient.number)
