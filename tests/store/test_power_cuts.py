"""
SQLite: what a power cut leaves of the store's real commits, at any moment and in both journal modes.

A process works on a store and says what it has promised; its system calls tell what a disk may hold when the power
goes, and that is opened with a real store. See ``power.py`` and ``power_child.py``.
"""

import json
import os
import secrets
import shutil
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import power
import pytest
import sqlalchemy as sa
from announcing import identity, rows, submission, tell_all
from power_child import said, state_of

import receiver
from receiver.errors import Unavailable
from receiver.store import Store, projection, sqlite
from receiver.store.migrating import migrate
from receiver.store.submissions import checksum
from receiver.store.tables import PROJECTOR

pytestmark = [pytest.mark.tool("strace"), pytest.mark.skipif(sys.platform != "linux", reason="reads Linux' calls")]

SEED = int(os.environ.get("FAXHOOK_POWER_SEED", "0"))  # 0: another one each time


@pytest.fixture(params=["wal", "delete"])
def journal(request, monkeypatch):
    """As the store chooses it by the version of SQLite."""
    monkeypatch.setattr(sqlite, "has_wal_fix", lambda _version: request.param == "wal")
    return request.param


@dataclass
class Recording:
    """What a process did: its calls and promises in their order, and the files before."""

    url: str
    before: dict[str, bytes]
    steps: list[power.Call | dict]

    @property
    def promises(self):
        return [step for step in self.steps if isinstance(step, dict)]


def recorded(folder, seed, commits, journal, synchronous=""):
    """Let a process work on a new store."""
    url = f"sqlite:///{folder}/store/faxhook.db"
    store = Store(url)
    migrate(store)
    store.close()
    before = {path.name: path.read_bytes() for path in store.file.path.parent.glob("faxhook.db*")}
    paths = [str(Path(receiver.__path__[0]).parent), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, reversed(paths)))}
    command = [str(Path(__file__).with_name("power_child.py")), url, str(seed), str(commits), journal, synchronous]
    done = power.traced(command, folder / "trace", environment)
    assert done.returncode == 0, done.stderr
    store_folder = str(store.file.path.parent)
    steps = []
    for call in power.calls(folder / "trace"):
        if call.path.startswith(store_folder):
            steps.append(call)
        elif call.name == "write" and call.descriptor == 1:
            steps.append(json.loads(call.data))
    found = Recording(url, before, steps)
    assert len(found.promises) == commits
    return found


@dataclass
class Promised:
    """What must be there after some promises, and what the next commit may have made of it."""

    places: dict[str, str] = field(default_factory=dict)  # event -> where it is
    receipts: set[str] = field(default_factory=set)
    said: list[list] = field(default_factory=list)
    faxes: dict[str, str] = field(default_factory=dict)  # of events
    forgotten: set[str] = field(default_factory=set)  # faxes

    @classmethod
    def by(cls, promises):
        promised = cls()
        for one in promises:
            promised._take(one)
        return promised

    def _take(self, one):
        self.faxes.update(one.get("faxes", {}))
        for gone in one.get("forgotten", []):
            assert self.places.pop(gone, "taken") == "taken", "forgotten, and had not arrived"
            self.receipts.discard(gone)
            self.forgotten.add(self.faxes.get(gone))
        self.places.update(one.get("moved", {}))
        self.receipts.update(one.get("receipts", ()))
        self.said += one.get("said", ())


def places_of(store):
    """
    Event -> where it stands. It is taken where a run of ``taken`` has it and nobody waits for it; or where it is left
    to retention's next round, which may have forgotten the run.
    """
    runs, overdue = rows(store, "taken", "first", "last"), set(rows(store, "overdue", "seq"))
    standing = {"waiting": Counter(rows(store, "waiting", "seq")), "dead": Counter(rows(store, "dead_letters", "seq"))}
    found = {}
    for event in rows(store, "events"):
        counts = {name: seqs[event.seq] for name, seqs in standing.items() if seqs[event.seq]}
        assert sum(counts.values()) <= 1, "it stands in two places"
        is_taken = event.seq in overdue or any(run.first <= event.seq <= run.last for run in runs)
        found[event.id] = next(iter(counts), "taken" if is_taken else "nowhere")
    return found


def check(store, promised, following, states):
    """
    The invariants. following: the promise of the commit that was under way, if there was one; states: fingerprints of
    all rows before and after it.
    """
    with store.reading() as connection:
        assert connection.exec_driver_sql("PRAGMA integrity_check").scalar_one() == "ok"
    assert state_of(store) in states, "rows are not as one of two commits left them"
    places = places_of(store)
    events = rows(store, "events")
    receipts = {*rows(store, "receipts", "id"), *rows(store, "rejected_receipts", "id")}
    faxes = {fax.fax_id: fax for fax in rows(store, "faxes")}
    late = set(rows(store, "late_faxes", "fax_id"))

    changing = {*following.get("moved", ()), *following.get("forgotten", ())}
    for event_id, place in promised.places.items():
        if event_id not in changing:
            assert places.get(event_id) == place, f"an event is {places.get(event_id)} that was acknowledged as {place}"
    assert promised.receipts - set(following.get("forgotten", ())) <= receipts

    # nothing half there
    assert "nowhere" not in places.values()
    assert {event.fax_id for event in events} <= faxes.keys()
    for fax in faxes.values():
        assert fax.event_id in places or fax.fax_id in late, "a fax without its event"
    for event in events:
        assert event.body is None or checksum(event.id, event.body) == event.checksum
    for seq in rows(store, "waiting", "seq"):
        assert seq in {event.seq for event in events if event.body is not None}

    # found, or waiting for it
    found = {(row.key, row.seq) for row in rows(store, "finds")}
    waiting = set(rows(store, "waiting", "seq", sink=PROJECTOR))
    assert all((projection.event_key(event.id), event.seq) in found or event.seq in waiting for event in events)
    keys = {row.seq: (row.ids + (row.facts or b"")) for row in rows(store, "find_keys")}
    assert keys.keys() <= {event.seq for event in events}
    assert {seq for _, seq in found} == keys.keys()
    assert len(found) == sum(len(each) // 8 + 1 for each in keys.values())

    # the same callbacks once more
    forgotten = promised.forgotten | {promised.faxes.get(gone) for gone in following.get("forgotten", ())}
    known = [one for one in promised.said if forgotten.isdisjoint(str(identity(key)) for key, _ in one)]
    again = tell_all(store, *[submission(*[said(*fax) for fax in one]) for one in known])
    assert {one.state for one in again} <= {"duplicate"}


def cut(recording, chance, folder):
    """Cut the power somewhere after the first promise, and check what is left."""
    promises = recording.promises
    first = recording.steps.index(promises[0])
    at = chance.randint(first + 1, len(recording.steps))
    disk = power.Disk(Path(recording.url.removeprefix("sqlite:///")).parent, recording.before)
    kept = 0
    for step in recording.steps[:at]:
        if isinstance(step, dict):
            kept += 1
        else:
            disk.apply(step)
    left = folder / "left"
    left.mkdir()
    for name, content in disk.cut(chance).items():
        (left / name).write_bytes(content)
    if chance.random() < 0.5:
        (left / "faxhook.db-shm").write_bytes(chance.randbytes(32768))  # the index of the log, which nobody syncs
    store = Store(f"sqlite:///{left}/faxhook.db")
    try:
        following = promises[kept] if kept < len(promises) else {}
        states = {promises[kept - 1]["state"], following.get("state")}
        check(store, Promised.by(promises[:kept]), following, states)
    finally:
        store.close()
        shutil.rmtree(left)


def losses(recording, seed, cuts, folder):
    """How many of the cuts lost or damaged something."""
    found = Counter()
    for number in range(cuts):
        try:
            cut(recording, Random(f"{seed}-{number}"), folder)
        except (AssertionError, Unavailable, sa.exc.SQLAlchemyError) as error:
            found[f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"] += 1
    print(dict(found))
    return sum(found.values())


def new_seed():
    seed = SEED or secrets.randbelow(10**6) + 1
    print(f"FAXHOOK_POWER_SEED={seed}")
    return seed


@pytest.mark.parametrize(
    ("commits", "cuts"), [(60, 20), pytest.param(400, 150, marks=pytest.mark.campaign)], ids=["short", "long"]
)
def test_a_power_cut_loses_nothing_that_was_acknowledged(tmp_path, journal, commits, cuts):
    seed = new_seed()
    recording = recorded(tmp_path, seed, commits, journal)
    for number in range(cuts):
        try:
            cut(recording, Random(f"{seed}-{number}"), tmp_path)
        except Exception as error:
            error.add_note(f"seed {seed}, cut {number}")
            raise


@pytest.mark.parametrize(
    ("journal", "synchronous"),
    [("wal", "OFF"), ("wal", "NORMAL"), ("delete", "OFF"), ("delete", "FULL")],
    indirect=["journal"],
)
def test_less_than_the_stores_own_setting_loses_something(tmp_path, journal, synchronous):
    """
    The check can fail. FULL: that a rollback journal is removed, which is the commit, is not synced.

    Twenty cuts nearly always find a loss; where they do not, others are tried.
    """
    seed = new_seed()
    recording = recorded(tmp_path, seed, 30, journal, synchronous)
    assert any(losses(recording, f"{seed}.{attempt}", 20, tmp_path) for attempt in range(20))
