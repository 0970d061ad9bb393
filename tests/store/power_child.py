"""
Work on a store as faxhook does it, one commit after the other, and say after each what has been promised.

Arguments: the store's URL, a seed, how many commits, the journal mode, and what ``synchronous`` is set to instead of
what the store sets ("" for that). Each promise is a line of JSON on standard output, written when the commit is done.
"""

import hashlib
import json
import os
import sys
from datetime import timedelta
from random import Random

import sqlalchemy as sa
from announcing import KEYS, fax, submission, tell_all

from receiver.store import Store, browsing, dead_letters, now_ms, outbox, projection, sqlite
from receiver.store.republishing import Chosen, republish_one
from receiver.store.retention import STEPS, Limits, purge
from receiver.store.writer import Writer
from schemas.event import Recipient

LIMITS = Limits(bodies=timedelta(days=7), rejected=timedelta(days=30), ids=timedelta(days=90))
DAY_MS = 24 * 3600 * 1000
HOLDER = "elsewhere/1/1"


def said(key, version):
    """What is announced of a fax: each version has another number."""
    return fax(key, recipient=Recipient(number=f"+1303555{version:04}")) if version else fax(key)


def state_of(store):
    """A fingerprint of every row."""
    digest = hashlib.sha256()
    with store.reading() as connection:
        for table in store.tables.metadata.sorted_tables:
            names = ", ".join(table.c.keys())
            for row in sorted(map(repr, connection.exec_driver_sql(f"SELECT {names} FROM {table.name}"))):
                digest.update(row.encode())
    return digest.hexdigest()


class Work:
    def __init__(self, store, seed, commits):
        self._store = store
        self._writer = Writer(store)
        self._chance = Random(seed)
        self._commits = commits
        self._emptied = self._chance.choice(
            [0.0, 0.1]
        )  # how often; else SQLite itself goes back to the log's beginning
        self._done = 0
        self._versions = {}  # of each fax, how often it was announced
        self._rejected = []  # receipts

    def run(self):
        kinds = {
            self.one: 8,
            self.group: 4,
            self.refuse: 1,
            self.replay: 1,
            self.lease: 2,
            self.acknowledge: 2,
            self.publish: 2,
            self.park: 1,
            self.revive: 1,
            self.republish: 1,
            self.forget: 4,
            self.project: 3,
        }
        while self._done < self._commits:
            (kind,) = self._chance.choices(list(kinds), list(kinds.values()))
            promised = kind()
            if self._chance.random() < self._emptied:
                self._store.empty_log()
            self._done += 1
            line = {"kind": kind.__name__, **promised, "state": state_of(self._store)}
            os.write(1, json.dumps(line).encode() + b"\n")

    # --- recording --------------------------------------------------------------------------------------------------

    def one(self):
        told = self._submission(self._chance.randint(1, 3))
        return self._promised([told], [self._writer.submit(told[0])])

    def group(self):
        told = [self._submission(self._chance.randint(1, 2)) for _ in range(self._chance.randint(2, 12))]
        return self._promised(told, tell_all(self._store, *[one for one, _ in told]))

    def refuse(self):
        refused = submission(refused="unknown_code", answer=422, received_at_ms=self._now())
        self._writer.submit(refused)
        self._rejected.append(refused.receipt)
        return {"receipts": [refused.receipt]}

    def replay(self):
        told, faxes = self._submission(1, replay=True, receipt=self._rejected.pop() if self._rejected else "")
        if not told.receipt:
            return self.one()
        return self._promised([(told, faxes)], tell_all(self._store, told))

    def _submission(self, count, **other):
        """Faxes that are new for the most part; others said as before, or otherwise."""
        faxes = []
        for _ in range(count):
            key = f"{self._done}-{len(self._versions)}"
            if self._versions and self._chance.random() < 0.4:
                key = self._chance.choice(list(self._versions))
            version = self._versions.get(key, -1) + self._chance.choice([0, 1, 1])
            self._versions[key] = max(version, 0)
            faxes.append((key, self._versions[key]))
        return submission(*[said(*one) for one in faxes], received_at_ms=self._now(), **other), faxes

    def _now(self):
        """As if the work took months: what comes first is too old at the end."""
        share = self._done / self._commits
        return now_ms() - (100 if share < 0.3 else 10 if share < 0.5 else 0) * DAY_MS

    @staticmethod
    def _promised(told, recorded):
        return {
            "receipts": [one.receipt for one, _ in told],
            "said": [faxes for _, faxes in told],
            "moved": {event.event_id: "waiting" for one in recorded for event in one.told},
            "faxes": {event.event_id: event.fax_id for one in recorded for event in one.told},
        }

    # --- delivery ---------------------------------------------------------------------------------------------------

    def lease(self):
        with self._store.writing() as connection:
            outbox.lease(connection, self._store.tables, HOLDER, self._chance.randint(1, 20), now_ms())
        return {}

    def acknowledge(self):
        rows = [row for row in self._rows() if row[1] == HOLDER]
        with self._store.writing() as connection:
            outbox.acknowledge(connection, self._store.tables, HOLDER, [row for row, _ in rows], now_ms())
        return {"moved": {row.event_id: "taken" for row, _ in rows}}

    def publish(self):
        rows = self._some(row for row, _ in self._rows())
        with self._store.writing() as connection:
            outbox.publish(connection, self._store.tables, rows, now_ms())
        return {"moved": {row.event_id: "taken" for row in rows}}

    def park(self):
        rows = self._some(row for row, holder in self._rows() if holder is None)[:2]
        with self._store.writing() as connection:
            outbox.park(connection, self._store.tables, rows, "refused", now_ms())
        return {"moved": {row.event_id: "dead" for row in rows}}

    def revive(self):
        with self._store.writing() as connection:
            dead = dead_letters.after(connection, self._store.tables, limit=1000)
            dead_letters.revive(connection, self._store.tables, dead)
        return {"moved": {letter.id: "waiting" for letter in dead}}

    def republish(self):
        with self._store.reading() as connection:
            events = browsing.events(connection, self._store.tables, limit=None)
        sent = self._some(event["id"] for event in events if event["state"] == "published")[:2]
        with self._store.writing() as connection:
            again = [one for one in sent if republish_one(connection, self._store.tables, one, Chosen())]
        return {"moved": dict.fromkeys(again, "waiting")}

    def _rows(self):
        """What waits, and who has it."""
        with self._store.reading() as connection:
            holders = {row.turn: row.holder for row in outbox.all_waiting(connection, self._store.tables)}
            rows = outbox.waiting(connection, self._store.tables, 10_000, 0)
        return [(row, holders[row.turn]) for row in rows]

    def _some(self, values):
        return [value for value in values if self._chance.random() < 0.5]

    # --- retention --------------------------------------------------------------------------------------------------

    def project(self):
        with self._store.reading() as connection:
            rows = projection.prepare(connection, self._store.tables, KEYS, 0, self._chance.randint(1, 12))
        with self._store.writing() as connection:
            projection.take(connection, self._store.tables, rows)
        return {}

    def forget(self):
        before = self._ids()
        steps = [self._chance.choice(STEPS)] if self._chance.random() < 0.7 else STEPS
        with self._store.writing() as connection:
            purge(connection, self._store.tables, LIMITS, now_ms(), batch=30, steps=steps)
        gone = before - self._ids()
        self._rejected = [receipt for receipt in self._rejected if receipt not in gone]
        return {"forgotten": sorted(gone)}

    def _ids(self):
        tables = self._store.tables
        ids = [sa.select(table.c.id) for table in (tables.events, tables.receipts, tables.rejected_receipts)]
        with self._store.reading() as connection:
            return {one for query in ids for one in connection.scalars(query)}


def main():
    url, seed, commits, journal, synchronous = sys.argv[1:]
    if journal == "delete":
        sqlite.has_wal_fix = lambda _version: False
    store = Store(url)
    if synchronous:

        @sa.event.listens_for(store.engine, "connect")
        def weaken(connection, _record):
            connection.execute(f"PRAGMA synchronous={synchronous}")

    Work(store, int(seed), int(commits)).run()
    store.close()


if __name__ == "__main__":
    main()
