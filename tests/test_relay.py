"""The relay's housekeeping, and its process."""

import signal
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from stock import Stock

from receiver import relay
from receiver.stopping import Stop
from receiver.store import now_ms, outbox
from receiver.store.retention import Limits

LIMITS = Limits(bodies=timedelta(days=7), rejected=timedelta(days=30), ids=timedelta(days=90))
DAY_MS = 86_400_000


def count(made: Stock, table: str) -> int:
    with made.runtime.store.reading() as connection:
        query = sa.select(sa.func.count()).select_from(getattr(made.runtime.store.tables, table))
        return int(connection.execute(query).scalar_one())


def publish_all(made: Stock) -> None:
    store = made.runtime.store
    with store.writing() as connection:
        leased, _ = outbox.lease(connection, store.tables, "me/1/1", 1000, now_ms())
        outbox.acknowledge(connection, store.tables, "me/1/1", [event.seq for event in leased], now_ms())


def until(condition: Callable[[], object], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def test_a_round_forgets_bodies_and_payloads_and_keeps_ids(anywhere: Stock) -> None:
    old = b"OutTransID=%d&AccountID=1&LastStatus=0"
    for number in range(3):
        anywhere.take("openfax", old % number, age_ms=8 * DAY_MS)
    anywhere.fax(77)
    publish_all(anywhere)
    relay.tidy(anywhere.runtime.store, LIMITS, Stop())
    assert count(anywhere, "bodies") == 1
    assert count(anywhere, "payloads") == 1
    assert count(anywhere, "receipts") == count(anywhere, "events") == count(anywhere, "faxes") == 4


def test_a_round_never_forgets_what_is_not_published(anywhere: Stock) -> None:
    anywhere.take("openfax", b"OutTransID=1&AccountID=1&LastStatus=0", age_ms=200 * DAY_MS)
    relay.tidy(anywhere.runtime.store, LIMITS, Stop())
    assert count(anywhere, "payloads") == 1
    assert anywhere.states() == {"pending": 1}


def test_a_round_takes_as_many_batches_as_it_needs_and_returns_the_space(filled: Stock) -> None:
    store = filled.runtime.store
    bodies = store.tables.bodies
    row = {"body": b"x" * 4000, "query": b"", "content_type": "", "rejected": False, "stored_at_ms": 1}
    with store.writing() as connection:
        connection.execute(bodies.insert(), [{"hash": str(number), **row} for number in range(1200)])
        before = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    relay.tidy(store, LIMITS, Stop())
    assert count(filled, "bodies") == 0
    with store.reading() as connection:
        assert connection.exec_driver_sql("PRAGMA freelist_count").scalar_one() == 0
        assert connection.exec_driver_sql("PRAGMA page_count").scalar_one() < before / 10


def test_a_round_frees_what_a_dead_consumer_held(anywhere: Stock) -> None:
    anywhere.fill(2)
    store = anywhere.runtime.store
    with store.writing() as connection:
        host = outbox.owner().partition("/")[0]
        outbox.lease(connection, store.tables, f"{host}/999999999/1", 10, now_ms())
    relay.tidy(store, LIMITS, Stop())
    assert anywhere.states() == {"pending": 2}


def test_a_round_leaves_a_living_consumer_alone(anywhere: Stock) -> None:
    anywhere.fill(2)
    store = anywhere.runtime.store
    with store.writing() as connection:
        outbox.lease(connection, store.tables, outbox.owner(), 10, now_ms())
    relay.tidy(store, LIMITS, Stop())
    assert anywhere.states() == {"leased": 2}


def test_asked_to_stop_it_begins_no_further_batch(filled: Stock) -> None:
    filled.take("openfax", b"OutTransID=1&AccountID=1&LastStatus=-1", age_ms=8 * DAY_MS)
    stop = Stop()
    stop.asked = True
    relay.tidy(filled.runtime.store, LIMITS, stop)
    assert count(filled, "bodies") == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_process_at_once(anywhere: Stock, number: int) -> None:
    with anywhere.start("relay") as process:
        assert process.stderr is not None
        assert b"relay_started" in process.stderr.readline()
        started = time.monotonic()
        process.send_signal(number)
        assert process.wait(5) == 0
        assert time.monotonic() - started < 2


def test_it_waits_for_a_store_that_is_away(filled: Stock, tmp_path: Path) -> None:
    filled.take("openfax", b"OutTransID=1&AccountID=1&LastStatus=-1", age_ms=8 * DAY_MS)
    filled.runtime.store.close()
    folder = tmp_path / "store"
    file = folder / "faxhook.db"
    good = file.read_bytes()
    file.write_bytes(b"no database" * 1000)
    for left in folder.glob("faxhook.db-*"):
        left.unlink()
    with filled.start("relay") as process:
        assert process.stderr is not None
        assert b"relay_started" in process.stderr.readline()
        assert b"store_unavailable" in process.stderr.readline()
        file.write_bytes(good)
        until(lambda: count(filled, "bodies") == 0)
        process.terminate()
        assert process.wait(5) == 0


def test_without_a_migrated_store_it_ends_and_says_what_to_do(filled: Stock, tmp_path: Path) -> None:
    filled.runtime.store.close()
    (tmp_path / "store" / "faxhook.db").unlink()
    process = filled.start("relay")
    _, err = process.communicate(timeout=20)
    assert process.returncode == 1
    assert b"faxhook migrate" in err
