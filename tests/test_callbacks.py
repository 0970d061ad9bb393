"""Every sample that can arrive as a callback, sent over a real socket to a fresh store, twice."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import live
import pytest
import sqlalchemy as sa
from house import CONFIGURATION, FORM, TOKEN, ask, house
from jsonschema import Draft202012Validator, FormatChecker

import receiver

FIXTURES = Path(__file__).parent / "fixtures"
with (FIXTURES / "manifest.csv").open(newline="") as file:
    ROWS = {f"{row['provider']}/{row['file']}": row for row in csv.DictReader(file)}
SCHEMA = Path(__file__).parents[1] / "schemas" / "fax_completed.v1.json"

REFUSED = {
    "openfax/24_missing_outtransid.form": 422,
    "openfax/25_status_not_a_number.form": 422,
    "faxage/24_shortstatus_unknown.form": 422,
    "faxage/27_missing_jobid.form": 422,
    "retarus/30_negative_doctype.xml": 400,
    "retarus/31_negative_truncated.xml": 400,
    "retarus/32_negative_no_recipient.xml": 422,
    "retarus/50_negative_recipients_empty.json": 422,
    "efax/40_negative_wrong_password.form": 401,
    "efax/41_negative_no_xml_field.form": 400,
}
KEPT_NOTHING = {"efax/40_negative_wrong_password.form", "efax/41_negative_no_xml_field.form"}

# outcome and reason of each recipient, in order
MIXED = {
    "retarus/04_multi_recipient_mixed.xml": [
        ("delivered", None),
        ("failed", "busy"),
        ("unconfirmed", None),
        ("failed", "bad_number"),
    ],
    "retarus/41_multi_recipient_mixed.json": [("delivered", None), ("failed", "busy"), ("failed", "blocked")],
}


def paths(*kinds, expected=None):
    return [
        path
        for path, row in ROWS.items()
        if row["kind"] in kinds and (expected is None or row["expect_outcome"] in expected)
    ]


def send(port, path):
    """As the provider sends it: with the content type of the manifest, or as a GET where that says so."""
    row = ROWS[path]
    body = (FIXTURES / path).read_bytes()
    if row["content_type"].startswith("(query string"):
        query = body.split(b"?", 1)[1].strip().decode()
        return ask(port, "GET", f"/callbacks/{row['provider']}/{TOKEN}?{query}")
    return ask(port, "POST", f"/callbacks/{row['provider']}/{TOKEN}", body, Content_Type=row["content_type"])


def results(events):
    return [(one["data"]["outcome"], one["data"]["failure"] and one["data"]["failure"]["reason"]) for one in events]


def state(reply):
    """The word of a success answer; eFax's says only that it was one."""
    if b"Post Successful" in reply.body:
        return None
    return reply.json["status"]


def reason(row):
    """Texts are never read, so "busy (with hints) or unknown" is the latter."""
    return row["expect_class"].rpartition(" or ")[2] if row["expect_outcome"] == "failed" else None


def one_fax_is_announced_once(folder, store_url, path):
    row = ROWS[path]
    with house(folder, store_url) as server:
        first, again = send(server.port, path), send(server.port, path)
        (event,) = server.events()
        receipts = server.receipts()
    assert (first.status, again.status) == (200, 200)
    assert (state(first), state(again)) in (("accepted", "duplicate"), (None, None))
    assert receipts == [("accepted", None), ("duplicate", None)]
    assert results([event]) == [(row["expect_outcome"], reason(row))]
    assert event["type"] == "fax.completed.v1"
    if state(first):
        assert first.json["events"] == again.json["events"] == [event["id"]]
    assert_valid(event)


def assert_valid(event):
    Draft202012Validator(json.loads(SCHEMA.read_text()), format_checker=FormatChecker()).validate(event)


FINAL = paths("push", expected=("delivered", "failed", "unconfirmed"))


@pytest.mark.parametrize("path", FINAL)
def test_a_fax_is_announced_once_with_the_outcome_and_reason_of_the_manifest(tmp_path, sqlite_url, path):
    one_fax_is_announced_once(tmp_path, sqlite_url, path)


@pytest.mark.service("postgresql")
@pytest.mark.parametrize("path", [next(one for one in FINAL if one.startswith(name)) for name in ("openfax", "efax")])
def test_the_same_on_postgresql(tmp_path, postgresql_url, path):
    one_fax_is_announced_once(tmp_path, postgresql_url, path)


@pytest.mark.parametrize("path", MIXED)
def test_each_recipient_of_a_job_is_announced_once(tmp_path, store_url, path):
    with house(tmp_path, store_url) as server:
        first, again = send(server.port, path), send(server.port, path)
        events = server.events()
    assert (first.json["status"], again.json["status"]) == ("accepted", "duplicate")
    assert results(events) == MIXED[path]
    assert first.json["events"] == again.json["events"] == [event["id"] for event in events]
    assert len({event["subject"] for event in events}) == len(MIXED[path])
    for event in events:
        assert_valid(event)


def test_every_code_of_one_push_is_announced_but_those_not_final(tmp_path, sqlite_url):
    with house(tmp_path, sqlite_url) as server:
        first = send(server.port, "retarus/05_every_known_status.xml")
        again = send(server.port, "retarus/05_every_known_status.xml")
        events = server.events()
    assert (first.json["status"], again.json["status"]) == ("accepted", "duplicate")
    assert {outcome for outcome, _ in results(events)} == {"delivered", "failed", "canceled", "unconfirmed"}
    assert "PENDING" not in {event["data"]["provider_status"]["code"] for event in events}
    for event in events:
        assert_valid(event)


@pytest.mark.parametrize("path", [*paths("push", expected=("pending",)), *paths("other")])
def test_what_is_no_completion_is_ignored(tmp_path, sqlite_url, path):
    with house(tmp_path, sqlite_url) as server:
        replies = [send(server.port, path), send(server.port, path)]
        assert server.events() == []
        assert server.receipts() == [("ignored", "inbound" if path in paths("other") else None)] * 2
    for reply in replies:
        assert reply.status == 200
        assert state(reply) in ("ignored", None)


@pytest.mark.parametrize("path", paths("negative"))
def test_what_cannot_be_trusted_is_refused_and_announces_nothing(tmp_path, sqlite_url, path):
    with house(tmp_path, sqlite_url) as server:
        replies = [send(server.port, path), send(server.port, path)]
        assert server.events() == []
        kept = server.receipts()
    assert [reply.status for reply in replies] == [REFUSED[path]] * 2
    for reply in replies:
        assert reply.headers["Content-Type"] == "application/problem+json"
        assert reply.headers["Cache-Control"] == "no-store"
        assert reply.json["status"] == REFUSED[path]
        assert ("receipt" in reply.json) == (path not in KEPT_NOTHING)
    if path in KEPT_NOTHING:
        assert kept == []
    else:
        assert kept == [("rejected", reply.json["code"]) for reply in replies]


def test_every_sample_has_been_sent():
    tested = {*FINAL, *MIXED, "retarus/05_every_known_status.xml", *REFUSED}
    tested |= {*paths("push", expected=("pending",)), *paths("other")}
    assert tested == set(paths("push", "negative", "other"))


def test_a_byte_identical_redelivery_is_one_fax_and_each_receipt_has_its_body(tmp_path, store_url):
    with house(tmp_path, store_url) as server:
        assert send(server.port, "openfax/01_success.form").json["status"] == "accepted"
        assert send(server.port, "openfax/26_duplicate_of_01.form").json["status"] == "duplicate"
        assert len(server.events()) == 1
        tables = server.runtime.store.tables
        with server.runtime.store.reading() as connection:
            bodies = connection.scalars(sa.select(tables.receipts.c.body)).all()
        assert len(bodies) == 2
        assert len(set(bodies)) == 1


def test_two_dispositions_of_one_request_are_two_faxes(tmp_path, sqlite_url):
    with house(tmp_path, sqlite_url) as server:
        send(server.port, "efax/19_multi_recipient_first.form")
        send(server.port, "efax/20_multi_recipient_second.form")
        events = server.events()
    assert results(events) == [("delivered", None), ("failed", "busy")]
    assert len({event["subject"] for event in events}) == 2
    assert len({event["data"]["provider_job_id"] for event in events}) == 1


def test_the_documented_vectors(tmp_path, sqlite_url):
    with house(tmp_path, sqlite_url) as server:
        for path in ("openfax/01_success.form", "retarus/01_success.xml", "faxage/01_success.form"):
            send(server.port, path)
        openfax, retarus, faxage = server.events()
    assert openfax["subject"] == "d0fbe9d4-3aab-5a4e-8862-dee22a10cd24"
    assert openfax["id"] == "5ff6bb1e-405b-554b-829c-04e250504ee3"
    assert retarus["subject"] == "70330dd6-f035-5d0a-be7f-b87a3545630b"
    assert faxage["subject"] == "4a9cbe71-22e0-5567-8e56-1bb4777f21c8"


# --- the same behind gunicorn ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The real application in the real gunicorn."""
    folder = tmp_path_factory.mktemp("served")
    source = "from receiver.wsgi import app\n@app.get('/ready')\ndef ready(): return ''\n"
    configuration = CONFIGURATION.format(port=20000, store=f"sqlite:///{folder}/faxhook.db")
    (folder / "faxhook.toml").write_text(configuration)
    migrate = "import os; from receiver import bootstrap, settings; from receiver.store.migrating import migrate; "
    subprocess.run(
        [sys.executable, "-c", migrate + "migrate(bootstrap.open_store(settings.load(None, os.environ)))"],
        env={"FAXHOOK_CONFIG": str(folder / "faxhook.toml"), "PYTHONPATH": str(Path(receiver.__path__[0]).parent)},
        check=True,
    )
    with live.gunicorn(folder, source, configuration=configuration) as server:
        yield server


SOME = {
    "openfax/20_multipart_busy.multipart": 200,
    "openfax/19_get_query_string.txt": 200,
    "faxage/01_success.form": 200,
    "retarus/04_multi_recipient_mixed.xml": 200,
    "retarus/40_success.json": 200,
    "efax/01_success.form": 200,
    "retarus/30_negative_doctype.xml": 400,
    "efax/40_negative_wrong_password.form": 401,
    "faxage/24_shortstatus_unknown.form": 422,
}


@pytest.mark.parametrize("path", SOME)
def test_behind_gunicorn_too(served, path):
    first, again = send(served.port, path), send(served.port, path)
    assert (first.status, again.status) == (SOME[path], SOME[path])
    if first.status == 200 and state(first):
        assert (state(first), state(again)) == ("accepted", "duplicate")


def test_a_401_can_be_read_by_a_client_that_sends_everything_first(served):
    """150 kB before the first look at the answer: closed too early, it would see a broken connection."""
    body = b"xml=" + b"%3Ca+UserName%3D%22x%22+Password%3D%22y%22%2F%3E&filler=" + b"x" * 150_000
    head = (
        f"POST /callbacks/efax/{TOKEN} HTTP/1.1\r\nHost: x\r\nContent-Type: {FORM}\r\nContent-Length: {len(body)}\r\n"
    )
    status, _, _ = served.ask((head + "Connection: close\r\n\r\n").encode(), body)
    assert status == 401
