"""
The group-committing writer: what is handed over while others commit is committed together, and an idle one never waits.

Handing over waits for nothing. A thread that waits for its submission and finds nobody at work commits at once, with
all that are handed over by the time the database is its own. Those that come meanwhile are the next group, led by one
of the threads that wait. A loop, which must not wait, commits between its rounds or has a thread do it. A commit is one
sync of the disk, so a busy process shares it, at no cost to an idle one.
"""

import sys
import threading
import time
from collections import deque
from dataclasses import dataclass

from receiver.advice import RULES_ALONE, Advisor
from receiver.errors import Unavailable
from receiver.store import Store
from receiver.store.recording import NONE, Sinks, record
from receiver.store.submissions import Recorded, Submission
from receiver.store.trouble import BUSY_SECONDS, CONFLICT, ConflictError, StoreUnavailable

_TRIES = 3  # of one transaction that met another one
_LARGEST_GROUP = 200  # submissions
_MOST_FAXES = 2000  # in a group, so that it takes well below a second
_QUICK_SECONDS = 0.002  # of a sync that a loop may wait for
_FORGIVEN_SECONDS = 0.02  # one of those looked at may take that long: a checkpoint does now and then
_QUICK_FAXES = 64  # and of what is recorded with one
_LOOKED_AT = 8  # syncs: as many quick ones behind a slow one, and a loop waits for them again


@dataclass(slots=True, eq=False)
class Ticket:
    """A submission that was handed over. Once it ``is_done``, ``recorded`` says what became of it."""

    submission: Submission
    deadline: float
    wake: threading.Event | None = None  # of the thread that waits for it
    leads: bool = False
    result: Recorded | None = None
    error: Exception | None = None

    @property
    def is_done(self) -> bool:
        return self.result is not None or self.error is not None

    def recorded(self) -> Recorded:
        """What was committed; raises what prevented it."""
        if self.error is not None:
            raise self.error
        assert self.result is not None
        return self.result


class Writer:
    """Records what the threads of this process, or its loop, hand over. One per process, made after the fork."""

    def __init__(self, store: Store, advisor: Advisor = RULES_ALONE, sinks: Sinks = NONE) -> None:
        """advisor, sinks: as for ``record``."""
        self._store = store
        self._advisor = advisor
        self._sinks = sinks
        self._mutex = threading.Lock()
        self._waiting: list[Ticket] = []  # without those in the group that is being committed
        self._is_led = False
        self._syncs: deque[float] = deque(maxlen=_LOOKED_AT)  # how long the last ones took, in seconds

    def submit(self, submission: Submission) -> Recorded:
        """
        Return when the transaction the submission is in has committed.

        Raises Unavailable after at most 4 s when it has not: it may still commit, and a retry is then a duplicate.
        """
        ticket = self.hand_over(submission)
        self.settle(ticket)
        return ticket.recorded()

    def hand_over(self, submission: Submission) -> Ticket:
        """A ticket to ``settle`` alone, or to ``commit`` with others."""
        ticket = Ticket(submission, time.monotonic() + BUSY_SECONDS)
        with self._mutex:
            self._waiting.append(ticket)
        return ticket

    def settle(self, ticket: Ticket) -> None:
        """Return when something has become of it, after at most 4 s."""
        with self._mutex:
            leads = not self._is_led and not ticket.is_done
            if leads:
                self._is_led = True
                self._waiting.remove(ticket)
            else:
                ticket.wake = threading.Event()
        if not leads and not ticket.is_done:
            assert ticket.wake is not None
            ticket.wake.wait(ticket.deadline - time.monotonic())
            leads = self._give_up_or_lead(ticket)
        if leads:
            self._lead(ticket)

    def commit(self) -> None:
        """Commit a group of what is handed over, unless somebody is about it; for a thread of a loop."""
        with self._mutex:
            if self._is_led or not self._waiting:
                return
            self._is_led = True
            first = self._waiting.pop(0)
        self._lead(first)

    def commit_at_once(self) -> bool:
        """
        Commit a group where that takes next to no time; whether nothing is left: ``commit`` sees to what is.

        The file must be free, the last syncs must have been quick, the faxes few, and nothing in the group be wrong.
        """
        with self._mutex:
            faxes = sum(len(ticket.submission.announcements) for ticket in self._waiting)
            if self._is_led or self._store.dialect != "sqlite" or faxes > _QUICK_FAXES or self._is_disk_slow():
                return False
            self._is_led = True
        group: list[Ticket] = []
        try:
            self._note(group, self._transact(group, time.monotonic(), others_may_join=True))
        except StoreUnavailable as error:
            if error.is_busy:
                return False
            self._refuse(group, error)
        except Exception:  # noqa: BLE001 - what is wrong, and with which, ``commit`` finds out
            return False
        finally:
            self._hand_on(group, [one for one in group if not one.is_done])
        with self._mutex:
            return not self._waiting

    def _is_disk_slow(self) -> bool:
        slow = [seconds for seconds in self._syncs if seconds > _QUICK_SECONDS]
        return len(slow) > 1 or max(slow, default=0) > _FORGIVEN_SECONDS

    def give_up(self, ticket: Ticket) -> None:
        """Nobody waits for it any longer: it is unavailable, whatever becomes of it."""
        with self._mutex:
            self._drop(ticket)

    def _drop(self, ticket: Ticket) -> None:
        if ticket in self._waiting:
            self._waiting.remove(ticket)
        if not ticket.is_done:
            ticket.error = StoreUnavailable("Timeout")

    def _give_up_or_lead(self, ticket: Ticket) -> bool:
        with self._mutex:
            if ticket.leads:
                self._waiting.remove(ticket)
            else:
                self._drop(ticket)
            return ticket.leads

    def _lead(self, ticket: Ticket) -> None:
        group = [ticket]
        try:
            self._commit(group, ticket.deadline, others_may_join=True)
        finally:
            self._hand_on(group, [])

    def _hand_on(self, group: list[Ticket], left_over: list[Ticket]) -> None:
        """Wake those of the group that wait, and give the lead to one of those behind it, if any waits."""
        with self._mutex:
            self._waiting[:0] = left_over
            for member in group:
                if member.wake is not None and member not in left_over:
                    member.wake.set()
            following = next((one for one in self._waiting if one.wake is not None), None)
            if following is None:
                self._is_led = False
            else:
                following.leads = True
                assert following.wake is not None
                following.wake.set()

    def _commit(self, group: list[Ticket], deadline: float, *, others_may_join: bool = False) -> None:
        try:
            results = self._record(group, deadline, others_may_join)
        except Unavailable as error:
            self._refuse(group, error)
        except Exception as error:  # noqa: BLE001 - raised again for the one that was handed over
            if len(group) == 1:
                group[0].error = StoreUnavailable(CONFLICT) if isinstance(error, ConflictError) else error
                return
            # One member spoils the transaction; the others must not suffer for it.
            middle = len(group) // 2
            self._commit(group[:middle], deadline)
            self._commit(group[middle:], deadline)
        else:
            self._note(group, results)

    def _record(self, group: list[Ticket], deadline: float, others_may_join: bool) -> list[Recorded]:
        """One transaction, run again when it met another one: a deadlock, or the same new fax at two machines."""
        for attempt in range(_TRIES):
            is_last = attempt == _TRIES - 1 or time.monotonic() >= deadline
            try:
                results = self._transact(group, deadline, others_may_join)
            except ConflictError:
                if is_last:
                    raise
            except StoreUnavailable as error:
                if is_last or not error.retryable:
                    raise
            else:
                # Beside a busy thread, one waits so long for Python's lock when its sync is over: no fault of the disk.
                self._syncs[-1] -= sys.getswitchinterval()
                return results
            time.sleep(0.01 * (attempt + 1))
        raise AssertionError  # the last try returns or raises

    def _transact(self, group: list[Ticket], deadline: float, others_may_join: bool) -> list[Recorded]:
        with self._store.recording(deadline) as cursor:
            # Not before the store is ours: until then everybody waits in the queue, each by its own deadline.
            if others_may_join:
                self._join(group)
            submissions = [ticket.submission for ticket in group]
            results = record(cursor, self._store.engine.dialect, submissions, self._advisor, self._sinks)
            recorded_at = time.perf_counter()
        self._syncs.append(time.perf_counter() - recorded_at)
        if any(result.told for result in results):
            self._store.wake()
        return results

    def _join(self, group: list[Ticket]) -> None:
        """Move those that wait into the group, in their order."""
        with self._mutex:
            faxes = sum(len(ticket.submission.announcements) for ticket in group)
            while self._waiting and len(group) < _LARGEST_GROUP:
                faxes += len(self._waiting[0].submission.announcements)
                if group and faxes > _MOST_FAXES:
                    break
                group.append(self._waiting.pop(0))

    def _note(self, group: list[Ticket], results: list[Recorded]) -> None:
        for ticket, result in zip(group, results, strict=True):
            ticket.result = result

    def _refuse(self, group: list[Ticket], error: Unavailable) -> None:
        for ticket in group:
            # each its own: they are raised in several threads
            ticket.error = StoreUnavailable(error.error, error.trouble)
