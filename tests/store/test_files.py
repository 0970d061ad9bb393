"""SQLite's files, taken away or replaced under processes that have them open: nothing is promised for what is lost."""

import os
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
import sqlalchemy as sa
from announcing import fax, rows, submission, tell

import receiver
from receiver.errors import Unavailable
from receiver.store import Store, outbox
from receiver.store.leading import sign_of_life
from receiver.store.migrating import migrate
from receiver.store.sqlite import SQLITE, has_wal_fix
from receiver.store.writer import Writer

pytestmark = pytest.mark.skipif(not has_wal_fix(SQLITE.sqlite_version_info), reason="this SQLite gets no log of ours")

PATHS = [str(Path(receiver.__path__[0]).parent), str(Path(__file__).parent)]


def take_away(store, *suffixes):
    for suffix in suffixes:
        Path(f"{store.file.path}{suffix}").unlink()


def intact(store):
    with store.reading() as connection:
        return connection.exec_driver_sql("PRAGMA integrity_check").scalar_one() == "ok"


def keys(store):
    return {row.fax_id for row in rows(store, "faxes")}


def write(store):
    with store.writing() as connection:
        sign_of_life(connection, store.tables, 1, None)


def lease(store):
    with store.writing() as connection:
        outbox.lease(connection, store.tables, outbox.owner(), 50, 1)


COMMITS = {
    "writer": lambda store: Writer(store).submit(submission(fax("after"))),
    "recording": lambda store: tell(store, fax("after")),
    "relay": write,
    "consumer": lease,
}
GONE = [("-wal",), ("-shm",), ("-wal", "-shm")]


@pytest.mark.parametrize("suffixes", GONE, ids="".join)
@pytest.mark.parametrize("commit", COMMITS.values(), ids=COMMITS)
def test_a_log_or_index_that_is_deleted_is_noticed_before_anything_is_promised(sqlite, commit, suffixes):
    """And nothing is lost: what was acknowledged before is written into the file from the log we still hold open."""
    told = [tell(sqlite, fax(str(number))) for number in range(5)]
    take_away(sqlite, *suffixes)
    with pytest.raises(Unavailable) as raised:
        commit(sqlite)
    assert raised.value.error == "FileReplaced"
    commit(sqlite)  # the files are open anew
    other = Store(str(sqlite.url))
    assert intact(other)
    assert {event for one in told for event in one.events} <= set(rows(other, "events", "id"))
    other.close()


@pytest.mark.parametrize("suffixes", GONE, ids="".join)
def test_a_reader_notices_as_well(sqlite, suffixes):
    tell(sqlite, fax("1"))
    with sqlite.reading() as connection:
        connection.execute(sa.text("SELECT 1"))
    take_away(sqlite, *suffixes)
    with pytest.raises(Unavailable):
        rows(sqlite, "faxes")
    tell(sqlite, fax("2"))
    assert intact(sqlite)


PEER = """
import sys
sys.path[:0] = sys.argv[2:]
from announcing import fax, rows, tell
from receiver.errors import Unavailable
from receiver.store import Store
store = Store(sys.argv[1])
for line in sys.stdin:
    word, _, key = line.strip().partition(" ")
    try:
        if word == "tell":
            print(*tell(store, fax(key)).events, flush=True)
        elif word == "read":
            print(len(rows(store, "faxes")), flush=True)
    except Unavailable as error:
        print("unavailable", flush=True)
store.close()
"""


class Peer(subprocess.Popen):
    """Another process with the store open."""

    def __init__(self, store):
        command = [sys.executable, "-c", PEER, str(store.url), *PATHS]
        super().__init__(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, line):
        self.stdin.write(line + "\n")
        self.stdin.flush()
        return self.stdout.readline().strip()

    def end(self):
        self.stdin.close()
        assert self.wait(60) == 0
        self.stdout.close()


def tell_each(peers, name, most_refused):
    """One fax by each; the events that were acknowledged. Each may refuse so many."""
    kept = set()
    for number, peer in enumerate(peers):
        refused = 0
        while (answer := peer.ask(f"tell {name}-{number}")) == "unavailable":
            refused += 1
            assert refused <= most_refused
        kept.add(answer)
    return kept


@pytest.fixture
def peers(sqlite):
    sqlite.close()
    made = [Peer(sqlite) for _ in range(3)]
    yield made
    for peer in made:
        peer.kill()
        peer.wait()
        peer.stdin.close()
        peer.stdout.close()


@pytest.mark.parametrize("suffixes", GONE, ids="".join)
@pytest.mark.parametrize("killed", [False, True], ids=["ended", "killed"])
def test_several_processes_lose_nothing_that_was_acknowledged_and_damage_nothing(sqlite, peers, suffixes, killed):
    """Each notices by itself, whichever writes first, and none writes its old log over what the others commit."""
    kept = tell_each(peers, "before", 0)
    take_away(sqlite, *suffixes)
    for turn in range(3):
        kept |= tell_each(peers, f"after-{turn}", 1 if turn == 0 else 0)
    for peer in peers:
        if killed:
            peer.kill()
            peer.wait()
        else:
            peer.end()
    fresh = Store(str(sqlite.url))
    assert intact(fresh)
    assert kept == set(rows(fresh, "events", "id"))
    fresh.close()


@pytest.mark.parametrize("suffixes", GONE, ids="".join)
def test_one_that_begins_before_the_others_have_noticed_keeps_what_it_commits(sqlite, peers, suffixes):
    """What only the deleted log held is gone with it then. But the file stays sound, and nothing later is lost."""
    first = tell_each(peers, "before", 0)
    take_away(sqlite, *suffixes)
    late = Peer(sqlite)
    answer = late.ask("tell late")
    kept = set() if answer == "unavailable" else {answer}
    for turn in range(3):
        kept |= tell_each([*peers, late], f"after-{turn}", 3 if turn == 0 else 0)
    for peer in (late, *peers):
        peer.end()
    fresh = Store(str(sqlite.url))
    assert intact(fresh)
    assert kept <= set(rows(fresh, "events", "id")) <= kept | first
    fresh.close()


# --- overwritten or cut off in place ---------------------------------------------------------------------------------


def cut(path, share):
    os.truncate(path, int(path.stat().st_size * share))


def fill(path, content):
    with path.open("r+b") as file:
        file.write(content * path.stat().st_size)


SPOILED = {
    "cut off": lambda path: cut(path, 0),
    "cut in the middle": lambda path: cut(path, 0.5),
    "one byte short": lambda path: os.truncate(path, path.stat().st_size - 1),
    "zeros": lambda path: fill(path, b"\0"),
    "noise": lambda path: fill(path, b"\xa5"),
}


def log_of(store):
    return Path(f"{store.file.path}-wal")


@pytest.mark.parametrize("spoil", SPOILED.values(), ids=SPOILED)
@pytest.mark.parametrize("commit", COMMITS.values(), ids=COMMITS)
def test_a_log_that_is_spoiled_in_place_is_noticed_before_anything_is_promised(sqlite, commit, spoil):
    sqlite.close()
    in_file = set(tell(sqlite, fax("in the file")).events)
    sqlite.empty_log()
    for number in range(5):
        tell(sqlite, fax(str(number)))
    spoil(log_of(sqlite))
    with pytest.raises(Unavailable) as raised:
        commit(sqlite)
    assert raised.value.error == "LogDamaged"
    assert f"{sqlite.file.path}" in raised.value.trouble
    commit(sqlite)
    kept = in_file | set(tell(sqlite, fax("later")).events)
    sqlite.close()  # which copies the log into the file
    assert intact(sqlite)
    assert kept <= set(rows(sqlite, "events", "id"))


def test_a_spoiled_log_that_nobody_has_noticed_is_not_copied_into_the_file_at_the_end(sqlite):
    told = tell(sqlite, fax("in the file"))
    sqlite.empty_log()
    tell(sqlite, *[fax(str(number)) for number in range(100)])
    cut(log_of(sqlite), 0.5)
    sqlite.close()
    assert intact(sqlite)
    assert set(told.events) <= set(rows(sqlite, "events", "id"))


@pytest.mark.parametrize("spoil", [SPOILED["cut off"], SPOILED["zeros"]], ids=["cut off", "zeros"])
def test_several_processes_go_on_after_a_spoiled_log(sqlite, peers, spoil):
    tell_each(peers, "before", 0)
    spoil(log_of(sqlite))
    kept = set()
    for turn in range(3):
        kept |= tell_each(peers, f"after-{turn}", 1 if turn == 0 else 0)
    for peer in peers:
        peer.end()
    fresh = Store(str(sqlite.url))
    assert intact(fresh)
    assert kept <= set(rows(fresh, "events", "id"))
    fresh.close()


def test_a_file_that_is_emptied_in_place_takes_no_callback_any_more(sqlite):
    write(sqlite)
    sqlite.empty_log()
    write(sqlite)
    os.truncate(sqlite.file.path, 0)
    for _ in range(3):
        with pytest.raises(Unavailable):
            write(sqlite)


def test_a_folder_that_is_replaced_is_noticed(sqlite):
    folder = sqlite.file.path.parent
    told = tell(sqlite, fax("1"))
    folder.rename(folder.with_name("moved"))
    folder.mkdir()
    with pytest.raises(Unavailable):
        tell(sqlite, fax("2"))
    folder.rmdir()
    folder.with_name("moved").rename(folder)
    assert tell(sqlite, fax("3")).state == "accepted"
    assert set(told.events) <= set(rows(sqlite, "events", "id"))


def test_a_file_that_is_moved_away_and_back_between_two_callbacks_loses_nothing(sqlite):
    told = tell(sqlite, fax("1"))
    elsewhere = sqlite.file.path.with_name("elsewhere")
    sqlite.file.path.rename(elsewhere)
    elsewhere.rename(sqlite.file.path)
    told = [told, tell(sqlite, fax("2"))]
    assert len(rows(sqlite, "events")) == len(told)


CHURN = """
import sys, time
sys.path[:0] = sys.argv[2:]
from announcing import fax, tell
from receiver.store import Store
for turn in range(15):  # opened and closed again and again, a last one at times
    store = Store(sys.argv[1])
    tell(store, fax(f"{sys.argv[0]}-{time.monotonic_ns()}"))
    if turn % 3 == 0:
        store.empty_log()
    store.close()
"""


def test_processes_that_come_and_go_and_cut_the_log_are_no_false_alarm(sqlite):
    sqlite.close()
    command = [sys.executable, "-c", CHURN, str(sqlite.url), *PATHS]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    told = []
    store = Store(str(sqlite.url))
    while any(process.poll() is None for process in processes):
        told.append(tell(store, fax(str(len(told)))))
        if len(told) % 10 == 0:
            store.close()  # at times it is the last one
    for process in processes:
        assert process.wait() == 0, process.stderr.read()
        process.stderr.close()
    assert len(rows(store, "events")) == len(told) + 45
    store.close()


def test_threads_of_one_process_that_notice_at_once_all_go_on(sqlite):
    writer = Writer(sqlite)
    writer.submit(submission(fax("before")))
    take_away(sqlite, "-wal")
    answers = []

    def submit(number):
        for turn in range(20):
            try:
                answers.append(writer.submit(submission(fax(f"{number}-{turn}"))).events[0])
                rows(sqlite, "faxes")
            except Unavailable:
                time.sleep(0.001)

    threads = [threading.Thread(target=submit, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) > 60
    assert set(answers) <= set(rows(sqlite, "events", "id"))
    assert intact(sqlite)


CLAIM = """
import sys, time
sys.path[:0] = sys.argv[2:]
from receiver.store import Store
from receiver.store.nonces import Nonces
nonces = Nonces(Store(sys.argv[1]))
for line in sys.stdin:
    print(nonces.claim(line, time.time() + 60), flush=True)
"""


def test_nonces_are_claimed_once_though_their_log_is_deleted(sqlite):
    command = [sys.executable, "-c", CLAIM, str(sqlite.url), *PATHS]
    with ExitStack() as stack:
        piped = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        workers = [stack.enter_context(subprocess.Popen(command, **piped)) for _ in range(2)]

        def claims(nonce):
            for worker in workers:
                worker.stdin.write(nonce + "\n")
                worker.stdin.flush()
                yield worker.stdout.readline().strip()

        assert list(claims("1")) == ["True", "False"]
        os.unlink(f"{sqlite.file.path}.nonces-wal")
        os.unlink(f"{sqlite.file.path}.nonces-shm")
        assert list(claims("2")) == ["True", "False"], "both look into the same log"


def test_a_store_that_is_closed_leaves_no_file_open(sqlite_url):
    def opened():
        descriptors = os.listdir("/proc/self/fd")
        return sorted(
            os.readlink(f"/proc/self/fd/{name}") for name in descriptors if os.path.lexists(f"/proc/self/fd/{name}")
        )

    def used(store):
        migrate(store)
        tell(store, fax())

    first = Store(sqlite_url)
    used(first)
    first.close()
    folder = str(first.file.path.parent)
    stores = [Store(sqlite_url) for _ in range(3)]
    for store in stores:
        used(store)
    assert sum(f"{folder}/faxhook.db-shm" == name for name in opened()) >= 2  # SQLite's and ours
    for store in stores:
        store.close()
    assert [name for name in opened() if name.startswith(folder)] == []


def test_a_file_that_is_opened_anew_takes_no_lock_from_who_still_reads(sqlite):
    """Without that lock the next process to open the store would take itself for the first, and cut the index off."""

    def is_held():
        index = os.stat(f"{sqlite.file.path}-shm").st_ino
        locks = Path("/proc/locks").read_text().splitlines()
        return any(f":{index} 128 128" in line and f" {os.getpid()} " in line for line in locks)

    tell(sqlite, fax())
    with sqlite.reading() as connection:
        rows_read = connection.exec_driver_sql("SELECT count(*) FROM faxhook_events").scalar_one()
        assert (rows_read, is_held()) == (1, True)
        sqlite._database._begin_anew()
        assert is_held()
