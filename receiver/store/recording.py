"""
Station 7: receipts, facts and events of a group of callbacks, in one transaction.

The rows of the group are read and written in bulk by ``receiver.store.rows``, and the key of ``faxes`` decides what is
new, never a look-up before the transaction. What a fax's facts are, and where each row goes, ``README.md`` tells.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeAlias

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import DBAPICursor

from receiver import facts as fax_facts
from receiver.advice import RULES_ALONE, Advisor
from receiver.settings import Filter
from receiver.store import HOUR_MS
from receiver.store.fax import Fax
from receiver.store.postgresql_rows import PostgresqlRows
from receiver.store.rows import Changes, GroupRows
from receiver.store.sqlite_rows import SqliteRows
from receiver.store.submissions import Announcement, Position, Recorded, Submission, Told, checksum
from receiver.store.types import Pair
from schemas.encoding import compact_ascii
from schemas.envelope import AMENDED, COMPLETED, envelope
from schemas.event import Outcome
from schemas.identity import amended_id

Sinks: TypeAlias = Mapping[str, Filter]  # beside the queue: name -> which events go there
NONE: Sinks = MappingProxyType({})


def record(
    cursor: DBAPICursor,
    dialect: sa.Dialect,
    submissions: Sequence[Submission],
    advisor: Advisor = RULES_ALONE,
    sinks: Sinks = NONE,
) -> list[Recorded]:
    """
    Record a group in the given order, inside the caller's transaction. One result for each submission.

    advisor: gives each event its ``data.advice``. sinks: where events go beside the queue.
    """
    rows = _rows_of(cursor, dialect, sinks)
    first, digests = _said(submissions)
    group = _Group(*(rows.load(first, digests) if first else ({}, {})), advisor, sinks)
    recorded = [group.submission(submission) for submission in submissions]
    rows.write(group.changes(rows.numbers))
    return recorded


def foretell(
    cursor: DBAPICursor, dialect: sa.Dialect, submission: Submission, advisor: Advisor = RULES_ALONE
) -> tuple[Recorded, list[bytes]]:
    """
    What ``record`` would come to, and the payloads of the events that it would add.

    Nothing of it is written, but rows may be locked and begun: the caller rolls the transaction back.
    """
    rows = _rows_of(cursor, dialect)
    first, digests = _said([submission])
    group = _Group(*(rows.load(first, digests) if first else ({}, {})), advisor)
    recorded = group.submission(submission)
    return recorded, group.payloads()


def _rows_of(cursor: DBAPICursor, dialect: sa.Dialect, sinks: Sinks = NONE) -> GroupRows:
    return SqliteRows(cursor, tuple(sinks)) if dialect.name == "sqlite" else PostgresqlRows(cursor, dialect)


def _said(submissions: Sequence[Submission]) -> tuple[dict[str, Fax], dict[str, set[str]]]:
    """Of each fax: what it would be if nothing were known of it, and the digests of what is said of it."""
    first: dict[str, Fax] = {}
    digests: dict[str, set[str]] = {}
    for submission in submissions:
        for announcement in submission.announcements:
            fax_id = announcement.subject
            if fax_id not in first:
                first[fax_id] = Fax.first_heard(submission, announcement)
            digests.setdefault(fax_id, set()).add(announcement.digest)
    return first, digests


class _Group:
    def __init__(
        self, faxes: dict[str, Fax], jobs: dict[str, dict[str, Any]], advisor: Advisor, sinks: Sinks = NONE
    ) -> None:
        """faxes: by their ids, known and new. jobs: by fax id, what its sender says of it."""
        self._faxes = faxes
        self._jobs = jobs
        self._advisor = advisor
        self._sinks = sinks
        self._for_sinks: list[tuple[str, list[Any]]] = []  # a sink, and the row of an event that goes there
        self._changes = Changes(jobs=[(fax_id,) for fax_id in sorted(jobs)])
        self._quiet: dict[str, Fax] = {}  # those that have learned something without an event
        self._learn_from_jobs()

    def _learn_from_jobs(self) -> None:
        """A known fax has no job, unless the two once passed each other unseen."""
        for fax_id, job in self._jobs.items():
            fax = self._faxes[fax_id]
            if fax.is_new or fax.facts is None:
                continue
            learned = fax_facts.completed(fax.facts, job)
            if learned != fax.facts:
                fax.facts = learned
                self._quiet[fax_id] = fax

    def payloads(self) -> list[bytes]:
        return [row[-1] for row in self._changes.events]

    def changes(self, numbers: Callable[[int], Sequence[int]]) -> Changes:
        changes = self._changes
        self._number(numbers)
        for fax_id in sorted(self._faxes):
            fax = self._faxes[fax_id]
            if not fax.is_new:
                changes.faxes.append(fax.changed())
                continue
            changes.new_faxes.append(fax.row())
            if fax.is_heard_again:
                changes.amended_new_faxes.append(fax.changed())
        changes.learned = [
            (fax_id, fax.event_id, compact_ascii(fax.facts)) for fax_id, fax in sorted(self._quiet.items())
        ]
        return changes

    def _number(self, take: Callable[[int], Sequence[int]]) -> None:
        """Events get row numbers; what was learned without one gets a turn, in which the projector looks again."""
        changes = self._changes
        unnumbered = [row for row in changes.events if not row[0]]
        numbers = take(len(unnumbered) + len(self._quiet))
        for row, seq in zip(unnumbered, numbers, strict=False):
            row[0] = seq
        seqs = {}
        for seq, event_id, fax_id, *_ in changes.events:
            fax = self._faxes[fax_id]
            fax.event_seq = seqs[event_id] = seq
            fax.first_seq = fax.first_seq or seq
        for sink, (seq, _, fax_id, revision, *_) in self._for_sinks:
            changes.waiting.append((sink, seq, seq, fax_id, revision))
        for announcement in changes.announcements:
            announcement[-1] = seqs.get(announcement[3])
        for turn, fax in zip(numbers[len(unnumbered) :], self._quiet.values(), strict=True):
            changes.look_again(turn, fax)

    def submission(self, submission: Submission) -> Recorded:
        recorded = Recorded(submission.receipt, state="")
        made = [self._announce(submission, one, recorded) for one in submission.announcements]
        fax_ids = [one.subject for one in submission.announcements]
        recorded.events = [self._faxes[fax_id].event_id for fax_id in dict.fromkeys(fax_ids)]
        recorded.state = _state(submission, recorded)
        if not submission.is_report or recorded.told:
            self._keep(submission, recorded.state, list(zip(fax_ids, made, strict=True)))
        if submission.position is not None:
            self._keep_position(submission.position, submission.received_at_ms)
        return recorded

    def _announce(self, submission: Submission, announcement: Announcement, recorded: Recorded) -> str | None:
        """The id of the event that it makes; None where it says nothing new."""
        fax = self._faxes[announcement.subject]
        event_id: str | None = None
        fax.is_heard_again = bool(fax.digests)
        if not fax.is_heard_again:
            if fax.fax_id in self._jobs:
                fax.facts = fax_facts.completed(announcement.facts, self._jobs[fax.fax_id])
            event_id = self._tell(submission, fax, recorded, COMPLETED)
            fax.heard(announcement.digest, fax.outcome, event_id)
            recorded.filled += 1
            recorded.news.append(announcement)
        elif announcement.digest not in fax.digests:
            recorded.news.append(announcement)
            event_id = self._amend(submission, announcement, fax, recorded)
            outcome = announcement.facts["outcome"]
            fax.heard(announcement.digest, outcome, event_id)
            self._changes.announcements.append([fax.fax_id, announcement.digest, outcome, event_id, None])
        recorded.by_callback += not fax.by_report
        fax.seen_at_ms = max(fax.seen_at_ms, submission.received_at_ms)
        return event_id

    def _amend(self, submission: Submission, announcement: Announcement, fax: Fax, recorded: Recorded) -> str | None:
        stated, was = announcement.facts, fax.outcome
        if fax.facts is None:
            # The facts were purged and only the outcome is known: nothing to compare but that.
            if stated["outcome"] == was:
                return None
            merged = fax_facts.Merged(stated, ("outcome",), news=True, conflict=True, differing=())
        else:
            merged = fax_facts.merge(fax.facts, stated)
        recorded.differing += merged.differing
        recorded.conflicts += merged.conflict
        recorded.flips += merged.conflict and {was, stated["outcome"]} == {"delivered", "failed"}
        if not merged.news and not (merged.conflict and stated["outcome"] not in fax.outcomes):
            if merged.facts != fax.facts:
                fax.facts = merged.facts
                self._quiet[fax.fax_id] = fax
            return None
        fax.facts = merged.facts
        facts_digest = fax_facts.digest(merged.facts)
        event_id = str(amended_id(announcement.fax_id, facts_digest))
        if event_id in fax.event_ids:
            event_id = str(amended_id(announcement.fax_id, facts_digest, fax.revision + 1))
        supersedes, fax.event_id = fax.event_id, event_id
        fax.revision += 1
        fax.outcome = merged.facts["outcome"]
        self._quiet.pop(fax.fax_id, None)
        if not fax.is_new:
            self._changes.told_again.append((fax.fax_id,))
        was_delivered = Outcome.DELIVERED in {*fax.outcomes, stated["outcome"]}
        return self._tell(submission, fax, recorded, AMENDED, supersedes, merged, was_delivered=was_delivered)

    def _tell(
        self,
        submission: Submission,
        fax: Fax,
        recorded: Recorded,
        event_type: str,
        supersedes: str | None = None,
        merged: fax_facts.Merged | None = None,
        *,
        was_delivered: bool = False,
    ) -> str:
        assert fax.facts is not None
        conflict = merged is not None and merged.conflict
        body = envelope(
            event_id=fax.event_id,
            event_type=event_type,
            fax_id=fax.fax_id,
            provider=fax.provider,
            endpoint=submission.endpoint,
            facts=fax.facts,
            observed_at=submission.observed_at,
            observed_via=submission.observed_via,
            advice=self._advisor.advise(fax.provider, fax.facts, was_delivered=was_delivered),
            revision=fax.revision,
            supersedes=supersedes,
            changed=merged.changed if merged else (),
            conflict=conflict,
            traceparent=submission.traceparent,
        )
        at = submission.received_at_ms
        row = [
            fax.event_seq if event_type == COMPLETED else 0,
            fax.event_id,
            fax.fax_id,
            fax.revision,
            fax.outcome,
            submission.receipt,
            at,
            checksum(fax.event_id, body),
            body,
        ]
        self._changes.events.append(row)
        for name, chosen in self._sinks.items():
            if chosen.passes(fax.outcome, fax.provider, submission.endpoint, event_type):
                self._for_sinks.append((name, row))
        if conflict:
            # With the event, or an end in between would leave nobody to look at it.
            self._contradict(submission, fax)
        reason = (fax.facts["failure"] or {}).get("reason", "")
        recorded.told.append(Told(fax.event_id, fax.fax_id, event_type, fax.outcome, reason, conflict))
        return fax.event_id

    def _keep(self, submission: Submission, state: str, faxes: Sequence[Pair]) -> None:
        body = submission.body
        reason = submission.refused or submission.ignored
        told = {fax_id for fax_id, event_id in faxes if event_id}
        self._changes.repeats += [(fax_id, submission.receipt) for fax_id, _ in faxes if fax_id not in told]
        detail = compact_ascii(submission.detail) if submission.detail else None
        if submission.replay:
            row = (submission.receipt, submission.received_at_ms, state, reason, detail, faxes)
            self._changes.replays.append(row)
            return
        hour = submission.received_at_ms // HOUR_MS
        noted = submission.endpoint, hour, submission.is_report
        self._changes.endpoint_hours[noted] = (*noted, submission.receipt)
        receipts = self._changes.rejected_receipts if state in ("rejected", "partial") else self._changes.receipts
        receipts.append(
            (
                submission.receipt,
                submission.endpoint,
                submission.provider,
                state,
                reason,
                detail,
                submission.received_at_ms,
                submission.auth,
                submission.answer,
                submission.size,
                faxes,
                *((body.content_type, body.reference, body.query, body.body) if body else (None,) * 4),
            )
        )

    def _keep_position(self, moved: Position, at_ms: int) -> None:
        report = moved.provider, moved.account, moved.report
        self._changes.positions[report] = (*report, moved.text, at_ms)

    def _contradict(self, submission: Submission, fax: Fax) -> None:
        """One discrepancy a fax: of several in the group, the last one with the time of the first."""
        which, at = (fax.provider, fax.account, "contradiction", fax.fax_id), submission.received_at_ms
        found_at = self._changes.contradictions[which][-2] if which in self._changes.contradictions else at
        detail = compact_ascii({"event": fax.event_id, "outcome": fax.outcome})
        self._changes.contradictions[which] = (*which, submission.endpoint, detail, found_at, at)


def _state(submission: Submission, recorded: Recorded) -> str:
    if submission.refused:
        return "rejected"
    if submission.invalid:
        return "partial"
    if recorded.told:
        return "accepted"
    return "duplicate" if recorded.events else "ignored"
