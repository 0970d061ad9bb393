"""Stores with overwritten pages: found by the deep look, and read around."""

import hashlib
import json
import os
import signal
import time
from contextlib import closing, suppress
from datetime import timedelta

import migrated
import pytest
from announcing import NOON, deliver, failed, fax, identity, numbered, project, rows, states, submission, tell, tell_all
from click.testing import CliRunner
from disks import disk
from waiting import until

from receiver.cli import main
from receiver.errors import StoreError, Unavailable
from receiver.outgoing.delivery import Delivery
from receiver.outgoing.publisher import Publisher
from receiver.settings import Filter, Queue, Sink
from receiver.store import Store, dead_letters, kept_receipts, now_ms, outbox, sinks
from receiver.store.damage import check_all, note, noted
from receiver.store.kept_receipts import Chosen
from receiver.store.places import BEGINNING
from receiver.store.probing import probe
from receiver.store.recording import record
from receiver.store.retention import Limits, Purged, purge
from receiver.store.salvaging import salvage
from receiver.store.sqlite import SQLITE
from receiver.store.tables import QUEUE
from receiver.store.writer import Writer
from receiver.system.stopping import Interrupted, Stop, exiting_on_sigterm

PAGE = 4096
COUNT = 1500
DELIVERED = 700  # rows of ``taken``, since no two of them follow each other
NOISE = b"\xde\xad\xbe\xef" * (PAGE // 4)
INDEX = "finds"  # of which nothing is read, since the projector makes it anew
LIMITS = Limits(bodies=timedelta(days=7), rejected=timedelta(days=30), ids=timedelta(days=90))


@pytest.fixture
def large(sqlite_url, many):
    """The file of a store of many pages: every second event has arrived, the last ones not."""
    with closing(Store(sqlite_url)) as store:
        store.create_file()
        store.file.path.write_bytes(many)
        with store.writing() as connection:
            waiting = outbox.waiting(connection, store.tables, COUNT, 0)
            outbox.publish(connection, store.tables, waiting[: 2 * DELIVERED : 2], now_ms())
            outbox.lease(connection, store.tables, "someone", 10, now_ms())
    return store.file.path


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """The file of a store with ``COUNT`` faxes that wait, each with a receipt of its own: made once, and copied."""
    url = f"sqlite:///{tmp_path_factory.mktemp('many')}/faxhook.db"
    migrated.make(url)
    with closing(Store(url)) as store:
        for start in range(0, COUNT, 100):
            tell_all(store, *[submission(fax(f"{number}")) for number in range(start, start + 100)])
        project(store)
    return store.file.path.read_bytes()


def leaves(path, tree):
    """The pages at the end of a table's or an index' tree, in its order."""
    with closing(SQLITE.connect(path)) as connection:
        query = "SELECT rootpage FROM sqlite_master WHERE name IN (?, 'faxhook_' || ?)"
        (root,) = connection.execute(query, (tree, tree)).fetchone()
    data = path.read_bytes()

    def below(page):
        at = (page - 1) * PAGE
        if data[at] not in (0x02, 0x05):
            return [page]
        cells = [int.from_bytes(data[at + 12 + 2 * cell :][:2]) for cell in range(int.from_bytes(data[at + 3 :][:2]))]
        children = [int.from_bytes(data[at + cell :][:4]) for cell in cells] + [int.from_bytes(data[at + 8 :][:4])]
        return [leaf for child in children for leaf in below(child)]

    return below(root)


def overwrite(path, tree, *which, content=NOISE):
    """Leaves of a tree, by default the one in its middle; a leaf is named by how far it is from the beginning."""
    found = leaves(path, tree)
    data = path.read_bytes()
    for part in which or (0.5,):
        at = (found[min(len(found) - 1, int(len(found) * part))] - 1) * PAGE
        data = data[:at] + content + data[at + PAGE :]
    path.write_bytes(data)


def page_of(path, tree):
    at = (leaves(path, tree)[0] - 1) * PAGE
    return path.read_bytes()[at : at + PAGE]


def salvaged(path, tmp_path):
    before = hashlib.sha256(path.read_bytes()).digest()
    fresh = Store(f"sqlite:///{tmp_path / 'fresh.db'}")
    done = {one.table: one for one in salvage(path, fresh)}
    assert hashlib.sha256(path.read_bytes()).digest() == before, "the damaged file is evidence"
    assert check_all(fresh.file.path) == []
    return done, fresh


def test_a_whole_store_is_read_as_it_is(large, tmp_path):
    assert check_all(large) == []
    done, fresh = salvaged(large, tmp_path)
    assert all(one.lost == 0 for one in done.values())
    old = Store(f"sqlite:///{large}")
    with old.writing() as connection:
        outbox.reclaim_all(connection, old.tables)
    for name in ("faxes", "events", "waiting", "taken", "receipts"):
        assert rows(fresh, name) == rows(old, name)
    old.close()
    fresh.close()


READ = {"events": COUNT, "faxes": COUNT, "receipts": COUNT, "waiting": COUNT - DELIVERED, "taken": DELIVERED}


@pytest.mark.parametrize("which", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("tree", [*READ, INDEX])
def test_one_bad_page_costs_what_was_on_it_and_no_more(large, tmp_path, tree, which):
    overwrite(large, tree, which)
    assert check_all(large)
    done, fresh = salvaged(large, tmp_path)
    most = PAGE // 20  # rows on a page
    for name, count in READ.items():
        lost = count - done[name].read
        assert 0 < lost <= most if name == tree else lost == 0, done
        assert done[name].lost == (0 if name != tree else lost if tree == "events" else None)
    fresh.close()


@pytest.mark.parametrize("tree", ["faxes", "receipts", "waiting", "taken"])
def test_healthy_pages_between_bad_ones_are_read(large, tmp_path, tree):
    bad = (0.0, 0.3, 0.6) if tree in ("faxes", "receipts") else (0.3, 0.6, 1.0)
    overwrite(large, tree, *bad)
    done, fresh = salvaged(large, tmp_path)
    on_a_page = READ[tree] / len(leaves(large, tree))
    assert READ[tree] - done[tree].read < 4.5 * on_a_page
    fresh.close()


@pytest.mark.parametrize("tree", ["events", "faxes", "waiting", "receipts"])
def test_a_page_of_another_table_in_its_place_costs_what_was_on_it(large, tmp_path, tree):
    overwrite(large, tree, content=page_of(large, {"events": "alembic_version", "faxes": INDEX}.get(tree, "faxes")))
    assert check_all(large)
    done, fresh = salvaged(large, tmp_path)
    for name, count in READ.items():
        assert count - done[name].read <= (PAGE // 20 if name == tree else 0), done
    with fresh.reading() as connection:
        of_endpoint = kept_receipts.listing(connection, fresh.tables, limit=None, chosen=Chosen(endpoint="fax-age"))
    assert len(of_endpoint) == len(rows(fresh, "receipts"))
    use(fresh)


# --- the new store --------------------------------------------------------------------------------------------------


def use(fresh):
    """Each event waits once unless it is known to have arrived; more can be taken; all is delivered and forgotten."""
    events = rows(fresh, "events")
    arrived = {seq for run in rows(fresh, "taken") for seq in range(run.first, run.last + 1)}
    assert sorted(rows(fresh, "waiting", "seq")) == [event.seq for event in events if event.seq not in arrived]
    assert set(rows(fresh, "waiting", "holder")) <= {None}
    assert {event.fax_id for event in events} <= set(rows(fresh, "faxes", "fax_id"))
    assert json.loads(dict(rows(fresh, "meta"))["retention"]) == json.loads(BEGINNING)
    fax_ids = {event.fax_id for event in events}
    known = [fax(key) for key in map(str, range(COUNT)) if str(identity(key)) in fax_ids]
    assert not known or tell(fresh, *known).state == "duplicate"
    assert tell(fresh, fax("another")).state == "accepted"
    deliver(fresh)
    assert rows(fresh, "waiting") == []
    with fresh.writing() as connection:
        while purge(connection, fresh.tables, LIMITS, now_ms() + 92 * 24 * 3600 * 1000, COUNT) != Purged():
            pass
    for name in ("events", "faxes", "receipts", "taken", "late_faxes", "overdue", "announcements", "learned"):
        assert rows(fresh, name) == [], name
    fresh.close()


@pytest.mark.parametrize("tree", [*READ, INDEX, "meta"])
def test_what_is_not_known_to_have_arrived_waits_again_once(large, tmp_path, tree):
    overwrite(large, tree)
    _, fresh = salvaged(large, tmp_path)
    if tree != "events":
        assert len(rows(fresh, "events")) == COUNT
    if tree == "waiting":
        assert rows(fresh, "waiting", "turn") == rows(fresh, "waiting", "seq"), "in the order in which they were told"
        assert len(rows(fresh, "waiting")) == COUNT - DELIVERED, "those that were on the bad page as well"
    use(fresh)


def test_damage_everywhere_loses_no_event_that_can_be_read(large, tmp_path):
    for tree in (*READ, INDEX, "meta"):
        overwrite(large, tree)
    done, fresh = salvaged(large, tmp_path)
    assert done["events"].read == len(rows(fresh, "events")) > COUNT - 20
    use(fresh)


def test_a_fax_whose_undelivered_event_is_lost_is_new_when_it_is_heard_again(large, tmp_path):
    """One whose event had arrived is not."""
    overwrite(large, "events", 0.2, 1.0)
    before = sorted(range(COUNT))
    _, fresh = salvaged(large, tmp_path)
    there = set(rows(fresh, "events", "fax_id"))
    lost = [number for number in before if str(identity(f"{number}")) not in there]
    undelivered = [number for number in lost if number % 2 or number >= 2 * DELIVERED]
    assert 0 < len(undelivered) < len(lost)
    told = [number for number in lost if tell(fresh, fax(f"{number}")).state == "accepted"]
    assert told == undelivered
    use(fresh)


def test_numbers_that_are_given_again_have_not_arrived(large, tmp_path):
    """The last page of events is lost: what is known of their numbers is not true of the next events."""
    store = Store(f"sqlite:///{large}")
    with store.writing() as connection:
        outbox.reclaim_all(connection, store.tables)
    deliver(store)
    store.close()
    overwrite(large, "events", 1.0)
    _, fresh = salvaged(large, tmp_path)
    assert max(rows(fresh, "taken", "last")) == max(rows(fresh, "events", "seq")) < COUNT
    tell(fresh, fax("one more"))
    assert states(fresh)[-1] == "pending"
    deliver(fresh)
    use(fresh)


def test_a_second_revision_waits_behind_the_first(sqlite, tmp_path):
    tell(sqlite, failed("1"))
    tell(sqlite, fax("1"))
    with sqlite.writing() as connection:
        connection.execute(sqlite.tables.waiting.delete().where(sqlite.tables.waiting.c.revision == 1))
    sqlite.close()
    _, fresh = salvaged(sqlite.file.path, tmp_path)
    with fresh.reading() as connection:
        assert [row.revision for row in outbox.waiting(connection, fresh.tables, 9, 0)] == [1, 2]
    fresh.close()


def test_a_fax_that_is_known_by_its_events_hears_nothing_new_in_a_repetition(sqlite, tmp_path):
    first, second = fax("1", attempts=2), failed("1", completed_at=NOON)
    tell(sqlite, first)
    tell(sqlite, second)
    with sqlite.writing() as connection:
        connection.execute(sqlite.tables.faxes.delete())
    sqlite.close()
    _, fresh = salvaged(sqlite.file.path, tmp_path)
    for repeated in (first, second):
        again = tell(fresh, repeated)
        assert (again.state, again.news) == ("duplicate", [])
    fresh.close()


def test_a_damaged_list_of_free_pages_costs_nothing(large, tmp_path):
    with closing(SQLITE.connect(large)) as connection:
        oldest = "SELECT id FROM faxhook_receipts ORDER BY id LIMIT 500"
        connection.execute(f"DELETE FROM faxhook_receipts WHERE id IN ({oldest})")
        connection.commit()
    data = large.read_bytes()
    first = (int.from_bytes(data[32:36]) - 1) * PAGE
    assert first > 0
    large.write_bytes(data[:first] + NOISE + data[first + PAGE :])
    assert check_all(large)
    done, fresh = salvaged(large, tmp_path)
    assert all(one.lost == 0 for one in done.values())
    assert (len(rows(fresh, "events")), len(rows(fresh, "receipts"))) == (COUNT, COUNT - 500)
    use(fresh)


def test_a_payload_that_is_not_as_it_was_written_makes_no_fax_known_but_by_its_id(large, tmp_path):
    overwrite(large, "faxes")
    with closing(SQLITE.connect(large)) as connection:
        connection.execute("UPDATE faxhook_events SET body = CAST(replace(body, 'acme', 'emca') AS BLOB)")
        connection.commit()
    _, fresh = salvaged(large, tmp_path)
    assert set(rows(fresh, "faxes", "account")) == {"acme", ""}
    assert len(rows(fresh, "faxes")) == COUNT
    use(fresh)


@pytest.mark.parametrize("keep", [0.3, 0.9])
def test_a_truncated_file_gives_what_is_left(large, tmp_path, keep):
    data = large.read_bytes()
    large.write_bytes(data[: int(len(data) * keep) // PAGE * PAGE])
    assert check_all(large)
    done, fresh = salvaged(large, tmp_path)
    assert min(done[name].read for name in ("events", "faxes", "receipts")) > 0 or keep < 0.5, done
    use(fresh)


def test_the_commands_say_what_is_damaged_and_what_was_read(filled, tmp_path):
    filled.fill(3)

    def run(*command):
        return CliRunner().invoke(main, [*command, "--config", str(filled.config)], catch_exceptions=False)

    assert "every page was read, and is whole" in run("doctor", "--deep").output
    done = run("store", "salvage", str(tmp_path / "new.db"))
    assert (done.exit_code, "events: 3 read, none lost" in done.output) == (0, True)
    assert run("store", "salvage", str(tmp_path / "new.db")).exit_code == 2, "it is there already"
    filled.runtime.store.close()
    path = filled.runtime.store.file.path
    overwrite(path, "events", 0.0, 0.5, 1.0)
    deep = run("doctor", "--deep")
    assert deep.exit_code == 1
    assert "store salvage" in deep.output
    done = run("store", "salvage", str(tmp_path / "other.db"))
    assert done.exit_code == 1
    assert "events: 0 read, at most " in done.output


# --- what goes out --------------------------------------------------------------------------------------------------

# One bad page of each tree in the way of what goes out, where it is met; not where callbacks only meet it.
IN_THE_WAY = [*[("events", which) for which in (0.0, 0.5)], *[("waiting", which) for which in (0.0, 0.3, 1.0)]]
IN_THE_WAY += [("taken", 0.5), ("taken", 1.0), ("receipts", 0.5), (INDEX, 0.5)]


@pytest.fixture
def undelivered(filled, many):
    """A store of many pages; every second event of the first ones has arrived."""
    store = filled.runtime.store
    store.close()
    store.file.path.write_bytes(many)
    with store.writing() as connection:
        waiting = outbox.waiting(connection, store.tables, COUNT, 0)
        outbox.publish(connection, store.tables, waiting[:DELIVERED:2], now_ms())
    store.close()
    return filled


def sent_of(store, monkeypatch, tmp_path):
    """Ids of what the relay sends, in its order."""
    sent = []
    publish = Publisher.publish

    def noted(self, messages):
        sent.extend(message.event_id for message in messages)
        return publish(self, messages)

    monkeypatch.setattr(Publisher, "publish", noted)
    delivery = Delivery(store, Publisher(Queue("memory://", "fax.events", "fax.completed", True), tmp_path), Stop())
    while delivery.step():
        pass
    delivery.end()
    return sent


@pytest.mark.parametrize(("tree", "which"), IN_THE_WAY)
def test_one_bad_page_keeps_no_healthy_row_from_the_broker(undelivered, monkeypatch, tmp_path, tree, which, capsys):
    """The relay sends the others in order; the damaged are dead letters, and the store is ready no more."""
    store = undelivered.runtime.store
    before = in_turn(store)
    store.close()
    overwrite(store.file.path, tree, which)
    sent = sent_of(store, monkeypatch, tmp_path)
    look(store, tree, before, sent)
    assert tree != "waiting" or "store_table_begun_anew" in capsys.readouterr().err


@pytest.mark.parametrize(("tree", "which"), IN_THE_WAY)
def test_one_bad_page_keeps_no_healthy_row_from_a_consumer(undelivered, tree, which):
    store = undelivered.runtime.store
    before = in_turn(store)
    store.close()
    overwrite(store.file.path, tree, which)
    peeked = CliRunner().invoke(main, ["consume", "--peek", "--config", str(undelivered.config)])
    result = CliRunner().invoke(main, ["consume", "--config", str(undelivered.config)], catch_exceptions=False)
    assert result.exit_code == 0
    look(store, tree, before, [json.loads(line)["id"] for line in result.stdout.splitlines()])
    assert peeked.stdout == result.stdout


def test_dead_letters_that_cannot_be_written_are_written_into_a_new_table(undelivered, monkeypatch, tmp_path):
    store = undelivered.runtime.store
    before = in_turn(store)
    store.close()
    for tree in ("events", "dead_letters"):
        overwrite(store.file.path, tree)
    look(store, "events", before, sent_of(store, monkeypatch, tmp_path))


def in_turn(store):
    """Ids of the events that wait."""
    with store.reading() as connection:
        return [row.event_id for row in outbox.waiting(connection, store.tables, COUNT, 0)]


def look(store, tree, before, sent):
    """What was sent of those that waited, and what became of the others."""
    assert sent == [event_id for event_id in before if event_id in set(sent)], "in order, and each once"
    lost = len(before) - len(sent)
    dead = rows(store, "dead_letters", "reason")
    assert rows(store, "waiting") == []
    assert dead == ["damaged"] * (lost if tree == "events" else 0)
    listed = dead_letters.newest(store, COUNT)
    assert [(letter.id, letter.is_damaged) for letter in listed] == [(None, True)] * len(dead)
    assert 0 < lost < PAGE // 20 if tree in ("events", "waiting") else lost == 0
    if tree in ("events", "waiting") or mark(store) is not None:
        with pytest.raises(Unavailable) as raised:
            probe(store)
        assert raised.value.error == "Damaged"
    if tree != INDEX:
        tell(store, fax("another"))  # what can be committed, still is


def test_what_was_lost_of_waiting_waits_again_after_a_salvage(undelivered, monkeypatch, tmp_path):
    store = undelivered.runtime.store
    before = in_turn(store)
    store.close()
    overwrite(store.file.path, "waiting", 0.5)
    sent = sent_of(store, monkeypatch, tmp_path)
    store.close()
    _, fresh = salvaged(store.file.path, tmp_path)
    assert in_turn(fresh) == [event_id for event_id in before if event_id not in sent] != []
    use(fresh)


@pytest.mark.parametrize("tree", ["waiting", "dead_letters", "taken"])
def test_what_was_lost_of_a_sinks_rows_waits_for_it_again_as_its_filter_says(sqlite, tmp_path, tree):
    chosen = Filter(outcome=("failed",))
    with sqlite.writing() as connection:
        tables = sqlite.tables
        sinks.register(connection, tables, {QUEUE: None, "partner": Sink("partner", "")})
    for start in range(0, 1200, 100):
        faxes = [failed(f"{number}") if number % 2 else fax(f"{number}") for number in range(start, start + 100)]
        with sqlite.recording(time.monotonic() + 60) as cursor:
            record(cursor, sqlite.engine.dialect, [submission(*faxes)], sinks={"partner": chosen})
    with sqlite.writing() as connection:
        its = outbox.pending(connection, tables, 600, sink="partner")
        outbox.publish(connection, tables, its[:200:2], now_ms(), "partner")
        outbox.park(connection, tables, its[200:400], "too_large", now_ms(), "partner")
    sqlite.close()
    missing = {row.seq for row in its} - {row.seq for row in its[:200:2]}
    overwrite(sqlite.file.path, tree)
    _, fresh = salvaged(sqlite.file.path, tmp_path)
    again = True
    while again:
        with fresh.writing() as connection:
            again = sinks.fill(connection, fresh.tables, "partner", chosen)
    waits = set(rows(fresh, "waiting", "seq", sink="partner"))
    dead = {row.seq for row in rows(fresh, "dead_letters") if row.sink == "partner"}
    assert waits | dead >= missing
    assert not waits & dead
    assert waits <= {row.seq for row in its}, "the filter passes nothing else"
    if tree != "taken":
        assert waits | dead == missing


def test_an_event_lost_with_its_waiting_row_is_new_when_it_is_heard_again(undelivered, monkeypatch, tmp_path):
    store = undelivered.runtime.store
    store.close()
    overwrite(store.file.path, "waiting", 1.0)
    overwrite(store.file.path, "events", 1.0)
    sent_of(store, monkeypatch, tmp_path)
    store.close()
    _, fresh = salvaged(store.file.path, tmp_path)
    lost = COUNT - len(rows(fresh, "events"))
    assert lost > 0
    again = [one.state for one in tell_all(fresh, *map(submission, numbered(COUNT)))]
    assert (again[-lost:], set(again[:-lost])) == (["accepted"] * lost, {"duplicate"})
    use(fresh)


# --- at a start -----------------------------------------------------------------------------------------------------


def header(path):
    path.write_bytes(NOISE[:100] + path.read_bytes()[100:])


def schema(path):
    data = path.read_bytes()
    path.write_bytes(data[:100] + NOISE[100:] + data[PAGE:])


def newest_page_of(tree):
    return lambda path: overwrite(path, tree, 1.0)


@pytest.mark.parametrize(
    "break_it",
    [header, schema, *map(newest_page_of, ("events", "receipts", "faxes", "waiting"))],
    ids=["header", "schema", "events", "receipts", "faxes", "waiting"],
)
def test_a_damaged_store_is_refused_at_a_start_and_the_file_is_named(undelivered, break_it):
    path = undelivered.runtime.store.file.path
    break_it(path)
    for command in ("serve", "migrate", "doctor"):
        result = CliRunner().invoke(main, [command, "--config", str(undelivered.config)], catch_exceptions=False)
        assert result.exit_code == 1, (command, result.output)
        for expected in (str(path), "damaged", "doctor --deep", "store salvage"):
            assert expected in result.output, (command, result.output)


# --- while it runs --------------------------------------------------------------------------------------------------


def mark(store):
    with store.reading() as connection:
        return noted(connection, store.tables)


def test_a_callback_that_meets_a_bad_page_makes_the_store_unready(large):
    for leaf in range(len(leaves(large, "faxes"))):
        overwrite(large, "faxes", leaf / len(leaves(large, "faxes")))
    store = Store(f"sqlite:///{large}")
    writer = Writer(store)
    with suppress(Unavailable):
        writer.submit(submission(fax("another")))
    assert mark(store) is not None
    store.close()


def test_the_relay_has_the_whole_file_checked_once_damage_was_met(filled, tmp_path):
    store = filled.runtime.store
    tell(store, *numbered(500))
    store.close()
    overwrite(store.file.path, "events")
    note(store)
    log = tmp_path / "relay"
    with log.open("wb") as err, filled.start("relay", stderr=err) as process:
        until(lambda: "store_checked" in log.read_text())
        process.terminate()
    assert mark(store)["count"] == len(mark(store)["found"]) == log.read_text().count('"store_page_damaged"') > 0
    said = CliRunner().invoke(main, ["doctor", "--config", str(filled.config)]).output
    assert mark(store)["found"][0] in said
    with pytest.raises(Unavailable):
        probe(store)


def test_the_whole_check_holds_up_no_callback_and_says_how_far_it_is(filled, monkeypatch):
    filled.fill(1)
    tell(filled.runtime.store, *numbered(500))
    monkeypatch.setattr("receiver.cli.progress._LINE_SECONDS", 0.0)
    monkeypatch.setattr("receiver.store.damage._STEPS", 10)
    result = CliRunner().invoke(main, ["doctor", "--deep", "--json", "--config", str(filled.config)])
    assert "every page is being read, 0 s so far" in result.stderr
    assert json.loads(result.stdout)
    taken = []

    def go_on():
        taken.append(tell(filled.runtime.store, fax(f"while {len(taken)}")).state)
        return len(taken) < 3

    with pytest.raises(Interrupted):
        check_all(filled.runtime.store.file.path, go_on)
    assert taken == ["accepted"] * 3


def test_a_byte_that_makes_a_text_unreadable_keeps_no_healthy_row_from_a_consumer(filled):
    tell(filled.runtime.store, *numbered(30))
    (checksum,) = rows(filled.runtime.store, "events", "checksum")[10:11]
    filled.runtime.store.close()
    path = filled.runtime.store.file.path
    content = bytearray(path.read_bytes())
    content[content.rindex(b"delivered", 0, content.index(bytes.fromhex(checksum)))] = 0xFF  # the row's outcome
    path.write_bytes(content)
    result = CliRunner().invoke(main, ["consume", "--config", str(filled.config)], catch_exceptions=False)
    assert (len(result.stdout.splitlines()), result.exit_code) == (29, 0)
    assert rows(filled.runtime.store, "dead_letters", "reason") == ["damaged"]
    assert rows(filled.runtime.store, "waiting") == []
    assert mark(filled.runtime.store) is not None


def test_a_list_with_rows_of_another_table_is_shown(filled):
    tell(filled.runtime.store, *numbered(100))
    filled.runtime.store.close()
    path = filled.runtime.store.file.path
    overwrite(path, "events", content=page_of(path, "alembic_version"))
    result = CliRunner().invoke(main, ["events", "list", "--json", "--config", str(filled.config)])
    assert result.exit_code == 0
    assert json.loads(result.stdout)


def test_whoever_meets_a_bad_page_makes_the_store_unready(large):
    overwrite(large, "faxes")
    store = Store(f"sqlite:///{large}")
    probe(store)
    with pytest.raises(Unavailable):
        rows(store, "faxes")
    assert mark(store) is not None
    with pytest.raises(Unavailable):
        probe(store)
    store.close()


# --- a relay of its own ---------------------------------------------------------------------------------------------


def relay(filled, tmp_path, word):
    """Its log, once it has said the word."""
    log = tmp_path / "relay"
    with log.open("wb") as err, filled.start("relay", stderr=err) as process:
        until(lambda: word in log.read_text() or process.poll() is not None)
        process.terminate()
    return process.returncode, log.read_text()


def test_a_relay_looks_at_the_file_when_it_starts_and_goes_on_with_what_can_be_read(filled, tmp_path):
    tell(filled.runtime.store, *numbered(100))
    filled.runtime.store.close()
    newest_page_of("events")(filled.runtime.store.file.path)
    code, said = relay(filled, tmp_path, "relay_active")
    assert (code, "store_damaged" in said, "store salvage" in said) == (0, True, True)
    assert mark(filled.runtime.store) is not None


def test_a_relay_ends_where_nothing_can_be_read(filled, tmp_path):
    filled.runtime.store.close()
    schema(filled.runtime.store.file.path)
    code, said = relay(filled, tmp_path, "relay_active")
    assert (code, "store salvage" in said, "relay_active" in said) == (1, True, False)


def test_a_bad_page_that_housekeeping_meets_holds_up_no_event(filled, tmp_path):
    """One that the look at the start does not read: it is old."""
    a_month_ago = now_ms() - 30 * 86_400_000
    old = [submission(fax(f"{number}"), received_at_ms=a_month_ago) for number in range(100)]
    tell_all(filled.runtime.store, *old, *[submission(fax(f"new {number}")) for number in range(100)])
    filled.runtime.store.close()
    overwrite(filled.runtime.store.file.path, "receipts", 0.0)
    code, said = relay(filled, tmp_path, "housekeeping_failed")
    assert (code, said.count('"housekeeping_failed"'), "store_unavailable" in said) == (0, 1, False)


def test_without_a_header_nothing_can_be_salvaged_and_that_is_said(large, tmp_path):
    header(large)
    with pytest.raises(StoreError, match="restore a backup"):
        salvaged(large, tmp_path)


# --- one that is not finished ----------------------------------------------------------------------------------------


def test_a_salvage_that_fails_leaves_nothing_and_says_so(filled, tmp_path):
    filled.fill(1)
    filled.runtime.store.close()
    path = filled.runtime.store.file.path
    path.write_bytes(b"\0" * 100 + path.read_bytes()[100:])
    before = {one.name for one in tmp_path.rglob("*")}
    target = tmp_path / "new.db"
    done = CliRunner().invoke(main, ["store", "salvage", str(target), "--config", str(filled.config)])
    assert done.exit_code == 1
    assert f"{target} was not finished; nothing of it is left" in done.output
    assert {one.name for one in tmp_path.rglob("*")} == before


@pytest.mark.parametrize("megabytes", [1, 6])
def test_a_salvage_onto_a_full_disk_leaves_nothing_and_says_what_to_do(large, tmp_path, megabytes):
    """The copy of the damaged file does not fit; or it does, and the new file does not."""
    with disk(tmp_path / "disk", megabytes) as small:
        (small.folder / "some").write_bytes(bytes(max(0, (megabytes << 20) - large.stat().st_size - (1 << 20))))
        fresh = Store(f"sqlite:///{small.folder}/new.db")
        with pytest.raises((StoreError, Unavailable)) as full:
            list(salvage(large, fresh))
        said = getattr(full.value, "trouble", "") or str(full.value)
        assert str(small.folder) in said
        assert "the disk is full" in said
        assert "make room" in said.lower()
        assert [one.name for one in small.folder.iterdir()] == ["some"]


def test_a_salvage_that_is_ended_leaves_nothing(large, tmp_path):
    fresh = Store(f"sqlite:///{tmp_path}/new.db")
    before = {one.name for one in tmp_path.rglob("*")}
    some = salvage(large, fresh)
    next(some)
    assert (tmp_path / "new.db").exists()
    some.close()
    assert {one.name for one in tmp_path.rglob("*")} == before


def test_sigterm_ends_what_cleans_up_after_itself():
    with pytest.raises(SystemExit) as ended, exiting_on_sigterm():
        os.kill(os.getpid(), signal.SIGTERM)
    assert ended.value.code == 143
