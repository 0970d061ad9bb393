"""
What every sink must pass, against a real server.

A sink's file has a ``Stand``: its server, and how to look into it. A case that its server cannot have is named in
``cannot``, with the reason, and the summary of the run prints it.
"""

import json
import signal
import subprocess
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import sqlalchemy as sa
from cable import Cable
from house import CONFIGURATION
from stock import FAXHOOK, environment, stock
from waiting import until

from receiver.outgoing.contract import Message, Publisher, Result
from receiver.outgoing.sinks import publisher
from receiver.settings import Sink
from receiver.system.stopping import ThreadStop
from schemas.encoding import compact

Received = tuple[str, bytes]  # an event's id and its body


class Stand:
    """A server, with a cable in front of it."""

    name: str
    largest: int | None = 20_000_000  # bytes that it certainly does not take
    cannot: Mapping[str, str] = MappingProxyType({})  # case -> why
    many: int = 1000  # faxes that it can be sent in a minute or two

    def __init__(self, port: int) -> None:
        self.cable = Cable(port)

    def sink(self, **changes: Any) -> Sink:
        """At the near end of the cable."""
        raise NotImplementedError

    def toml(self) -> str:
        """The same as a table of a configuration."""
        sink = self.sink()
        more = f"secrets = {json.dumps(list(sink.secrets))}\n" if sink.secrets else ""
        more += "allow_private = true\n" if sink.allow_private else ""
        if sink.queue is not None:
            more += f'exchange = "{sink.queue.exchange}"\nqueue = "{sink.queue.queue}"\n'
        return f'\n[sinks.contract]\nurl = "{sink.url}"\n{more}'

    def received(self) -> list[Received]:
        """All that the server has, the first first."""
        raise NotImplementedError

    def hurry(self, patch: pytest.MonkeyPatch) -> None:
        """Let the sink wait for a moment only, where nothing will come."""
        raise NotImplementedError

    def stranger(self) -> Sink:
        """With a login that the server does not know."""
        raise NotImplementedError

    def unroutable(self) -> AbstractContextManager[Sink]:
        """Where the server has no place for events."""
        raise NotImplementedError

    def with_tls(self, folder: Path) -> AbstractContextManager[tuple[Sink, Sink]]:
        """One that trusts the server's certificate, and one that does not."""
        raise NotImplementedError

    # How it fails; a sink that does not go through the cable has ways of its own.

    def refuse(self) -> None:
        self.cable.cut()

    def freeze(self) -> None:
        self.cable.freeze()

    def mute(self) -> None:
        self.cable.mute()

    def drop(self) -> None:
        self.cable.drop()

    def slow_down(self) -> None:
        self.cable.delay = 0.5

    def mend(self) -> None:
        self.cable.mend()

    def close(self) -> None:
        self.cable.cut()


TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def message(fax_id: str = "", size: int = 0) -> Message:
    event_id, fax_id = str(uuid.uuid4()), fax_id or str(uuid.uuid4())
    data = {"fax_id": fax_id, "outcome": "delivered", "recipient": {"name": "Grüße, 北京"}, "filler": "x" * size}
    envelope = compact({"id": event_id, "traceparent": TRACEPARENT, "data": data})
    return Message(event_id, fax_id, "fax.completed.delivered", envelope.encode())


@contextmanager
def opened(sink: Sink, folder: Path) -> Iterator[Publisher]:
    one = publisher(sink, folder)
    try:
        yield one
    finally:
        one.close(ThreadStop())


def troubled(result: Result) -> str:
    """The kind of the trouble, where nothing was taken."""
    assert result.confirmed == set()
    assert result.trouble is not None
    return result.trouble.kind


def arrive(one: Publisher, messages: Sequence[Message]) -> None:
    """As delivery does it: what is not confirmed is published again, until all of it is."""
    left = {message.event_id: message for message in messages}

    def published() -> bool:
        for event_id in one.publish(list(left.values())[: one.most]).confirmed:
            del left[event_id]
        return not left

    until(published)


def bodies(messages: Sequence[Message]) -> dict[str, bytes]:
    return {message.event_id: message.body for message in messages}


class Contract:
    """The cases. ``stand`` is a fixture of the sink's own file, with the sink's server on its cable."""

    @pytest.fixture(autouse=True)
    def _named(self, request: pytest.FixtureRequest, stand: Stand, record_property: Any) -> None:
        case = request.node.name.partition("[")[0].removeprefix("test_")
        if case in stand.cannot:
            record_property("left out", f"{stand.name}: {case.replace('_', ' ')}: {stand.cannot[case]}")

    @pytest.fixture
    def one(self, stand: Stand, tmp_path: Path) -> Iterator[Publisher]:
        with opened(stand.sink(), tmp_path) as publishing:
            yield publishing

    def test_what_is_confirmed_is_there_as_it_was_stored(self, stand: Stand, one: Publisher) -> None:
        messages = [message() for _ in range(min(60, one.most))]
        result = one.publish(messages)
        assert result.confirmed == {message.event_id for message in messages}
        assert (result.trouble, result.returned, result.refused) == (None, set(), set())
        assert dict(stand.received()) == bodies(messages)
        one.idle()

    def test_the_events_of_a_fax_arrive_in_their_order(self, stand: Stand, one: Publisher) -> None:
        rounds = [[message("fax 1"), message("fax 2"), message("fax 3")] for _ in range(5)]
        for some in rounds:
            arrive(one, some)
        got = [event_id for event_id, _ in stand.received()]
        for at in range(3):
            mine = [some[at].event_id for some in rounds]
            assert [event_id for event_id in got if event_id in mine] == mine

    def test_one_that_refuses_connections_is_trouble_and_takes_all_when_it_is_back(
        self, stand: Stand, one: Publisher, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        messages = [message() for _ in range(5)]
        stand.hurry(monkeypatch)
        stand.refuse()
        assert troubled(one.publish(messages)) in ("connection", "timeout")
        stand.mend()
        monkeypatch.undo()
        arrive(one, messages)
        assert dict(stand.received()) == bodies(messages)

    def test_one_that_hangs_at_the_beginning_is_given_up(
        self, stand: Stand, one: Publisher, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        messages = [message() for _ in range(5)]
        stand.hurry(monkeypatch)
        stand.freeze()
        assert troubled(one.publish(messages)) in ("timeout", "connection")
        stand.mend()
        monkeypatch.undo()
        arrive(one, messages)
        assert dict(stand.received()) == bodies(messages)

    def test_a_connection_that_was_lost_meanwhile_loses_nothing(self, stand: Stand, one: Publisher) -> None:
        first, later = [message() for _ in range(5)], [message() for _ in range(5)]
        arrive(one, first)
        stand.drop()
        arrive(one, later)
        assert dict(stand.received()) == bodies(first + later)

    def test_one_that_freezes_is_given_up_and_nothing_counts(
        self, stand: Stand, one: Publisher, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first, later = [message() for _ in range(5)], [message() for _ in range(5)]
        stand.hurry(monkeypatch)
        arrive(one, first)
        stand.freeze()
        assert troubled(one.publish(later)) in ("timeout", "connection")
        stand.mend()
        monkeypatch.undo()
        arrive(one, later)
        assert dict(stand.received()) == bodies(first + later)

    def test_without_an_acknowledgement_nothing_counts(
        self, stand: Stand, one: Publisher, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first, later = [message() for _ in range(3)], [message() for _ in range(3)]
        stand.hurry(monkeypatch)
        arrive(one, first)
        stand.mute()
        assert troubled(one.publish(later)) in ("timeout", "connection")
        stand.mend()
        monkeypatch.undo()
        arrive(one, later)
        assert dict(stand.received()) == bodies(first + later)

    def test_a_slow_acknowledgement_is_waited_for(self, stand: Stand, one: Publisher) -> None:
        arrive(one, [message()])
        stand.slow_down()
        messages = [message() for _ in range(3)]
        assert one.publish(messages).confirmed == {message.event_id for message in messages}

    def test_what_is_too_large_is_to_blame_and_the_others_go(
        self, stand: Stand, one: Publisher, record_property: Any
    ) -> None:
        if "what_is_too_large_is_to_blame_and_the_others_go" in stand.cannot:
            return
        assert stand.largest is not None
        large, small = message(size=stand.largest), message()
        if one.largest is not None:
            assert one.largest < stand.largest  # delivery parks it
            return
        result = one.publish([large])
        assert result.confirmed == set()
        assert large.event_id in result.refused or result.is_about_message
        arrive(one, [small])
        assert dict(stand.received()) == bodies([small])

    def test_who_is_not_let_in_is_told_so(self, stand: Stand, tmp_path: Path) -> None:
        if "who_is_not_let_in_is_told_so" in stand.cannot:
            return
        with opened(stand.stranger(), tmp_path) as stranger:
            assert troubled(stranger.publish([message()])) == "forbidden"

    def test_where_no_place_is_for_events_nothing_counts(
        self, stand: Stand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if "where_no_place_is_for_events_nothing_counts" in stand.cannot:
            return
        with stand.unroutable() as sink, opened(sink, tmp_path) as one:
            stand.hurry(monkeypatch)
            assert troubled(one.publish([message()])) in ("unroutable", "missing", "queue_missing", "exchange_missing")

    def test_tls_is_checked(self, stand: Stand, tmp_path: Path) -> None:
        if "tls_is_checked" in stand.cannot:
            return
        with stand.with_tls(tmp_path) as (trusting, doubting):
            with opened(trusting, tmp_path) as one:
                arrive(one, [message()])
            with opened(doubting, tmp_path) as other:
                assert troubled(other.publish([message()])) == "tls"

    def test_a_killed_relay_loses_nothing(self, stand: Stand, tmp_path: Path) -> None:
        killed_again_and_again(stand, tmp_path, faxes=60, kills=2)

    @pytest.mark.campaign
    def test_a_relay_killed_every_second_loses_nothing(self, stand: Stand, tmp_path: Path) -> None:
        killed_again_and_again(stand, tmp_path, faxes=stand.many, kills=20)


def killed_again_and_again(stand: Stand, folder: Path, *, faxes: int, kills: int) -> None:
    """Two events of each fax; the relay is killed when some more have arrived, and another one started."""
    text = CONFIGURATION + stand.toml().replace("{", "{{").replace("}", "}}")
    with stock(folder / "killed", f"sqlite:///{folder}/killed/store/faxhook.db", text) as house:
        for status in ("0", "2"):
            for number in range(faxes):
                house.fax(number, status=status)
        stored = _stored(house.runtime)
        for _ in range(kills):
            before = len(stand.received())
            with _relay(house.config) as relay:
                until(lambda before=before: len(stand.received()) > before or not _waits(house.runtime))
                relay.send_signal(signal.SIGKILL)
        with _relay(house.config) as relay:
            until(lambda: not _waits(house.runtime), 600)
            relay.terminate()
        most = publisher(stand.sink(), folder).most
    received = stand.received()
    assert dict(received) == stored
    assert len(received) <= len(stored) + kills * most
    _are_in_order(received)


def _are_in_order(received: Sequence[Received]) -> None:
    """Of each fax; what came twice counts where it came first."""
    first: dict[str, bytes] = {}
    for event_id, body in received:
        first.setdefault(event_id, body)
    revisions: dict[str, list[int]] = {}
    for body in first.values():
        data = json.loads(body)["data"]
        revisions.setdefault(data["fax_id"], []).append(data["revision"])
    assert all(found == sorted(found) for found in revisions.values())


@contextmanager
def _relay(config: Path) -> "Iterator[subprocess.Popen[bytes]]":
    command = [*FAXHOOK, "relay", "--config", str(config)]
    with subprocess.Popen(command, env=environment(), stderr=subprocess.DEVNULL) as process:
        try:
            yield process
            process.wait(60)
        finally:
            process.kill()


def _stored(runtime: Any) -> dict[str, bytes]:
    events = runtime.store.tables.events
    with runtime.store.reading() as connection:
        return {str(row.id): bytes(row.body) for row in connection.execute(sa.select(events.c.id, events.c.body))}


def _waits(runtime: Any) -> bool:
    waiting = runtime.store.tables.waiting
    with runtime.store.reading() as connection:
        query = sa.select(waiting.c.turn).where(waiting.c.sink == "contract").limit(1)
        return connection.execute(query).first() is not None
