"""What may be shown without --reveal: of an event, and of what a discrepancy is made of."""

from collections.abc import Mapping
from typing import Any

from receiver.logs import last_two

MASK = "********"
_NUMBERS = ("number", "number_raw", "station_id")
# Of rows of reports and registered jobs: what says nothing of a person, beside counts.
_HARMLESS = ("calldate", "direction", "duration", "line", "fax_id", "expected", "pages.total", "submitted_at")
_ALSO_NUMBERS = ("did", "src", "dst", "recipient.number", "recipient.number_raw", "sender.number")
_LONGEST_CODE = 6  # digits
_PERSONAL = ("recipient", "sender", "reference")


def masked(envelope: Mapping[str, Any]) -> dict[str, Any]:
    """The event without names, references and header texts, and with the last two digits of numbers only."""
    data = dict(envelope.get("data", {}))
    for part in _PERSONAL:
        if isinstance(data.get(part), dict):
            data[part] = {name: _hidden(name, value) for name, value in data[part].items()}
    status = data.get("provider_status")
    if isinstance(status, dict):  # some providers write the number called into the text
        hidden = {"code": _code(status.get("code")), "text": _hidden("text", status.get("text"))}
        data["provider_status"] = status | hidden
    return {**envelope, "data": data}


def _code(code: object) -> object:
    """Hidden where it has the digits of a number: a code that no table lists may be anything."""
    return MASK if sum(character.isdigit() for character in str(code)) > _LONGEST_CODE else code


def masked_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """One row without names and texts, and with the last two digits of numbers only. Counts stay."""
    return {
        name: value if name in _HARMLESS or isinstance(value, int) else _hidden(name, value)
        for name, value in row.items()
    }


def masked_facts(facts: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What is known of a fax, hidden as in its events."""
    return None if facts is None else dict(masked({"data": facts})["data"])


def masked_fax(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of ``fax list`` without its reference, and with the last two digits of its number only."""
    return {**row, **{name: _hidden(name, row[name]) for name in ("number", "reference")}}


def _hidden(name: str, value: object) -> str | None:
    if value is None:
        return None
    digits = last_two(str(value)) if name in (*_NUMBERS, *_ALSO_NUMBERS) else None
    return f"{MASK}{digits}" if digits else MASK
