"""Where in ``waiting`` a reader begins."""

import time
from collections import deque

from receiver.store import Store

_LATE_SECONDS = 2.0  # between two commits whose turns are in the other order, nearly always much less
_FROM_THE_START_SECONDS = 5.0


class Place:
    """
    PostgreSQL keeps the rows that were taken as long as somebody has an old snapshot, and walks over them. So reading
    begins where it was two seconds ago; and, for what was committed late, at the very start every five seconds.
    """

    def __init__(self, store: Store) -> None:
        self._is_needed = store.file is None
        self._turns: deque[tuple[float, int]] = deque([(0.0, 0)])  # when reading was where, the oldest first
        self._start_due = 0.0

    def turn(self) -> int:
        """The turn to read behind; 0 at the very start."""
        now = time.monotonic()
        while len(self._turns) > 1 and self._turns[1][0] <= now - _LATE_SECONDS:
            self._turns.popleft()
        if not self._is_needed:
            return 0
        if now >= self._start_due:
            self._start_due = now + _FROM_THE_START_SECONDS
            return 0
        return self._turns[0][1]

    def note(self, first: int) -> None:
        """first: the turn of the first row that was read."""
        if self._is_needed:
            self._turns.append((time.monotonic(), first - 1))
