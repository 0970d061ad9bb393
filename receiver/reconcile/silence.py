"""
The silence watchdog: an endpoint that used to be called and is not any more.

Only a provider knows that it has stopped calling, and it tells nobody.
"""

from collections.abc import Sequence
from datetime import timedelta
from itertools import pairwise

from receiver.logs import log
from receiver.runtime import Runtime
from receiver.store import counting, discrepancies, now_ms
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
        called = counting.called_hours(connection, store.tables, now - round(_WATCHED.total_seconds() * 1000))
    silent = {}
    for name, account in runtime.accounts.items():
        hours = _silence(called.get(name, []), now // counting.HOUR_MS)
        if hours is not None:
            who = account.provider.name, account.source.account or "", name
            silent[name] = Discrepancy(*who, "silent", name, {"hours": hours})
    with store.writing() as connection:
        new = discrepancies.note(connection, store.tables, list(silent.values()), now)
        # Whoever has called since; not who was silent for so long that nothing is left to compare with.
        since = discrepancies.open_since(connection, store.tables, "silent")
        for name in since.keys() & called.keys() & runtime.accounts.keys():
            if (called[name][-1] + 1) * counting.HOUR_MS > since[name]:
                account = runtime.accounts[name]
                who = account.provider.name, account.source.account or "", "silent"
                discrepancies.close(connection, store.tables, *who, name.__eq__, now_ms=now)
    for one in new:
        log.warning("discrepancy_found", endpoint=one.endpoint, provider=one.provider, reason=one.kind)
    return new


def _silence(hours: Sequence[int], now: int) -> int | None:
    """For how many hours an endpoint has been silent, where that is longer than it ever was; else None."""
    if len(hours) < _FEWEST_HOURS or now - hours[0] < _FIRST_WEEK_HOURS:
        return None
    longest = max(after - before for before, after in pairwise(hours))
    silence = now - hours[-1]
    return silence if silence > max(_FACTOR * longest, _SHORTEST_HOURS) else None
