"""
The projector: beside the relay, it makes events findable (``receiver.store.projection``).

In a thread of its own, since the relay may wait for a broker. A chunk is one short transaction, so that callbacks do
not wait for it; after each it leaves the store to others for as long as it has had it.
"""

import threading
import time
from collections.abc import Callable, Sequence

from receiver.errors import Unavailable
from receiver.logs import error_class, log, place
from receiver.outgoing.place import Place
from receiver.store import Store, projection
from receiver.store.projection import Keys, Prepared
from receiver.system.backoff import Backoff

_SECONDS = 0.01  # that a chunk aims to hold the store
_FEWEST, _MOST = 10, 400  # events in a chunk
_REST_SECONDS = 0.25  # behind less than a chunk, so that the next one is worth its commit
_IDLE_SECONDS = 1.0  # behind nothing
_FIRST_DELAY_SECONDS = 1.0
_LONGEST_DELAY_SECONDS = 30.0


class Projector:
    """leads: whether this process is the store's active relay; only then is anything done."""

    def __init__(self, store: Store, secrets: Sequence[bytes], leads: Callable[[], bool]) -> None:
        self._store = store
        self._keys = Keys(secrets)
        self._leads = leads
        self._place = Place(store)
        self._size = _FEWEST
        self._has_noted = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="faxhook-projector", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        """What is in hand is finished first."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def step(self) -> float:
        """One chunk; in how many seconds to look for the next one. Raises Unavailable."""
        size = self._size
        if not self._has_noted:
            with self._store.writing() as connection:
                projection.note_maker(connection, self._store.tables, self._keys)
            self._has_noted = True
        rows = self._prepared(self._place.turn(), size)
        if any(row.revision > 1 for row in rows):
            rows = self._prepared(0, size)  # an earlier event of that fax may have been committed late
        if not rows:
            return _IDLE_SECONDS
        self._place.note(rows[0].turn)
        began = time.monotonic()
        with self._store.writing() as connection:
            began = time.monotonic()
            projection.take(connection, self._store.tables, rows)
        seconds = time.monotonic() - began
        self._size = round(min(_MOST, max(_FEWEST, size * min(2.0, _SECONDS / max(seconds, 0.001)))))
        self._ended.wait(seconds)
        return 0.0 if len(rows) == size else _REST_SECONDS

    def _prepared(self, after: int, size: int) -> list[Prepared]:
        with self._store.reading() as connection:
            return projection.prepare(connection, self._store.tables, self._keys, after, size)

    def _run(self) -> None:
        backoff = Backoff(_FIRST_DELAY_SECONDS, _LONGEST_DELAY_SECONDS)
        delay = 0.0
        while not self._ended.wait(delay):
            try:
                delay = self.step() if self._leads() else _REST_SECONDS
                backoff.reset()
            except Unavailable as error:  # also a bad page: it stands still, and events go out all the same
                delay = backoff.next()
                log.warning("projection_failed", error=error.error, cause=error.trouble, delay_seconds=delay)
            except Exception as error:  # noqa: BLE001 - the relay must not suffer for it
                delay = backoff.next()
                where = place(error.__traceback__)
                log.error("projection_failed", error=error_class(error), where=where, delay_seconds=delay)
