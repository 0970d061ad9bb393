"""Which provider fails: the figures of ``faxhook stats`` as a table and a chart."""

from typing import Any

from receiver.errors import Unprocessable
from receiver.showing.reports import flat
from receiver.store import now_ms, outbox, stats
from receiver.store.tables import PROJECTOR
from receiver.web.console import charts
from receiver.web.console.visiting import Shown, Visit

_SINCE_MS = 7 * 24 * 3600_000
_MOST_ROWS = 500
_DAY_HOURS = 24
_USUAL = ("provider", "provider,reason", "endpoint", "endpoint,reason", "reason", "country", "hour", "provider,hour")


def page(visit: Visit) -> Shown:
    """Grouped as ``by`` says, by default one row for each provider: its score card."""
    by = _by(visit.arg("by") or _USUAL[0])
    since_ms, until_ms = visit.milliseconds("since"), visit.milliseconds("until")
    since_ms = now_ms() - _SINCE_MS if since_ms is None else since_ms
    with visit.store.reading() as connection:
        tables = visit.store.tables
        behind = outbox.undelivered(connection, tables, PROJECTOR)
        found = stats.read(connection, tables, by, since_ms, now_ms(), until_ms)
        hours = stats.read(connection, tables, ("hour",), since_ms, now_ms(), until_ms).rows
    days = _by_day(hours) if len(hours) > _DAY_HOURS * 2 else hours
    values: dict[str, Any] = {
        "by": by,
        "usual": _USUAL,
        "chosen": ",".join(by),
        "rows": found.rows[:_MOST_ROWS],
        "is_cut": len(found.rows) > _MOST_ROWS,
        "behind": behind,
        "times": days,
        "failed": charts.bars([(row["hour"], row["failed"]) for row in days], most(days)),
        "faxes": charts.bars([(row["hour"], row["faxes"]) for row in days], most(days)),
    }
    columns = (*by, *stats.COLUMNS)
    return Shown("reports.html", "Reports", found.rows, values, columns, [flat(row) for row in found.rows])


def most(rows: list[dict[str, Any]]) -> float:
    return max((row["faxes"] for row in rows), default=0)


def _by(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    if not set(names) <= set(stats.BY):
        raise Unprocessable(f"by: expected some of {', '.join(stats.BY)}, with commas")
    return names


def _by_day(hours: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The counts of each day, under the first hour that has any."""
    days: dict[str, dict[str, Any]] = {}
    for row in hours:
        day = days.setdefault(row["hour"][:10], {"hour": row["hour"][:10], "faxes": 0, "delivered": 0, "failed": 0})
        for name in ("faxes", "delivered", "failed"):
            day[name] += row[name]
    return list(days.values())
