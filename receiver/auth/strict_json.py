"""JSON objects as claims come in: what two readers could understand differently is refused."""

import json
import math
from typing import Any


def parse_object(text: bytes) -> dict[str, Any]:
    """Raises ValueError for all but one object in UTF-8 without repeated names, NaN, infinities or deep nesting."""
    try:
        found = json.loads(text.decode(), object_pairs_hook=_unique, parse_constant=_refuse, parse_float=_finite)
    except RecursionError:
        raise ValueError("too deep") from None
    if not isinstance(found, dict):
        raise ValueError("no object")  # noqa: TRY004 - of the text, not of an argument
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is there twice")
    return found


def _refuse(_name: str) -> None:
    raise ValueError("not a number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("too large a number")
    return number
