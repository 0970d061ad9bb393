"""Whether the clock can be right."""

from datetime import datetime

from receiver import __made__
from receiver.doctor.finding import OK, WARNING, Finding
from receiver.store import Store, kept_receipts, now_ms
from receiver.store.browsing import iso
from receiver.store.clock import doubted_since_ms
from receiver.store.figures import Figures

_SKEW_SECONDS = 5.0
_DAY_MS = 24 * 3600 * 1000
_QUIET_DAYS = 366  # without a callback or a relay
_OLDEST_VERSION_DAYS = 10 * 365


def of_clock(store: Store, found: Figures) -> Finding:
    """Against what wrote before, against the database's own, and against when this version was made."""
    with store.reading() as connection:
        newest = kept_receipts.newest_ms(connection, store.tables)
        theirs = None
        if store.file is None:
            theirs = connection.exec_driver_sql("SELECT extract(epoch FROM clock_timestamp()) * 1000").scalar_one()
        doubted_ms = doubted_since_ms(connection, store.tables)
    now = now_ms()
    if doubted_ms is not None:
        jumped = f"jumped ahead, to {iso(doubted_ms)}"
        return Finding("clock", WARNING, f"{jumped}; until it has run evenly for an hour, nothing is forgotten")
    if theirs is not None and abs(now - float(theirs)) > _SKEW_SECONDS * 1000:
        return Finding("clock", WARNING, f"{(now - float(theirs)) / 1000:+.0f} s from the database's")
    if newest is not None and newest - now > _SKEW_SECONDS * 1000:
        return Finding("clock", WARNING, f"behind the newest receipt, of {iso(newest)}")
    sign = max(newest or 0, found.relay.seen_at_ms if found.relay else 0)
    if doubt := _implausible(now, sign):
        return Finding("clock", WARNING, f"{iso(now)}, {doubt}")
    return Finding("clock", OK, iso(now) or "")


def _implausible(now: int, sign: int) -> str | None:
    """What speaks against the clock where nobody else's can be asked. sign: the newest sign of life; 0: none."""
    made = datetime.fromisoformat(f"{__made__}T00:00:00Z").timestamp() * 1000
    if now < made:
        return f"which is before this version was made ({__made__}); set the machine's clock"
    if now - made > _OLDEST_VERSION_DAYS * _DAY_MS:
        return f"which is years after this version was made ({__made__}); is the machine's clock right (timedatectl)?"
    if sign and now - sign > _QUIET_DAYS * _DAY_MS:
        days = (now - sign) // _DAY_MS
        quiet = f"{days} days after the newest sign of life in the store ({iso(sign)})"
        return f"which is {quiet}; where faxhook has run since, the machine's clock is wrong (timedatectl)"
    return None
