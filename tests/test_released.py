"""
The event's schema may only grow: it is held against each copy in ``schemas/released``.

A consumer checks what comes with the copy that it has, and events of a store's past are published again under the
schema of today. So what a copy says of a field stays as it is, and what is added is not required.
"""

import copy
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

SCHEMAS = Path(__file__).parents[1] / "schemas"
SCHEMA = json.loads((SCHEMAS / "fax_completed.v1.json").read_text())
RELEASED = {path.name: json.loads(path.read_text()) for path in sorted((SCHEMAS / "released").glob("*.json"))}
FOR_PEOPLE = {"title", "description", "examples", "$comment"}
LOOKED_INTO = {"properties", "required", "allOf", "items"}

Schema = Mapping[str, Any]


def changes(was: Schema, now: Schema, where: str = "") -> Iterator[str]:
    """What a consumer, or an event of the past, would stumble over; a sentence each."""
    for word in sorted((was.keys() | now.keys()) - FOR_PEOPLE - LOOKED_INTO):
        if was.get(word) != now.get(word):
            yield f"{where or 'the event'}: {word} was {was.get(word)}, and is {now.get(word)}"
    for name in sorted(was.get("required", ())):
        if name not in now.get("required", ()):
            yield f"{where}{name}: no longer required, and a consumer counts on it"
    for name in sorted(set(now.get("required", ())) - set(was.get("required", ()))):
        yield f"{where}{name}: required, and events of the past have none"
    for name, field in was.get("properties", {}).items():
        if name not in now.get("properties", {}):
            yield f"{where}{name}: removed or renamed"
        else:
            yield from changes(field, now["properties"][name], f"{where}{name}.")
    if "items" in was or "items" in now:
        yield from changes(was.get("items", {}), now.get("items", {}), f"{where}items.")
    yield from _of_conditions(was, now, where)


def _of_conditions(was: Schema, now: Schema, where: str) -> Iterator[str]:
    """Those of the copy stay, and a new one says nothing of the copy's fields."""
    old = [_meant(one) for one in was.get("allOf", ())]
    new = [_meant(one) for one in now.get("allOf", ())]
    for condition in old:
        if condition not in new:
            yield f"{where}allOf: a condition was removed or changed: {condition}"
    for condition in new:
        for branch in ("then", "else"):
            narrowed = condition.get(branch, {}).get("properties", {}).keys() & was.get("properties", {}).keys()
            if condition not in old and (narrowed or condition.keys() - {"if", "then", "else"}):
                yield f"{where}allOf: a new condition narrows {sorted(narrowed)}"


def _meant(condition: Schema) -> Schema:
    return {word: value for word, value in condition.items() if word not in FOR_PEOPLE}


def test_the_first_copy_is_there():
    assert "fax_completed.v1.0.json" in RELEASED


@pytest.mark.parametrize("name", RELEASED)
def test_the_schema_has_only_grown(name):
    assert list(changes(RELEASED[name], SCHEMA)) == []


def data(schema: Any) -> Any:
    return schema["properties"]["data"]


def field(schema: Any, name: str) -> Any:
    return data(schema)["properties"][name]


BROKEN: dict[str, Callable[[Any], object]] = {
    "removed": lambda it: data(it)["properties"].pop("attempts"),
    "renamed": lambda it: data(it)["properties"].update(tries=data(it)["properties"].pop("attempts")),
    "removed from an object": lambda it: field(it, "recipient")["properties"].pop("station_id"),
    "no longer required": lambda it: data(it)["required"].remove("attempts"),
    "no more null": lambda it: field(it, "attempts").update(type="integer"),
    "sometimes null": lambda it: field(it, "revision").update(type=["integer", "null"]),
    "another type": lambda it: field(it, "cost")["properties"]["amount"].update(type="number"),
    "a reason less": lambda it: field(it, "failure")["properties"]["reason"]["enum"].remove("expired"),
    "a reason more": lambda it: field(it, "failure")["properties"]["reason"]["enum"].append("jammed"),
    "an open list closed": lambda it: field(it, "provider").update(enum=["openfax", "retarus"]),
    "another pattern": lambda it: field(it, "completed_at").update(pattern="^[0-9]"),
    "shorter": lambda it: field(it, "provider_job_id").update(maxLength=255),
    "another unit's range": lambda it: field(it, "duration_seconds").update(maximum=3600),
    "other entries of a list": lambda it: field(it, "changed")["items"].update(pattern="^[a-z]+$"),
    "closed to fields that are added": lambda it: data(it).update(additionalProperties=False),
    "a new field that old events lack": lambda it: data(it)["required"].append("advice"),
    "a condition gone": lambda it: data(it)["allOf"].pop(0),
    "a condition more": lambda it: it["allOf"].append(
        {"if": {}, "then": {"properties": {"data": {"maxProperties": 9}}}}
    ),
    "another identity": lambda it: it.update({"$id": "urn:faxhook:schema:fax-completed:v2"}),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_change_that_would_break_somebody_is_refused(how):
    broken = copy.deepcopy(SCHEMA)
    BROKEN[how](broken)
    assert list(changes(RELEASED["fax_completed.v1.0.json"], broken)), how


def test_fields_and_words_for_people_may_be_added():
    more = copy.deepcopy(SCHEMA)
    data(more)["properties"]["country_of_origin"] = {"type": ["string", "null"]}
    field(more, "advice")["properties"]["why"] = {"type": "string"}
    field(more, "recipient")["description"] = "To whom."
    assert list(changes(SCHEMA, more)) == []
