"""``faxhook tail``: what comes, masked and once each, to a reader who takes nothing from anybody."""

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from stock import Process, Stock
from waiting import until

from receiver.showing import happenings
from receiver.store import following


def started(made: Stock, *options: str) -> Process:
    """Up: what is taken from now on is written."""
    process = made.start("tail", *options)
    assert process.stderr is not None
    assert b"from now on" in process.stderr.readline()
    return process


def read(process: Process, count: int) -> list[dict[str, Any]]:
    assert process.stdout is not None
    return [json.loads(process.stdout.readline()) for _ in range(count)]


def test_receipts_and_events_come_as_they_are_made(anywhere: Stock) -> None:
    anywhere.fax(1)
    with started(anywhere, "--json") as process:
        receipt = anywhere.fax(2, status="2")
        anywhere.take("openfax", b"OutTransID=3&AccountID=1")
        found = read(process, 3)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    by_kind = {(one["kind"], one.get("state") or one["outcome"]): one for one in found}
    assert set(by_kind) == {("receipt", "accepted"), ("event", "failed"), ("receipt", "rejected")}
    event = by_kind["event", "failed"]
    assert (by_kind["receipt", "accepted"]["id"], event["receipt"]) == (receipt, receipt)
    assert (event["endpoint"], event["type"]) == ("openfax", "fax.completed.v1")
    assert anywhere.states() == {"pending": 2}


def test_of_a_number_two_digits_are_shown_and_no_name(filled: Stock) -> None:
    with started(filled) as process:
        body = {"jobid": "115893796", "commid": "1", "destname": "Jane Roe", "destnum": "(208) 555-0139"}
        rest = {"shortstatus": "success", "longstatus": "Success", "sendtime": "2026-11-21 10:00:00"}
        rest |= {"completetime": "2026-11-21 10:01:00", "xmittime": "00:30", "pagecount": "1"}
        filled.take("faxage", "&".join(f"{name}={value}" for name, value in (body | rest).items()).encode())
        assert process.stdout is not None
        said = process.stdout.readline() + process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert b"********39" in said
    assert b"5550139" not in said.replace(b"-", b"")
    assert b"Roe" not in said


@pytest.mark.parametrize("body", [None, b"", b"\xff", b"[]", b"5", b'{"data":5}', b'{"data":null}', b'{"data":["a"]}'])
def test_what_only_a_payload_tells_is_null_where_it_is_damaged(body: bytes | None) -> None:
    assert set(happenings.of_payload(body).values()) == {None}


def test_a_reader_that_goes_ends_it_without_a_word(filled: Stock) -> None:
    with started(filled) as process:
        filled.fax(1)
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(60) == 0
        assert process.stderr.read() == b""


def test_it_waits_for_a_store_that_is_away(filled: Stock, tmp_path: Path) -> None:
    file = tmp_path / "store" / "faxhook.db"
    with started(filled, "--json") as process:
        filled.runtime.store.close()
        file.rename(file.with_name("elsewhere"))
        assert process.stderr is not None
        assert b"faxhook:" in process.stderr.readline()
        file.with_name("elsewhere").rename(file)
        filled.fax(2)
        assert {one["kind"] for one in read(process, 2)} == {"receipt", "event"}
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def given(made: Stock, following_: following.Following) -> list[int]:
    with made.runtime.store.reading() as connection:
        return following_.read(connection, made.runtime.store.tables)


def test_row_numbers_come_once_and_those_that_commit_late_come_later(anywhere: Stock) -> None:
    made, events = anywhere, anywhere.runtime.store.tables.events
    anywhere.fill(5)
    with made.runtime.store.reading() as connection:
        rows = [dict(row) for row in connection.execute(events.select().order_by(events.c.seq)).mappings()]
    with made.runtime.store.writing() as connection:
        connection.execute(events.delete().where(events.c.seq.in_([rows[1]["seq"], rows[3]["seq"]])))
    reading = following.Following(rows[0]["seq"] - 1)
    assert given(made, reading) == [rows[at]["seq"] for at in (0, 2, 4)]
    assert given(made, reading) == []
    if made.runtime.store.file is not None:  # one writer at a time: nothing is late
        assert reading.settled == rows[4]["seq"]
        return
    assert reading.settled == rows[0]["seq"]
    for at, settled in ((3, 0), (1, 4)):
        with made.runtime.store.writing() as connection:
            connection.execute(events.insert(), [rows[at]])
        assert given(made, reading) == [rows[at]["seq"]]
        assert reading.settled == rows[settled]["seq"]
    assert given(made, reading) == []


def test_what_is_under_way_at_the_beginning_is_given_when_it_commits(anywhere: Stock) -> None:
    store, events = anywhere.runtime.store, anywhere.runtime.store.tables.events
    with store.reading() as connection:
        assert following.from_now(connection, store.tables) == (0, ())
    anywhere.fill(3)
    with store.writing() as connection:
        rows = [dict(row) for row in connection.execute(events.select().order_by(events.c.seq)).mappings()]
        connection.execute(events.delete().where(events.c.seq == rows[1]["seq"]))
    with store.reading() as connection:
        reading = following.Following(*following.from_now(connection, store.tables))
    assert given(anywhere, reading) == []
    with store.writing() as connection:
        connection.execute(events.insert(), [rows[1]])
    late = [] if store.file is not None else [rows[1]["seq"]]  # a file's events commit in the order of their numbers
    assert given(anywhere, reading) == late
    assert (given(anywhere, reading), reading.settled) == ([], rows[2]["seq"])


def test_a_number_that_nobody_takes_is_waited_for_so_long_and_no_longer(
    anywhere: Stock, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = anywhere.runtime.store.tables.events
    anywhere.fill(3)
    with anywhere.runtime.store.writing() as connection:
        seqs = connection.scalars(events.select().with_only_columns(events.c.seq).order_by(events.c.seq)).all()
        connection.execute(events.delete().where(events.c.seq == seqs[1]))
    reading = following.Following(seqs[0] - 1)
    given(anywhere, reading)
    monkeypatch.setattr(following, "LATE_SECONDS", 0.0)
    time.sleep(0.001)
    given(anywhere, reading)
    assert reading.settled == seqs[2]


def test_a_file_that_gives_a_number_again_is_followed(filled: Stock) -> None:
    events = filled.runtime.store.tables.events
    filled.fill(3)
    reading = following.Following(0)
    assert len(given(filled, reading)) == 3
    with filled.runtime.store.writing() as connection:
        connection.execute(events.delete())
    assert given(filled, reading) == []
    filled.fax(77)
    until(lambda: given(filled, reading))
