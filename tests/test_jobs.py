"""Faxes that are expected: registered before their callbacks, over HTTP and on the command line."""

import contextlib
import itertools
import json
import os
import pty
import re
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

import pytest
from click.testing import CliRunner
from house import CONFIGURATION, EFAX_PASSWORD, EFAX_USER, TOKEN, house
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from stock import FAXHOOK, environment, stock

from receiver import expecting, providers, registration
from receiver.cli import main
from receiver.errors import Unprocessable
from receiver.providers.shared.contract import SimulatedFax, SimulatedJob
from receiver.store import jobs, now_ms
from receiver.web.app import create_app

KEY = "key-CANARY-0123456789-of-openfax"
OLD_KEY = "old-CANARY-0123456789-of-openfax"
OTHER_KEY = "key-CANARY-0123456789-of-others"
HASHED = f"sha256:{sha256(OLD_KEY.encode()).hexdigest()}"


def with_keys(configuration):
    """Openfax, FAXAGE, Retarus and eFax take jobs; ``keyless`` does not."""
    openfax = f'provider = "openfax"\naccount = "123456789"\njob_keys = ["{KEY}", "{HASHED}"]'
    configuration = configuration.replace('provider = "openfax"', openfax)
    for provider in ("faxage", "retarus", "efax"):
        named = f'provider = "{provider}"'
        configuration = configuration.replace(named, f'{named}\njob_keys = ["{OTHER_KEY}"]')
    keyless = f'\n[endpoints.keyless]\nprovider = "openfax"\nauth = {{{{ mode = "none" }}}}\ntokens = ["{TOKEN}"]\n'
    return configuration + keyless


JOBS = with_keys(CONFIGURATION)


@pytest.fixture
def server(tmp_path, sqlite_url):
    with house(tmp_path, sqlite_url, JOBS) as served:
        yield served


@pytest.fixture(scope="module")
def refusing(tmp_path_factory):
    """One for all that is refused, and leaves nothing."""
    folder = tmp_path_factory.mktemp("refusing")
    with house(folder, f"sqlite:///{folder}/faxhook.db", JOBS) as served:
        yield served


@pytest.fixture
def anywhere(tmp_path, store_url):
    """The same on each kind of store."""
    with house(tmp_path, store_url, JOBS) as served:
        yield served


@pytest.fixture
def made(tmp_path, sqlite_url):
    """For the command line."""
    with stock(tmp_path, sqlite_url, JOBS) as one:
        yield one


def job(**changes):
    """Everything that can be said of an Openfax job."""
    document = {
        "endpoint": "openfax",
        "job_id": "779029",
        "recipients": [{"number": "+1 (555) 555-1212", "name": "Anna Recipient"}],
        "sender": {"name": "Bert Sender", "number": "212-555-0123"},
        "pages": 2,
        "reference": {"id": "order-4711", "billing_code": "4711", "billing_info": "Cost Center"},
        "submitted_at": "2026-07-01T11:30:00+02:00",
        "due_in": "90m",
    }
    return {name: value for name, value in (document | changes).items() if value is not ...}


def retarus(*recipients, **changes):
    return {"endpoint": "retarus", "job_id": "J1", "recipients": list(recipients), **changes}


def tell(server, document, key=KEY, **headers):
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    authorization = {"Authorization": f"Bearer {key}"} if key is not None else {}
    return server.ask("POST", "/jobs", body, **{"Content_Type": "application/json", **authorization, **headers})


def states(reply):
    return [fax["state"] for fax in reply.json["faxes"]]


def expected(made):
    store = made.runtime.store
    with store.reading() as connection:
        return jobs.listing(connection, store.tables, limit=None)


def facts_of(made, fax_id):
    table = made.runtime.store.tables.jobs
    with made.runtime.store.reading() as connection:
        return json.loads(connection.execute(table.select().where(table.c.fax_id == fax_id)).one().facts)


def postback(**changes):
    return urlencode({"OutTransID": "779029", "AccountID": "123456789", "LastStatus": "0", **changes})


# --- what comes of it -------------------------------------------------------------------------------------------------


def test_a_callback_without_a_number_is_told_with_what_its_sender_knows(anywhere):
    reply = tell(anywhere, job())
    assert (reply.status, states(reply)) == (201, ["expected"])
    callback = anywhere.post("openfax", postback(PagesSent="1", LastStatus="6"))
    assert callback.json["status"] == "accepted"
    (event,) = anywhere.events()
    data = event["data"]
    assert event["subject"] == reply.json["faxes"][0]["fax_id"]
    assert (data["revision"], data["observed_via"]) == (1, "callback")
    assert data["recipient"] == {
        "number": "+15555551212",
        "number_raw": "+1 (555) 555-1212",
        "name": "Anna Recipient",
        "station_id": None,
        "country": None,
    }
    assert data["sender"] == {"name": "Bert Sender", "number": "+12125550123"}
    assert (data["pages"], data["partial"]) == ({"total": 2, "sent": 1}, True)
    assert data["reference"] == {"id": "order-4711", "billing_code": "4711", "billing_info": "Cost Center"}
    assert data["submitted_at"] == "2026-07-01T09:30:00Z"
    assert expected(anywhere) == []
    again = anywhere.post("openfax", postback(PagesSent="1", LastStatus="6"))
    assert (again.json["status"], again.json["events"]) == ("duplicate", callback.json["events"])
    assert len(anywhere.events()) == 1


def test_what_the_provider_states_wins(server):
    known = {
        "recipients": [{"number": "212-555-0199", "name": "Anna"}],
        "reference": {"id": "ours", "billing_code": "7"},
    }
    assert tell(server, job(endpoint="faxage", job_id=115893796, **known), OTHER_KEY).status == 201
    fields = {"jobid": "115893796", "destnum": "(208)555-0139", "shortstatus": "success"}
    server.post("faxage", urlencode(fields), reference="theirs")
    (event,) = server.events()
    assert event["data"]["recipient"]["number"] == "+12085550139"
    assert event["data"]["recipient"]["number_raw"] == "(208)555-0139"
    assert event["data"]["recipient"]["name"] == "Anna"
    assert event["data"]["reference"] == {"id": "theirs", "billing_code": "7", "billing_info": None}


def test_a_job_that_is_told_after_its_callback_is_answered_with_what_became_of_it(anywhere):
    accepted = anywhere.post("openfax", postback()).json
    before = anywhere.events()
    reply = tell(anywhere, job())
    assert (reply.status, reply.json["status"], states(reply)) == (200, "registered", ["known"])
    (event,) = before
    known = {"fax_id": event["subject"], "state": "known", "outcome": "delivered", "event": event["id"]}
    assert reply.json["faxes"] == [known]
    again = anywhere.post("openfax", postback()).json
    assert (again["status"], again["events"]) == ("duplicate", accepted["events"])
    assert anywhere.events() == before
    assert expected(anywhere) == []


def test_a_reference_that_is_told_after_the_callback_comes_with_the_next_amendment(anywhere):
    """FAXAGE sends a job again: the same jobid, a later completetime."""
    callback = {
        "jobid": "55",
        "commid": "788038",
        "destname": "Alice Example",
        "destnum": "(208)555-0139",
        "shortstatus": "success",
        "longstatus": "Success",
        "sendtime": "2026-07-07 15:18:20",
        "completetime": "2026-07-07 15:19:13",
        "xmittime": "00:00:31",
        "pagecount": "1",
        "xmitpages": "1",
    }
    failure = {"shortstatus": "failure", "longstatus": "x", "completetime": "2026-07-07 16:19:13"}
    anywhere.post("faxage", urlencode(callback))
    told = job(endpoint="faxage", job_id="55", recipients=[{"number": "2085550139"}], reference={"id": "order-1"})
    assert tell(anywhere, told, OTHER_KEY).json["faxes"][0]["outcome"] == "delivered"
    assert len(anywhere.events()) == 1  # nothing is published for it
    anywhere.post("faxage", urlencode(callback | failure))
    completed, amended = anywhere.events()
    assert (completed["type"], completed["data"]["reference"]["id"]) == ("fax.completed.v1", None)
    assert (amended["type"], amended["data"]["outcome"]) == ("fax.amended.v1", "failed")
    assert amended["data"]["reference"]["id"] == "order-1"
    assert amended["data"]["sender"]["name"] == "Bert Sender"
    assert tell(anywhere, told, OTHER_KEY).json["faxes"][0] == {
        "fax_id": amended["subject"],
        "state": "known",
        "outcome": "failed",
        "event": amended["id"],
    }


def test_a_job_that_is_told_again_stays_as_it_was(anywhere):
    first = tell(anywhere, job())
    rows = expected(anywhere)
    again = tell(anywhere, job(reference={"id": "another"}, due_in="5m"))
    assert (first.status, again.status, states(again)) == (201, 200, ["registered"])
    assert again.json["faxes"][0]["fax_id"] == first.json["faxes"][0]["fax_id"]
    assert expected(anywhere) == rows
    anywhere.post("openfax", postback())
    assert anywhere.events()[0]["data"]["reference"]["id"] == "order-4711"


def test_a_process_that_ends_after_the_answer_has_registered(tmp_path, store_url):
    with house(tmp_path / "first", store_url, JOBS) as server:
        tell(server, job())
    with house(tmp_path / "second", store_url, JOBS) as server:
        server.post("openfax", postback())
        assert server.events()[0]["data"]["recipient"]["number"] == "+15555551212"


def test_of_two_who_tell_the_same_at_once_one_is_the_first(anywhere):
    numbers = [f"+49891250400{index:02d}" for index in range(40)]
    recipients = [{"number": number} for number in numbers]
    together = threading.Barrier(2)

    def one(document):
        together.wait()
        return tell(anywhere, document, OTHER_KEY)

    with ThreadPoolExecutor(2) as pool:
        for number in range(5):
            documents = [retarus(*order, job_id=f"J{number}") for order in (recipients, recipients[::-1])]
            replies = list(pool.map(one, documents))
            assert sorted(reply.status for reply in replies) == [200, 201]
            assert sorted(set(states(replies[0])) | set(states(replies[1]))) == ["expected", "registered"]
            assert replies[0].json["faxes"] != replies[1].json["faxes"]
    assert len(expected(anywhere)) == 5 * 40


@pytest.mark.parametrize("name", sorted(name for name, provider in providers.load().items() if provider.key))
def test_a_registered_fax_is_the_one_its_callback_is_about(server, name):
    provider = providers.load()[name]
    number = "+12125550147"
    at = datetime(2026, 7, 1, 9, 30, tzinfo=UTC)
    account = server.runtime.accounts[name].source.account
    delivered = next(code for code, verdict in provider.codes.verdicts.items() if verdict and not verdict.failure)
    simulated = SimulatedJob(
        "8001",
        account,
        (SimulatedFax(number, delivered, "F1"),),
        at,
        at + timedelta(minutes=1),
        ZoneInfo("UTC"),
        EFAX_USER,
        EFAX_PASSWORD,
    )
    key = KEY if name == "openfax" else OTHER_KEY
    reply = tell(server, {"endpoint": name, "job_id": "8001", "recipients": [{"number": number}]}, key)
    assert (reply.status, states(reply)) == (201, ["expected"])
    for raw in provider.push.simulate(simulated):
        assert server.post(name, raw.body, raw.content_type).status == 200
    assert [event["subject"] for event in server.events()] == [reply.json["faxes"][0]["fax_id"]]
    assert expected(server) == []


def test_it_is_the_same_where_identities_are_salted(tmp_path, sqlite_url):
    with house(tmp_path, sqlite_url, JOBS.replace("[store]", '[store]\nidentity_salt = "pepper"')) as server:
        reply = tell(server, job())
        server.post("openfax", postback())
        assert [event["subject"] for event in server.events()] == [reply.json["faxes"][0]["fax_id"]]
        assert expected(server) == []


# --- several recipients -----------------------------------------------------------------------------------------------


def test_faxes_are_answered_in_the_order_of_recipients(server):
    numbers = ["+4989125040003", "+4989125040001", "+4989125040002"]
    reply = tell(server, retarus(*({"number": number} for number in numbers)), OTHER_KEY)
    raws = [facts_of(server, fax["fax_id"])["recipient.number_raw"] for fax in reply.json["faxes"]]
    assert raws == numbers
    assert reply.json.keys() == {"status", "faxes"}
    assert all(fax.keys() == {"fax_id", "state"} for fax in reply.json["faxes"])


def test_equal_numbers_are_faxes_of_their_own_that_share_only_what_is_said_of_both(server):
    """Which is which depends on how their calls go."""
    first = {"number": "+49 89 125040-0", "name": "Anna"}
    second = {"number": "0049 (0)89 1250400", "name": "Bert"}
    reply = tell(server, retarus(first, {"number": "+4930123456"}, second, reference={"id": "r"}), OTHER_KEY)
    ids = [fax["fax_id"] for fax in reply.json["faxes"]]
    assert len(set(ids)) == 3
    assert facts_of(server, ids[0]) == facts_of(server, ids[2])
    assert facts_of(server, ids[0]) == {"recipient.number": "+49891250400", "reference.id": "r"}
    rows = [{"number": "+49891250400", "status": "OK", "sentTS": f"2026-06-08T15:38:0{second}Z"} for second in (1, 2)]
    server.post("retarus", json.dumps({"jobId": "J1", "faxRecipients": rows}))
    assert {event["subject"] for event in server.events()} == {ids[0], ids[2]}
    assert [row["fax_id"] for row in expected(server)] == [ids[1]]


def test_where_equal_numbers_are_one_fax_it_is_answered_as_one(server):
    recipients = [{"number": "+12125550147", "name": "Anna"}, {"number": "+12125550147", "name": "Bert"}]
    reply = tell(server, {"endpoint": "efax", "job_id": "D1", "recipients": recipients}, OTHER_KEY)
    assert reply.status == 201
    (row,) = expected(server)
    assert [fax["fax_id"] for fax in reply.json["faxes"]] == [row["fax_id"]] * 2
    assert "recipient.name" not in facts_of(server, row["fax_id"])


def test_a_number_that_cannot_be_told_in_full_is_kept_as_it_is(server):
    reply = tell(server, job(recipients=[{"number": "extension 12"}], sender=None, reference=None))
    known = facts_of(server, reply.json["faxes"][0]["fax_id"])
    assert known == {"recipient.number_raw": "extension 12", "pages.total": 2, "submitted_at": "2026-07-01T09:30:00Z"}


@pytest.mark.parametrize("document", [job(recipients=...), job(recipients=None), job(recipients=[{"name": "Anna"}])])
def test_a_number_may_be_left_out_where_the_job_is_the_fax(server, document):
    reply = tell(server, document)
    assert reply.status == 201
    assert reply.json["faxes"][0]["fax_id"] == tell(server, job()).json["faxes"][0]["fax_id"]


# --- when it is due ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "after"),
    [
        (..., timedelta(hours=1)),
        (None, timedelta(hours=1)),
        ("90m", timedelta(minutes=90)),
        ("2d", timedelta(days=2)),
        ("0s", timedelta()),
        ("0d", timedelta()),
        ("0", timedelta()),
    ],
)
def test_a_job_is_due_after_an_hour_or_when_its_sender_says(server, said, after):
    before = datetime.now(UTC)
    tell(server, job(due_in=said))
    (row,) = expected(server)
    assert before + after <= datetime.fromisoformat(row["due_at"]) + timedelta(milliseconds=1)
    assert datetime.fromisoformat(row["due_at"]) <= datetime.now(UTC) + after


def test_a_due_time_may_be_over(server):
    tell(server, job(due_in=..., due_at="2026-07-01t11:30:00.25+02:00"))
    (row,) = expected(server)
    assert row["due_at"] == "2026-07-01T09:30:00.250Z"
    store = server.runtime.store
    with store.reading() as connection:
        assert jobs.overdue(connection, store.tables, "openfax", "123456789", now_ms(), 10) == ["779029"]


# --- who may ----------------------------------------------------------------------------------------------------------

STRANGERS = {
    "no key": (None, {}),
    "an empty key": ("", {}),
    "a wrong key": ("wrong-0123456789-0123456789", {}),
    "a hash for a key": (HASHED, {}),
    "another scheme": (None, {"Authorization": f"Basic {KEY}"}),
    "two keys": (None, {"Authorization": f"Bearer {OTHER_KEY}, Bearer {KEY}"}),
    "no ASCII": ("größe", {}),
    "another endpoint's key": (OTHER_KEY, {}),
}
BODIES = {
    "a job": json.dumps(job()).encode(),
    "an unknown endpoint": json.dumps(job(endpoint="nobody")).encode(),
    "an endpoint without keys": json.dumps(job(endpoint="keyless")).encode(),
    "a name that is none": json.dumps(job(endpoint=" openfax")).encode(),
    "a wrong job": json.dumps({"endpoint": "openfax", "job": 1}).encode(),
}
UNREADABLE = {"nothing": b"", "no JSON": b"{", "too much": b" " * 70_000}

SOMEBODY = {"another endpoint's key"}  # is told what is wrong with a body that names no endpoint


def refusal(reply):
    """All of an answer but when it was given."""
    varying = ("Date", "Server", "Connection")
    return reply.status, {name: value for name, value in reply.headers.items() if name not in varying}, reply.body


@pytest.mark.parametrize(
    ("who", "body"),
    [*itertools.product(STRANGERS, BODIES), *itertools.product(sorted(STRANGERS.keys() - SOMEBODY), UNREADABLE)],
)
def test_without_a_key_of_the_endpoint_it_is_always_the_same_401(refusing, who, body):
    key, headers = STRANGERS[who]
    headers = {name: value.encode() if not value.isascii() else value for name, value in headers.items()}
    if key is not None and not key.isascii():
        headers, key = {"Authorization": f"Bearer {key}".encode()}, None
    known = refusal(tell(refusing, job(endpoint="nobody"), None))
    assert known[0] == 401
    assert known[1]["WWW-Authenticate"] == 'Bearer realm="faxhook"'
    assert "fields" not in json.loads(known[2])
    assert refusal(tell(refusing, {**BODIES, **UNREADABLE}[body], key, **headers)) == known
    assert expected(refusing) == []


@pytest.mark.parametrize("body", ["an unknown endpoint", "an endpoint without keys", "a name that is none"])
def test_a_right_key_tells_nothing_of_other_endpoints(refusing, body):
    known = refusal(tell(refusing, job(), None))
    assert refusal(tell(refusing, BODIES[body])) == known
    assert refusal(tell(refusing, job(endpoint="retarus"))) == known


def test_nothing_of_the_request_is_told_to_a_stranger(refusing):
    known = refusal(tell(refusing, job(), None))
    for headers in ({"Content_Encoding": "gzip"}, {"Content_Type": "text/xml"}, {"Content_Type": ""}):
        assert refusal(tell(refusing, job(), "wrong-0123456789-0123456789", **headers)) == known


@pytest.mark.parametrize("authorization", [f"Bearer {KEY}", f"bearer {KEY}", f"BEARER   {KEY} ", f"Bearer {OLD_KEY}"])
def test_each_of_an_endpoints_keys_is_taken(server, authorization):
    assert tell(server, job(), None, Authorization=authorization).status == 201


def test_one_key_may_open_several_endpoints(server):
    for name in ("faxage", "retarus", "efax"):
        document = {"endpoint": name, "job_id": "1", "recipients": [{"number": "+12125550147"}]}
        assert tell(server, document, OTHER_KEY).status == 201


def test_every_key_is_compared_in_constant_time_whichever_is_right(server, monkeypatch):
    compared = []
    genuine = registration.hmac.compare_digest
    monkeypatch.setattr(registration.hmac, "compare_digest", lambda *both: compared.append(both) or genuine(*both))
    for key in (KEY, OLD_KEY, OTHER_KEY, "wrong", ""):
        compared.clear()
        tell(server, job(), key)
        assert len(compared) == 5
        assert all(len(given) == len(known) == 32 for given, known in compared)
        assert {given for given, _ in compared} == {sha256(key.encode()).digest()}


# --- what is refused --------------------------------------------------------------------------------------------------

KNOWN = "endpoint, job_id, recipients, sender, pages, reference, submitted_at, due_at, due_in"
EXPECTED = ("expected ", "missing; expected ", "null; expected ")
WRONG = {
    "no job": (job(job_id=...), "job_id"),
    "an empty job": (job(job_id=" "), "job_id"),
    "a job that is a list": (job(job_id=["779029"]), "job_id"),
    "a job with a control character": (job(job_id="779\n029"), "job_id"),
    "half a character": (job(job_id="\ud800"), "job_id"),
    "too long a job": (job(job_id="1" * 256), "job_id"),
    "no endpoint": (job(endpoint=...), "endpoint"),
    "an endpoint that is a number": (job(endpoint=1), "endpoint"),
    "an unknown name": (job(jobid="1"), "jobid"),
    "an unknown name of the sender": (job(sender={"nmae": "Bert"}), "sender.nmae"),
    "an unknown name of a recipient": (job(recipients=[{"phone": "1"}]), "recipients.0.phone"),
    "an unknown name of the reference": (job(reference={"ID": "1"}), "reference.ID"),
    "recipients that are no list": (job(recipients={"number": "+15555551212"}), "recipients"),
    "no recipients": (job(recipients=[]), "recipients"),
    "a recipient that is text": (job(recipients=["+15555551212"]), "recipients.0"),
    "a recipient that is null": (job(recipients=[None]), "recipients.0"),
    "a number without digits": (job(recipients=[{"number": "unknown"}]), "recipients.0.number"),
    "a number that is a number": (job(recipients=[{"number": 15555551212}]), "recipients.0.number"),
    "a number of half a character": (job(recipients=[{"number": "1\udfff"}]), "recipients.0.number"),
    "too long a number": (job(recipients=[{"number": "1" * 256}]), "recipients.0.number"),
    "a name with NUL": (job(recipients=[{"name": "a\0b"}]), "recipients.0.name"),
    "a sender that is text": (job(sender="Bert"), "sender"),
    "a sender's number without digits": (job(sender={"number": "?"}), "sender.number"),
    "two recipients of one fax": (job(recipients=[{"number": "1"}, {"number": "2"}]), "recipients"),
    "pages as text": (job(pages="2"), "pages"),
    "pages as a fraction": (job(pages=2.0), "pages"),
    "no pages": (job(pages=0), "pages"),
    "true pages": (job(pages=True), "pages"),
    "too many pages": (job(pages=10**30), "pages"),
    "a reference that is text": (job(reference="order-4711"), "reference"),
    "too long a reference": (job(reference={"id": "x" * 256}), "reference.id"),
    "a time without zone": (job(submitted_at="2026-07-01T09:30:00"), "submitted_at"),
    "a day": (job(submitted_at="2026-07-01"), "submitted_at"),
    "a day that is none": (job(submitted_at="2026-02-30T09:30:00Z"), "submitted_at"),
    "a time in seconds": (job(submitted_at=1782898200), "submitted_at"),
    "a time long ago": (job(submitted_at="0001-01-01T00:00:00+14:00"), "submitted_at"),
    "a time before there was any": (job(submitted_at="1969-12-31T23:59:59Z"), "submitted_at"),
    "a zone that is none": (job(submitted_at="2026-07-01T09:30:00+99:00"), "submitted_at"),
    "due twice": (job(due_at="2026-07-01T09:30:00Z"), "due_in"),
    "due without zone": (job(due_in=..., due_at="2026-07-01T09:30:00"), "due_at"),
    "due after the store forgets it": (job(due_in="91d"), "due_in"),
    "due at a time after that": (job(due_in=..., due_at="2999-12-31T23:59:59-12:00"), "due_at"),
    "due in no period": (job(due_in="1h30m"), "due_in"),
    "due in a number": (job(due_in=90), "due_in"),
    "due in a negative period": (job(due_in="-1h"), "due_in"),
    "due in digits of another script": (job(due_in="٣h"), "due_in"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_job_that_is_not_as_it_should_be_is_422_and_names_the_field(refusing, wrong):
    document, field = WRONG[wrong]
    reply = tell(refusing, document)
    assert (reply.status, reply.json["code"]) == (422, "unprocessable")
    assert reply.headers["Content-Type"] == "application/problem+json"
    assert list(reply.json["fields"]) == [field]
    assert reply.json["fields"][field].startswith(EXPECTED)
    assert expected(refusing) == []


def test_an_unknown_name_is_told_with_those_that_are_known(refusing):
    fields = tell(refusing, job(jobid="1", **{"x" * 5000: 1})).json["fields"]
    assert fields["jobid"] == f"expected no such name; known here: {KNOWN}"
    assert max(map(len, fields)) <= 101
    fields = tell(refusing, job(recipients=[{"fax": "1"}])).json["fields"]
    assert fields == {"recipients.0.fax": "expected no such name; known here: number, name"}


def test_a_number_is_needed_where_it_is_part_of_the_identity(refusing):
    for name in ("retarus", "efax"):
        for recipients, field in (
            (None, "recipients"),
            ([{"number": "+12125550147"}, {"name": "Anna"}], "recipients.1.number"),
            ([{"number": "(0)"}], "recipients.0.number"),
        ):
            reply = tell(refusing, {"endpoint": name, "job_id": "1", "recipients": recipients}, OTHER_KEY)
            assert (reply.status, list(reply.json["fields"])) == (422, [field])
    assert expected(refusing) == []


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (b"", {}, 400, "undecodable"),
        (b"{", {}, 400, "undecodable"),
        (b"[]", {}, 400, "undecodable"),
        (b"null", {}, 400, "undecodable"),
        (b'{"endpoint": "openfax", "endpoint": "openfax", "job_id": "1"}', {}, 400, "undecodable"),
        (b'{"endpoint": "openfax", "job_id": "1", "pages": NaN}', {}, 400, "undecodable"),
        (b'{"endpoint": "openfax", "job_id": "1", "pages": 1e99999999999999999999}', {}, 400, "undecodable"),
        (b'{"endpoint": "openfax", "job_id": ' + b"1" * 5000 + b"}", {}, 400, "undecodable"),
        (b'{"endpoint": "openfax", "job_id": "1", "sender": {"name": "\xe4"}}', {}, 400, "undecodable"),
        (b"[" * 60_000, {}, 413, "too_complex"),
        (b" " * 65_537, {}, 413, "too_large"),
        (json.dumps(job()).encode(), {"Content_Type": "application/x-www-form-urlencoded"}, 415, "unsupported_body"),
        (json.dumps(job()).encode(), {"Content_Type": ""}, 415, "unsupported_body"),
        (json.dumps(job()).encode(), {"Content_Encoding": "gzip"}, 415, "unsupported_encoding"),
    ],
)
def test_a_body_that_cannot_be_read_is_refused_to_who_has_a_key(refusing, body, headers, status, code):
    reply = tell(refusing, body, **headers)
    assert (reply.status, reply.json["code"]) == (status, code)
    assert expected(refusing) == []


def test_the_longest_body_is_taken(server):
    document = json.dumps(job()).encode()
    reply = tell(server, document + b" " * (64 * 1024 - len(document)), Content_Type="Application/JSON; charset=utf-8")
    assert reply.status == 201


def test_only_post_is_answered(server):
    for method in ("GET", "HEAD", "PUT", "DELETE", "OPTIONS"):
        reply = server.ask(method, "/jobs", Authorization=f"Bearer {KEY}")
        assert (reply.status, reply.headers["Allow"]) == (405, "POST")


def test_without_keys_there_is_no_such_url(tmp_path, sqlite_url):
    with house(tmp_path, sqlite_url) as server:
        reply = tell(server, job())
        assert (reply.status, reply.json["code"]) == (404, "not_found")


def test_a_provider_whose_faxes_have_no_identity_yet_takes_no_jobs(server):
    account = server.runtime.accounts["faxage"]
    keyless = replace(account, provider=replace(account.provider, key=None))
    with pytest.raises(Unprocessable) as refused:
        expecting.expect(expecting.check({"endpoint": "faxage", "job_id": "1"}), keyless, server.runtime)
    assert list(refused.value.fields) == ["endpoint"]


def test_a_store_that_is_away_is_503_and_nothing_is_promised(server):
    server.runtime.store.close()
    server.runtime.store.file.path.unlink()
    reply = tell(server, job())
    assert (reply.status, reply.json["code"]) == (503, "unavailable")
    assert int(reply.headers["Retry-After"]) > 0
    assert "faxes" not in reply.json


# --- what is told of it -----------------------------------------------------------------------------------------------


def counted(server, endpoint, code):
    found = re.search(
        rf'faxhook_requests_total\{{code="{code}",endpoint="{endpoint}"\}} (\S+)',
        server.ask("GET", "/metrics").body.decode(),
    )
    return float(found[1]) if found else 0.0


def test_requests_are_counted_with_the_endpoint_once_it_is_known(server):
    before = {code: counted(server, "openfax", code) for code in (201, 200, 422)}
    strangers = counted(server, "-", 401)
    for document, key in [(job(), KEY), (job(), KEY), (job(pages=0), KEY), (job(), "wrong"), (job(endpoint="x"), KEY)]:
        tell(server, document, key)
    assert {code: counted(server, "openfax", code) - before[code] for code in before} == {201: 1, 200: 1, 422: 1}
    assert counted(server, "-", 401) - strangers == 2


def test_a_registration_is_one_line_in_the_log_without_anything_personal(server, capfd):
    number = "+4989125040017"
    documents = [
        retarus({"number": number, "name": "Anna CANARY"}, {"number": "+4930123456"}, reference={"id": "CANARY"})
    ]
    documents += [documents[0], {**documents[0], "pages": "CANARY"}, {**documents[0], "endpoint": "CANARY"}]
    for document in documents:
        tell(server, document, OTHER_KEY)
    tell(server, documents[0], "CANARY-wrong-0123456789")
    tell(server, documents[0], None)
    text = "".join(capfd.readouterr())
    assert "CANARY" not in text
    assert number[-6:] not in text
    lines = [json.loads(line) for line in text.splitlines()]
    told = [(line["endpoint"], line["count"]) for line in lines if line["event"] == "job_registered"]
    assert told == [("retarus", 2), ("retarus", 0)]
    refused = [(line["status"], line["endpoint"]) for line in lines if line["event"] == "job_refused"]
    assert refused == [(422, "retarus"), (401, "-")]  # one line of each kind in ten seconds
    assert not any("dropped" in line for line in lines)


# --- whatever is sent -------------------------------------------------------------------------------------------------

plain = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.from_regex(r"[0-9+() -]{1,20}")
)
anything = st.recursive(plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner))
party = st.fixed_dictionaries({}, optional={"number": plain, "name": plain}) | anything
documents = st.fixed_dictionaries(
    {"endpoint": st.sampled_from(["openfax", "faxage", "retarus", "efax", "keyless"]), "job_id": st.just("1") | plain},
    optional={
        "recipients": st.lists(party, max_size=4) | anything,
        "sender": party,
        "pages": st.integers(1, 9) | plain,
        "reference": st.dictionaries(st.sampled_from(["id", "billing_code"]), plain) | anything,
        "submitted_at": st.datetimes(timezones=st.timezones()).map(lambda time: time.isoformat()) | plain,
        "due_at": st.datetimes(timezones=st.just(UTC)).map(lambda time: time.isoformat()) | plain,
        "due_in": st.from_regex(r"[0-9]{1,7}[smhd]", fullmatch=True) | plain,
        "more": anything,
    },
)
bodies = st.binary(max_size=200) | anything.map(json.dumps).map(str.encode)


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """The application without a socket, with one key for all endpoints."""
    folder = tmp_path_factory.mktemp("fuzz")
    with stock(folder, f"sqlite:///{folder}/faxhook.db", JOBS.replace(OTHER_KEY, KEY)) as one:
        yield create_app(one.runtime).test_client()


def posted(client, body):
    return client.post("/jobs", data=body, content_type="application/json", headers={"Authorization": f"Bearer {KEY}"})


@hypothesis_settings(max_examples=100, suppress_health_check=list(HealthCheck))
@given(document=documents)
def test_no_document_is_our_trouble(client, document):
    answer = posted(client, json.dumps(document))
    assert answer.status_code in (200, 201, 400, 401, 413, 422)
    if answer.status_code == 422:
        assert answer.json["fields"]
        assert all(told.startswith(EXPECTED) for told in answer.json["fields"].values())


@hypothesis_settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(body=bodies)
def test_no_body_is_our_trouble(client, body):
    assert posted(client, body).status_code in (400, 401, 413, 422)


# --- the command line -------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _no_configuration_of_our_own(monkeypatch):
    for name in ("FAXHOOK_CONFIG", "FAXHOOK_CONFIG_TOML", "PORT", "DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)


def run(made, *arguments, stdin=None):
    options = ["--config", str(made.config)]
    return CliRunner().invoke(main, ["jobs", *arguments, *options], input=stdin, catch_exceptions=False)


def listed(made, *options):
    result = run(made, "list", "--json", *options)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_a_job_is_added_and_its_callback_is_told_with_it(made):
    result = run(
        made, "add", "openfax", "779029", "--number", "555-555-1212", "--reference", "order-4711", "--due", "2h"
    )
    assert result.exit_code == 0
    (row,) = listed(made)
    assert result.stdout == f"{row['fax_id']}: expected\n"
    assert run(made, "add", "openfax", "779029").stdout == f"{row['fax_id']}: registered\n"
    due = datetime.fromisoformat(row["due_at"]) - datetime.fromisoformat(row["registered_at"])
    assert abs(due - timedelta(hours=2)) < timedelta(minutes=1)
    made.fax(779029)
    (event,) = made.events()
    told = json.loads(made.payload(event["id"]))["data"]
    assert (told["recipient"]["number"], told["reference"]["id"]) == ("+15555551212", "order-4711")
    assert listed(made) == []
    known = f"{row['fax_id']}: known: delivered, event {event['id']}\n"
    assert run(made, "add", "openfax", "779029").stdout == known


def test_a_job_with_several_numbers_is_a_line_for_each(made):
    result = run(made, "add", "retarus", "J1", "--number", "+4989125040001", "--number", "+4989125040002")
    assert len(result.stdout.splitlines()) == 2
    assert {row["job_id"] for row in listed(made)} == {"J1"}


def test_no_key_is_needed_where_the_configuration_can_be_read(tmp_path, sqlite_url):
    with stock(tmp_path, sqlite_url) as made:
        assert run(made, "add", "faxage", "1").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nobody", "1"], "endpoint: expected one of openfax, faxage, retarus, efax, keyless"),
        (["keyless", "1"], "endpoint: expected one with an account"),
        (["retarus", "1"], "recipients: expected a list"),
        (["openfax", "1", "--number", "1", "--number", "2"], "recipients: expected one at most"),
        (["openfax", "1", "--number", "x"], "recipients.0.number: expected a fax number"),
        (["openfax", "1", "--due", "soon"], "expected a period such as 90m"),
        (["openfax", "1", "--due", "400d"], "due_in: expected within 90 days"),
        (["openfax"], "JOB_ID"),
    ],
)
def test_a_job_that_cannot_be_added_is_bad_usage(made, arguments, told):
    result = run(made, "add", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert told in result.stderr
    assert listed(made) == []


@pytest.mark.parametrize(
    "due", ["2026-07-01T09:30:00Z", "2026-07-01T11:30:00+02:00", "2026-07-01 09:30", "2026-07-01T0930"]
)
def test_a_due_time_without_a_zone_is_in_utc(made, due):
    run(made, "add", "openfax", "1", "--due", due)
    assert listed(made)[0]["due_at"] == "2026-07-01T09:30:00.000Z"


def lines(*documents):
    return "".join(f"{document if isinstance(document, str) else json.dumps(document)}\n" for document in documents)


def test_jobs_are_imported_from_a_file_and_again_without_harm(made, tmp_path):
    file = tmp_path / "jobs.jsonl"
    file.write_text(lines(*(job(job_id=number) for number in range(1200)), retarus({"number": "+4989125040001"})))
    made.fax(7)
    result = run(made, "import", str(file))
    assert result.exit_code == 0, result.output
    counts = "1201 jobs, 1201 faxes: 1200 expected, 0 registered before, 1 known already; 0 lines refused\n"
    assert result.stdout == counts
    again = run(made, "import", "-", stdin=file.read_text())
    assert "0 expected, 1200 registered before, 1 known already" in again.stdout
    assert len(listed(made, "--limit", "2000")) == 1200


def test_wrong_lines_are_named_with_their_fields_and_the_good_ones_are_kept(made):
    long = json.dumps(job(job_id="9")) + " " * 70_000
    given = lines(
        job(job_id="1"),
        "",
        "{",
        job(job_id="2", pages=0, **{"a\x1b[31m\nb": 1}),
        long,
        job(endpoint="nobody"),
        '{"endpoint": "openfax", "endpoint": "openfax"}',
        retarus({"number": "+4989125040001"}, {"name": "Anna"}),
    )
    result = run(made, "import", "-", stdin=given + json.dumps(job(job_id="3")))
    assert result.exit_code == 1
    assert {row["job_id"] for row in listed(made)} == {"1", "3"}
    assert result.stdout.startswith("2 jobs, 2 faxes: 2 expected")
    assert result.stdout.endswith("; 6 lines refused\n")
    told = result.stderr.splitlines()
    assert [line.partition(": ")[0] for line in told] == [f"line {number}" for number in (3, 4, 4, 5, 6, 7, 8)]
    assert "line 4: pages: expected a whole number from 1" in told
    assert "line 8: recipients.1.number: expected a number with digits, by which a fax of Retarus is known" in told
    assert "\x1b" not in result.stderr
    assert "Anna" not in result.stderr


def test_a_store_that_goes_away_during_an_import_ends_it_and_says_what_is_kept(made, monkeypatch):
    genuine, calls = expecting.register, []

    def register(store, faxes):
        calls.append(len(faxes))
        if len(calls) == 2:
            store.close()
            store.file.path.rename(store.file.path.with_suffix(".away"))
        return genuine(store, faxes)

    monkeypatch.setattr(expecting, "register", register)
    result = run(made, "import", "-", stdin=lines(*(job(job_id=number) for number in range(1200))))
    assert result.exit_code == 1
    assert "kept are 500 jobs. Run it again when it is back" in result.stderr
    assert calls == [500, 500]


def test_an_import_on_a_terminal_shows_a_bar_and_complains_beside_it(made, tmp_path):
    file = tmp_path / "jobs.jsonl"
    file.write_text(lines(*(job(job_id=number) for number in range(50)), {"endpoint": "openfax"}))
    ours, its = pty.openpty()
    command = [*FAXHOOK, "jobs", "import", str(file), "--config", str(made.config)]
    process = subprocess.Popen(command, env=environment() | {"TERM": "xterm"}, stdout=subprocess.PIPE, stderr=its)
    os.close(its)
    seen = b""
    with contextlib.suppress(OSError):  # the end of a terminal
        while piece := os.read(ours, 65536):
            seen += piece
    os.close(ours)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert out.startswith(b"50 jobs, 50 faxes: 50 expected")
    assert b"line 51: job_id: missing; expected" in seen
    assert b"51 lines" in seen


def test_expected_faxes_are_listed_the_longest_due_first_and_without_numbers(made):
    run(made, "add", "openfax", "1", "--number", "+15555551212", "--due", "3h")
    run(made, "add", "openfax", "2", "--due", "2026-07-01T09:30:00Z")
    run(made, "add", "faxage", "3", "--due", "1h")
    assert [row["job_id"] for row in listed(made)] == ["2", "3", "1"]
    assert [row["job_id"] for row in listed(made, "--overdue")] == ["2"]
    assert [row["job_id"] for row in listed(made, "--limit", "2")] == ["2", "3"]
    keys = ["fax_id", "endpoint", "provider", "account", "job_id", "registered_at", "due_at", "asked", "asked_at"]
    assert list(listed(made)[0]) == keys
    shown = run(made, "list").stdout
    assert shown.splitlines()[0] == "\t".join(keys)
    assert "5551212" not in shown
