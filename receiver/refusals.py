"""
Requests that were refused and left nothing in the store, told to the operator without letting a stranger fill the log.

Of each endpoint and reason the first is a log line at once; those that follow within ten seconds are one line with
their number. The counts go to the store at the same pace, where ``faxhook doctor`` reads them.
"""

import threading
from collections import Counter
from dataclasses import dataclass, field

from receiver import metrics
from receiver.errors import Refusal, Unavailable
from receiver.logs import log
from receiver.store import Store, now_ms
from receiver.store import refusals as stored

_SECONDS = 10.0


@dataclass(slots=True)
class _Since:
    """What happened since the last line about one event, endpoint and reason."""

    refusal: Refusal
    client: str | None
    count: int = 0


@dataclass
class Refusals:
    """Of one process. seconds: how often a line is written and the store is told."""

    store: Store
    seconds: float = _SECONDS
    _lines: dict[tuple[str, str, str], _Since] = field(default_factory=dict)
    _counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    _mutex: threading.Lock = field(default_factory=threading.Lock)
    _timer: threading.Timer | None = None

    def note(self, event: str, endpoint: str, refusal: Refusal, client: str | None) -> None:
        """event: the log line's name. endpoint: ``-`` where there is none. client: its address, None if unknown."""
        metrics.refusals.labels(endpoint, refusal.reason).inc()
        key = event, endpoint, refusal.reason
        with self._mutex:
            self._counts[endpoint, refusal.reason] += 1
            since = self._lines.get(key)
            if since is None:
                self._lines[key] = _Since(refusal, client)
            else:
                since.refusal, since.client, since.count = refusal, client, since.count + 1
            if self._timer is None:
                self._timer = threading.Timer(self.seconds, self.tell)
                self._timer.daemon = True
                self._timer.start()
        if since is None:
            _log(event, endpoint, refusal, client, 1)

    def tell(self) -> None:
        """Log what was held back and add the counts to the store; those it does not take wait for the next refusal."""
        with self._mutex:
            lines, self._lines = self._lines, {}
            counts, self._counts = self._counts, Counter()
            if self._timer is not None:
                self._timer.cancel()
            self._timer = None
        for (event, endpoint, _), since in lines.items():
            if since.count:
                _log(event, endpoint, since.refusal, since.client, since.count)
        if not counts:
            return
        try:
            with self.store.writing() as connection:
                stored.add(connection, self.store.tables, counts, now_ms())
        except Unavailable:
            with self._mutex:
                self._counts.update(counts)


def _log(event: str, endpoint: str, refusal: Refusal, client: str | None, count: int) -> None:
    log.warning(
        event,
        status=refusal.status,
        code=refusal.code,
        reason=refusal.reason,
        endpoint=endpoint,
        client=client,
        count=count,
    )
