"""How long to wait before trying again."""

import random


class Backoff:
    """
    Seconds to wait: about ``first``, then ``factor`` times as long each time, about ``longest`` at most.

    Each wait varies by a quarter, so that processes that failed together do not come back together.
    """

    def __init__(self, first: float, longest: float, factor: float = 2.0) -> None:
        self._first = first
        self._longest = longest
        self._factor = factor
        self._delay = first

    def next(self) -> float:
        """The next wait in seconds, to the hundredth."""
        delay = self._delay * random.uniform(0.75, 1.25)  # noqa: S311 - spreads load, hides nothing
        self._delay = min(self._factor * self._delay, self._longest)
        return round(delay, 2)

    def reset(self) -> None:
        """It has worked: begin with ``first`` again."""
        self._delay = self._first
