"""``faxhook listen``: a consumer at hand gets every event, none twice after its 2xx, and takes none from another."""

import json
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from itertools import count
from pathlib import Path

import click
import pytest
import sqlalchemy as sa
import standardwebhooks
from queued import queued, virtual_host
from stock import Process, Stock, stock
from test_webhook_sink import SECRET, Endpoint
from waiting import until

from receiver.cli import main
from receiver.errors import StoreError
from receiver.outgoing.listening import Posted, listen
from receiver.settings import EVERYTHING, Filter, Sink
from receiver.store import dead_letters, erasing, listening, now_ms, outbox, republishing, retention, sinks
from receiver.store.erasing import UndeliveredError
from receiver.store.following import Following
from receiver.store.listening import Listener
from receiver.store.tables import QUEUE
from receiver.store.trouble import StoreUnavailable
from receiver.system.stopping import ThreadStop

SINK = "listen:local"


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    made = Endpoint()
    yield made
    made.close()


def started(made: Stock, port: int, *options: str, secret: str = SECRET) -> Process:
    """Up: its place is noted."""
    process = made.start("listen", f"http://127.0.0.1:{port}/fax", "--secret", secret, *options)
    assert process.stderr is not None
    said = process.stderr.readline()
    assert b"Ctrl-C" in said, said + process.stderr.read()
    return process


def ended(process: Process, code: int = 0, how: int = signal.SIGTERM) -> tuple[bytes, bytes]:
    process.send_signal(how)
    said = process.communicate(timeout=120)
    assert process.returncode == code, said
    return said


def ids(endpoint: Endpoint) -> list[str]:
    return [event_id for event_id, _ in endpoint.took]


def test_a_consumer_that_is_down_half_the_time_gets_every_event_once_over_restarts(
    anywhere: Stock, endpoint: Endpoint
) -> None:
    """It answers every other request with an error, and in between nothing listens at all."""
    counted = count()
    endpoint.answer = lambda _: (204, 500, 200, 503, 202, 400)[next(counted) % 6]
    expected: set[str] = set()
    ports = [endpoint]
    process = started(anywhere, endpoint.port)
    for turn in range(3):
        for number in range(6):
            anywhere.fax(100 * turn + number)
        anywhere.fax(100 * turn, status="2")  # an amendment of the first
        until(lambda turn=turn: sum(len(set(ids(one))) for one in ports) > 4 * turn)  # type: ignore[misc]
        if turn == 1:
            ports[-1].close()
            time.sleep(0.2)
            ports.append(Endpoint(port=endpoint.port))
            ports[-1].answer = endpoint.answer
        if turn == 0:
            ended(process, how=signal.SIGINT)
            process = started(anywhere, endpoint.port)
    expected = {event["id"] for event in anywhere.events()}
    until(lambda: {event_id for one in ports for event_id in ids(one)} == expected)
    out, _ = ended(process)
    assert out.count(b"\n") > 0
    took = [(event_id, body) for one in ports for event_id, body in one.took]
    for one in ports[1:]:
        one.close()
    assert Counter(event_id for event_id, _ in took) == dict.fromkeys(expected, 1)
    assert all(body == anywhere.payload(event_id) for event_id, body in took)
    revisions = [json.loads(body)["data"] for _, body in took]
    for fax_id in {data["fax_id"] for data in revisions}:
        assert [data["revision"] for data in revisions if data["fax_id"] == fax_id] in ([1], [1, 2])
    assert anywhere.states() == {"pending": len(expected)}, "the queue's consumers still have all of them"


def test_what_was_under_way_when_it_was_killed_comes_again_and_nothing_else_does(
    anywhere: Stock, endpoint: Endpoint
) -> None:
    held = threading.Event()
    endpoint.answer = lambda _: (held.wait(60), 200)[1] if len(endpoint.took) >= 5 else 200
    anywhere.fill(12)
    with started(anywhere, endpoint.port, "--from", "oldest") as process:
        until(lambda: endpoint.at_once > 0)
        process.kill()
        process.wait()
    held.set()
    endpoint.answer = lambda _: 200
    with started(anywhere, endpoint.port) as process:  # the killed one's lease is no obstacle
        until(lambda: len(set(ids(endpoint))) == 12)
        until(lambda: endpoint.at_once == 0)
        ended(process)
    assert max(Counter(ids(endpoint)).values()) <= 2


def test_a_new_name_begins_now_or_with_the_oldest_and_goes_on_where_it_was(filled: Stock, endpoint: Endpoint) -> None:
    filled.fax(1)
    with started(filled, endpoint.port) as process:
        filled.fax(2)
        until(lambda: len(endpoint.took) == 1)
        ended(process)
    filled.fax(3)
    with started(filled, endpoint.port, "--from", "oldest") as process:
        until(lambda: len(endpoint.took) == 2)
        ended(process)
    jobs = [json.loads(body)["data"]["provider_job_id"] for _, body in endpoint.took]
    assert jobs == ["2", "3"]


def test_republished_events_come_again_by_the_filter(
    filled: Stock, endpoint: Endpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    filled.fax(1)
    filled.fax(2, status="2")
    filled.consumed()
    filled.project()
    with started(filled, endpoint.port, "--from", "oldest", "--outcome", "failed") as process:
        until(lambda: len(endpoint.took) == 1)
        here(filled, "events", "republish", "--since", "1h")
        out = capsys.readouterr().out
        assert "1 event put into the sink listen:local again" in out
        assert "2 events put into the queue again" in out
        until(lambda: len(endpoint.took) == 2)
        ended(process)
    assert len(set(endpoint.took)) == 1
    assert filled.states() == {"pending": 2}


def here(made: Stock, *arguments: str) -> None:
    """The command in this process, for what it says and refuses."""
    main.main([*arguments, "--config", str(made.config)], standalone_mode=False)


def test_it_signs_with_a_secret_of_the_name_s_own(
    filled: Stock, endpoint: Endpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    def printed(*options: str) -> str:
        here(filled, "listen", "--print-secret", *options)
        return capsys.readouterr().out.strip()

    secret = printed()
    assert secret == printed() != printed("--name", "other")
    filled.fax(1)
    process = filled.start("listen", f"http://127.0.0.1:{endpoint.port}/", "--from", "oldest")
    until(lambda: endpoint.took)
    ended(process)
    ((_, headers, body),) = endpoint.asked
    assert standardwebhooks.Webhook(secret).verify(body, headers)


def test_the_list_shows_answers_and_two_digits_of_numbers(filled: Stock, endpoint: Endpoint) -> None:
    endpoint.answer = lambda _: 200 if len(endpoint.asked) else 500
    body = "jobid=77&destname=Jane+Roe&destnum=(208)+555-0139&shortstatus=success&longstatus=ok"
    filled.take("faxage", f"{body}&sendtime=2026-11-21 10:00:00&completetime=2026-11-21 10:01:00".encode())
    with started(filled, endpoint.port, "--from", "oldest", "--json") as process:
        assert process.stdout is not None
        first, second = (json.loads(process.stdout.readline()) for _ in range(2))
        ended(process)
    assert [first["status"], second["status"]] == [500, 200]
    assert second["number"] == "********39"
    assert "Roe" not in json.dumps(second)
    with started(filled, endpoint.port, "--from", "oldest", "--name", "people") as process:
        assert process.stdout is not None
        line = process.stdout.readline().decode()
        ended(process)
    assert re.fullmatch(r"\S+ \S+  200  \d+ ms  \S{36}  faxage  delivered  \*{8}39\n", line)


def test_a_name_is_one_process_s_at_a_time(anywhere: Stock, endpoint: Endpoint) -> None:
    with started(anywhere, endpoint.port) as process:
        second = anywhere.start("listen", f"http://127.0.0.1:{endpoint.port}/", "--secret", SECRET)
        _, err = second.communicate(timeout=120)
        assert (second.returncode, b"take another name" in err) == (1, True)
        ended(process)


def test_a_consumer_that_is_away_is_told_once_and_410_ends_it(filled: Stock, endpoint: Endpoint) -> None:
    endpoint.close()
    filled.fax(1)
    with started(filled, endpoint.port, "--from", "oldest") as process:
        assert process.stderr is not None
        assert b"it is tried again" in process.stderr.readline()
        again = Endpoint(port=endpoint.port)
        again.answer = lambda _: 410
        assert process.wait(120) == 1
        assert b"410" in process.stderr.read()
        again.close()


def test_events_that_retention_has_forgotten_are_counted(filled: Stock, endpoint: Endpoint) -> None:
    filled.fill(3)
    filled.rewrite(filled.events()[0]["id"], body=None)
    with started(filled, endpoint.port, "--from", "oldest") as process:
        assert process.stderr is not None
        assert b"1 of the events" in process.stderr.readline()
        until(lambda: len(endpoint.took) == 2)
        ended(process)


def test_a_reader_of_the_list_that_goes_ends_it_quietly(filled: Stock, endpoint: Endpoint) -> None:
    with started(filled, endpoint.port) as process:
        assert process.stdout is not None
        process.stdout.close()
        filled.fax(1)
        assert process.wait(120) == 0
    assert len(endpoint.took) == 1


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "expected the URL of a consumer"),
        (["ftp://localhost/"], "expected an http:// or https:// URL"),
        (["http://me@localhost/"], "without user"),
        (["http://localhost/", "--name", "Local!"], "expected 1 to 40 characters"),
        (["http://localhost/", "--secret", "x"], "whsec_"),
    ],
)
def test_bad_usage_says_what_was_expected(filled: Stock, arguments: list[str], expected: str) -> None:
    with pytest.raises(click.UsageError, match=re.escape(expected)):
        here(filled, "listen", *arguments)


# --- in the store ---------------------------------------------------------------------------------------------------


class Reader:
    """A listener in this process."""

    def __init__(self, made: Stock, *, from_oldest: bool = True, chosen: Filter = EVERYTHING) -> None:
        self._made, self.store = made, made.runtime.store
        with self.store.writing() as connection:
            tables = self.store.tables
            holder = outbox.owner()
            self.listener, self.is_new = listening.begin(
                connection, tables, "local", holder, chosen, from_oldest=from_oldest
            )
        self.following = Following(self.listener.place, self.listener.missing)

    def fill(self) -> None:
        with self.store.writing() as connection:
            seqs = self.following.read(connection, self.store.tables)
            self.listener = listening.fill(connection, self.store.tables, self.listener, seqs, self.following)

    def take(self) -> list[str]:
        """What waits for it, and has arrived now."""
        with self.store.writing() as connection:
            rows = outbox.pending(connection, self.store.tables, 1000, sink=SINK)
            outbox.publish(connection, self.store.tables, rows, now_ms(), SINK)
        return [row.event_id for row in rows]


def changed(made: Stock, **values: object) -> None:
    """What is noted of the listener."""
    meta = made.runtime.store.tables.meta
    with made.runtime.store.writing() as connection:
        text = connection.scalar(sa.select(meta.c.value).where(meta.c.name == SINK))
        noted = json.dumps(json.loads(text) | values)
        connection.execute(meta.update().where(meta.c.name == SINK).values(value=noted))


def known(made: Stock) -> list[Listener]:
    with made.runtime.store.reading() as connection:
        return listening.listeners(connection, made.runtime.store.tables)


def waiting(made: Stock) -> int:
    table = made.runtime.store.tables.waiting
    with made.runtime.store.reading() as connection:
        return len(connection.execute(table.select().where(table.c.sink == SINK)).all())


def purge(made: Stock, **ages: float) -> None:
    made.project()
    limits = retention.Limits(*(timedelta(days=ages.get(name, 9)) for name in ("bodies", "rejected", "ids")))
    with made.runtime.store.writing() as connection:
        retention.purge(connection, made.runtime.store.tables, limits, now_ms(), batch=1000)


def test_what_is_read_again_after_a_restart_is_not_sent_again(anywhere: Stock) -> None:
    """As where a row number that was passed over has held its place back."""
    anywhere.fill(6)
    reader = Reader(anywhere)
    reader.fill()
    assert len(reader.take()) == 6
    anywhere.fill(8)
    reader.fill()
    changed(anywhere, place=0, event_id=None, made_at_ms=None)
    again = Reader(anywhere)
    again.fill()
    assert len(again.take()) == 2
    again.fill()
    assert again.take() == []


def test_events_that_are_sent_again_and_new_ones_do_not_get_in_each_other_s_way(anywhere: Stock) -> None:
    """In a file a turn of the one may be the other's row number."""
    anywhere.fill(3)
    reader = Reader(anywhere)
    reader.fill()
    taken = reader.take()
    store = anywhere.runtime.store
    with store.writing() as connection:
        chosen = republishing.Chosen(sink=SINK)
        for window in republishing.windows(connection, store.tables, chosen):
            assert republishing.republish(connection, store.tables, chosen, window) == 3
    new = anywhere.fill(9) - set(taken)
    reader.fill()
    assert Counter(reader.take()) == Counter([*taken, *new])


def test_what_was_read_in_a_transaction_that_failed_is_read_again(
    filled: Stock, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop, jobs, forgotten = ThreadStop(), list[str](), listening.forgotten

    def fail_once(*_: object) -> int:
        monkeypatch.setattr(listening, "forgotten", forgotten)
        raise StoreUnavailable("SQLITE_IOERR")

    def tell(what: Posted | str) -> None:
        if isinstance(what, str):
            filled.fax(2)
            return
        jobs.append(json.loads(what.body)["data"]["provider_job_id"])
        if jobs[-1] == "2":  # of the one batch with what came before
            stop.ask()

    filled.fax(1)
    monkeypatch.setattr(listening, "forgotten", fail_once)
    sink = Sink(SINK, f"http://127.0.0.1:{endpoint.port}/", secrets=(SECRET,), allow_private=True)
    listen(filled.runtime.store, sink, Reader(filled).listener, stop, tell)
    assert sorted(jobs) == ["1", "2"]


def test_unused_for_a_week_it_is_forgotten_with_what_waits_for_it(anywhere: Stock) -> None:
    anywhere.fill(3)
    Reader(anywhere).fill()
    purge(anywhere)
    assert waiting(anywhere) == 3
    changed(anywhere, used_at_ms=now_ms() - listening.UNUSED_MS - 1000)
    purge(anywhere)
    assert (waiting(anywhere), known(anywhere)) == (0, [])
    assert anywhere.states() == {"pending": 3}


def test_what_waits_for_it_is_kept_and_no_state_and_no_start_knows_of_it(anywhere: Stock) -> None:
    anywhere.fill(2)
    anywhere.consumed()
    reader = Reader(anywhere)
    reader.fill()
    purge(anywhere, bodies=0, ids=0)
    assert anywhere.states() == {"published": 2}
    assert len(reader.take()) == 2
    store = anywhere.runtime.store
    with store.reading() as connection:
        assert sinks.verify(connection, store.tables, {QUEUE: None}) == []
    purge(anywhere, bodies=0, ids=0)
    assert anywhere.states() == {}


def test_a_place_whose_number_a_file_has_given_again_is_found(filled: Stock) -> None:
    filled.fill(4)
    filled.consumed()
    reader = Reader(filled)
    reader.fill()
    reader.take()
    purge(filled, bodies=0, ids=0)
    assert filled.states() == {}
    for number in range(6):
        filled.fax(5000 + number)
    again = Reader(filled)
    again.fill()
    assert len(again.take()) == 6


def test_it_reads_no_more_than_so_many_ahead(filled: Stock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "MOST_WAITING", 2)
    filled.fill(3)
    reader = Reader(filled)
    with filled.runtime.store.reading() as connection:
        tables = filled.runtime.store.tables
        assert listening.room(connection, tables, reader.listener) == 2
    reader.fill()
    with filled.runtime.store.reading() as connection:
        assert listening.room(connection, tables, reader.listener) < 1


def test_who_has_lost_its_name_reads_no_more(anywhere: Stock) -> None:
    reader = Reader(anywhere)
    anywhere.fill(1)
    changed(anywhere, holder="elsewhere/1/1")
    with pytest.raises(StoreError, match="taken over"):
        reader.fill()
    with pytest.raises(StoreError, match="another name"):
        Reader(anywhere)
    changed(anywhere, until_ms=0)
    assert not Reader(anywhere).is_new


def test_sinks_drop_forgets_it(filled: Stock, capsys: pytest.CaptureFixture[str]) -> None:
    filled.fill(2)
    Reader(filled).fill()
    here(filled, "sinks", "drop", SINK, "--yes")
    assert "is dropped, with 2 events" in capsys.readouterr().out
    assert known(filled) == []


def test_an_erasure_takes_out_what_waits_for_it(anywhere: Stock) -> None:
    anywhere.fill(2)
    anywhere.consumed()
    reader = Reader(anywhere)
    reader.fill()
    fax_id = anywhere.events()[0]["fax_id"]
    store = anywhere.runtime.store
    with pytest.raises(UndeliveredError), store.writing() as connection:
        erasing.faxes(connection, store.tables, [fax_id], drop=False)
    with store.writing() as connection:
        assert erasing.faxes(connection, store.tables, [fax_id], drop=True).dropped == 1
    assert len(reader.take()) == 1


def test_a_dead_letter_of_the_queue_that_has_gone_here_is_not_forgotten_when_it_is_dropped(anywhere: Stock) -> None:
    """In a file its number would be given again, to an event that seems to have been here."""
    (event_id,) = anywhere.fill(1)
    reader = Reader(anywhere)
    reader.fill()
    assert reader.take() == [event_id]
    anywhere.park(event_id)
    store = anywhere.runtime.store
    with store.writing() as connection:
        letters = dead_letters.after(connection, store.tables)
        assert dead_letters.drop(connection, store.tables, letters) == 1
    anywhere.fax(2)
    reader.fill()
    assert len(reader.take()) == 1


@pytest.mark.service("rabbitmq")
def test_beside_rabbitmq_the_queue_keeps_all_of_it(tmp_path: Path, endpoint: Endpoint) -> None:
    with virtual_host() as url, queued(tmp_path, url) as made:
        made.fill_queue(3)
        with started(made, endpoint.port, "--from", "oldest") as process:
            until(lambda: len(endpoint.took) == 3)
            ended(process)
        assert made.waiting() == 3


@pytest.mark.service("postgresql")
def test_what_commits_late_waits_for_it_too(tmp_path: Path, postgresql_url: str) -> None:
    with stock(tmp_path, postgresql_url) as made:
        made.fill(3)
        store, events = made.runtime.store, made.runtime.store.tables.events
        with store.reading() as connection:
            rows = [dict(row) for row in connection.execute(events.select().order_by(events.c.seq)).mappings()]
        with store.writing() as connection:
            connection.execute(events.delete().where(events.c.seq == rows[1]["seq"]))
        reader = Reader(made)
        reader.fill()
        assert len(reader.take()) == 2
        assert reader.listener.place == rows[0]["seq"]
        again = Reader(made)  # over a restart as well
        with store.writing() as connection:
            connection.execute(events.insert(), [rows[1]])
        again.fill()
        assert again.take() == [rows[1]["id"]]
        assert again.listener.place == rows[2]["seq"]


@pytest.mark.service("postgresql")
def test_what_was_under_way_when_a_new_name_began_waits_for_it_and_nothing_older_does(
    tmp_path: Path, postgresql_url: str
) -> None:
    with stock(tmp_path, postgresql_url) as made:
        made.fill(4)
        store, events = made.runtime.store, made.runtime.store.tables.events
        with store.writing() as connection:
            rows = [dict(row) for row in connection.execute(events.select().order_by(events.c.seq)).mappings()]
            connection.execute(events.delete().where(events.c.seq.in_([rows[0]["seq"], rows[2]["seq"]])))
        reader = Reader(made, from_oldest=False)
        reader.fill()
        assert reader.take() == []
        for late in (0, 2):
            with store.writing() as connection:
                connection.execute(events.insert(), [rows[late]])
            again = Reader(made)  # over a restart as well
            again.fill()
            assert again.take() == [rows[late]["id"]]
        again.fill()
        assert (again.take(), again.listener.place) == ([], rows[3]["seq"])
        assert not any(first <= row["seq"] <= last for row in rows for first, last in again.listener.missing)
