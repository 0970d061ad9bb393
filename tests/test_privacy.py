"""Privacy requests: what is stored of a number is found, given, and erased; ids and outcomes stay."""

import itertools
import json
import random
import threading
import time
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result
from stock import Stock
from waiting import until

from receiver.cli import main, privacy
from receiver.store import erasing, finding, new_id, projection
from receiver.store.known import newest_facts
from receiver.store.mentions import Mentions, Wanted
from schemas.encoding import compact_ascii

NUMBER, NATIONAL = "+12085550139", "2085550139"
OTHER = "2085550142"
DOCUMENTS = Path(__file__).parents[1] / "deploy" / "README.md"


def run(made: Stock, *arguments: str) -> Result:
    return CliRunner().invoke(main, [*arguments, "--config", str(made.config)])


def sent(job: int, number: str = NATIONAL, status: str = "success") -> bytes:
    return (
        f"jobid={job}&destname=Anna&destnum={number}&shortstatus={status}&longstatus=Success"
        "&sendtime=2026-07-01+10%3A00%3A00&completetime=2026-07-01+10%3A01%3A00&xmittime=00%3A01%3A00&pagecount=1"
    ).encode()


def job(*numbers: str) -> bytes:
    """Retarus's report of one job with these recipients."""
    recipients = [
        {"number": number, "status": "OK", "reason": "OK", "sentTs": "2026-07-01T10:00:00Z", "durationInSecs": 20}
        for number in numbers
    ]
    return json.dumps({"jobId": "JOB1", "pages": 1, "recipientStatus": recipients}).encode()


def columns(made: Stock) -> Iterator[tuple[str, bytes]]:
    """All that the store says, table by table."""
    with made.runtime.store.reading() as connection:
        for table in made.runtime.store.tables.metadata.tables.values():
            for row in connection.execute(sa.select(table)):
                for value in row:
                    yield table.name, value if isinstance(value, bytes) else str(value).encode()


def holding(made: Stock, text: str) -> set[str]:
    """The tables that hold this text."""
    return {name for name, value in columns(made) if text.encode() in value}


def erase(made: Stock, *arguments: str) -> Result:
    result = run(made, "erase", *arguments, "--yes")
    assert result.exit_code == 0, result.output
    return result


def fill(made: Stock) -> None:
    """Two faxes to the number, one of them told twice and amended; others; refused and ignored callbacks; a job."""
    for number in (1, 1, 2):
        made.take("faxage", sent(number))
    made.take("faxage", sent(1, status="failure").replace(b"10%3A01", b"10%3A02"))
    made.take("faxage", sent(3, OTHER))
    made.take("faxage", b"jobid=&destnum=(208)+555-0139&shortstatus=success")
    made.take("faxage", b"jobid=2&shortstatus=nonsense&destname=Anna")
    made.take("faxage", b"jobid=77&shortstatus=nonsense&destname=Bert")
    store = made.runtime.store
    with store.writing() as connection:
        jobs, told = store.tables.jobs, store.tables.discrepancies
        facts = json.dumps({"recipient.number": NUMBER, "reference.id": "order-4711"})
        values = {"fax_id": "d0fbe9d4-3aab-5a4e-8862-dee22a10cd24", "provider": "openfax", "account": "123456789"}
        values |= {"endpoint": "openfax", "job_id": "779029", "facts": facts}
        connection.execute(sa.insert(jobs).values(**values, registered_at_ms=1, due_at_ms=1, asked=0))
        for subject, rows in (("a", json.dumps([{"dst": NATIONAL}])), ("b", json.dumps([{"dst": OTHER}]))):
            known = {"provider": "faxage", "account": "acme", "endpoint": "faxage", "kind": "unreadable"}
            times = {"found_at_ms": 1, "seen_at_ms": 1}
            connection.execute(sa.insert(told).values(**known, subject=subject, detail="{}", rows=rows, **times))


def test_nothing_is_erased_without_yes_and_everything_is_counted(anywhere: Stock) -> None:
    fill(anywhere)
    before = list(columns(anywhere))
    result = run(anywhere, "erase", "--number", "+1 (208) 555-0139")
    assert result.exit_code == 0, result.output
    assert "faxes=2 registered=1 receipts=6 discrepancies=1" in result.output
    assert "events: 3, of them 3 undelivered" in result.output
    assert NATIONAL not in result.output
    assert list(columns(anywhere)) == before


@pytest.mark.parametrize("is_projected", [False, True])
def test_an_erased_number_is_nowhere_and_its_fax_is_still_known(anywhere: Stock, is_projected: bool) -> None:
    fill(anywhere)
    if is_projected:
        anywhere.project()
    anywhere.consumed()
    fax_ids = {event["id"]: event["fax_id"] for event in anywhere.events()}
    assert holding(anywhere, NATIONAL) >= {anywhere.runtime.store.tables.events.name}
    result = erase(anywhere, "--number", NUMBER)
    assert "3 events to the queue" in result.output
    assert (
        holding(anywhere, NATIONAL)
        == holding(anywhere, "555-0139")
        == holding(anywhere, "nonsense&destname=A")
        == set()
    )
    assert holding(anywhere, OTHER), "other recipients' facts stay"
    assert holding(anywhere, "Bert"), "and what is of none of them"
    assert {event["id"]: event["fax_id"] for event in anywhere.events()} == fax_ids
    anywhere.project()
    assert run(anywhere, "fax", NUMBER).exit_code == 1, "found by it no more"
    with anywhere.runtime.store.reading() as connection:
        tables, keys = anywhere.runtime.store.tables, anywhere.runtime.find_keys
        assert projection.find(connection, tables, keys.find("number", f"1{NATIONAL}")) == []
    ((action, subject),) = anywhere.audit()
    assert action == "erase"
    assert subject.startswith("number=********39 ")
    assert "faxes=2" in subject
    # a repetition of it
    count = len(anywhere.events())
    receipt = anywhere.take("faxage", sent(2))
    state = next(row["state"] for row in anywhere.receipts() if row["id"] == receipt)
    assert (state, len(anywhere.events())) == ("duplicate", count)


def test_of_a_job_with_many_recipients_only_one_is_erased(anywhere: Stock) -> None:
    receipt = anywhere.take("retarus", job("+12085550139", "+12085550142"), "application/json")
    assert len(anywhere.events()) == 2
    anywhere.consumed()
    erase(anywhere, "--number", NUMBER)
    assert holding(anywhere, NATIONAL) == set()
    payloads = [row for name, row in columns(anywhere) if OTHER.encode() in row and b'"fax_id"' in row]
    assert len(payloads) == 1, "the other one's facts stay, and the whole body is gone"
    assert run(anywhere, "receipts", "show", receipt).stdout.count('"kept": false') == 1
    again = anywhere.take("retarus", job("+12085550139", "+12085550142"), "application/json")
    assert next(row["state"] for row in anywhere.receipts() if row["id"] == again) == "duplicate"


def test_a_fax_or_a_reference_is_erased_as_well(anywhere: Stock) -> None:
    fill(anywhere)
    anywhere.consumed()
    fax_id = next(event["fax_id"] for event in anywhere.events() if event["outcome"] == "failed")
    result = erase(anywhere, "--fax", fax_id.upper())
    assert "faxes=1 registered=0 receipts=3" in result.output
    assert run(anywhere, "fax", "show", fax_id).stdout.count("facts are purged") == 1
    assert len([name for name, value in columns(anywhere) if NATIONAL.encode() in value]) > 1, "the other fax to it"
    assert "registered=1" in erase(anywhere, "--reference", "order-4711").output
    assert holding(anywhere, "order-4711") == set()
    assert run(anywhere, "erase", "--reference", "order-4711").exit_code == 1
    assert [action for action, _ in anywhere.audit()] == ["erase", "erase"]


# --- what is undelivered --------------------------------------------------------------------------------------------


def test_undelivered_events_are_refused_with_their_count_or_dropped(anywhere: Stock) -> None:
    fill(anywhere)
    ids = [event["id"] for event in anywhere.events()]
    anywhere.park(next(its for its in ids if NATIONAL.encode() in anywhere.payload(its)))
    before = list(columns(anywhere))
    result = run(anywhere, "erase", "--number", NUMBER, "--yes")
    assert (result.exit_code, list(columns(anywhere)) == before) == (1, True)
    assert "events are undelivered" in result.output
    erase(anywhere, "--number", NUMBER, "--undelivered", "drop")
    lines = anywhere.consumed()
    assert len(lines) == 1
    assert OTHER.encode() in lines[0]
    assert run(anywhere, "dead-letters", "list", "--json").stdout.strip() == "[]"
    assert holding(anywhere, NATIONAL) == set()


def test_events_are_sent_first_where_that_is_wanted(anywhere: Stock) -> None:
    fill(anywhere)
    lines: list[bytes] = []
    consumer = threading.Timer(1, lambda: lines.extend(anywhere.start("consume").communicate()[0].splitlines()))
    consumer.start()
    erase(anywhere, "--number", NUMBER, "--undelivered", "send-first")
    consumer.join()
    assert len(lines) == 4
    assert sum(NATIONAL.encode() in line for line in lines) == 3
    assert holding(anywhere, NATIONAL) == set()


def test_where_nobody_delivers_nothing_is_erased(filled: Stock, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(filled)
    monkeypatch.setattr(privacy, "_DELIVERING_SECONDS", 0.5)
    before = list(columns(filled))
    result = run(filled, "erase", "--number", NUMBER, "--undelivered", "send-first", "--yes")
    assert (result.exit_code, list(columns(filled)) == before) == (1, True)


def test_a_projector_that_has_read_an_event_before_makes_nothing_findable_after(anywhere: Stock) -> None:
    fill(anywhere)
    anywhere.consumed()
    store, keys = anywhere.runtime.store, anywhere.runtime.find_keys
    with store.reading() as connection:
        read_before = projection.prepare(connection, store.tables, keys, 0, 500)
    erase(anywhere, "--number", NUMBER)
    with store.writing() as connection:
        projection.take(connection, store.tables, read_before)
    anywhere.project()
    with store.reading() as connection:
        assert finding.search(connection, store.tables, keys, NUMBER, [NUMBER], 10).rows == []
        assert projection.find(connection, store.tables, keys.find("ending", "0139")) == []
        (event, *_) = anywhere.events()
        assert projection.seq_of(connection, store.tables, event["id"]) is not None


def test_callbacks_in_between_are_erased_or_kept_whole(anywhere: Stock) -> None:
    """A fax is told anew again and again while it is erased: nothing is half there, and nothing at all in the end."""
    ended = threading.Event()
    told: list[str] = []

    def call() -> None:
        while not ended.is_set():
            status, second = ("success", "failure")[len(told) % 2], len(told) % 60
            body = sent(1, status=status).replace(b"10%3A01%3A00", f"10%3A{len(told) // 60:02}%3A{second:02}".encode())
            told.append(anywhere.take("faxage", body))

    anywhere.take("faxage", sent(1))
    calling = threading.Thread(target=call)
    calling.start()
    try:
        for _ in range(5):
            before = len(told)
            until(lambda before=before: len(told) > before + 1)  # the first one may have been erased already
            result = run(anywhere, "erase", "--number", NUMBER, "--undelivered", "drop", "--yes")
            assert result.exit_code == 0, result.output
            tables = anywhere.runtime.store.tables
            with anywhere.runtime.store.reading() as connection:
                is_blank = tables.events.c.body.is_(None)
                states = connection.scalars(sa.select(is_blank).order_by(tables.events.c.seq)).all()
            assert list(states) == sorted(states, reverse=True), (
                "what was told before is erased, and what came after kept"
            )
    finally:
        ended.set()
        calling.join()
    result = run(anywhere, "erase", "--number", NUMBER, "--undelivered", "drop", "--yes")
    assert holding(anywhere, NATIONAL) == set(), result.output
    assert len(anywhere.events()) > 5


def test_an_erasure_that_was_cut_short_is_finished_by_the_next_one(
    anywhere: Stock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1, 5):
        anywhere.take("faxage", sent(number))
        anywhere.take("faxage", f"jobid={number}&shortstatus=nonsense&destname=Anna".encode())
    anywhere.consumed()
    monkeypatch.setattr(erasing, "AT_ONCE", 1)
    for step in ("bodies", "faxes"):
        work, calls = getattr(erasing, step), itertools.count()

        def fail(*arguments: Any, work: Any = work, calls: Any = calls, **named: Any) -> Any:
            if next(calls) == 2:
                raise erasing.UndeliveredError
            return work(*arguments, **named)

        with monkeypatch.context() as patch:
            patch.setattr(erasing, step, fail)
            assert run(anywhere, "erase", "--number", NUMBER, "--yes").exit_code == 1
        assert holding(anywhere, "Anna")
    erase(anywhere, "--number", NUMBER)
    assert holding(anywhere, "Anna") == holding(anywhere, NATIONAL) == set()


def test_an_event_that_was_given_up_has_not_gone_out(anywhere: Stock) -> None:
    anywhere.take("faxage", sent(1))
    fax_id = anywhere.events()[0]["fax_id"]
    erase(anywhere, "--number", NUMBER, "--undelivered", "drop")
    shown = json.loads(run(anywhere, "fax", "show", fax_id, "--json").stdout)
    assert shown["state"] is None
    assert any("no delivery" in gap for gap in shown["gaps"])
    assert "Not reached" not in run(anywhere, "erase", "--fax", fax_id).output


def test_the_audit_knows_a_number_in_each_spelling(anywhere: Stock) -> None:
    anywhere.take("faxage", sent(1))
    anywhere.consumed()
    for spelling in ("+1 208 555 0139", "(208) 555-0139", "12085550139"):
        run(anywhere, "export", "--number", spelling)
    hashes = {subject.split(" faxes=")[0] for _, subject in anywhere.audit()}
    assert len(hashes) == 1


# --- on the disk ----------------------------------------------------------------------------------------------------


def busy_store(made: Stock) -> None:
    """So many callbacks of all sizes that pages are split, some of the number among them."""
    chance = random.Random(11)
    for index in range(900):
        number = NATIONAL if index % 9 == 0 else f"2087{chance.randrange(10**6):06}"
        more = b"&faxnotes=" + b"x" * chance.randrange(3000)
        made.take("faxage", sent(index, number) + more, age_ms=chance.randrange(10_000))
    made.project()
    with made.runtime.store.writing() as connection:
        connection.execute(made.runtime.store.tables.waiting.delete())


def statements(language: str) -> list[str]:
    """The documented step."""
    page = DOCUMENTS.read_text().partition("### Privacy requests")[2].partition("\n## ")[0]
    return page.partition(f"```{language}\n")[2].partition("```")[0].strip().splitlines()


def test_no_byte_of_an_erased_number_is_in_the_sqlite_files(filled: Stock) -> None:
    busy_store(filled)
    store = filled.runtime.store
    assert store.file is not None
    path = store.file.path
    assert any(NATIONAL.encode() in one.read_bytes() for one in path.parent.iterdir())
    erase(filled, "--number", NUMBER)
    assert run(filled, *statements("sh")[-1].partition("#")[0].split()[1:]).exit_code == 0
    left = {one.name: one.read_bytes().count(NATIONAL.encode()) for one in path.parent.iterdir()}
    assert not any(left.values()), left


@pytest.mark.service("postgresql")
def test_no_byte_of_an_erased_number_is_in_postgresql_relations(tmp_path: Path, postgresql_url: str) -> None:
    from stock import stock

    with stock(tmp_path, postgresql_url) as made:
        busy_store(made)
        engine = sa.create_engine(postgresql_url, isolation_level="AUTOCOMMIT")
        with engine.connect() as admin:
            admin.exec_driver_sql("ANALYZE")
            admin.exec_driver_sql("CHECKPOINT")
            assert in_relations(admin, NATIONAL)
            erase(made, "--number", NUMBER)
            deadline = time.monotonic() + 120  # the server's own analysis of a table may still see old rows
            while in_relations(admin, NATIONAL) and time.monotonic() < deadline:
                for statement in statements("sql"):
                    admin.exec_driver_sql(statement)
                admin.exec_driver_sql("CHECKPOINT")
            assert in_relations(admin, NATIONAL) == []
        engine.dispose()


def in_relations(admin: sa.Connection, text: str) -> list[str]:
    """The names of those whose files hold this text."""
    query = """SELECT relname, pg_relation_filepath(oid) FROM pg_class
        WHERE relkind IN ('r', 'i', 't', 'm') AND pg_relation_filepath(oid) IS NOT NULL"""
    found = []
    for name, path in admin.exec_driver_sql(query).all():
        read = "SELECT pg_read_binary_file(%(path)s, 0, 1000000000, true)"
        content = admin.exec_driver_sql(read, {"path": path}).scalar()
        if content is not None and text.encode() in bytes(content):
            found.append(name)
    return found


# --- an access request ----------------------------------------------------------------------------------------------


def test_an_export_has_all_that_is_of_the_number_and_nothing_of_others(anywhere: Stock) -> None:
    fill(anywhere)
    anywhere.take("retarus", job("+12085550139", "+12085550142"), "application/json")
    result = run(anywhere, "export", "--number", NUMBER)
    assert result.exit_code == 0, result.output
    theirs = json.loads(result.stdout)
    assert {fax["facts"]["recipient"]["number"] for fax in theirs["faxes"]} == {NUMBER}
    assert sorted(len(fax["published"]) for fax in theirs["faxes"]) == [1, 1, 2]
    assert [one["facts"]["recipient.number"] for one in theirs["registered"]] == [NUMBER]
    assert {one["body"] is None for one in theirs["receipts"]} == {True, False}
    assert [one["kind"] for one in theirs["discrepancies"]] == ["unreadable"]
    assert OTHER not in result.stdout
    ((action, subject),) = anywhere.audit()
    assert (action, NATIONAL in subject, subject.startswith("number=********39")) == ("export", False, True)
    assert run(anywhere, "export", "--number", "+12085550000").exit_code == 1


# --- what counts as the number --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["2085550139", "%2B1%28208%29+555-0139", "<n>+1 208.555.0139</n>", "1/208/555/0139", "destnum=0012085550139&"],
)
def test_a_number_is_seen_in_each_spelling(text: str) -> None:
    wanted = Wanted(numbers=frozenset(["12085550139"]), national=NATIONAL)
    assert Mentions(wanted.pattern(), ()).any_in(text.encode())
    if "%" not in text:
        assert Mentions(wanted.pattern(), ()).any_in(text.encode("utf-16-le"))
    assert not Mentions(wanted.pattern(), ()).any_in(b"2085550138, 208 555 013 and 9; 208555x0139")


@pytest.mark.parametrize("reference", ["order-4711", "Straße 7", 'A"b\\c', "x & y", "日本"])
def test_a_reference_is_seen_in_each_spelling(anywhere: Stock, reference: str) -> None:
    body = json.loads(job(NUMBER))
    anywhere.take("retarus", json.dumps({**body, "options": {"jobReference": reference}}).encode(), "application/json")
    store = anywhere.runtime.store
    with store.writing() as connection:  # what it has learned since is in JSON of another kind
        fax = connection.execute(sa.select(store.tables.faxes)).one()
        facts = newest_facts(connection, store.tables, [fax.fax_id])[fax.fax_id]
        values = {"fax_id": fax.fax_id, "event_id": fax.event_id, "facts": compact_ascii(facts)}
        connection.execute(store.tables.learned.insert().values(values))
        assert facts is not None
        assert facts["reference"]["id"] == reference
    pattern = Wanted(reference=reference).pattern()
    with store.reading() as connection:
        (learned,) = connection.scalars(sa.select(store.tables.learned.c.facts))
        (payload,) = connection.scalars(sa.select(store.tables.events.c.body))
    form, xml = urlencode({"ref": reference}), f"<r>{escape(reference)}</r>"
    for content in (learned.encode(), payload, form.encode(), xml.encode()):
        assert Mentions(pattern, ()).any_in(content), content
    assert "faxes=1" in erase(anywhere, "--reference", reference, "--undelivered", "drop").output


def test_a_number_that_is_not_whole_is_refused(filled: Stock) -> None:
    for arguments in (
        ["--number", "0139"],
        [],
        ["--number", NUMBER, "--fax", new_id(1)],
        ["--number", "Anna"],
        ["--fax", "779029"],
    ):
        assert run(filled, "erase", *arguments).exit_code == 2, arguments
    assert run(filled, "export").exit_code == 2
