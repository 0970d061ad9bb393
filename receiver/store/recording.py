"""
Station 7: receipts, facts and events of a group of callbacks, in one transaction.

A group is recorded in bulk: two reads for all its faxes, then one insert per table. The unique keys decide what is a
duplicate, never a look-up before the transaction.
"""

import json
import uuid
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine.interfaces import DBAPICursor

from receiver import facts as fax_facts
from receiver.facts import Facts
from receiver.store import meeting
from receiver.store.postgresql import NOTIFIED
from receiver.store.tables import define, insert_or_keep, insert_or_replace
from schemas.encoding import compact_ascii
from schemas.envelope import AMENDED, COMPLETED, envelope
from schemas.identity import amended_id, completed_id

# Wakes the waiting relay or consumer on commit. SQLite needs no NOTIFY: waiters watch the file.
WAKE = f"NOTIFY {NOTIFIED}"
CALLBACK, REPORT = "callback", "report"  # how a fax was observed


@dataclass(frozen=True, slots=True)
class KeptBody:
    """A raw callback as it is kept: without secrets. hash: the same for byte-identical ones."""

    hash: str
    body: bytes
    query: bytes
    content_type: str
    reference: str | None


@dataclass(frozen=True, slots=True)
class Announcement:
    """
    One fax's end as one request states it.

    unlisted: its status code, where no table of the provider lists it. unreadable: optional fields of its message that
    could not be read. Both are for operators.
    """

    fax_id: uuid.UUID
    facts: Facts
    unlisted: str | None = None
    unreadable: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Position:
    """How far a report has been read when the submission is committed; the text is its reader's."""

    provider: str
    account: str
    report: str
    text: str


@dataclass(frozen=True, slots=True)
class Submission:
    """
    One request, or a part of a report, ready to be recorded.

    refused: the code of the refusal, for a receipt that is ``rejected``. ignored: why another is about no fax that was
    sent, such as ``inbound``. invalid: recipients that could not be used;
    their fields are in ``detail``. replay: the receipt is there already and gets a new state, unless it is accepted.
    position: of a report, which leaves a receipt only where it says something new.
    """

    receipt: str
    endpoint: str
    provider: str
    received_at_ms: int
    size: int
    body: KeptBody | None
    observed_at: str
    observed_via: str = CALLBACK
    announcements: tuple[Announcement, ...] = ()
    invalid: int = 0
    refused: str | None = None
    ignored: str | None = None
    detail: dict[str, Any] = field(default_factory=dict)
    replay: bool = False
    position: Position | None = None

    @property
    def is_report(self) -> bool:
        return self.observed_via == REPORT


@dataclass(frozen=True, slots=True)
class Told:
    """
    One event this submission added to the outbox.

    reason: of a failure, else empty. conflict: it contradicts the outcome that was told before.
    """

    event_id: str
    fax_id: str
    type: str
    outcome: str
    reason: str
    conflict: bool


@dataclass(slots=True)
class Recorded:
    """
    What became of a submission.

    state: accepted, partial, duplicate, ignored or rejected. events: the current event id of each of its faxes, in
    order. told: the events that are new. news: the announcements that were not heard before. filled: of these faxes
    nothing was known. by_callback: so many were first heard of by a callback. conflicts, flips and differing: for the
    operator's counters.
    """

    receipt: str
    state: str
    events: list[str] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)
    news: list[Announcement] = field(default_factory=list)
    filled: int = 0
    by_callback: int = 0
    conflicts: int = 0
    flips: int = 0
    differing: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Fax:
    """A row of ``faxes`` while the group is worked on."""

    provider: str
    account: str
    outcome: str
    revision: int
    event_id: str
    facts: Facts | None
    seen_at_ms: int
    first_digest: str
    first_outcome: str
    by_report: bool
    is_new: bool
    digests: set[str] = field(default_factory=set)
    outcomes: set[str] = field(default_factory=set)  # announced ones, current or not
    told: set[str] = field(default_factory=set)  # ids of its amendments


def record(cursor: DBAPICursor, dialect: sa.Dialect, submissions: Sequence[Submission]) -> list[Recorded]:
    """Record a group in the given order, inside the caller's transaction. One result for each submission."""
    work = _Work(cursor, dialect)
    work.load(sorted({str(one.fax_id) for submission in submissions for one in submission.announcements}))
    recorded = [work.submission(submission) for submission in submissions]
    work.flush()
    return recorded


@dataclass(frozen=True, slots=True)
class _Statements:
    """
    As text, made once, for the driver's own cursor: for a single fax, building and compiling them took longer than
    running them, and so did SQLAlchemy's way to the cursor.

    The first three and those of jobs take the ids of faxes as ``wanted``.
    """

    faxes: str
    announcements: str
    amendments: str
    add_faxes: str
    change_faxes: str
    add_announcements: str
    add_events: str
    add_payloads: str
    add_bodies: str
    add_receipts: str
    change_receipts: str
    jobs: str
    delete_jobs: str
    move_cursors: str
    add_discrepancies: str


@cache
def _statements(dialect: sa.Dialect) -> _Statements:
    tables = define(dialect.name)
    faxes, announcements, events, receipts = tables.faxes, tables.announcements, tables.events, tables.receipts
    payloads, jobs, cursors = tables.payloads, tables.jobs, tables.cursors
    payload = [sa.bindparam(name, type_=payloads.c[name].type) for name in ("checksum", "stored_at_ms", "body")]
    of_event = sa.select(events.c.seq, *payload).where(events.c.id == sa.bindparam("event_id", type_=sa.Text))
    # Both drivers take parameters by name, so that one row of a dict serves both.
    is_sqlite = dialect.name == "sqlite"
    named = sqlite.dialect(paramstyle="named") if is_sqlite else dialect

    def among(column: sa.Column[Any]) -> sa.TextClause:
        """For any number of ids: SQLite takes them as a JSON array, PostgreSQL as an array."""
        wanted = "IN (SELECT value FROM json_each(:wanted))" if is_sqlite else "= ANY(:wanted)"
        return sa.text(f"{column.name} {wanted}")

    def find(*columns: sa.Column[Any]) -> sa.Select[*tuple[Any, ...]]:
        return sa.select(*columns).where(among(columns[0]))

    def sql(statement: sa.Select[*tuple[Any, ...]] | sa.Insert | sa.Update | sa.Delete, *columns: str) -> str:
        """The statement as text, with a parameter for each of these columns."""
        return str(statement.compile(dialect=named, column_keys=list(columns) or None))

    def change(table: sa.Table, key: sa.Column[Any], *columns: str, only: sa.ColumnElement[bool] | None = None) -> str:
        update = table.update().where(key == sa.bindparam("known", type_=sa.Text))
        return sql(update if only is None else update.where(only), *columns)

    return _Statements(
        faxes=sql(find(*faxes.c).order_by(faxes.c.fax_id).with_for_update()),
        announcements=sql(find(announcements.c.fax_id, announcements.c.digest, announcements.c.outcome)),
        amendments=sql(find(events.c.fax_id, events.c.id)),
        add_faxes=sql(faxes.insert(), *faxes.c.keys()),
        change_faxes=change(faxes, faxes.c.fax_id, "outcome", "revision", "event_id", "facts", "seen_at_ms"),
        add_announcements=sql(announcements.insert(), *announcements.c.keys()),
        add_events=sql(
            events.insert().inline(), "id", "fax_id", "type", "outcome", "receipt", "state", "created_at_ms"
        ),
        add_payloads=sql(payloads.insert().from_select(["seq", "checksum", "stored_at_ms", "body"], of_event)),
        add_bodies=sql(
            insert_or_keep(tables.bodies, dialect.name).inline(),
            *("hash", "rejected", "stored_at_ms", "content_type", "reference", "query", "body"),
        ),
        add_receipts=sql(receipts.insert(), *receipts.c.keys()),
        # A receipt that was accepted stays so: its replay finds what it has announced itself.
        change_receipts=change(
            receipts,
            receipts.c.id,
            "state",
            "reason",
            "detail",
            only=receipts.c.state != sa.literal_column("'accepted'"),
        ),
        jobs=sql(find(jobs.c.fax_id, jobs.c.facts)),
        delete_jobs=sql(jobs.delete().where(among(jobs.c.fax_id))),
        move_cursors=sql(insert_or_replace(cursors, dialect.name), *cursors.c.keys()),
        add_discrepancies=sql(_open_again(tables.discrepancies, dialect.name), *_CONTRADICTION),
    )


_CONTRADICTION = ("provider", "account", "endpoint", "kind", "subject", "detail", "found_at_ms", "seen_at_ms")


def _open_again(table: sa.Table, dialect: str) -> sa.Insert:
    """An insert that opens again what was closed."""
    insert = (sqlite.insert(table) if dialect == "sqlite" else postgresql.insert(table)).inline()
    found = sa.case((table.c.closed_at_ms.is_(None), table.c.found_at_ms), else_=insert.excluded.found_at_ms)
    change = {name: insert.excluded[name] for name in ("endpoint", "detail", "seen_at_ms")}
    return insert.on_conflict_do_update(
        index_elements=["provider", "account", "kind", "subject"],
        set_={**change, "found_at_ms": found, "closed_at_ms": sa.null()},
    )


class _Work:
    def __init__(self, cursor: DBAPICursor, dialect: sa.Dialect) -> None:
        self.cursor = cursor
        self.is_sqlite = dialect.name == "sqlite"
        self.statements = _statements(dialect)
        self.faxes: dict[str, _Fax] = {}
        self.touched: set[str] = set()
        self.receipts: list[dict[str, Any]] = []
        self.replayed: list[dict[str, Any]] = []
        self.bodies: dict[str, dict[str, Any]] = {}
        self.announcements: list[dict[str, Any]] = []
        self.events: list[dict[str, Any]] = []
        self.payloads: list[dict[str, Any]] = []
        self.jobs: dict[str, dict[str, Any]] = {}  # fax_id -> what its sender knows of it
        self.contradictions: list[dict[str, Any]] = []
        self.positions: dict[tuple[str, str, str], dict[str, Any]] = {}

    def load(self, fax_ids: list[str]) -> None:
        """
        The known faxes, their rows locked in sorted order so that two writers never wait for each other; and what the
        senders of any of them have registered.
        """
        if not fax_ids:
            return
        connection: Any = self.cursor.connection
        expected = connection.cursor()
        with self._sent_together():
            if not self.is_sqlite:
                connection.cursor().execute(meeting.SHARED, meeting.buckets(fax_ids))
            self.cursor.execute(self.statements.faxes, self._wanted(fax_ids))
            expected.execute(self.statements.jobs, self._wanted(fax_ids))
        self.jobs = {fax_id: json.loads(known) for fax_id, known in expected.fetchall()}
        for (
            fax_id,
            provider,
            account,
            outcome,
            revision,
            event_id,
            seen_at_ms,
            first_digest,
            first_outcome,
            facts,
            by_report,
        ) in self.cursor.fetchall():
            self.faxes[fax_id] = _Fax(
                provider=provider,
                account=account,
                outcome=outcome,
                revision=revision,
                event_id=event_id,
                facts=json.loads(facts) if facts else None,
                seen_at_ms=seen_at_ms,
                first_digest=first_digest,
                first_outcome=first_outcome,
                by_report=bool(by_report),
                is_new=False,
                digests={first_digest},
                outcomes={first_outcome},
            )
        for fax_id in (
            self.faxes.keys() & self.jobs.keys()
        ):  # of an earlier version, where the two could miss each other
            fax = self.faxes[fax_id]
            fax.facts = fax.facts and fax_facts.completed(fax.facts, self.jobs[fax_id])
        for fax_id, digest, outcome in self._rows(self.statements.announcements, list(self.faxes)):
            self.faxes[fax_id].digests.add(digest)
            self.faxes[fax_id].outcomes.add(outcome)
        amended = [fax_id for fax_id, fax in self.faxes.items() if fax.revision > 1]
        for fax_id, event_id in self._rows(self.statements.amendments, amended):
            self.faxes[fax_id].told.add(event_id)

    def _rows(self, statement: str, fax_ids: list[str]) -> Sequence[Any]:
        if not fax_ids:
            return ()
        self.cursor.execute(statement, self._wanted(fax_ids))
        return self.cursor.fetchall()

    def _wanted(self, fax_ids: list[str]) -> dict[str, Any]:
        return {"wanted": compact_ascii(fax_ids) if self.is_sqlite else fax_ids}

    def submission(self, submission: Submission) -> Recorded:
        recorded = Recorded(submission.receipt, state="")
        for announcement in submission.announcements:
            self._announce(submission, announcement, recorded)
        ids = dict.fromkeys(str(announcement.fax_id) for announcement in submission.announcements)
        recorded.events = [self.faxes[fax_id].event_id for fax_id in ids]
        recorded.state = _state(submission, recorded)
        if not submission.is_report or recorded.told:
            self._keep(submission, recorded.state)
        if submission.position is not None:
            self._move(submission.position, submission.received_at_ms)
        return recorded

    def _announce(self, submission: Submission, announcement: Announcement, recorded: Recorded) -> None:
        fax_id = str(announcement.fax_id)
        stated = announcement.facts
        digest = fax_facts.digest(stated)
        fax = self.faxes.get(fax_id)
        if fax is None:
            event_id = str(completed_id(announcement.fax_id, stated["outcome"]))
            fax = _Fax(
                provider=submission.provider,
                account=stated["account"],
                outcome=stated["outcome"],
                revision=1,
                event_id=event_id,
                facts=fax_facts.completed(stated, self.jobs[fax_id]) if fax_id in self.jobs else stated,
                seen_at_ms=submission.received_at_ms,
                first_digest=digest,
                first_outcome=stated["outcome"],
                by_report=submission.is_report,
                is_new=True,
                digests={digest},
                outcomes={stated["outcome"]},
            )
            self.faxes[fax_id] = fax
            self._tell(submission, fax_id, fax, recorded, COMPLETED)
            recorded.filled += 1
            recorded.news.append(announcement)
        elif digest not in fax.digests:
            recorded.news.append(announcement)
            self._amend(submission, announcement, fax, recorded)
            fax.digests.add(digest)
            fax.outcomes.add(stated["outcome"])
            self.announcements.append(
                {
                    "fax_id": fax_id,
                    "digest": digest,
                    "outcome": stated["outcome"],
                    "seen_at_ms": submission.received_at_ms,
                }
            )
        recorded.by_callback += not fax.by_report
        fax.seen_at_ms = max(fax.seen_at_ms, submission.received_at_ms)
        self.touched.add(fax_id)

    def _amend(self, submission: Submission, announcement: Announcement, fax: _Fax, recorded: Recorded) -> None:
        stated, was = announcement.facts, fax.outcome
        if fax.facts is None:
            # The facts were purged and only the outcome is known: nothing to compare but that.
            if stated["outcome"] == was:
                return
            merged = fax_facts.Merged(stated, ("outcome",), news=True, conflict=True, differing=())
        else:
            merged = fax_facts.merge(fax.facts, stated)
        recorded.differing += merged.differing
        recorded.conflicts += merged.conflict
        recorded.flips += merged.conflict and {was, stated["outcome"]} == {"delivered", "failed"}
        fax.facts = merged.facts
        if not merged.news and not (merged.conflict and stated["outcome"] not in fax.outcomes):
            return
        facts_digest = fax_facts.digest(merged.facts)
        event_id = str(amended_id(announcement.fax_id, facts_digest))
        if event_id in fax.told:
            event_id = str(amended_id(announcement.fax_id, facts_digest, fax.revision + 1))
        supersedes, fax.event_id = fax.event_id, event_id
        fax.revision += 1
        fax.outcome = merged.facts["outcome"]
        self._tell(submission, str(announcement.fax_id), fax, recorded, AMENDED, supersedes, merged)

    def _tell(
        self,
        submission: Submission,
        fax_id: str,
        fax: _Fax,
        recorded: Recorded,
        event_type: str,
        supersedes: str | None = None,
        merged: fax_facts.Merged | None = None,
    ) -> None:
        assert fax.facts is not None
        body = envelope(
            event_id=fax.event_id,
            event_type=event_type,
            fax_id=fax_id,
            provider=fax.provider,
            endpoint=submission.endpoint,
            facts=fax.facts,
            observed_at=submission.observed_at,
            observed_via=submission.observed_via,
            revision=fax.revision,
            supersedes=supersedes,
            changed=merged.changed if merged else (),
            conflict=merged.conflict if merged else False,
        )
        at = submission.received_at_ms
        fax.told.add(fax.event_id)
        self.events.append(
            {
                "id": fax.event_id,
                "fax_id": fax_id,
                "type": event_type,
                "outcome": fax.outcome,
                "receipt": submission.receipt,
                "state": "pending",
                "created_at_ms": at,
            }
        )
        self.payloads.append(
            {"event_id": fax.event_id, "checksum": checksum(fax.event_id, body), "stored_at_ms": at, "body": body}
        )
        reason = (fax.facts["failure"] or {}).get("reason", "")
        conflict = merged is not None and merged.conflict
        if conflict:
            # With the event, or an end in between would leave nobody to look at it.
            self.contradictions.append(
                {
                    "provider": fax.provider,
                    "account": fax.account,
                    "endpoint": submission.endpoint,
                    "kind": "contradiction",
                    "subject": fax_id,
                    "detail": compact_ascii({"event": fax.event_id, "outcome": fax.outcome}),
                    "found_at_ms": at,
                    "seen_at_ms": at,
                }
            )
        recorded.told.append(Told(fax.event_id, fax_id, event_type, fax.outcome, reason, conflict))

    def _move(self, position: Position, at_ms: int) -> None:
        key = (position.provider, position.account, position.report)
        self.positions[key] = {
            **dict(zip(("provider", "account", "report"), key, strict=True)),
            "position": position.text,
            "moved_at_ms": at_ms,
        }

    def _keep(self, submission: Submission, state: str) -> None:
        body = submission.body
        detail = compact_ascii(submission.detail) if submission.detail else None
        if submission.replay:
            self.replayed.append(
                {
                    "known": submission.receipt,
                    "state": state,
                    "reason": submission.refused or submission.ignored,
                    "detail": detail,
                }
            )
            return
        if body is not None and body.hash not in self.bodies:
            self.bodies[body.hash] = {
                "hash": body.hash,
                "body": body.body,
                "query": body.query,
                "content_type": body.content_type,
                "reference": body.reference,
                "rejected": state in ("rejected", "partial"),
                "stored_at_ms": submission.received_at_ms,
            }
        self.receipts.append(
            {
                "id": submission.receipt,
                "endpoint": submission.endpoint,
                "provider": submission.provider,
                "state": state,
                "reason": submission.refused or submission.ignored,
                "detail": detail,
                "received_at_ms": submission.received_at_ms,
                "size": submission.size,
                "body_hash": body.hash if body else None,
            }
        )

    def flush(self) -> None:
        statements = self.statements
        touched = sorted(self.touched)
        bodies = [self.bodies[body_hash] for body_hash in sorted(self.bodies)]  # in one order, as the faxes
        tables = (
            (statements.add_faxes, [self._row(fax_id) for fax_id in touched if self.faxes[fax_id].is_new]),
            (statements.change_faxes, [self._change(fax_id) for fax_id in touched if not self.faxes[fax_id].is_new]),
            (statements.add_announcements, self.announcements),
            (statements.add_events, self.events),
            (statements.add_payloads, self.payloads),
            (statements.add_bodies, bodies),
            (statements.add_receipts, self.receipts),
            (statements.change_receipts, self.replayed),
            (statements.delete_jobs, [self._wanted(sorted(self.jobs))] if self.jobs else []),
            (statements.move_cursors, list(self.positions.values())),
            (statements.add_discrepancies, self.contradictions),
        )
        with self._sent_together():
            for statement, rows in tables:
                if len(rows) == 1:
                    self.cursor.execute(statement, rows[0])
                elif rows:
                    self.cursor.executemany(statement, rows)
            if self.events and not self.is_sqlite:
                self.cursor.execute(WAKE)

    def _sent_together(self) -> AbstractContextManager[object]:
        """On PostgreSQL no statement waits for the answer to the one before; an error comes up at the end."""
        if self.is_sqlite:
            return nullcontext()
        connection: Any = self.cursor.connection  # psycopg's
        return cast("AbstractContextManager[object]", connection.pipeline())

    def _row(self, fax_id: str) -> dict[str, Any]:
        fax = self.faxes[fax_id]
        return {
            "fax_id": fax_id,
            "provider": fax.provider,
            "account": fax.account,
            "outcome": fax.outcome,
            "revision": fax.revision,
            "event_id": fax.event_id,
            "seen_at_ms": fax.seen_at_ms,
            "first_digest": fax.first_digest,
            "first_outcome": fax.first_outcome,
            "facts": _dump(fax.facts),
            "by_report": fax.by_report or None,
        }

    def _change(self, fax_id: str) -> dict[str, Any]:
        fax = self.faxes[fax_id]
        return {
            "known": fax_id,
            "outcome": fax.outcome,
            "revision": fax.revision,
            "event_id": fax.event_id,
            "facts": _dump(fax.facts),
            "seen_at_ms": fax.seen_at_ms,
        }


def checksum(event_id: str, body: bytes) -> str:
    """What a payload row is verified by before it is published: SQLite has no page checksums of its own."""
    return sha256(event_id.encode() + b"\0" + body).hexdigest()


def _state(submission: Submission, recorded: Recorded) -> str:
    if submission.refused:
        return "rejected"
    if submission.invalid:
        return "partial"
    if recorded.told:
        return "accepted"
    return "duplicate" if recorded.events else "ignored"


def _dump(facts: Facts | None) -> str | None:
    return None if facts is None else compact_ascii(facts)
