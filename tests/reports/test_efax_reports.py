"""eFax's reports: the status of a job, in XML, and counts of a day in JSON of three spellings."""

import csv
import json
import logging
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from urllib.parse import parse_qsl
from zoneinfo import ZoneInfo

import pytest
from flask import Flask, Response, request
from house import CONFIGURATION, serving
from ports import listener
from providers.samples import FIXTURES, events, manifest, source
from standins import efax
from standins.world import SentFax, World, some_faxes, standing
from stock import stock

from receiver import facts, providers, reconcile, stations
from receiver.errors import Refusal, ReportTrouble, Unprocessable
from receiver.providers import Ask, Client, Tally
from receiver.providers.efax.codes import OUTCOMES
from receiver.providers.shared.normalising import UNLISTED
from receiver.reconcile import Choice
from receiver.store import discrepancies, jobs, now_ms
from receiver.store.jobs import ExpectedFax
from receiver.system.stopping import Stop
from schemas.event import Confidence, Failure, Outcome, Pages, Recipient, Reference, TimeQuality, Verdict
from schemas.fields import InvalidRow
from schemas.identity import fax_id
from schemas.repairing import Mended

EFAX = providers.load()["efax"]
(STATUS,) = EFAX.reports.records
AGGREGATES = {report.name: report for report in EFAX.reports.aggregates}
PACIFIC = ZoneInfo("America/Los_Angeles")
SECRET = 'p"<&>ä-secret'
SENT = datetime(2026, 7, 15, 16, 0, tzinfo=UTC)
DONE = datetime(2026, 7, 15, 16, 1, 30, tzinfo=UTC)
SAMPLES = {row["file"]: row for row in manifest() if row["provider"] == "efax" and row["kind"] == "poll"}


def fax(job_id="779029", status="0", number="+12085550139", **more):
    return SentFax(job_id, number, status, **({"submitted_at": SENT, "completed_at": DONE} | more))


def sample(name):
    return (FIXTURES / "efax" / name).read_bytes()


def ask(url="", jobs=(), days=("2026-07-15", "2026-07-16"), zone=PACIFIC, **options):
    given = {option.name: option.default for option in EFAX.reports.options}
    given |= {"user": "exampleuser", "password": SECRET, "url": f"{url}/EFax_WebFax.serv"}
    given |= {"api_key": "example-api-key", "reporting_user": "exampleuser", "reporting_password": SECRET}
    given |= {"reporting_url": f"{url}/v1"} | options
    begin, end = (datetime.fromisoformat(day).replace(tzinfo=PACIFIC).astimezone(UTC) for day in days)
    return Ask("me", begin, end, None, jobs, zone, given)


@pytest.fixture
def client():
    made = Client("eFax Developer", 50, lambda _seconds: False)
    yield made
    made.close()


@contextmanager
def answering(*bodies, status=200):
    """A server that answers with these bodies in turn; its URL and the requests it got."""
    app, got, left = Flask(__name__), [], list(bodies)

    @app.route("/<path:path>", methods=["GET", "POST"])
    def answer(path):
        got.append((path, request.get_data(), dict(request.headers)))
        return Response(left.pop(0), status)

    with listener() as sock, serving(app, sock) as port:
        yield f"http://127.0.0.1:{port}", got


def rows(client, asked):
    return [row for page in STATUS.fetch(asked, client) for row in page.rows]


def read(row, **changes):
    """What one row comes to."""
    data, _ = stations.check(STATUS.shape(row), STATUS.schema)
    return list(STATUS.normalise(data, source(EFAX, **changes)))


def of_body(client, *bodies, jobs=("12345678",), status=200):
    with answering(*bodies, status=status) as (url, _):
        return rows(client, ask(url, jobs))


def recipient(**fields):
    """A Recipient as it is fetched: names of elements, those within others too."""
    inner = {"Status": ("Message", "Classification", "Outcome"), "LastAttempt": ("LastDate", "LastTime")}
    inner |= {"NextAttempt": ("NextDate", "NextTime"), "Pages": ("Scheduled", "Sent")}
    given = {"DOCID": "1", "Fax": "12085550139", "Classification": '"Success"', "Outcome": '"Success"'} | fields
    row = {name: {part: given.pop(part) for part in parts if part in given} for name, parts in inner.items()}
    return {**row, **given}


def failing(**fields):
    return recipient(**{"Message": "Your transmission has failed.", "Classification": "x", "Outcome": "y"} | fields)


@pytest.mark.parametrize("quoted", ['"{}"', "“{}”", "„{}“", "« {} »", ' "{}" '])
def test_quotation_marks_of_any_kind_are_no_part_of_a_result(quoted):
    success = quoted.format("Success")
    (found,) = read(recipient(Classification=success, Outcome=success, RemoteCSID=quoted.format("-")))
    assert (found.outcome, found.status_code, found.recipient.station_id) == ("delivered", "Success", None)


@pytest.mark.parametrize("field", ["Outcome", "Classification"])
@pytest.mark.parametrize("value", ["Success\x01", "Suc\x00cess", Mended("Success"), {"Success": None, "x": "y"}])
def test_a_result_that_has_to_be_mended_is_none(field, value):
    with pytest.raises(Unprocessable) as refused:
        read(recipient(**{field: value}))
    assert list(refused.value.fields) == [field]


# --- what a status says --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name, row in SAMPLES.items() if row["expect_outcome"] != "aggregate"])
def test_a_status_comes_to_what_the_manifest_says(client, name):
    (row,) = of_body(client, sample(name))
    found = read(row)
    expected = SAMPLES[name]
    if expected["expect_outcome"] == "pending":
        assert found == []
        return
    (event,) = found
    assert event.outcome == expected["expect_outcome"]
    assert (event.failure and event.failure.reason) == (expected["expect_class"] or None)


def test_a_status_says_all_it_says(client):
    body = sample("poll_outbound_status_success.xml").replace(b"<TransmissionID>", b"<TransmissionID>9000")
    (row,) = of_body(client, body)
    (found,) = read(row)
    assert (found.account, found.key, found.provider_job_id) == ("me", ("12345678", "12345678901"), "12345678")
    assert (found.status_code, found.status_text) == ("Success", "Success")
    assert found.recipient == Recipient("+12345678901", "12345678901", "Alice Example", None)
    assert (found.pages, found.duration_seconds, found.attempts) == (Pages(1, 1), 24, 1)
    assert found.completed_at == datetime(2008, 8, 6, 12, 49, 5, tzinfo=UTC)
    assert found.time_quality is TimeQuality.ASSUMED_ZONE
    assert found.reference == Reference(id="9000")


def test_empty_values_are_unknown(client):
    (row,) = of_body(client, sample("poll_outbound_status_failed.xml"))
    (found,) = read(row, reference="url")
    assert (found.completed_at, found.duration_seconds, found.recipient.station_id) == (None, None, None)
    assert (found.pages, found.attempts, found.reference.id) == (Pages(1, 0), 1, "url")


def test_the_table_of_texts_is_that_of_the_mapping():
    with (FIXTURES / "failure_mapping.csv").open(newline="") as file:
        of_efax = [row for row in csv.DictReader(file) if row["provider"] == "efax"]
    for row in (row for row in of_efax if row["field"] == "reporting category"):
        verdict = OUTCOMES.verdicts[row["code"].lower()]
        if row["code"] in ("Call placement error", "Fax transmission failed"):  # of many reasons
            assert verdict == UNLISTED
        elif row["outcome"] == "delivered":
            assert verdict == Verdict(Outcome.DELIVERED)
        else:
            failure = Failure(row["failure_class"], row["retryable"], row["confidence"])
            assert verdict == Verdict(Outcome.FAILED, failure)
    (other,) = [row for row in of_efax if row["field"] == "OutboundStatus" and row["code"] == "anything else"]
    assert OUTCOMES.unknown.failure == Failure(other["failure_class"], other["retryable"], other["confidence"])


@pytest.mark.parametrize(
    ("classification", "outcome", "reason", "confidence"),
    [
        ("Call placement error", "No answer", "no_answer", Confidence.HIGH),
        ("Call placement error", "Normal busy: remote end busy (off hook)", "busy", Confidence.HIGH),
        ("Busy", "", "busy", Confidence.HIGH),
        ("", "no dial tone", "provider_error", Confidence.MEDIUM),
        ("Busy", "An end never heard of", "unknown", Confidence.LOW),
        ("Fax transmission failed", "-", "unknown", Confidence.LOW),
    ],
)
def test_the_reason_is_that_of_the_outcome(classification, outcome, reason, confidence):
    (found,) = read(failing(Classification=classification, Outcome=f'"{outcome}"'))
    assert (found.outcome, found.failure.reason, found.failure.confidence) == ("failed", reason, confidence)
    assert found.status_code == (outcome.strip("-") or classification)
    assert found.status_text == (classification or None)


@pytest.mark.parametrize(
    "fields",
    [
        {"Classification": "", "Outcome": ""},
        {"Classification": '""', "Outcome": '"-"'},
        {"Classification": "Busy", "Message": "Your transmission is waiting to be sent."},
        {"Classification": "Busy", "Message": ""},
        {"Classification": "No answer", "NextDate": "08/06/2008"},
        {"Classification": "", "Outcome": "", "Fax": ""},
    ],
)
def test_a_fax_that_waits_announces_nothing(fields):
    assert read(failing(**fields)) == []


@pytest.mark.parametrize("fields", [{"Classification": "Success"}, {"Outcome": "Success"}])
def test_half_a_success_is_no_result(fields):
    (found,) = read(failing(**fields))
    assert isinstance(found, InvalidRow)


@pytest.mark.parametrize("number", ["", "Unknown", '"-"', "//"])
def test_a_withheld_number_is_no_fax(number):
    assert read(recipient(Fax=number)) == [InvalidRow(0, {"Fax": "expected a number"})]


@pytest.mark.parametrize(
    "row",
    [
        {},
        recipient(DOCID=""),
        recipient(DOCID=["1", "2"]),
        recipient(Fax=["1", "2"]),
        recipient(Outcome=["Success", "Busy"]),
        recipient() | {"Status": [{"Outcome": "Success"}, {"Outcome": "Busy"}]},
    ],
)
def test_a_recipient_that_does_not_say_which_fax_or_which_result_is_refused(row):
    with pytest.raises(Refusal):
        read(row)


@pytest.mark.parametrize(
    ("day", "clock", "expected"),
    [
        ("01/05/2026", "12:00:00", datetime(2026, 1, 5, 20, 0, tzinfo=UTC)),
        ("7/5/2026", '"12:00:00"', datetime(2026, 7, 5, 19, 0, tzinfo=UTC)),
        ("13/05/2026", "12:00:00", None),
        ("2026-07-05", "", None),
        ("", "12:00:00", None),
    ],
)
def test_the_last_attempt_is_in_pacific_time(day, clock, expected):
    (found,) = read(recipient(LastDate=day, LastTime=clock))
    assert found.completed_at == expected


# --- push and pull of one fax --------------------------------------------------------------------------------------


def test_what_is_pulled_after_the_callback_contradicts_nothing(client):
    """For every code there is: the same fax, and all that both state is equal."""
    faxes = some_faxes("efax", 40, DONE) + [
        fax("1", code, f"+1208555{index:04}") for index, code in enumerate(EFAX.codes.verdicts)
    ]
    world = World("efax", "me", *faxes, timezone=PACIFIC, user="u", password="p")
    pushed = {}
    for one in world.callbacks():
        (event,) = events("efax", one.callback)
        pushed[fax_id("efax", "me", event.key)] = facts.of(event)
    jobs = list(world.jobs())
    client = Client("eFax Developer", len(jobs), lambda _seconds: False)
    with standing(efax.application(world, password=SECRET, failures_have_times=True)) as url:
        found = [event for row in rows(client, ask(url, jobs)) for event in read(row)]
    client.close()
    pulled = {fax_id("efax", "me", event.key): facts.of(event) for event in found}
    assert pulled.keys() == pushed.keys()
    assert len(pulled) == len(faxes)
    for name, pull in pulled.items():
        merged = facts.merge(pushed[name], pull)
        assert not merged.conflict
        assert merged.differing == ()
        assert set(merged.changed) <= {"pages.total", "recipient.name"}
        assert (merged.facts["failure"], merged.facts["provider_status"]) == (
            pushed[name]["failure"],
            pushed[name]["provider_status"],
        )


@pytest.mark.parametrize("number", ["12085550139", "1 (208) 555-0139", "1-208-555-0139", "+12085550139"])
def test_a_number_written_otherwise_is_the_same_fax(number):
    (pulled,) = read(recipient(Fax=number))
    (pushed,) = events("efax", World("efax", "me", fax("1"), timezone=PACIFIC).callbacks()[0].callback)
    assert pulled.key == pushed.key == EFAX.key("1", number, 0)
    assert pulled.recipient.number == pushed.recipient.number


def test_the_order_of_recipients_does_not_matter(client):
    faxes = [fax("1", number=f"+120855501{index}", status=status) for index, status in ((39, "0"), (40, "301"))]
    found = []
    for order in (faxes, faxes[::-1]):
        with standing(efax.application(World("efax", "me", *order, timezone=PACIFIC), password=SECRET)) as url:
            found.append({(event.key, event.outcome) for row in rows(client, ask(url, ["1"])) for event in read(row)})
    assert found[0] == found[1]
    assert len(found[0]) == 2


# --- asking for jobs -----------------------------------------------------------------------------------------------


def test_the_question_is_a_form_with_credentials_in_its_xml(client):
    body = sample("poll_outbound_status_success.xml")
    with answering(body, body) as (url, got):
        list(STATUS.fetch(ask(url, ["12345678"]), client))
        list(STATUS.fetch(ask(url, ["12345678"], id="4711"), client))
    path, sent, headers = got[0]
    form = dict(parse_qsl(sent.decode(), strict_parsing=True))
    assert (path, headers["Content-Type"]) == ("EFax_WebFax.serv", "application/x-www-form-urlencoded")
    assert (list(form), form["id"], form["respond"]) == (["id", "xml", "respond"], "me", "XML")
    assert efax.ElementTree.fromstring(form["xml"]).findtext("AccessControl/Password") == SECRET
    assert dict(parse_qsl(got[1][1].decode()))["id"] == "4711"


def test_without_overdue_jobs_nothing_is_asked(client):
    assert rows(client, ask("http://127.0.0.1:9", [])) == []
    assert client.requests == 0


def test_pages_are_bounded(client):
    one = "<Recipient><DOCID>1</DOCID></Recipient>"
    body = f"<OutboundStatusResponse><Transmission><Recipients>{one * 1201}</Recipients></Transmission>"
    with answering(body + "</OutboundStatusResponse>") as (url, _):
        pages = list(STATUS.fetch(ask(url, ["1"]), client))
    assert [len(page.rows) for page in pages] == [500, 500, 201]


def test_a_name_in_latin_1_is_read(client):
    body = sample("poll_outbound_status_success.xml").replace(b"Alice", "Jörg".encode("latin-1"))
    (row,) = of_body(client, body)
    assert read(row)[0].recipient.name == "Jörg Example"


def test_a_recipient_without_content_is_a_row_that_cannot_be_used(client):
    body = "<OutboundStatusResponse><Transmission><Recipients><Recipient/></Recipients></Transmission>"
    (row,) = of_body(client, body + "</OutboundStatusResponse>")
    with pytest.raises(Refusal):
        read(row)


def error(message, level="User", root="OutboundResponse"):
    response = f"<StatusCode>2</StatusCode><ErrorLevel>{level}</ErrorLevel><ErrorMessage>{message}</ErrorMessage>"
    return f"<{root}><Transmission><Response>{response}</Response></Transmission></{root}>"


@pytest.mark.parametrize(
    "body",
    [
        error("No such DOCID 1"),
        error("Unknown DocID", root="OutboundStatusResponse"),
        "<OutboundStatusResponse/>",
        "<OutboundStatusResponse><Transmission><Recipients/></Transmission></OutboundStatusResponse>",
    ],
)
def test_a_job_that_is_unknown_stays_missing_and_the_others_are_read(client, body):
    with answering(body, sample("poll_outbound_status_success.xml")) as (url, _):
        (known,) = STATUS.fetch(ask(url, ["1", "12345678"]), client)
    assert len(known.rows) == 1


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        (error("Database login lost", "System"), "failed", "an error of its own system"),
        (error("Something else"), "unreadable", "check user, password and id"),
        ("<OutboundResponse><StatusCode>1</StatusCode></OutboundResponse>", "unreadable", "another document"),
        ("<html><body>maintenance</body></html>", "unreadable", "another document"),
        ("maintenance", "unreadable", "not XML"),
        ("", "unreadable", "not XML"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "unreadable", "not XML"),
    ],
)
def test_an_answer_of_no_use_is_told_when_the_other_jobs_are_read(client, body, kind, words):
    read_of = []
    with (
        answering(body, sample("poll_outbound_status_success.xml"), body) as (url, _),
        pytest.raises(ReportTrouble) as caught,
    ):
        read_of.extend(len(page.rows) for page in STATUS.fetch(ask(url, ["1", "2", "3"]), client))
    assert (read_of, client.requests) == ([1], 3)  # the page came before the trouble
    assert (caught.value.kind, "2 of 3 jobs" in caught.value.detail) == (kind, True)
    assert words in caught.value.detail


def test_a_status_nobody_expects_names_the_url(client):
    with pytest.raises(ReportTrouble, match="check the url"):
        of_body(client, "", status=404)


@pytest.mark.parametrize("change", [{"password": SECRET + "x"}, {"user": "somebody"}, {"id": "other"}])
def test_a_wrong_login_is_tried_once_and_nothing_tells_it(client, caplog, capfd, change):
    caplog.set_level(logging.DEBUG)
    asked = ask(jobs=["1", "2"], **change)
    with standing(efax.application(World("efax", "me", fax("1")), password=SECRET)) as url:
        asked.options["url"] = f"{url}/EFax_WebFax.serv"
        with pytest.raises(ReportTrouble) as caught:
            rows(client, asked)
    assert client.requests == 1
    assert (caught.value.kind, "check user, password and id" in caught.value.detail) == ("refused", True)
    told = [str(caught.value), repr(caught.value), repr(asked), caplog.text, *capfd.readouterr()]
    assert not any("secret" in text for text in told)


def test_an_error_that_quotes_the_password_is_not_passed_on(client):
    for message in (f"password {SECRET.replace('<&>', '')} is wrong", "secret DOCID", "secret"):
        with answering(error(message)) as (url, _):
            try:
                told = repr(list(STATUS.fetch(ask(url, ["1"]), client)))
            except ReportTrouble as trouble:
                told = repr(trouble) + trouble.detail
        assert "secret" not in told


# --- counts of a day -----------------------------------------------------------------------------------------------


def tallies(client, name, asked):
    return list(AGGREGATES[name].fetch(asked, client))


def of_sample(client, report, body):
    """What is counted, and what is found odd."""
    with answering(body) as (url, _):
        told = tallies(client, report, ask(url))
    return [(one.number, dict(one.counts)) if isinstance(one, Tally) else one for one in told]


@pytest.mark.parametrize(
    ("file", "report", "expected"),
    [
        ("poll_account_overview.json", "account-overview", [(None, {"delivered": 3})]),
        ("poll_account_overview_double_encoded.json", "account-overview", [(None, {"delivered": 3})]),
        (
            "poll_number_overview.json",
            "number-overview",
            [("2085550139", {"delivered": 1}), ("2085550140", {"delivered": 4})],
        ),
        ("poll_number_overview_malformed.txt", "number-overview", [("<fax recipient 1>", {"delivered": 1})]),
        ("poll_failures.json", "failures", [("2085550139", {"delivered": 0}), ("2085550140", {"delivered": 0})]),
        ("poll_billable_pages.json", "billable-pages", [(None, {"pages_sent": 78 + 24 + 43})]),
    ],
)
def test_a_report_of_counts_is_read(client, file, report, expected):
    assert SAMPLES[file]["expect_outcome"] == "aggregate"
    assert of_sample(client, report, sample(file)) == expected
    if "double_encoded" not in file:
        assert of_sample(client, report, json.dumps(sample(file).decode())) == expected


def test_every_sample_of_counts_is_tested():
    tested = test_a_report_of_counts_is_read.pytestmark[0].args[1]
    aggregates = {name for name, row in SAMPLES.items() if row["expect_outcome"] == "aggregate"}
    assert {file for file, *_ in tested} == aggregates


def test_numbers_are_added_up_over_dids_and_users(client):
    counts = {"Success": 2, "Total": 3, "Failures": 1}
    document = {"d1": {"u1": {"1": counts}, "u2": {"1": counts, "2": counts}}, "d2": {"u1": {"1": counts}}}
    found = of_sample(client, "number-overview", json.dumps(document))
    assert found == [("1", {"delivered": 6}), ("2", {"delivered": 2})]


def test_the_older_layout_of_pages_is_by_user(client):
    document = {"d1": {"u1": {"FINE": 2}, "u2": {"STANDARD": 3}}, "d2": {"outbound": {}, "inbound": 5}}
    assert of_sample(client, "billable-pages", json.dumps(document)) == [(None, {"pages_sent": 5})]


@pytest.mark.parametrize("report", AGGREGATES)
@pytest.mark.parametrize(
    "body",
    [
        "{",
        "3",
        "maintenance",
        '"',
        '"maintenance"',
        '"\\ud800"',
        "<html></html>",
        '{"message": "no"}',
        '{"d": {"u": {"n": {"Success": 1',
        '{"d": {"u": 1}, "d": {"u": 2}}',
        "{" * 100,
        '{"a":' * 50 + "}" * 50,
    ],
)
def test_garbage_is_told_and_not_counted(client, report, body):
    with pytest.raises(ReportTrouble) as caught:
        of_sample(client, report, body)
    assert (caught.value.kind, "reporting_url" in caught.value.detail) == ("unreadable", True)


@pytest.mark.parametrize("body", ["", "null", "[]", "{}", '""', '"{}"', '"null"', '{"d": []}', '{"d": {"u": {}}}'])
@pytest.mark.parametrize("report", AGGREGATES)
def test_an_answer_that_is_empty_in_whatever_way_counts_nothing(client, report, body):
    name = "pages_sent" if report == "billable-pages" else "delivered"
    expected = [(None, {name: 0})] if report in ("account-overview", "billable-pages") else []
    assert of_sample(client, report, body) == expected


ODD = {"Success": "three", "Busy": 1}
GOOD = {"Success": "2", "No answer": 1}  # digits as text are a number


@pytest.mark.parametrize(
    ("report", "document", "expected"),
    [
        ("account-overview", {"d1": {"u1": ODD, "u2": GOOD}}, [(None, {"delivered": 2, "unreadable": 1})]),
        ("account-overview", {"d1": {"u1": ODD}}, [(None, {"delivered": 0, "unreadable": 1})]),
        ("account-overview", {"d1": "down", "d2": {"u": GOOD}}, [(None, {"delivered": 2})]),
        (
            "account-overview",
            {"d1": {"u1": {"Success": None}, "u2": GOOD}},
            [(None, {"delivered": 2, "unreadable": 1})],
        ),
        (
            "number-overview",
            {"d1": {"u1": {"1": ODD, "2": GOOD}}},
            [("1", {"delivered": 0, "unreadable": 1}), ("2", {"delivered": 2})],
        ),
        ("failures", {"d1": {"u1": {"1": "down", "2": {"Busy": 2}}}}, [("2", {"delivered": 0})]),
        (
            "billable-pages",
            {"d1": {"outbound": {"FINE": -1, "STANDARD": 3}, "inbound": 5}},
            [(None, {"pages_sent": 3, "unreadable": 1})],
        ),
    ],
)
def test_a_count_that_cannot_be_read_is_named_and_the_others_count(client, report, document, expected):
    *counted, odd = of_sample(client, report, json.dumps(document))
    assert counted == expected
    assert (odd.kind, odd.subject, odd.detail["rows"]) == ("unreadable", f"{report} 2026-07-15", 1)
    assert "d1" not in repr(odd)
    (row,) = odd.rows
    assert (row["did"], "expected" in row) == ("d1", True)


@pytest.mark.parametrize(
    ("report", "theirs", "ours", "expected"),
    [
        ("account-overview", {"delivered": 2, "unreadable": 1}, {"delivered": 3}, False),
        ("account-overview", {"delivered": 2, "unreadable": 1}, {"delivered": 1}, True),
        ("account-overview", {"delivered": 2}, {"delivered": 3}, True),
        ("billable-pages", {"pages_sent": 2, "unreadable": 1}, {"pages_sent": 3}, False),
        ("billable-pages", {"pages_sent": 2, "unreadable": 1}, {}, True),
        ("billable-pages", {"pages_sent": 2}, {"pages_sent": 3}, True),
    ],
)
def test_counts_of_which_a_part_is_unknown_are_what_it_is_at_least(report, theirs, ours, expected):
    assert AGGREGATES[report].differs(theirs, ours) is expected


def test_what_was_counted_is_kept_by_did_user_number_and_reason(client):
    with answering(json.dumps({"d1": {"u1": {"1": GOOD | {"Busy": 4}}}})) as (url, _):
        (tally,) = tallies(client, "number-overview", ask(url))
    assert tally.rows == ({"did": "d1", "user": "u1", "number": "1", "Success": 2, "No answer": 1, "Busy": 4},)
    with answering(json.dumps({"d1": {"outbound": {"FINE": 2}, "inbound": 1}, "d2": {"u": {"FINE": 3}}})) as (url, _):
        (tally,) = tallies(client, "billable-pages", ask(url))
    assert tally.rows == ({"did": "d1", "FINE": 2}, {"did": "d2", "user": "u", "FINE": 3})


@pytest.mark.parametrize("coding", ["double", "plain", "malformed"])
def test_the_counts_of_a_day_are_those_of_its_faxes(client, coding):
    world = World(
        "efax",
        "me",
        fax("1", "301"),
        fax("2"),
        fax("3", "308", "+12085550140", login="user_2"),
        fax("4", "0", "+12085550141", is_fine=True, pages=3),
        fax("6", completed_at=datetime(2026, 7, 16, 7, 30, tzinfo=UTC)),  # 00:30 of the next day in Los Angeles
        timezone=PACIFIC,
    )
    with standing(efax.application(world, password="example", coding=coding)) as url:
        told = {name: tallies(client, name, ask(url, reporting_password="example")) for name in AGGREGATES}
    found = {name: [replace(tally, rows=()) for tally in some] for name, some in told.items()}
    day = date(2026, 7, 15)
    assert found == {
        "account-overview": [Tally(day, {"delivered": 2})],
        "number-overview": [Tally(day, {"delivered": 1}, "2085550139"), Tally(day, {"delivered": 0}, "2085550140")],
        "failures": [Tally(day, {"delivered": 0}, "2085550140")],
        "billable-pages": [Tally(day, {"pages_sent": 4})],
    }


def test_the_credentials_of_counts_are_in_the_headers(client):
    with answering("{}") as (url, got):
        tallies(client, "account-overview", ask(f"{url}/", reporting_url=f"{url}/v1/"))
    path, _, headers = got[0]
    assert path == "v1/account-overview/2026-07-15"
    sent = {name.lower(): value for name, value in headers.items()}
    assert (sent["x-api-key"], sent["efax-username"]) == ("example-api-key", "exampleuser")
    assert sent["efax-password"].encode("latin-1") == SECRET.encode()


@pytest.mark.parametrize("change", [{"api_key": "secret"}, {"reporting_password": "secret"}])
def test_wrong_credentials_of_counts_are_told_without_them(client, change):
    with (
        standing(efax.application(World("efax", "me"), password="example")) as url,
        pytest.raises(ReportTrouble) as caught,
    ):
        tallies(client, "failures", ask(url, **{"reporting_password": "example"} | change))
    assert caught.value.kind == "refused"
    assert "secret" not in repr(caught.value)


def test_without_a_key_there_are_no_counts(client):
    none = dict.fromkeys(("api_key", "reporting_user", "reporting_password"), "")
    assert [tallies(client, name, ask(**none)) for name in AGGREGATES] == [[], [], [], []]
    with pytest.raises(ReportTrouble, match="api_key, reporting_user and reporting_password"):
        tallies(client, "failures", ask(**none | {"api_key": "x"}))
    assert client.requests == 0


@pytest.mark.parametrize(
    ("begin", "end", "expected"),
    [
        (0, 24, ["2026-03-07"]),
        (0, 23, []),
        (1, 24, []),
        (-1, 47, ["2026-03-07", "2026-03-08"]),  # 8 March has 23 hours
        (0, 46, ["2026-03-07"]),
    ],
)
@pytest.mark.parametrize("zone", [PACIFIC, None])
def test_only_whole_pacific_days_are_asked_for(client, begin, end, expected, zone):
    start = datetime(2026, 3, 7, 8, tzinfo=UTC)  # midnight in Los Angeles
    with answering("{}", "{}", "{}") as (url, _):
        asked = ask(url, zone=zone)
        window = Ask("me", start + timedelta(hours=begin), start + timedelta(hours=end), None, (), zone, asked.options)
        found = tallies(client, "account-overview", window)
    assert [f"{tally.day}" for tally in found] == expected
    assert all(tally.counts == {"delivered": 0} for tally in found)


@pytest.mark.parametrize(
    ("report", "theirs", "ours", "expected"),
    [
        ("account-overview", {"delivered": 3}, {"delivered": 3, "failed": 9, "total": 12}, False),
        ("account-overview", {"delivered": 3}, {"delivered": 2}, True),
        ("account-overview", {"delivered": 3}, {"delivered": 4}, True),
        ("account-overview", {"delivered": 0}, {}, False),
        ("number-overview", {"delivered": 1}, {"delivered": 2}, False),  # a user without failures is not in it
        ("number-overview", {"delivered": 1}, {"delivered": 1}, False),
        ("number-overview", {"delivered": 1}, {}, True),
        ("failures", {"delivered": 0}, {"failed": 1}, False),
        ("failures", {"delivered": 0}, {}, True),
        ("failures", {"delivered": 0}, {"failed": 1, "delivered": 1}, False),
        ("billable-pages", {"pages_sent": 9}, {"pages_sent": 8}, False),
        ("billable-pages", {"pages_sent": 9}, {"pages_sent": 10}, True),
        ("billable-pages", {"pages_sent": 9}, {}, True),
        ("billable-pages", {"pages_sent": 0}, {}, False),
    ],
)
def test_only_what_can_be_compared_is_a_discrepancy(report, theirs, ours, expected):
    assert AGGREGATES[report].differs(theirs, ours) is expected


# --- the whole way -------------------------------------------------------------------------------------------------

OPTIONS = """
[endpoints.efax.reports]
user = "{user}"
password = "{password}"
url = "{url}/EFax_WebFax.serv"
api_key = "example-api-key"
reporting_user = "{user}"
reporting_password = "{password}"
reporting_url = "{url}/v1"
"""


def test_a_lost_callback_is_made_good_and_its_late_arrival_is_nothing_new(tmp_path, sqlite_url):
    now = datetime.now(UTC).replace(microsecond=0)
    over = {"submitted_at": now - timedelta(hours=25), "completed_at": now - timedelta(hours=24)}
    faxes = [fax("11", number="+12085550139", **over), fax("11", "301", "+12085550140", **over)]
    world = World("efax", "me", *faxes, timezone=PACIFIC, user="exampleuser", password="example-password")
    told, lost = world.callbacks()
    with standing(efax.application(world, failures_have_times=True)) as url:
        options = OPTIONS.format(user="exampleuser", password="example-password", url=url)
        with stock(tmp_path, sqlite_url, CONFIGURATION + options) as made:
            expected = [
                ExpectedFax(
                    fax_id=str(fax_id("efax", "me", EFAX.key(one.job_id, one.number, 0))),
                    provider="efax",
                    account="me",
                    endpoint="efax",
                    job_id=job_id,
                    facts={},
                    due_at_ms=1,
                )
                for one, job_id in [*((one, "11") for one in faxes), (fax("12"), "12")]
            ]
            with made.runtime.store.writing() as connection:
                jobs.register(connection, made.runtime.store.tables, expected, now_ms())
            made.take("efax", told.callback.body)
            account = made.runtime.accounts["efax"]
            summary = reconcile.reconcile(made.runtime, account, Choice(), Stop())
            made.take("efax", lost.callback.body)
            found = made.events()
            with made.runtime.store.reading() as connection:
                open_kinds = discrepancies.open_by_kind(connection, made.runtime.store.tables)
    assert (summary.rows, summary.filled, summary.by_callback, summary.contradicting) == (2, 1, 1, 0)
    assert (summary.trouble, summary.unreadable, summary.missing) == ([], 0, 1)
    assert summary.tallies >= 2  # counts of yesterday; those of numbers too, unless the clocks have just changed
    assert {kind: count for kind, (count, _) in open_kinds.items()} == {"missing": 1}  # job 12
    completed = [event for event in found if event["type"].startswith("fax.completed")]
    assert {event["fax_id"] for event in completed} == {one.fax_id for one in expected[:2]}
    assert len(completed) == 2
