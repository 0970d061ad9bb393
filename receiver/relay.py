"""
The relay: the process beside the web workers that keeps the store in order.

Each minute it gives back the leases of dead consumers, forgets what [retention] says and returns the space.
"""

from receiver.errors import Unavailable
from receiver.logs import log
from receiver.settings import Retention
from receiver.stopping import Stop, on_signals
from receiver.store import Store, now_ms, outbox, retention
from receiver.store.migrating import check_version

_ROUND_SECONDS = 60.0
_PAUSE_SECONDS = 0.05  # between two batches, for the callbacks
_FIRST_DELAY_SECONDS = 1.0
_LONGEST_DELAY_SECONDS = 30.0


def run(store: Store, keep: Retention) -> None:
    """Work until SIGTERM or SIGINT. A store that is away is waited for; StoreError where it has not been migrated."""
    limits = retention.Limits(keep.bodies, keep.rejected, keep.ids)
    delay = _FIRST_DELAY_SECONDS
    is_checked = False
    with on_signals() as stop:
        log.info("relay_started")
        while not stop.asked:
            try:
                if not is_checked:
                    check_version(store)
                    is_checked = True
                tidy(store, limits, stop)
            except Unavailable as error:
                log.error("store_unavailable", error=getattr(error, "error", error.code), delay_seconds=delay)
                stop.wait(delay)
                delay = min(2 * delay, _LONGEST_DELAY_SECONDS)
            else:
                delay = _FIRST_DELAY_SECONDS
                stop.wait(_ROUND_SECONDS)
        log.info("relay_stopped")


def tidy(store: Store, limits: retention.Limits, stop: Stop) -> None:
    """One round, in short transactions; ends early when asked to stop."""
    with store.writing() as connection:
        reclaimed = outbox.reclaim(connection, store.tables, now_ms())
    if reclaimed:
        log.warning("leases_reclaimed", count=reclaimed)
    purged = 0
    while not stop.asked:
        with store.writing() as connection:
            changed = retention.purge(connection, store.tables, limits, now_ms())
        purged += changed
        if changed == 0:
            break
        stop.wait(_PAUSE_SECONDS)
    if purged:
        store.empty_log()
        log.info("purged", count=purged)
    while not stop.asked:
        with store.writing() as connection:
            if not retention.give_back_space(connection):
                break
        stop.wait(_PAUSE_SECONDS)
