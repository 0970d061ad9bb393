"""The relay's housekeeping, and its process."""

import os
import signal
import statistics
import time
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from brokers import Line, Received
from served import running
from stock import Stock, stock
from waiting import until

from receiver.outgoing import relay
from receiver.store import damage, now_ms, outbox
from receiver.store.clock import RetentionClock, shared_ms
from receiver.store.retention import Limits
from receiver.store.sqlite import SQLITE

LIMITS = Limits(bodies=timedelta(days=7), rejected=timedelta(days=30), ids=timedelta(days=90))
DAY_MS = 86_400_000


def count(made: Stock, table: str) -> int:
    with made.runtime.store.reading() as connection:
        query = sa.select(sa.func.count()).select_from(getattr(made.runtime.store.tables, table))
        return int(connection.execute(query).scalar_one())


def kept(made: Stock, table: str) -> int:
    """How many receipts still have their body, or events their payload."""
    body = getattr(made.runtime.store.tables, table).c.body
    with made.runtime.store.reading() as connection:
        return int(connection.execute(sa.select(sa.func.count()).where(body.is_not(None))).scalar_one())


def publish_all(made: Stock) -> None:
    store = made.runtime.store
    with store.writing() as connection:
        leased, _ = outbox.lease(connection, store.tables, "me/1/1", 1000, now_ms())
        outbox.acknowledge(connection, store.tables, "me/1/1", leased, now_ms())
    made.project()


def tidy(made: Stock, clock: RetentionClock | None = None) -> None:
    for _ in relay.tidy(made.runtime.store, LIMITS, clock or RetentionClock()):
        pass


def test_a_round_forgets_bodies_and_payloads_and_keeps_ids(anywhere: Stock) -> None:
    old = b"OutTransID=%d&AccountID=1&LastStatus=0"
    for number in range(3):
        anywhere.take("openfax", old % number, age_ms=8 * DAY_MS)
    anywhere.fax(77)
    publish_all(anywhere)
    tidy(anywhere)
    assert kept(anywhere, "receipts") == 1
    assert kept(anywhere, "events") == 1
    assert count(anywhere, "receipts") == count(anywhere, "events") == count(anywhere, "faxes") == 4


def test_a_round_never_forgets_what_is_not_published(anywhere: Stock) -> None:
    anywhere.take("openfax", b"OutTransID=1&AccountID=1&LastStatus=0", age_ms=200 * DAY_MS)
    tidy(anywhere)
    assert kept(anywhere, "events") == 1
    assert anywhere.states() == {"pending": 1}


def test_a_round_forgets_nothing_while_the_clock_is_ahead(anywhere: Stock) -> None:
    """8 days for a minute: minutes-old faxes keep bodies, payloads and facts; and what is old goes afterwards."""
    ahead = {"ms": 0}
    clock = RetentionClock(lambda: now_ms() + ahead["ms"])
    anywhere.fill(3)
    publish_all(anywhere)
    tidy(anywhere, clock)
    for days in (8, 100):
        ahead["ms"] = days * DAY_MS
        tidy(anywhere, clock)
        assert [count(anywhere, table) for table in ("receipts", "events", "faxes")] == [3] * 3
        assert [kept(anywhere, table) for table in ("receipts", "events")] == [3] * 2
        assert anywhere.payload(anywhere.events()[0]["id"])
    ahead["ms"] = 0
    anywhere.take("openfax", b"OutTransID=1&AccountID=1&LastStatus=-1", age_ms=8 * DAY_MS)
    tidy(anywhere, clock)
    assert (count(anywhere, "receipts"), kept(anywhere, "receipts")) == (4, 3)


def test_a_round_forgets_nothing_of_a_damaged_store(filled: Stock) -> None:
    """What is undelivered may look as if it had arrived."""
    filled.take("openfax", b"OutTransID=1&AccountID=1&LastStatus=0", age_ms=200 * DAY_MS)
    publish_all(filled)
    damage.note(filled.runtime.store)
    tidy(filled)
    assert kept(filled, "events") == kept(filled, "receipts") == 1


def test_a_relay_that_starts_while_the_clock_is_ahead_forgets_nothing(anywhere: Stock, tmp_path: Path) -> None:
    """The last sign of life is eight days old: has the machine been off, or is its clock wrong?"""
    anywhere.take("openfax", b"OutTransID=1&AccountID=1&LastStatus=-1", age_ms=8 * DAY_MS)
    store = anywhere.runtime.store
    before = RetentionClock(lambda: now_ms() - 8 * DAY_MS)
    with store.writing() as connection:
        before.note(connection, store.tables)
    log = tmp_path / "relay"
    with log.open("wb") as err, anywhere.start("relay", stderr=err) as process:
        until(lambda: "clock_jumped_ahead" in log.read_text())
        until(lambda: count(anywhere, "relays") == 1)  # after the first round
        process.terminate()
    assert kept(anywhere, "receipts") == 1
    assert "purged" not in log.read_text()


def test_a_round_takes_as_many_batches_as_it_needs_and_returns_the_space(filled: Stock) -> None:
    store = filled.runtime.store
    for number in range(900):
        filled.fax(number, From="x" * 200, status="0")
    publish_all(filled)
    with store.writing() as connection:
        before = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    clock = RetentionClock(lambda: now_ms() + 200 * DAY_MS)
    tidy(filled, clock)
    assert kept(filled, "receipts") == 0
    with store.reading() as connection:
        assert connection.exec_driver_sql("PRAGMA freelist_count").scalar_one() == 0
        assert connection.exec_driver_sql("PRAGMA page_count").scalar_one() < before / 10


def test_a_round_frees_what_a_dead_consumer_held(anywhere: Stock) -> None:
    anywhere.fill(2)
    store = anywhere.runtime.store
    with store.writing() as connection:
        host = outbox.owner().partition("/")[0]
        outbox.lease(connection, store.tables, f"{host}/999999999/1", 10, now_ms())
    tidy(anywhere)
    assert anywhere.states() == {"pending": 2}


def test_a_round_leaves_a_living_consumer_alone(anywhere: Stock) -> None:
    anywhere.fill(2)
    store = anywhere.runtime.store
    with store.writing() as connection:
        outbox.lease(connection, store.tables, outbox.owner(), 10, now_ms())
    tidy(anywhere)
    assert anywhere.states() == {"leased": 2}


@pytest.mark.service("postgresql")
def test_a_machine_whose_clock_is_ahead_takes_no_leases_from_consumers_elsewhere(
    postgresql_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with stock(tmp_path, postgresql_url) as made:
        made.fill(2)
        with made.runtime.store.writing() as connection:
            tables = made.runtime.store.tables
            outbox.lease(connection, tables, "elsewhere.example/1/1", 1, shared_ms(connection))
        right = time.time_ns
        monkeypatch.setattr(time, "time_ns", lambda: right() + 3600 * 1_000_000_000)
        tidy(made)
        assert made.states() == {"leased": 1, "pending": 1}
        assert len(made.consumed()) == 1
        assert made.states() == {"leased": 1, "published": 1}


def test_one_of_two_is_active_and_the_other_takes_over(anywhere: Stock, tmp_path: Path) -> None:
    first_log, second_log = tmp_path / "first", tmp_path / "second"
    with first_log.open("wb") as log, anywhere.start("relay", stderr=log) as first:
        until(lambda: "relay_active" in first_log.read_text())
        with second_log.open("wb") as log, anywhere.start("relay", stderr=log) as second:
            until(lambda: "relay_started" in second_log.read_text())
            time.sleep(1.0)  # two looks of a relay that stands by
            assert "relay_active" not in second_log.read_text()
            first.kill()
            began = time.monotonic()
            until(lambda: "relay_active" in second_log.read_text())
            assert time.monotonic() - began < 60
            second.terminate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_process_at_once(anywhere: Stock, number: int) -> None:
    with anywhere.start("relay") as process:
        assert process.stderr is not None
        assert b"relay_started" in process.stderr.readline()
        process.send_signal(number)
        assert process.wait(60) == 0


def test_it_waits_for_a_store_that_is_locked(filled: Stock, tmp_path: Path) -> None:
    filled.take("openfax", b"OutTransID=1&AccountID=1&LastStatus=-1", age_ms=8 * DAY_MS)
    filled.runtime.store.close()
    with closing(SQLITE.connect(tmp_path / "store" / "faxhook.db")) as other, filled.start("relay") as process:
        other.execute("BEGIN IMMEDIATE")
        assert process.stderr is not None
        assert any(b"store_unavailable" in line for line in process.stderr)
        other.rollback()
        until(lambda: kept(filled, "receipts") == 0)
        process.terminate()
        assert process.wait(60) == 0


def test_without_a_migrated_store_it_ends_and_says_what_to_do(filled: Stock, tmp_path: Path) -> None:
    filled.runtime.store.close()
    (tmp_path / "store" / "faxhook.db").unlink()
    process = filled.start("relay")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert b"faxhook migrate" in err


# --- with a broker ---------------------------------------------------------------------------------------------------


def use(made: Stock, line: Line) -> None:
    made.config.write_text(made.config.read_text() + line.toml())


def processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.service("rabbitmq")
def test_an_idle_relay_costs_next_to_nothing_and_sends_a_new_event_at_once(anywhere: Stock, line: Line) -> None:
    use(anywhere, line)
    line.make()
    delays = []
    with running(anywhere, "relay") as process, line.channel() as channel:
        anywhere.fax(0)
        until(lambda: channel.basic_get(line.queue, no_ack=True))
        before, started = processor_seconds(process.pid), time.monotonic()
        until(lambda: time.monotonic() > started + 2)
        cost = (processor_seconds(process.pid) - before) / (time.monotonic() - started)
        for number in range(1, 16):
            anywhere.fax(number)
            committed = time.perf_counter()
            while channel.basic_get(line.queue, no_ack=True) is None:
                assert time.perf_counter() < committed + 120
            delays.append(time.perf_counter() - committed)
        process.terminate()
        assert process.wait(60) == 0
    print(f"idle: {cost:.1%} of a core; median {statistics.median(delays) * 1000:.0f} ms")
    assert cost < 0.25  # a loop that does not wait takes a whole one
    assert statistics.median(delays) < 0.25  # it looks by itself once a second


@pytest.mark.service("postgresql")
@pytest.mark.service("rabbitmq")
@pytest.mark.parametrize("store_url", ["postgresql"], indirect=True)
def test_connections_to_postgresql_that_are_cut_are_opened_again(
    anywhere: Stock, line: Line, postgresql_url: str
) -> None:
    use(anywhere, line)
    with running(anywhere, "relay") as process, psycopg.connect(postgresql_url.replace("+psycopg", "")) as admin:
        for number in range(2):
            anywhere.fax(number)
            until(lambda count=number + 1: anywhere.states() == {"published": count})  # type: ignore[misc]
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            admin.commit()
        anywhere.fax(2)
        until(lambda: anywhere.states() == {"published": 3})
        process.terminate()
        assert process.wait(60) == 0


@pytest.mark.campaign
@pytest.mark.service("rabbitmq")
def test_a_relay_that_is_killed_again_and_again_loses_nothing_and_repeats_only_itself(
    filled: Stock, line: Line
) -> None:
    use(filled, line)
    line.make()
    received: list[Received] = []
    number = kills = 0
    while kills < 5:
        with running(filled, "relay") as process:
            ends = time.monotonic() + 0.5 + kills / 10
            while time.monotonic() < ends or filled.states()["published"] < 20 * (kills + 1):
                assert time.monotonic() < ends + 120
                for _ in range(20):
                    filled.fax(number // 2, status="02"[number % 2])
                    number += 1
            process.kill()
        kills += 1
        received += line.take()
    log = filled.config.parent / "relay.log"
    earlier = log.read_text().count('"relay_active"')
    with running(filled, "relay") as process:
        until(lambda: log.read_text().count('"relay_active"') > earlier)  # until then, a signal just kills it
        until(lambda: set(filled.states()) == {"published"})
        process.terminate()
        assert process.wait(60) == 0
    received += line.take()
    print(f"{number} callbacks, {kills} kills, {len(received) - number} duplicates")
    assert {one.event_id for one in received} == {event["id"] for event in filled.events()}
    assert len(filled.events()) == number
    for one in received:
        assert one.body == filled.payload(one.event_id)
