"""
All that is stored of a fax, a number or a reference, for an erasure or an access request.

Everything that is personal is looked through, some rows in each transaction, and not only what the projector has made
findable: a receipt that was refused names no fax, and a key may have been changed since.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from receiver.store import Store
from receiver.store.browsing import events_of, seqs_of_fax
from receiver.store.known import facts_of, newest_facts
from receiver.store.mentions import Mentions, Named, Wanted, named_by
from receiver.store.tables import QUEUE
from receiver.system.batches import batches

_AT_ONCE = 500  # rows in one transaction

Tell = Callable[[str], object]  # takes how far it has come, in words


@dataclass(slots=True)
class Found:
    """
    faxes: their ids. jobs: registered ones that have not ended. receipts: those whose bodies name one of them, or
    mention the number or reference. discrepancies: likewise, by their row numbers.

    elsewhere: faxes of others that mention the number, such as that of their sender.
    """

    faxes: set[str] = field(default_factory=set)
    jobs: set[str] = field(default_factory=set)
    receipts: set[str] = field(default_factory=set)
    discrepancies: set[int] = field(default_factory=set)
    elsewhere: set[str] = field(default_factory=set)
    named: set[Named] = field(default_factory=set)

    def __bool__(self) -> bool:
        return bool(self.faxes or self.jobs or self.receipts or self.discrepancies)


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """How many events the faxes have: in all, undelivered, dead letters, and of each sink those that went there."""

    events: int
    undelivered: int
    dead: int
    gone_to: Mapping[str, int]


def seek(store: Store, wanted: Wanted, tell: Tell) -> Found:
    """What is stored of them now. tell: is told how far it has come."""
    search = _Search(store, wanted, tell)
    if wanted.fax_id is not None:
        search.one_fax(wanted.fax_id)
    else:
        search.events()
        search.learned()
        search.jobs()
    search.found.elsewhere -= search.found.faxes
    search.receipts()
    search.discrepancies()
    return search.found


def whereabouts(store: Store, faxes: set[str]) -> Whereabouts:
    """What became of the events of these faxes."""
    events = undelivered = dead = 0
    gone: dict[str, int] = {}
    for some in batches(sorted(faxes), _AT_ONCE):
        with store.reading() as connection:
            seqs = [seq for fax_id in some for seq in seqs_of_fax(connection, store.tables, fax_id)]
            for part in batches(seqs, _AT_ONCE):
                for event in events_of(connection, store.tables, part):
                    states = event.get("sinks") or {QUEUE: event["state"]}
                    if event["published_at"] is None and event["state"] == "published":
                        states = {}  # it was given up
                    events += 1
                    undelivered += any(state in ("pending", "leased") for state in states.values())
                    dead += any(state == "dead" for state in states.values())
                    for sink in (sink for sink, state in states.items() if state in ("published", "leased")):
                        gone[sink] = gone.get(sink, 0) + 1
    return Whereabouts(events, undelivered, dead, gone)


class _Search:
    def __init__(self, store: Store, wanted: Wanted, tell: Tell) -> None:
        self.found = Found()
        self._store = store
        self._tables = store.tables
        self._wanted = wanted
        self._tell = tell
        self._looked_at = 0
        self._mentions = Mentions(wanted.pattern(), self.found.named)

    # --- faxes ------------------------------------------------------------------------------------------------------

    def one_fax(self, fax_id: str) -> None:
        faxes, jobs = self._tables.faxes, self._tables.jobs
        with self._store.reading() as connection:
            row = connection.execute(sa.select(faxes).where(faxes.c.fax_id == fax_id)).first()
            facts = newest_facts(connection, self._tables, [fax_id]).get(fax_id)
            job = connection.execute(sa.select(jobs).where(jobs.c.fax_id == fax_id)).first()
        if row is not None:
            self.found.faxes.add(fax_id)
            self.found.named |= named_by(row.provider, facts or {})
        if job is not None:
            self.found.jobs.add(fax_id)
            self.found.named.add((job.provider, job.job_id))

    def events(self) -> None:
        events, faxes = self._tables.events, self._tables.faxes
        columns = (events.c.seq, events.c.id, events.c.fax_id, events.c.checksum, events.c.body, faxes.c.provider)
        query = sa.select(*columns).join_from(events, faxes, faxes.c.fax_id == events.c.fax_id)
        for row in self._rows(query.where(events.c.body.is_not(None)), events.c.seq, "events"):
            if self._mentions.any_in(row.body):
                self._judge(row.fax_id, row.provider, facts_of(row.id, row.body, row.checksum, None))

    def learned(self) -> None:
        learned, faxes = self._tables.learned, self._tables.faxes
        query = sa.select(learned.c.fax_id, learned.c.facts, faxes.c.provider)
        query = query.join_from(learned, faxes, faxes.c.fax_id == learned.c.fax_id)
        for row in self._rows(query, learned.c.fax_id, "learned facts"):
            if self._mentions.any_in(row.facts.encode()):
                self._judge(row.fax_id, row.provider, json.loads(row.facts))

    def _judge(self, fax_id: str, provider: str, facts: Mapping[str, Any] | None) -> None:
        """Of a fax whose facts mention them; None: they are damaged."""
        if facts is None or self._wanted.is_of(facts):
            self.found.faxes.add(fax_id)
            self.found.named |= named_by(provider, facts or {})
        else:
            self.found.elsewhere.add(fax_id)

    def jobs(self) -> None:
        jobs = self._tables.jobs
        for row in self._rows(sa.select(jobs), jobs.c.fax_id, "registered faxes"):
            stated = json.loads(row.facts)
            names = ("number", "number_raw")
            facts = {
                "recipient": {name: stated.get(f"recipient.{name}") for name in names},
                "reference": {"id": stated.get("reference.id")},
            }
            if self._wanted.is_of(facts):
                self.found.jobs.add(row.fax_id)
                self.found.named.add((row.provider, row.job_id))

    # --- what mentions them -----------------------------------------------------------------------------------------

    def receipts(self) -> None:
        """Those that name one of the faxes; and those that mention them and name nobody else."""
        replayed = self._replayed()
        for table in (self._tables.receipts, self._tables.rejected_receipts):
            names = ("id", "provider", "state", "faxes", "reference", "query", "body")
            query = sa.select(*(table.c[name] for name in names)).where(table.c.content_type.is_not(None))
            for row in self._rows(query, table.c.id, "receipts"):
                is_named = row.id in replayed or any(fax_id in self.found.faxes for fax_id, _ in row.faxes)
                if is_named or self._is_mentioned(row):
                    self.found.receipts.add(row.id)

    def _is_mentioned(self, row: Any) -> bool:
        """By one that names no fax, or not all, or one of which nothing is known any more, as after an erasure."""
        contents = row.body, row.query
        mine = self._wanted.reference is not None and row.reference == self._wanted.reference
        if not row.faxes or row.state == "partial":
            return mine or self._mentions.any_in(*contents) or self._mentions.names_one(row.provider, *contents)
        if not mine and not self._mentions.any_in(*contents):
            return False
        with self._store.reading() as connection:
            facts = newest_facts(connection, self._tables, [fax_id for fax_id, _ in row.faxes])
        return any(facts.get(fax_id) is None for fax_id, _ in row.faxes)

    def _replayed(self) -> set[str]:
        """The receipts of which a replay names one of the faxes."""
        replays = self._tables.replays
        query = sa.select(replays.c.seq, replays.c.receipt, replays.c.faxes)
        rows = self._rows(query, replays.c.seq, "replays")
        return {row.receipt for row in rows if any(fax_id in self.found.faxes for fax_id, _ in row.faxes)}

    def discrepancies(self) -> None:
        table = self._tables.discrepancies
        query = sa.select(table.c.seq, table.c.provider, table.c.rows.label("content")).where(table.c.rows.is_not(None))
        for row in self._rows(query, table.c.seq, "discrepancies"):
            content = row.content.encode()
            if self._mentions.any_in(content) or self._mentions.names_one(row.provider, content):
                self.found.discrepancies.add(row.seq)

    def _rows(self, query: sa.Select[Any], key: sa.Column[Any], what: str) -> Iterator[Any]:
        """All rows of a table in the order of its key, some in each transaction."""
        query, after = query.order_by(key).limit(_AT_ONCE), None
        while True:
            with self._store.reading() as connection:
                some = connection.execute(query if after is None else query.where(key > after)).all()
            self._looked_at += len(some)
            self._tell(f"{self._looked_at} rows looked at ({what})")
            yield from some
            if len(some) < _AT_ONCE:
                return
            after = getattr(some[-1], key.name)
