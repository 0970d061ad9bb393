"""Callbacks that were refused or could be used in part only, grouped by what is the matter with them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.engine import Connection

from receiver.store import kept_receipts
from receiver.store.kept_receipts import Chosen
from receiver.store.tables import Tables

STATES = ("rejected", "partial")
MOST = 1000  # receipts of each state that are looked at, the newest


@dataclass(frozen=True, slots=True)
class Group:
    """receipts: their ids, the newest first. fields: what was expected of which, in the newest one."""

    endpoint: str
    state: str
    reason: str | None
    receipts: Sequence[str]
    newest_at: str
    oldest_at: str
    fields: dict[str, str]

    def described(self) -> dict[str, Any]:
        names = ("endpoint", "state", "reason", "newest_at", "oldest_at", "fields")
        return {name: getattr(self, name) for name in names} | {"count": len(self.receipts)}


def grouped(connection: Connection, tables: Tables, since_ms: int | None) -> tuple[list[Group], bool]:
    """The largest group first; and whether there are more receipts than were looked at."""
    found: dict[tuple[str, str, str | None], list[dict[str, Any]]] = {}
    is_cut = False
    for state in STATES:
        chosen = Chosen(state=state, since_ms=since_ms)
        rows = kept_receipts.listing(connection, tables, limit=MOST + 1, chosen=chosen)
        is_cut = is_cut or len(rows) > MOST
        for row in rows[:MOST]:
            found.setdefault((row["endpoint"], state, row["reason"]), []).append(row)
    groups = [_group(connection, tables, which, rows) for which, rows in found.items()]
    return sorted(groups, key=lambda one: (-len(one.receipts), one.endpoint, one.state)), is_cut


def _group(
    connection: Connection, tables: Tables, which: tuple[str, str, str | None], rows: Sequence[dict[str, Any]]
) -> Group:
    newest = kept_receipts.one(connection, tables, rows[0]["id"])
    fields = newest.detail.get("fields", {}) if newest is not None else {}
    ids = [row["id"] for row in rows]
    return Group(*which, ids, rows[0]["received_at"], rows[-1]["received_at"], dict(fields))


def of_group(
    connection: Connection, tables: Tables, chosen: Chosen, newest: str | None, limit: int
) -> tuple[list[str], bool]:
    """
    The ids of some of its receipts whose bodies are kept, the oldest first; and whether there are more.

    newest: the id of one; none that came later.
    """
    rows = kept_receipts.listing(connection, tables, limit=MOST, chosen=chosen)
    ids = [row["id"] for row in reversed(rows) if newest is None or row["id"] <= newest]
    return ids[:limit], len(ids) > limit or len(rows) == MOST
