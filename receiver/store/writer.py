"""
The group-committing writer: what many requests hand over at once is committed together, and an idle one never waits.

A request that finds no other at work commits at once. Those that arrive meanwhile queue up; when the commit is done,
the first of them takes the lead and commits all that are waiting by the time the database is its own. A commit is one
sync of the disk, so a busy process shares it, at no cost to an idle one.
"""

import threading
import time
from dataclasses import dataclass, field

from receiver.advice import RULES_ALONE, Advisor
from receiver.errors import Unavailable
from receiver.store import Store
from receiver.store.recording import record
from receiver.store.submissions import Recorded, Submission
from receiver.store.trouble import BUSY_SECONDS, CONFLICT, ConflictError, StoreUnavailable

_TRIES = 3  # of one transaction that met another one
_LARGEST_GROUP = 200  # submissions
_MOST_FAXES = 2000  # in a group, so that it takes well below a second


@dataclass(slots=True)
class _Ticket:
    submission: Submission
    deadline: float
    wake: threading.Event = field(default_factory=threading.Event)
    leads: bool = False
    result: Recorded | None = None
    error: Exception | None = None

    @property
    def is_done(self) -> bool:
        return self.result is not None or self.error is not None


class Writer:
    """Records submissions of this process' threads. One per process, made after the fork."""

    def __init__(self, store: Store, advisor: Advisor = RULES_ALONE) -> None:
        self._store = store
        self._advisor = advisor
        self._mutex = threading.Lock()
        self._waiting: list[_Ticket] = []  # without the one that leads
        self._is_led = False

    def submit(self, submission: Submission) -> Recorded:
        """
        Return when the transaction the submission is in has committed.

        Raises Unavailable after at most 4 s when it has not: it may still commit, and a retry is then a duplicate.
        """
        ticket = _Ticket(submission, time.monotonic() + BUSY_SECONDS)
        with self._mutex:
            leads = not self._is_led
            self._is_led = True
            if not leads:
                self._waiting.append(ticket)
        if not leads:
            ticket.wake.wait(ticket.deadline - time.monotonic())
            leads = self._give_up_or_lead(ticket)
        if leads:
            self._lead(ticket)
        if ticket.error is not None:
            raise ticket.error
        assert ticket.result is not None
        return ticket.result

    def _give_up_or_lead(self, ticket: _Ticket) -> bool:
        with self._mutex:
            if ticket.leads or ticket.is_done:
                return ticket.leads
            if ticket in self._waiting:
                self._waiting.remove(ticket)
        raise StoreUnavailable("Timeout")

    def _lead(self, ticket: _Ticket) -> None:
        group = [ticket]
        try:
            self._commit(group, ticket.deadline, others_may_join=True)
        finally:
            with self._mutex:
                if self._waiting:
                    following = self._waiting.pop(0)
                    following.leads = True
                    following.wake.set()
                else:
                    self._is_led = False
            for member in group:
                member.wake.set()

    def _commit(self, group: list[_Ticket], deadline: float, *, others_may_join: bool = False) -> None:
        try:
            results = self._record(group, deadline, others_may_join)
        except Unavailable as error:
            for ticket in group:
                # each its own: they are raised in several threads
                ticket.error = StoreUnavailable(error.error, error.trouble)
        except Exception as error:  # noqa: BLE001 - raised again in the thread that handed it over
            if len(group) == 1:
                group[0].error = StoreUnavailable(CONFLICT) if isinstance(error, ConflictError) else error
                return
            # One member spoils the transaction; the others must not suffer for it.
            middle = len(group) // 2
            self._commit(group[:middle], deadline)
            self._commit(group[middle:], deadline)
        else:
            for ticket, result in zip(group, results, strict=True):
                ticket.result = result

    def _record(self, group: list[_Ticket], deadline: float, others_may_join: bool) -> list[Recorded]:
        """One transaction, run again when it met another one: a deadlock, or the same new fax at two machines."""
        for attempt in range(_TRIES):
            is_last = attempt == _TRIES - 1 or time.monotonic() >= deadline
            try:
                with self._store.recording(deadline) as cursor:
                    # Not before the store is ours: until then everybody waits in the queue, each by its own deadline.
                    if others_may_join:
                        self._join(group)
                    submissions = [ticket.submission for ticket in group]
                    results = record(cursor, self._store.engine.dialect, submissions, self._advisor)
            except ConflictError:
                if is_last:
                    raise
            except StoreUnavailable as error:
                if is_last or not error.retryable:
                    raise
            else:
                if any(result.told for result in results):
                    self._store.wake()
                return results
            time.sleep(0.01 * (attempt + 1))
        raise AssertionError  # the last try returns or raises

    def _join(self, group: list[_Ticket]) -> None:
        """Move those that wait into the group, in their order."""
        with self._mutex:
            faxes = sum(len(ticket.submission.announcements) for ticket in group)
            while self._waiting and len(group) < _LARGEST_GROUP:
                faxes += len(self._waiting[0].submission.announcements)
                if faxes > _MOST_FAXES:
                    break
                group.append(self._waiting.pop(0))
