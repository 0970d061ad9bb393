"""The readiness probe takes the way of a callback: what stops one stops the other, and it leaves nothing behind."""

import time

import psycopg
import pytest
from announcing import fax, rows, tell

from receiver.errors import Unavailable
from receiver.store.probing import probe


def test_a_probe_adds_nothing_but_its_own_row(store):
    tell(store, fax())
    tables = ("faxes", "events", "waiting", "receipts", "rejected_receipts", "announcements", "jobs")
    before = [rows(store, name) for name in tables]
    probe(store)
    probe(store)
    assert [rows(store, name) for name in tables] == before
    assert rows(store, "meta", "name").count("touched") == 1


@pytest.mark.service("postgresql")
@pytest.mark.parametrize("mode", ["ACCESS EXCLUSIVE", "SHARE"])
@pytest.mark.parametrize(
    "table", ["events", "waiting", "faxes", "receipts", "rejected_receipts", "announcements", "jobs", "learned"]
)
def test_a_table_that_somebody_has_locked_stops_it_as_it_stops_a_callback(postgresql, table, mode):
    """In mode SHARE others may read, and still no callback can write."""
    url = postgresql.url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url) as other:
        other.execute(f"LOCK TABLE faxhook.{table} IN {mode} MODE")
        began = time.monotonic()
        with pytest.raises(Unavailable):
            probe(postgresql, 0.3)
        assert time.monotonic() - began < 10
    probe(postgresql)


def test_a_writer_that_holds_the_file_stops_it(sqlite):
    with sqlite.writing(), pytest.raises(Unavailable):
        probe(sqlite, 0.1)
    probe(sqlite)
