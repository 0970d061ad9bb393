"""One active relay for a store: which one it is when one dies, hangs or begins later; and two web instances."""

import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import sqlalchemy as sa
from brokers import Line
from house import House, house
from stock import Stock
from waiting import until

from receiver.store import Store
from receiver.store.leading import Leadership, _Lease


class Relays:
    """Relays of one store, each with a log of its own."""

    def __init__(self, made: Stock, stack: ExitStack) -> None:
        self._made = made
        self._stack = stack

    def start(self, name: str) -> "subprocess.Popen[bytes]":
        with (self._made.config.parent / name).open("ab") as log:
            process = self._made.start("relay", stdout=log, stderr=log)
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)
        return process

    def until(self, name: str, event: str, times: int = 1) -> None:
        """Until the relay has logged it so often."""
        until(lambda: (self._made.config.parent / name).read_text().count(f'"event":"{event}"') >= times)


@pytest.fixture
def relays(anywhere: Stock, line: Line) -> Iterator[Relays]:
    anywhere.config.write_text(anywhere.config.read_text() + line.toml())
    line.make()
    with ExitStack() as stack:
        yield Relays(anywhere, stack)


@pytest.mark.service("rabbitmq")
def test_when_the_active_relay_is_killed_the_other_one_publishes_within_five_seconds(
    anywhere: Stock, line: Line, relays: Relays
) -> None:
    first = relays.start("first")
    relays.until("first", "relay_active")
    relays.start("second")
    relays.until("second", "relay_stands_by")
    anywhere.fax(1)
    until(lambda: anywhere.states() == {"published": 1})
    first.kill()
    killed = time.monotonic()
    anywhere.fax(2)
    until(lambda: anywhere.states() == {"published": 2})
    taken = time.monotonic() - killed
    print(f"taken over after {taken:.1f} s")
    assert taken < 60
    assert len({one.event_id for one in line.take()}) == 2


@pytest.mark.service("rabbitmq")
def test_a_relay_that_ends_leaves_its_place_at_once(anywhere: Stock, line: Line, relays: Relays) -> None:
    first = relays.start("first")
    relays.until("first", "relay_active")
    relays.start("second")
    relays.until("second", "relay_stands_by")
    before = lease(anywhere.runtime.store)
    first.terminate()
    assert first.wait(60) == 0
    left = lease(anywhere.runtime.store)
    # On SQLite it is a lock on a file, which the system takes back.
    assert left.until_ms == 0 or left.holder != before.holder
    relays.until("second", "relay_active")


@pytest.mark.service("postgresql")
@pytest.mark.service("rabbitmq")
@pytest.mark.parametrize("store_url", ["postgresql"], indirect=True)
def test_a_relay_that_hangs_loses_its_place_and_stands_by_when_it_goes_on(
    anywhere: Stock, line: Line, relays: Relays
) -> None:
    first = relays.start("first")
    relays.until("first", "relay_active")
    relays.start("second")
    relays.until("second", "relay_stands_by")
    anywhere.fill(3)
    until(lambda: anywhere.states() == {"published": 3})
    until(lambda: not others(anywhere.runtime.store, "state <> 'idle'"))  # in a transaction it is the next test
    first.send_signal(signal.SIGSTOP)
    anywhere.fax(1)
    relays.until("second", "relay_active")
    until(lambda: anywhere.states() == {"published": 4})
    first.send_signal(signal.SIGCONT)
    relays.until("first", "relay_stands_by")
    anywhere.fax(2)
    until(lambda: anywhere.states() == {"published": 5})
    relays.until("second", "published")
    received = line.take()
    assert {one.event_id for one in received} == {event["id"] for event in anywhere.events()}


@pytest.mark.campaign
@pytest.mark.service("postgresql")
@pytest.mark.service("rabbitmq")
@pytest.mark.parametrize("store_url", ["postgresql"], indirect=True)
def test_a_relay_that_hangs_in_a_transaction_is_waited_for_no_longer_than_that_may_be_idle(
    anywhere: Stock, line: Line, relays: Relays
) -> None:
    first = relays.start("first")
    relays.until("first", "relay_active")
    relays.start("second")
    relays.until("second", "relay_stands_by")
    first.send_signal(signal.SIGSTOP)
    anywhere.fill(3)
    store = anywhere.runtime.store
    with store.writing() as connection:
        connection.execute(sa.select(store.tables.waiting.c.turn).with_for_update())
        first.send_signal(signal.SIGCONT)
        until(lambda: others(store, "wait_event_type = 'Lock'"))  # with what it has sent, to note it
        first.send_signal(signal.SIGSTOP)
    relays.until("second", "relay_active")
    until(lambda: anywhere.states() == {"published": 3}, 240)
    first.send_signal(signal.SIGCONT)
    relays.until("first", "relay_stands_by")
    assert {one.event_id for one in line.take()} == {event["id"] for event in anywhere.events()}


def lease(store: Store) -> "sa.Row[tuple[str, int]]":
    with store.reading() as connection:
        relays = store.tables.relays
        return connection.execute(sa.select(relays.c.holder, relays.c.until_ms)).one()


def others(store: Store, state: str) -> int:
    """How many connections to this database but the asking one are in such a state."""
    asked = f"SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND {state}"
    with store.reading() as connection:
        return int(connection.execute(sa.text(f"{asked} AND pid <> pg_backend_pid()")).scalar_one())


def test_only_one_of_two_has_the_lease_until_it_gives_it_up(anywhere: Stock) -> None:
    store = anywhere.runtime.store
    one, other = Leadership(store), Leadership(store)
    if store.file is None:
        other._leadership = _Lease(store, "another process")
    assert one.hold()
    assert not other.hold()
    assert one.hold()
    one.give_up()
    assert not one.is_held
    assert other.hold()
    assert not one.hold()
    other.give_up()


@pytest.mark.service("postgresql")
def test_two_web_instances_that_get_the_same_callback_make_one_event_and_both_accept(
    tmp_path: Path, postgresql_url: str
) -> None:
    with house(tmp_path / "a", postgresql_url) as one, house(tmp_path / "b", postgresql_url) as other:
        answers: list[int] = []
        barrier = threading.Barrier(2)

        def post(to: House) -> None:
            for number in range(20):
                barrier.wait(60)
                reply = to.post("openfax", f"OutTransID={number}&AccountID=1&LastStatus=0")
                answers.append(reply.status)

        threads = [threading.Thread(target=post, args=[each]) for each in (one, other)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(answers) == 40
        assert all(200 <= status < 300 for status in answers)
        assert len(one.events()) == 20
        assert sorted(state for state, _ in one.receipts()) == ["accepted"] * 20 + ["duplicate"] * 20
