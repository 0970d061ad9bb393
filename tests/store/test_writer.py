"""The group-committing writer: shared commits, and what happens to a request when the database is in trouble."""

import multiprocessing
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from announcing import fax, numbered, rows, submission

import receiver
from receiver.errors import Unavailable
from receiver.store import Store, recording
from receiver.store import writer as writing
from receiver.store.migrating import migrate
from receiver.store.sqlite import SQLITE
from receiver.store.trouble import StoreUnavailable
from receiver.store.writer import Writer


@pytest.fixture
def commits(store, monkeypatch):
    """How often the store has recorded a group, as a list that grows."""
    seen = []
    recording = store.recording

    @contextmanager
    def counting(deadline):
        with recording(deadline) as cursor:
            yield cursor
        seen.append(1)

    monkeypatch.setattr(store, "recording", counting)
    return seen


@contextmanager
def held(store):
    """Somebody else of this machine has the store for himself."""
    if store.dialect == "sqlite":
        # by the same library: in one process, another one's locks would mean nothing
        connection = SQLITE.connect(str(store.file.path), isolation_level=None, timeout=60)
        connection.execute("BEGIN EXCLUSIVE")
    else:
        url = store.url.set(drivername="postgresql").render_as_string(hide_password=False)
        connection = psycopg.connect(url)
        connection.execute("LOCK TABLE faxhook.faxes IN ACCESS EXCLUSIVE MODE")
    try:
        yield
    finally:
        connection.rollback()
        connection.close()


def all_at_once(*calls):
    """Run them in threads of their own; results in order, an exception as the value it is."""
    barrier = threading.Barrier(len(calls))

    def run(call):
        barrier.wait()
        try:
            return call()
        except Exception as error:  # noqa: BLE001
            return error

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(run, calls))


def test_an_idle_writer_commits_at_once(store, commits):
    writer = Writer(store)
    for number in range(5):
        assert writer.submit(submission(fax(str(number)))).state == "accepted"
    assert len(commits) == 5


def test_what_waits_for_a_commit_shares_the_next_one(store, commits, monkeypatch):
    def slow(*arguments):
        time.sleep(0.02)
        return recording.record(*arguments)

    monkeypatch.setattr(writing, "record", slow)
    writer = Writer(store)
    requests = [submission(fax(str(number))) for number in range(64)]

    def sixteenth(start):
        return [writer.submit(request) for request in requests[start::16]]

    with ThreadPoolExecutor(16) as threads:
        recorded = [one for some in threads.map(sixteenth, range(16)) for one in some]
    assert {one.state for one in recorded} == {"accepted"}
    assert {one.receipt for one in recorded} == {request.receipt for request in requests}
    assert len(rows(store, "events")) == 64
    assert len(commits) < 48, "four, as many as one thread has requests, where the threads keep up"


def test_each_gets_its_own_answer(store):
    writer = Writer(store)
    requests = [submission(fax(str(number % 4))) for number in range(16)]
    recorded = all_at_once(*[lambda request=request: writer.submit(request) for request in requests])
    assert [one.receipt for one in recorded] == [request.receipt for request in requests]
    assert sorted(one.state for one in recorded) == ["accepted"] * 4 + ["duplicate"] * 12


def test_a_group_is_limited_by_its_faxes(store, commits, monkeypatch):
    monkeypatch.setattr(writing, "_MOST_FAXES", 10)
    writer = Writer(store)
    with held(store):
        calls = [lambda n=n: writer.submit(submission(*numbered(8, prefix=f"{n}-"))) for n in range(4)]
        threads = ThreadPoolExecutor(4)
        futures = [threads.submit(call) for call in calls]
        time.sleep(0.2)
    assert {future.result().state for future in futures} == {"accepted"}
    threads.shutdown()
    assert len(commits) == 4


@pytest.mark.parametrize("count", [1, 7, 16])
def test_one_that_spoils_the_transaction_fails_alone(store, count):
    spoiled = submission(fax("spoiled"), detail={"not": object()}, refused="unprocessable")
    requests = [submission(fax(str(number))) for number in range(count)]
    requests.insert(count // 2, spoiled)
    writer = Writer(store)
    with held(store):
        threads = ThreadPoolExecutor(len(requests))
        futures = [threads.submit(writer.submit, request) for request in requests]
        time.sleep(0.3)
    failed = [request for request, future in zip(requests, futures, strict=True) if future.exception()]
    threads.shutdown()
    assert failed == [spoiled]
    assert isinstance(futures[count // 2].exception(), TypeError)
    assert len(rows(store, "events")) == count
    assert writer.submit(submission(fax("afterwards"))).state == "accepted"


def test_a_leader_that_is_interrupted_hands_over(store, monkeypatch):
    """As when its thread is asked to exit: those in its group are told so in time, and the next ones are served."""

    def interrupted(*_arguments):
        time.sleep(0.1)
        raise KeyboardInterrupt

    writer = Writer(store)
    with monkeypatch.context() as patch:
        patch.setattr(writing, "record", interrupted)
        with pytest.raises(KeyboardInterrupt):
            writer.submit(submission(fax()))
    assert writer.submit(submission(fax())).state == "accepted"


@pytest.mark.parametrize(
    ("syncs", "waits"),
    [
        ([0.0001] * 8, True),
        ([0.0001] * 7 + [0.01], True),
        ([0.0001] * 6 + [0.01] * 2, False),
        ([0.0001] * 7 + [1.0], False),
        ([1.0] + [0.0001] * 8, True),
    ],
    ids=["quick", "a checkpoint among them", "slow", "one that hung", "quick again"],
)
def test_a_loop_waits_for_a_disk_only_while_its_syncs_are_quick(sqlite, syncs, waits):
    writer = Writer(sqlite)
    writer._syncs.extend(syncs)
    ticket = writer.hand_over(submission(fax()))
    assert writer.commit_at_once() is waits
    writer.commit()
    assert ticket.is_done


def test_a_loop_never_waits_for_the_lock_or_for_many_faxes(sqlite):
    writer = Writer(sqlite)
    ticket = writer.hand_over(submission(fax()))
    with held(sqlite):
        assert not writer.commit_at_once()
        assert not ticket.is_done
    assert writer.commit_at_once()
    assert ticket.is_done
    writer.hand_over(submission(*(fax(str(number)) for number in range(100))))
    assert not writer.commit_at_once()


def test_what_a_loop_could_not_commit_is_left_to_a_thread_with_its_cause(sqlite, monkeypatch):
    """Also where there was trouble before any was taken into the group, and where there were too many for one group."""
    writer = Writer(sqlite)
    waiting = [writer.hand_over(submission(ignored="inbound")) for _ in range(300)]
    assert not writer.commit_at_once()
    writer.commit()
    assert all(ticket.is_done for ticket in waiting)
    assert writer.commit_at_once()
    ticket = writer.hand_over(submission(fax()))

    @contextmanager
    def broken(_deadline):
        raise StoreUnavailable("SQLITE_CANTOPEN")
        yield

    monkeypatch.setattr(sqlite, "recording", broken)
    assert not writer.commit_at_once()
    writer.commit()
    assert ticket.error.error == "SQLITE_CANTOPEN"


def test_a_locked_database_is_unavailable_in_time_and_recovers(store):
    writer = Writer(store)
    writer.submit(submission(fax("before")))
    with held(store):
        started = time.monotonic()
        answers = all_at_once(*[lambda n=n: writer.submit(submission(fax(f"during {n}"))) for n in range(4)])
        assert all(isinstance(answer, Unavailable) for answer in answers)
        assert 3.5 < time.monotonic() - started < 60
        assert len({id(answer) for answer in answers}) == 4, "each its own, since each is raised in another thread"
    assert writer.submit(submission(fax("after"))).state == "accepted"
    assert len(rows(store, "events")) == 2


def test_a_request_that_came_late_does_not_suffer_from_the_patience_of_an_earlier_one(sqlite, monkeypatch):
    monkeypatch.setattr(writing, "BUSY_SECONDS", 4)
    writer = Writer(sqlite)
    with ThreadPoolExecutor(2) as threads:
        with held(sqlite):
            early = threads.submit(writer.submit, submission(fax("early")))
            time.sleep(2.4)
            late = threads.submit(writer.submit, submission(fax("late")))
            assert isinstance(early.exception(), Unavailable)
            time.sleep(0.3)
        assert late.result().state == "accepted"


def test_a_short_lock_is_waited_for(store):
    with ThreadPoolExecutor(1) as threads:
        with held(store):
            answer = threads.submit(Writer(store).submit, submission(fax()))
            time.sleep(0.5)
        assert answer.result().state == "accepted"


# --- several writers -----------------------------------------------------------------------------------------------


def _submit_rounds(url, barrier, number, rounds, answers):
    store = Store(url)
    writer = Writer(store)
    for turn in range(rounds):
        faxes = numbered(6, prefix=f"{turn}-")
        faxes = faxes if number % 2 else faxes[::-1]
        same_body = b"%d" % turn
        barrier.wait()
        answers.put((turn, writer.submit(submission(*faxes, body=same_body)).state))
    store.close()


def test_the_same_new_faxes_at_several_processes_are_announced_once(store):
    """In opposite order and all at once: no deadlock, and everybody gets an answer."""
    spawn = multiprocessing.get_context("spawn")
    rounds, barrier, answers = 50, spawn.Barrier(2, timeout=120), spawn.Queue()
    url = store.url.render_as_string(hide_password=False)
    processes = [spawn.Process(target=_submit_rounds, args=(url, barrier, n, rounds, answers)) for n in range(2)]
    for process in processes:
        process.start()
    states = sorted(answers.get(timeout=120) for _ in range(2 * rounds))
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert states == sorted((turn, state) for turn in range(rounds) for state in ("accepted", "duplicate"))
    assert len(rows(store, "events")) == rounds * 6
    assert len(rows(store, "receipts")) == rounds * 2


def test_two_writers_amend_the_same_faxes_in_opposite_order(store):
    stores = [Store(store.url.render_as_string(hide_password=False)) for _ in range(2)]
    writers = [Writer(one) for one in stores]
    keys = [str(number) for number in range(8)]
    writers[0].submit(submission(*[fax(key) for key in keys]))
    for turn in range(1, 21):
        answers = all_at_once(
            lambda turn=turn: writers[0].submit(submission(*[fax(key, attempts=turn) for key in keys])),
            lambda turn=turn: writers[1].submit(submission(*[fax(key, attempts=-turn) for key in reversed(keys)])),
        )
        assert [answer.state for answer in answers] == ["duplicate"] * 2
    assert len(rows(store, "announcements")) == 8 * 40
    for one in stores:
        one.close()


# --- the file ------------------------------------------------------------------------------------------------------


def test_a_deleted_file_is_noticed_before_anything_is_promised(sqlite):
    writer = Writer(sqlite)
    writer.submit(submission(fax("before")))
    for path in sqlite.file.path.parent.glob("faxhook.db*"):
        path.unlink()
    for _ in range(3):
        with pytest.raises(Unavailable):
            writer.submit(submission(fax("lost")))
    assert not sqlite.file.path.exists(), "an empty one would hide the loss"
    migrate(sqlite)
    assert writer.submit(submission(fax("lost"))).state == "accepted"


def test_a_file_that_comes_back_is_used_again(sqlite):
    writer = Writer(sqlite)
    writer.submit(submission(fax("before")))
    elsewhere = sqlite.file.path.with_name("elsewhere.db")
    sqlite.file.path.rename(elsewhere)
    with pytest.raises(Unavailable):
        writer.submit(submission(fax("unsure")))
    elsewhere.rename(sqlite.file.path)
    assert writer.submit(submission(fax("after"))).state == "accepted"
    assert "accepted" in rows(sqlite, "receipts", "state")


def test_a_file_put_in_the_place_of_ours_is_noticed(sqlite, tmp_path):
    writer = Writer(sqlite)
    writer.submit(submission(fax("before")))
    other = Store(f"sqlite:///{tmp_path / 'other.db'}")
    migrate(other)
    other.close()
    for path in sqlite.file.path.parent.glob("faxhook.db-*"):
        path.unlink()  # SQLite would take the old log for the new file's
    os.replace(tmp_path / "other.db", sqlite.file.path)
    with pytest.raises(Unavailable):
        writer.submit(submission(fax("lost")))
    assert writer.submit(submission(fax("lost"))).state == "accepted"
    assert len(rows(sqlite, "events")) == 1


FULL_DISK = """
import resource, signal, sys
sys.path[:0] = sys.argv[2:]
from announcing import fax, submission
from receiver.errors import Unavailable
from receiver.store import Store
from receiver.store.writer import Writer
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_200_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
store = Store(sys.argv[1])
writer = Writer(store)
accepted = refused = 0
for number in range(60):
    try:
        writer.submit(submission(fax(str(number)), body=bytes([number]) * 30_000))
        accepted += 1
    except Unavailable:
        refused += 1
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.getrlimit(resource.RLIMIT_FSIZE)[1],) * 2)
assert writer.submit(submission(fax("after"))).state == "accepted"
print(accepted, refused)
"""


def test_a_full_disk_is_unavailable_keeps_what_was_promised_and_recovers(sqlite):
    path = [str(Path(receiver.__path__[0]).parent), str(Path(__file__).parent)]
    url = str(sqlite.url)
    done = subprocess.run([sys.executable, "-c", FULL_DISK, url, *path], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    accepted, refused = map(int, done.stdout.split())
    assert accepted > 5
    assert refused > 5
    assert len(rows(sqlite, "events")) == accepted + 1
    with sqlite.reading() as connection:
        assert connection.exec_driver_sql("PRAGMA integrity_check").scalar_one() == "ok"


def test_a_damaged_file_is_unavailable(sqlite):
    sqlite.close()
    for path in sqlite.file.path.parent.glob("faxhook.db-*"):
        path.unlink()
    sqlite.file.path.write_bytes(b"\0" * 8192)
    with pytest.raises(Unavailable):
        Writer(sqlite).submit(submission(fax()))


# --- the server ----------------------------------------------------------------------------------------------------


@pytest.mark.service("postgresql")
def test_connections_the_server_has_ended_are_replaced(postgresql):
    store = postgresql
    writer = Writer(store)
    writer.submit(submission(fax("1")))
    with psycopg.connect(store.url.set(drivername="postgresql").render_as_string(hide_password=False)) as other:
        other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    assert writer.submit(submission(fax("2"))).state == "accepted"


def test_a_server_that_is_not_there_is_unavailable_at_once():
    store = Store("postgresql+psycopg://nobody@127.0.0.1:1/none")
    started = time.monotonic()
    with pytest.raises(Unavailable) as caught:
        Writer(store).submit(submission(fax()))
    assert time.monotonic() - started < 30
    assert "nobody" not in str(caught.value)
    assert caught.value.__context__ is None, "it holds the statement's parameters"
