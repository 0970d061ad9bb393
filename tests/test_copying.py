"""A whole store copied into another one, between both databases: everything is carried, and nothing written over."""

import json
import signal
import subprocess
import time
from contextlib import closing
from pathlib import Path

import pytest
from moving import (
    ALL_WAYS,
    BOTH_WAYS,
    SERVICE,
    StoreOf,
    configured,
    fill_every_table,
    rows_of,
    run,
    told,
)
from stock import FAXHOOK, environment, stock

from receiver.errors import StoreError
from receiver.store import Store, carrying
from receiver.store.carrying import carried
from receiver.store.copying import left_alone
from receiver.store.migrating import check_version, migrate
from receiver.store.tables import TURNS
from receiver.store.trouble import StoreUnavailable

# Some rows at once, and an end in the middle of the faxes.
CUT_SHORT = """
import os, signal, sys
from receiver.cli import main
from receiver.store import carrying, copying

def cut_short(connection, table, rows):
    carrying.write(connection, table, rows)
    if table.name.endswith("faxes") and len(rows) < 7:
        os.kill(os.getpid(), signal.SIGKILL)

carrying._AT_ONCE = 7
copying.write = cut_short
main(sys.argv[1:])
"""


@ALL_WAYS
def test_every_table_is_copied_as_it_is(store_of: StoreOf, tmp_path: Path, old_kind: str, new_kind: str) -> None:
    old, new = store_of(old_kind, "a", migrated=True), store_of(new_kind, "b")
    fill_every_table(old)
    before = rows_of(old)
    result = run("store", "copy", old, new)
    assert result.exit_code == 0, result.output
    assert rows_of(old) == before
    expected = dict(before)
    expected["waiting"] = sorted((*row[:5], None, None) for row in before["waiting"])  # nobody has leased anything
    assert rows_of(new) == expected
    with closing(Store(new)) as store:
        check_version(store)
        if new_kind == "postgresql":
            with store.reading() as connection:
                assert connection.exec_driver_sql(f"SELECT nextval('{TURNS}')").scalar_one() > 2**40 + 1


def test_all_tables_are_carried_but_the_nonces() -> None:
    for dialect in ("sqlite", "postgresql"):
        tables = carrying.define(dialect)
        every = {table.name for table in tables.metadata.sorted_tables} - {"nonces"}
        assert {table.name for table in carried(tables).values()} == every
        assert carried(tables).keys() == carried(carrying.define("sqlite")).keys()


@BOTH_WAYS
def test_a_copy_goes_on_as_the_store_did(store_of: StoreOf, tmp_path: Path, old_kind: str, new_kind: str) -> None:
    old, new = store_of(old_kind, "a"), store_of(new_kind, "b")
    with stock(tmp_path / "old", old) as made:
        made.fill(5)
        events = [event["id"] for event in made.events()]
        made.park(events[0])
        made.consumed("--max", "1")
        states = made.states()
        repeated = made.fax(1000)
        made.project()
    assert run("store", "copy", old, new).exit_code == 0
    with stock(tmp_path / "new", new) as made:
        assert made.states() == states
        again = made.fax(1001)
        assert {one["id"]: one["state"] for one in made.receipts()}[again] == "duplicate"
        assert repeated in {one["id"] for one in made.receipts()}
        made.fax(1)
        delivered = [json.loads(line)["id"] for line in made.consumed()]
        assert len(delivered) == len(set(delivered)) == 4
        assert told(made, "dead-letters", "replay", "--all").exit_code == 0
        assert len(made.consumed()) == 1
        assert made.states() == {"published": 6}


@BOTH_WAYS
def test_a_copy_that_was_killed_goes_on_and_keeps_others_out(
    store_of: StoreOf, tmp_path: Path, old_kind: str, new_kind: str
) -> None:
    old, new = store_of(old_kind, "a"), store_of(new_kind, "b")
    with stock(tmp_path / "old", old) as made:
        made.fill(40)
    command = [FAXHOOK[0], "-c", CUT_SHORT, "store", "copy", old, new]
    assert subprocess.run(command, env=environment(), check=False).returncode == -signal.SIGKILL
    refused = run("events", "list", "--config", configured(tmp_path / "c", new))
    assert (refused.exit_code, "was not finished" in refused.output) == (1, True)
    other = run("store", "copy", f"sqlite:///{tmp_path}/other.db", new)
    assert (other.exit_code, "does not exist" in other.output) == (1, True)
    with closing(Store(f"sqlite:///{tmp_path}/other.db")) as store:
        migrate(store)
    other = run("store", "copy", f"sqlite:///{tmp_path}/other.db", new)
    assert (other.exit_code, "a copy of another store" in other.output) == (1, True)
    with stock(tmp_path / "old", old) as made:  # somebody has gone on with the old one
        made.fax(1)
    result = run("store", "copy", old, new)
    assert result.exit_code == 0, result.output
    assert rows_of(new) == rows_of(old)


@BOTH_WAYS
def test_nothing_is_copied_into_a_store_with_rows(
    store_of: StoreOf, tmp_path: Path, old_kind: str, new_kind: str
) -> None:
    old, new = store_of(old_kind, "a", migrated=True), store_of(new_kind, "b")
    with stock(tmp_path / "new", new) as made:
        made.fill(1)
    before = rows_of(new)
    result = run("store", "copy", old, new)
    assert (result.exit_code, "expected an empty store" in result.output) == (1, True)
    assert "Traceback" not in result.output
    assert rows_of(new) == before


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgresql", marks=SERVICE)])
def test_nothing_is_copied_from_a_store_that_somebody_works_with(store_of: StoreOf, tmp_path: Path, kind: str) -> None:
    target = f"sqlite:///{tmp_path}/new.db"
    old = store_of(kind, "a")
    with stock(tmp_path / "old", old) as made:
        with made.start("relay") as relay:
            while not any(b"relay_active" in line for line in iter(relay.stderr.readline, b"")):  # type: ignore[union-attr]
                pass
            refused = run("store", "copy", old, target)
            relay.terminate()
        assert (refused.exit_code, "stop faxhook" in refused.output) == (1, True), refused.output
        idle = (
            "import sys; from receiver.store import Store; store = Store(sys.argv[1])\n"
            "with store.reading() as c: c.exec_driver_sql('SELECT 1')\nprint(flush=True); sys.stdin.read()"
        )
        made.runtime.close()
        with subprocess.Popen(
            [FAXHOOK[0], "-c", idle, old], env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as other:
            assert other.stdout
            other.stdout.readline()
            refused = run("store", "copy", old, target)
            other.communicate()
        assert (refused.exit_code, "stop faxhook" in refused.output) == (1, True), refused.output
        result = run("store", "copy", old, target)
        assert result.exit_code == 0, result.output


@SERVICE
def test_who_comes_while_a_store_is_copied_is_noticed_at_the_end(store_of: StoreOf) -> None:
    url = store_of("postgresql", "a", migrated=True)
    with closing(Store(url)) as old, closing(Store(url)) as other, left_alone(old) as (_, check):
        check()
        with other.reading() as connection:
            assert connection.exec_driver_sql("SELECT count(*) FROM faxhook.faxes").scalar_one() == 0
        with pytest.raises(StoreUnavailable):
            count_one(other)
        with pytest.raises(StoreError, match="faxhook is connected to it"):
            check()


def count_one(store: Store) -> None:
    """Written at once, or not at all."""
    with store.writing(time.monotonic() + 0.5) as connection:
        connection.execute(store.tables.counters.insert().values(series="x", count=1))


def test_urls_that_name_no_store_are_refused(tmp_path: Path) -> None:
    here = f"sqlite:///{tmp_path}/faxhook.db"
    for old, new, words in [("mysql://x/y", here, "FROM: expected"), (here, "x", "TO: expected"), (here, here, "same")]:
        result = run("store", "copy", old, new)
        assert (result.exit_code, words in result.output) == (2, True), result.output
