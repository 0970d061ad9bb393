"""How everything stands: the first page, and the one of the system."""

import os
import platform
from dataclasses import asdict
from typing import Any

from receiver import __version__, hosting
from receiver.doctor import examine
from receiver.doctor.finding import TROUBLE, WARNING
from receiver.errors import ConfigurationError
from receiver.settings import Filter
from receiver.showing import configured
from receiver.showing import faxes as showing
from receiver.showing.events import OUTCOMES
from receiver.store import figures, finding
from receiver.store.discrepancies import KINDS
from receiver.store.figures import Figures
from receiver.web import operations
from receiver.web.console.visiting import Shown, Visit

_NEWEST = 8
_NOT_DELIVERED = Filter(outcome=tuple(outcome for outcome in OUTCOMES if outcome != "delivered"))


def overview(visit: Visit) -> Shown:
    """What needs somebody, and the newest faxes that were not delivered."""
    with visit.store.reading() as connection:
        tables = visit.store.tables
        found = figures.read(connection, tables)
        failed = finding.newest(connection, tables, _NEWEST, only=_NOT_DELIVERED)
    rows = showing.shown(failed, reveal=False)
    document = {**_described(found, visit), "failed": rows}
    return Shown("overview.html", "Overview", document, {"figures": found, "needs": _needs(found), "rows": rows})


def _described(found: Figures, visit: Visit) -> dict[str, Any]:
    return {
        **operations.described(found),
        "unprojected": found.unprojected,
        "refused": [
            {"endpoint": endpoint, "reason": reason, "count": count}
            for (endpoint, reason), count in found.refusals.most_common()
        ],
        "sinks": [configured.sink(found, one, visit.runtime.settings) for one in found.sinks.values()],
    }


def _needs(found: Figures) -> list[tuple[str, str]]:
    """What somebody should look at: a sentence and where."""
    needs = []
    if found.relay is not None and not found.relay_is_alive:
        needs.append(("The relay shows no sign of life: events wait.", "/console/queue"))
    if found.relay is not None and found.relay.trouble is not None:
        needs.append((f"The relay has trouble with the broker: {found.relay.trouble}.", "/console/queue"))
    if found.dead:
        needs.append((f"Events that could not be sent: {found.dead}.", "/console/queue"))
    for name, one in found.sinks.items():
        if one.dead:
            needs.append((f"Events that the sink {name} did not take: {one.dead}.", "/console/queue"))
        if one.standing.stopped_at_ms is not None:
            needs.append((f"The sink {name} has stopped.", "/console/queue"))
    needs += [
        (f"{count} × {KINDS[kind]}.", "/console/discrepancies")
        for kind, (count, _) in sorted(found.discrepancies.items())
        if kind in KINDS
    ]
    return needs


def system(visit: Visit) -> Shown:
    """How the store keeps a commit, and what the configuration gives reason to doubt."""
    settings = visit.runtime.settings
    rows = [
        ("faxhook", __version__),
        ("Python", platform.python_version()),
        *((name.replace("_", " "), value) for name, value in visit.store.durability().items()),
        ("Store", visit.store.where),
        ("Queue", "the store itself, read by faxhook consume" if settings.queue.is_embedded else "a broker"),
    ]
    document = {"system": [{"name": name, "value": value} for name, value in rows], "doubts": hosting.doubts(settings)}
    return Shown("system.html", "System", document, {"rows": rows, "doubts": document["doubts"], "findings": None})


def doctor(visit: Visit) -> Shown:
    """What ``faxhook doctor`` finds, asked from this process."""
    try:
        findings = [asdict(finding) for finding in examine(visit.runtime.settings, os.environ)]
    except ConfigurationError as error:
        findings = [{"check": "configuration", "verdict": TROUBLE, "detail": str(error)}]
    order = {TROUBLE: 0, WARNING: 1}
    shown = sorted(findings, key=lambda one: order.get(one["verdict"], 2))
    columns = ("check", "verdict", "detail")
    return Shown("doctor.html", "Doctor", findings, {"findings": shown}, columns, findings)
