"""
The silence watchdog: an endpoint that used to be called and is not any more.

Only a provider knows that it has stopped calling, and it tells nobody.
"""

from collections.abc import Sequence
from datetime import timedelta
from itertools import pairwise

from receiver.logs import log
from receiver.runtime import Runtime
from receiver.store import HOUR_MS, counting, discrepancies, now_ms
from receiver.store.discrepancies import Discrepancy

_WATCHED = timedelta(days=14)
_FACTOR = 2  # times the longest pause there has been
_SHORTEST_HOURS = 2
_FEWEST_HOURS = 8  # with a callback, before a pause says anything
_FIRST_WEEK_HOURS = 7 * 24  # nights and a weekend must have been seen


def watch(runtime: Runtime) -> list[Discrepancy]:
    """
    Note the endpoints that have fallen silent, and that those which call again have not; the new ones.

    A silence counts when it is twice as long as the longest pause between two callbacks in the last two weeks.
    """
    now = now_ms()
    store = runtime.store
    with store.reading() as connection:
        since_ms = now - round(_WATCHED.total_seconds() * 1000)
        called = counting.called_hours(connection, store.tables, runtime.accounts, since_ms)
    silent = {}
    for name in runtime.accounts:
        hours = _silence(called[name], now // HOUR_MS)
        if hours is not None:
            silent[name] = _silent(runtime, name, hours=hours)
    with store.writing() as connection:
        new = discrepancies.note(connection, store.tables, list(silent.values()), now)
        # Those that have called since; an endpoint without any hour left to compare with stays silent.
        since = discrepancies.open_since(connection, store.tables, "silent")
        for name in since.keys() & called.keys():
            if called[name] and (called[name][-1] + 1) * HOUR_MS > since[name]:
                discrepancies.close_about(connection, store.tables, _silent(runtime, name), now)
    for one in new:
        log.warning("discrepancy_found", endpoint=one.endpoint, provider=one.provider, reason=one.kind)
    return new


def _silent(runtime: Runtime, name: str, **detail: int) -> Discrepancy:
    account = runtime.accounts[name]
    return Discrepancy(account.provider.name, account.source.account or "", name, "silent", name, detail)


def _silence(hours: Sequence[int], now: int) -> int | None:
    """For how many hours an endpoint has been silent, where that is longer than it ever was; else None."""
    if len(hours) < _FEWEST_HOURS or now - hours[0] < _FIRST_WEEK_HOURS:
        return None
    longest = max(after - before for before, after in pairwise(hours))
    silence = now - hours[-1]
    return silence if silence > max(_FACTOR * longest, _SHORTEST_HOURS) else None
