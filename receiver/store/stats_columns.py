"""
The columns of ``stats``: what a row is about, and what it counts.

Durations are counts in fixed buckets, which can be added up; how long what share took is read from them.
"""

from bisect import bisect_left
from collections.abc import Sequence

_MINUTE, _HOUR = 60, 3600

# Seconds: a bucket ends at each, that second within it, and a last one has what took longer. A column of the store
# belongs to each bucket, so that other bounds need a migration.
BOUNDS = (
    *(1, 2, 5, 10, 15, 20, 30, 45, _MINUTE, 90),
    *(2 * _MINUTE, 3 * _MINUTE, 5 * _MINUTE, 10 * _MINUTE, 15 * _MINUTE, 30 * _MINUTE),
    *(_HOUR, 2 * _HOUR, 4 * _HOUR, 8 * _HOUR, 24 * _HOUR),
)
_BUCKETS = range(len(BOUNDS) + 1)

KEY = ("endpoint", "provider", "country", "outcome", "reason", "currency")  # "" where there is none
ENDING = tuple(f"ending_{at}" for at in _BUCKETS)  # faxes by how long it took from submission to completion
CALLING = tuple(f"calling_{at}" for at in _BUCKETS)  # and from completion to the callback
# tried: those whose attempts are stated; first_tries: delivered by the first one; called, missed: of providers that
# send callbacks, first heard of by one, or by a report; unlisted: failed with a code that no table lists; priced:
# those whose cost is stated.
FIGURES = (
    *("faxes", "tried", "first_tries", "called", "missed", "unlisted", "pages", "priced", "cost"),
    *ENDING,
    *CALLING,
)


def bucket(seconds: float) -> int:
    """The one that a duration falls into."""
    return bisect_left(BOUNDS, seconds)


def quantile(counts: Sequence[int], share: float) -> float | None:
    """
    How long so many of them took at most, in seconds; None where nothing was counted.

    Within a bucket durations are taken to be spread evenly. What took longer than the last bound is told as that.
    """
    wanted, passed = share * sum(counts), 0
    for at, count in enumerate(counts):
        if count > 0 and passed + count >= wanted:
            low, high = BOUNDS[at - 1] if at else 0, BOUNDS[min(at, len(BOUNDS) - 1)]
            return round(low + (high - low) * (wanted - passed) / count, 1)
        passed += count
    return None
