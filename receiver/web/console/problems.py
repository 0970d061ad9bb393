"""What was refused, grouped, and processing all of a group again."""

from collections import Counter
from typing import Any

from receiver import replay
from receiver.errors import ConfigurationError, Refusal, StoreError, Unavailable
from receiver.showing import problems as showing
from receiver.store import HOUR_MS, now_ms, refusals, stats
from receiver.store.kept_receipts import Chosen
from receiver.web.console.actions import confirm
from receiver.web.console.visiting import Elsewhere, Shown, Visit, link

PATH = "/console/problems"
_SINCE_MS = 7 * 24 * 3600_000
_AT_ONCE = 100  # receipts that are processed with one click
_REHEARSED = 10
_COLUMNS = ("endpoint", "state", "reason", "count", "newest_at", "oldest_at")
_GROUP = ("endpoint", "state", "reason", "since")


def page(visit: Visit) -> Shown:
    """Refused and partial receipts, requests without a receipt, and codes that no table lists."""
    since_ms = visit.milliseconds("since")
    since_ms = now_ms() - _SINCE_MS if since_ms is None else since_ms
    with visit.store.reading() as connection:
        tables = visit.store.tables
        groups, is_cut = showing.grouped(connection, tables, since_ms)
        refused = refusals.since(connection, tables, now_ms() - HOUR_MS).most_common()
        unknown = stats.read(connection, tables, ("provider",), since_ms, now_ms()).rows
    rows = [group.described() for group in groups]
    since = visit.arg("since") or "7d"
    for row in rows:
        group = {name: row[name] for name in ("endpoint", "state", "reason")}
        row["path"] = link("/console/receipts", **group, since=since)
        row["again"] = link(f"{PATH}/replay", **group, since=since)
    document = [{name: value for name, value in row.items() if name not in ("path", "again")} for row in rows]
    values: dict[str, Any] = {
        "rows": rows,
        "is_cut": is_cut,
        "most": showing.MOST,
        "refusals": refused,
        "unknown": [row for row in unknown if row["unknown_codes"]],
        "since": since,
    }
    return Shown("problems.html", "Problems", document, values, _COLUMNS, rows)


def ask_replay(visit: Visit) -> Shown:
    """How many of the group, and what would become of the first ones."""
    ids, is_more = _group(visit, None)
    back = link(PATH, since=visit.arg("since"))
    if not ids:
        return confirm("Process a group again", ["Nothing: there is no such receipt any more."], "", back)
    found = Counter(_foretold(visit, receipt) for receipt in ids[:_REHEARSED])
    sentences = [f"Receipts that are processed again: {len(ids)}."]
    sentences += ["There are more: when these are done, ask again."] if is_more else []
    first = "Of these" if len(ids) <= _REHEARSED else f"Of the first {_REHEARSED}"
    sentences += [f"{first}, {count} would be {state}." for state, count in found.most_common()]
    fields = {name: visit.arg(name) or "" for name in _GROUP} | {"newest": ids[-1]}
    return confirm("Process a group again", sentences, f"Process {len(ids)} again", back, fields=fields)


def _foretold(visit: Visit, receipt_id: str) -> str:
    try:
        told = replay.rehearse(visit.runtime, visit.store, receipt_id)
    except (StoreError, ConfigurationError) as error:
        return f"left out ({error})"
    return f"refused again ({told.refusal.code})" if told.refusal is not None else told.state


def perform_replay(visit: Visit) -> Elsewhere:
    """Each as by itself. One that cannot be is left as it is."""
    ids, _ = _group(visit, visit.form.get("newest"))
    for receipt_id in ids:
        try:
            replay.replay(visit.runtime, receipt_id, actor=visit.person.name)
        except Unavailable:
            raise
        except (Refusal, StoreError, ConfigurationError):
            continue
    done = "group" if ids else "nothing"
    return Elsewhere(link(PATH, since=visit.form.get("since"), done=done))


def _group(visit: Visit, newest: str | None) -> tuple[list[str], bool]:
    """Some of the receipts that the URL names, or the form where it was sent."""
    given = visit.form or visit.args
    named = Visit(visit.runtime, visit.person, visit.path, given, visit.token)
    chosen = Chosen(
        state=named.choice("state", showing.STATES) or showing.STATES[0],
        endpoint=named.arg("endpoint"),
        reason=named.arg("reason"),
        since_ms=named.milliseconds("since"),
    )
    with visit.store.reading() as connection:
        return showing.of_group(connection, visit.store.tables, chosen, newest, _AT_ONCE)
