"""
The contracts with those outside, as documents for their programs: what is published, and what can be called.

They say what this version does, whichever configuration it has, and hold nothing of one: anybody may read them.
"""

import json
from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any


def event() -> str:
    """JSON Schema of an event."""
    return files("schemas").joinpath("fax_completed.v1.json").read_text(encoding="utf-8").rstrip("\n")


@cache
def asyncapi() -> str:
    """AsyncAPI 3 of what is published."""
    from receiver.contracts.publishing import document

    return _written(document(json.loads(event())))


@cache
def openapi() -> str:
    """OpenAPI 3.1 of what can be called."""
    from receiver.contracts.calling import document  # with apispec, which is no matter of a start

    return _written(document())


def _written(document: Mapping[str, Any]) -> str:
    return json.dumps(document, ensure_ascii=False, indent=2)


# Path -> what is there, and its media type.
SERVED: Mapping[str, tuple[Callable[[], str], str]] = {
    "/openapi.json": (openapi, "application/json"),
    "/asyncapi.json": (asyncapi, "application/json"),
    "/schemas/fax-completed.v1.json": (event, "application/schema+json"),
}
