"""Stores with overwritten pages: found by the deep look, and read around."""

import hashlib
import json
import os
import signal
from contextlib import closing, suppress

import pytest
from announcing import fax, numbered, rows, submission, tell
from click.testing import CliRunner
from disks import disk
from waiting import until

from receiver.cli import main
from receiver.errors import StoreError, Unavailable
from receiver.outgoing.delivery import Delivery
from receiver.settings import Queue
from receiver.store import Store
from receiver.store.damage import check_all, note, noted
from receiver.store.probing import probe
from receiver.store.salvaging import salvage
from receiver.store.sqlite import SQLITE
from receiver.store.writer import Writer
from receiver.system.stopping import Interrupted, Stop, exiting_on_sigterm

PAGE = 4096
COUNT = 1500


@pytest.fixture
def large(sqlite):
    """A store of many pages, closed, so that all is in its file."""
    for start in range(0, COUNT, 100):
        tell(sqlite, *[fax(f"{number}") for number in range(start, start + 100)])
    sqlite.close()
    return sqlite.file.path


def is_payloads(page):
    return page[0] == 0x0D and b'"specversion"' in page


def is_events(page):
    return page[0] == 0x0D and b"fax.completed.v1" in page and b'"specversion"' not in page


def is_faxes(page):
    return page[0] == 0x0D and b'"outcome"' in page and b'"specversion"' not in page


def is_index(page):
    return page[0] == 0x0A


def overwrite(path, wanted, which=0.5, content=b"\xde\xad\xbe\xef" * (PAGE // 4)):
    """One page of this kind, by default in the middle of its tree."""
    data = path.read_bytes()
    found = [at for at in range(PAGE, len(data), PAGE) if wanted(data[at : at + PAGE])]
    at = found[int(len(found) * which)]
    path.write_bytes(data[:at] + content + data[at + PAGE :])


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
    for name in ("faxes", "events", "payloads", "receipts", "bodies"):
        assert rows(fresh, name) == rows(old, name)
    old.close()
    fresh.close()


@pytest.mark.parametrize("wanted", [is_payloads, is_events, is_faxes, is_index])
def test_one_bad_page_costs_what_was_on_it_and_no_more(large, tmp_path, wanted):
    overwrite(large, wanted)
    assert check_all(large)
    done, fresh = salvaged(large, tmp_path)
    for name in ("faxes", "events", "payloads"):
        assert done[name].read >= COUNT - 100, done
    lost = {is_payloads: "payloads", is_events: "events", is_faxes: "faxes"}.get(wanted)
    if lost:
        assert 0 < done[lost].lost <= 100
    # An event is made again from its payload, and a fax from its event: told again, none is new.
    assert len(rows(fresh, "events")) == COUNT
    assert len(rows(fresh, "faxes")) == COUNT
    assert tell(fresh, *numbered(COUNT)).state == "duplicate"
    fresh.close()


def page_of(path, wanted):
    data = path.read_bytes()
    return next(data[at : at + PAGE] for at in range(PAGE, len(data), PAGE) if wanted(data[at : at + PAGE]))


@pytest.mark.parametrize("wanted", [is_payloads, is_events, is_faxes])
def test_a_page_of_another_table_in_its_place_costs_what_was_on_it(large, tmp_path, wanted):
    overwrite(large, wanted, content=page_of(large, is_events if wanted is is_payloads else is_payloads))
    assert check_all(large)
    _, fresh = salvaged(large, tmp_path)
    assert {row.id for row in rows(fresh, "events")} >= {row.event_id for row in rows(fresh, "faxes")}
    assert len(rows(fresh, "events")) == len(rows(fresh, "faxes")) == COUNT
    assert tell(fresh, *numbered(COUNT)).state == "duplicate"
    fresh.close()


def test_a_damaged_list_of_free_pages_costs_nothing(large, tmp_path):
    with closing(SQLITE.connect(large)) as connection:
        connection.execute("DELETE FROM faxhook_payloads WHERE seq < 500")
        connection.commit()
    data = large.read_bytes()
    first = (int.from_bytes(data[32:36]) - 1) * PAGE
    assert first > 0
    large.write_bytes(data[:first] + NOISE + data[first + PAGE :])
    assert check_all(large)
    done, fresh = salvaged(large, tmp_path)
    assert all(one.lost == 0 for one in done.values())
    assert (len(rows(fresh, "events")), len(rows(fresh, "payloads"))) == (COUNT, COUNT - 499)
    tell(fresh, fax("another"))
    fresh.close()


def test_a_payload_that_cannot_be_read_any_more_makes_no_event(large, tmp_path):
    """Its event is lost, and what it says of it is not what was written."""
    overwrite(large, is_events)
    with closing(SQLITE.connect(large)) as connection:
        connection.execute("UPDATE faxhook_payloads SET body = replace(body, '\"id\"', '\"di\"') WHERE seq % 2")
        connection.commit()
    _, fresh = salvaged(large, tmp_path)
    assert 0 < COUNT - len(rows(fresh, "events")) < 100
    fresh.close()


def test_what_was_lost_of_the_events_is_delivered_rather_twice_than_never(large, tmp_path):
    overwrite(large, is_events)
    _, fresh = salvaged(large, tmp_path)
    payloads = {row.seq: json.loads(row.body)["id"] for row in rows(fresh, "payloads")}
    assert {row.seq: row.id for row in rows(fresh, "events")} == payloads
    assert set(rows(fresh, "events", "state")) == {"pending"}
    fresh.close()


@pytest.mark.parametrize("keep", [0.3, 0.9])
def test_a_truncated_file_gives_what_is_left(large, tmp_path, keep):
    data = large.read_bytes()
    large.write_bytes(data[: int(len(data) * keep) // PAGE * PAGE])
    assert check_all(large)
    done, fresh = salvaged(large, tmp_path)
    assert done["payloads"].read > 0 or keep < 0.5
    fresh.close()


@pytest.mark.parametrize("which", [0.0, 0.5])
def test_one_bad_page_of_payloads_keeps_no_healthy_row_back(large, tmp_path, which):
    """The relay sends the others; the damaged are dead letters, and the store is ready no more."""
    overwrite(large, is_payloads, which)
    store = Store(f"sqlite:///{large}")
    probe(store)
    queue = Queue("memory://", "fax.events", "fax.completed", True)
    delivery = Delivery(store, queue, tmp_path, Stop())
    sent = 0
    while step := delivery.step():
        sent += step
    delivery.end()
    states = rows(store, "events", "state")
    assert sent == states.count("published") >= COUNT - 20
    assert states.count("dead") == COUNT - sent > 0
    with pytest.raises(Unavailable) as raised:
        probe(store)
    assert raised.value.error == "Damaged"
    tell(store, fax("another"))  # what can be committed, still is
    store.close()


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
    overwrite(path, is_payloads)
    deep = run("doctor", "--deep")
    assert deep.exit_code == 1
    assert "store salvage" in deep.output
    done = run("store", "salvage", str(tmp_path / "other.db"))
    assert done.exit_code == 1
    assert "payloads: 0 read, at most " in done.output


# --- at a start -----------------------------------------------------------------------------------------------------

NOISE = b"\xde\xad\xbe\xef" * (PAGE // 4)


def header(path):
    path.write_bytes(NOISE[:100] + path.read_bytes()[100:])


def schema(path):
    data = path.read_bytes()
    path.write_bytes(data[:100] + NOISE[100:] + data[PAGE:])


def newest_page_of(table):
    def overwrite_it(path):
        """The last leaf of the table's tree: an interior page names its last child at its eighth byte."""
        with closing(SQLITE.connect(path)) as connection:
            query = "SELECT rootpage FROM sqlite_master WHERE name = ?"
            (page,) = connection.execute(query, (f"faxhook_{table}",)).fetchone()
        data = path.read_bytes()
        while data[(page - 1) * PAGE] in (0x02, 0x05):
            page = int.from_bytes(data[(page - 1) * PAGE + 8 :][:4])
        path.write_bytes(data[: (page - 1) * PAGE] + NOISE + data[page * PAGE :])

    return overwrite_it


@pytest.mark.parametrize(
    "break_it",
    [header, schema, *map(newest_page_of, ("events", "receipts", "faxes", "payloads", "bodies"))],
    ids=["header", "schema", "events", "receipts", "faxes", "payloads", "bodies"],
)
def test_a_damaged_store_is_refused_at_a_start_and_the_file_is_named(filled, break_it):
    for start in range(0, 1000, 100):
        tell(filled.runtime.store, *[fax(f"{number}") for number in range(start, start + 100)])
    filled.runtime.store.close()
    path = filled.runtime.store.file.path
    break_it(path)
    for command in ("serve", "migrate", "doctor"):
        result = CliRunner().invoke(main, [command, "--config", str(filled.config)], catch_exceptions=False)
        assert result.exit_code == 1, (command, result.output)
        for expected in (str(path), "damaged", "doctor --deep", "store salvage"):
            assert expected in result.output, (command, result.output)


# --- while it runs --------------------------------------------------------------------------------------------------


def mark(store):
    with store.reading() as connection:
        return noted(connection, store.tables)


def test_a_callback_that_meets_a_bad_page_makes_the_store_unready(large):
    """Pages of indexes, which no look at the newest pages of tables sees."""
    data = large.read_bytes()
    for at in range(PAGE, len(data), PAGE):
        if is_index(data[at : at + PAGE]) and b"serves" not in data[at : at + PAGE]:  # not the table with the note
            data = data[:at] + NOISE + data[at + PAGE :]
    store = Store(f"sqlite:///{large}")
    store.close()
    large.write_bytes(data)
    writer = Writer(store)
    with suppress(Unavailable):
        writer.submit(submission(fax("another")))
    assert mark(store) is not None
    store.close()


def test_the_relay_has_the_whole_file_checked_once_damage_was_met(filled, tmp_path):
    for start in range(0, 500, 100):
        tell(filled.runtime.store, *[fax(f"{number}") for number in range(start, start + 100)])
    store = filled.runtime.store
    store.close()
    overwrite(store.file.path, is_payloads)
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


def test_one_bad_page_of_payloads_keeps_no_healthy_row_from_a_consumer(filled):
    for start in range(0, 300, 100):
        tell(filled.runtime.store, *[fax(f"{number}") for number in range(start, start + 100)])
    filled.runtime.store.close()
    overwrite(filled.runtime.store.file.path, is_payloads)
    result = CliRunner().invoke(main, ["consume", "--config", str(filled.config)], catch_exceptions=False)
    states = filled.states()
    assert len(result.stdout.splitlines()) == states["published"] >= 280
    assert states["dead"] == 300 - states["published"] > 0


def test_a_byte_that_makes_a_text_unreadable_keeps_no_healthy_row_from_a_consumer(filled):
    tell(filled.runtime.store, *numbered(30))
    (checksum,) = rows(filled.runtime.store, "payloads", "checksum")[10:11]
    filled.runtime.store.close()
    path = filled.runtime.store.file.path
    path.write_bytes(path.read_bytes().replace(checksum.encode(), b"\xff" + checksum.encode()[1:]))
    result = CliRunner().invoke(main, ["consume", "--config", str(filled.config)], catch_exceptions=False)
    assert (len(result.stdout.splitlines()), result.exit_code) == (29, 0)
    assert filled.states() == {"published": 29, "dead": 1}
    assert mark(filled.runtime.store) is not None


def test_a_list_with_rows_of_another_table_is_shown(filled):
    tell(filled.runtime.store, *numbered(100))
    filled.runtime.store.close()
    path = filled.runtime.store.file.path
    overwrite(path, is_events, content=page_of(path, is_payloads))
    result = CliRunner().invoke(main, ["events", "list", "--json", "--config", str(filled.config)])
    assert result.exit_code == 0
    assert json.loads(result.stdout)


def test_whoever_meets_a_bad_page_makes_the_store_unready(large):
    overwrite(large, is_faxes)
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
    newest_page_of("payloads")(filled.runtime.store.file.path)
    code, said = relay(filled, tmp_path, "relay_active")
    assert (code, "store_damaged" in said, "store salvage" in said) == (0, True, True)
    assert mark(filled.runtime.store) is not None


def test_a_relay_ends_where_nothing_can_be_read(filled, tmp_path):
    filled.runtime.store.close()
    schema(filled.runtime.store.file.path)
    code, said = relay(filled, tmp_path, "relay_active")
    assert (code, "store salvage" in said, "relay_active" in said) == (1, True, False)


def test_a_bad_page_that_housekeeping_meets_holds_up_no_event(filled, tmp_path):
    tell(filled.runtime.store, *numbered(100))
    filled.runtime.store.close()
    newest_page_of("bodies")(filled.runtime.store.file.path)
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
