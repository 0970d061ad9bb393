"""Processing a kept callback again: first what would come of it, held against what is known."""

import difflib
import json
from collections.abc import Iterator
from typing import Any

from receiver import replay
from receiver.errors import ConfigurationError, Refusal, StoreError, Unavailable, Unprocessable
from receiver.replay import Foretold
from receiver.showing.masking import masked
from receiver.web.console import receipts
from receiver.web.console.actions import confirm
from receiver.web.console.visiting import Elsewhere, Shown, Visit, link

_MOST_EVENTS = 20
_LINES_AROUND = 3


def ask(visit: Visit, receipt_id: str) -> Shown:
    """The event that would come, as a difference to the fax's newest one."""
    receipt, _ = receipts.read(visit, receipt_id)
    back = f"{receipts.PATH}/{receipt_id}"
    as_endpoint = visit.arg("as")
    same = sorted(name for name, one in visit.runtime.endpoints.items() if one.provider.name == receipt.provider)
    values: dict[str, Any] = {"endpoints": same, "as_endpoint": as_endpoint or receipt.endpoint}
    try:
        told = replay.rehearse(visit.runtime, visit.store, receipt_id, as_endpoint)
    except (StoreError, ConfigurationError) as error:
        return confirm("Process it again", [f"It cannot be: {error}."], "", back, **values)
    sentences, differences = list(_sentences(told)), [list(_difference(*pair)) for pair in told.events[:_MOST_EVENTS]]
    values |= {"differences": differences, "fields": {"as": as_endpoint or ""}}
    found = confirm("Process it again", sentences, "Process it again", back, **values)
    found.document["events"] = [masked(json.loads(payload)) for payload, _ in told.events]
    return found


def _sentences(told: Foretold) -> Iterator[str]:
    if told.refusal is not None:
        yield f"It would be refused again: {told.refusal.code}: {told.refusal.detail}"
        for name, expected in told.refusal.fields.items():
            yield f"{name}: {expected}"
        return
    yield f"It would be {told.state}. New events: {len(told.events)}."
    if len(told.events) > _MOST_EVENTS:
        yield f"Shown are the first {_MOST_EVENTS}."
    if not told.events:
        yield "Nothing new would be published."


def _difference(payload: bytes, before: bytes | None) -> Iterator[tuple[str, str]]:
    """Lines, each with what it is: ``added``, ``removed``, or neither. Personal data is hidden on both sides."""
    lines = _lines(payload)
    if before is None:
        yield from (("added", line) for line in lines)
        return
    kinds = {"+": "added", "-": "removed", "@": "gap"}
    for line in list(difflib.unified_diff(_lines(before), lines, n=_LINES_AROUND, lineterm=""))[2:]:
        kind = kinds.get(line[:1], "")
        yield kind, "…" if kind == "gap" else line[1:]


def _lines(payload: bytes) -> list[str]:
    return json.dumps(masked(json.loads(payload)), ensure_ascii=False, indent=2).splitlines()


def perform(visit: Visit, receipt_id: str) -> Elsewhere:
    receipts.read(visit, receipt_id)
    as_endpoint = visit.form.get("as") or None
    try:
        recorded = replay.replay(visit.runtime, receipt_id, as_endpoint, actor=visit.person.name)
    except Unavailable:
        raise
    except Refusal:
        return Elsewhere(link(f"{receipts.PATH}/{receipt_id}", done="refused"))
    except (StoreError, ConfigurationError) as error:
        raise Unprocessable(str(error)) from None
    return Elsewhere(link(f"{receipts.PATH}/{receipt_id}", done=f"replayed-{recorded.state}"))
