"""JSON to plain data: one reader for callbacks and for the answers of report APIs."""

import json
import re
from collections import defaultdict
from collections.abc import Callable
from decimal import Decimal
from typing import Any, NoReturn

from receiver.errors import TooComplex, Undecodable
from receiver.providers.shared.texts import document
from schemas.repairing import Repair, repaired

MAX_DEPTH = 40
# Members and elements of a callback. The largest one that is accepted has no more: each takes 20 bytes and more.
MAX_VALUES = 400_000

_INDEX = re.compile(r"[0-9]{1,18}", re.ASCII)
_BRACKET = re.compile(r"[\[\]{}]")


def json_value(body: bytes | str) -> Any:
    """
    Any JSON, numbers with a fraction as Decimal: the answer of a report.

    A key that is repeated has the list of its values, so that only the row it is in cannot be used. Raises Undecodable.
    """
    return _loaded(_text(body), _listed, None)


def json_object(body: bytes | str, charset: str = "", batch: str | None = None) -> dict[str, Any]:
    """
    A JSON object, numbers with a fraction as Decimal: a callback. charset: the HTTP header's. batch: the name that an
    array gets in the object; None: one is refused.

    Duplicate keys, NaN and Infinity are Undecodable; raises TooComplex, too, before anything is parsed.
    """
    text = _text(body, charset)
    _scan(text)
    value = _loaded(text, _unique, _refuse_constant)
    if isinstance(value, list) and batch:
        return {batch: value}
    if not isinstance(value, dict):
        raise Undecodable("expected a JSON object")
    return value


def listed(value: Any) -> Any:
    """A list also where it is an object with the indexes as keys, as PHP writes it with one missing; else the value."""
    if isinstance(value, dict) and value and all(_INDEX.fullmatch(key) for key in value):
        return [value[key] for key in sorted(value, key=int)]
    return value


def _text(body: bytes | str, charset: str = "") -> str:
    return document(body, charset) if isinstance(body, bytes) else body


def _loaded(
    text: str, pairs: Callable[[list[tuple[str, Any]]], dict[str, Any]], constant: Callable[[str], Any] | None
) -> Any:
    """Raw control characters in strings, line ends among them, are read too, where nothing else is wrong."""

    def load(*, strict: bool) -> Any:
        return json.loads(text, strict=strict, object_pairs_hook=pairs, parse_constant=constant, parse_float=Decimal)

    try:
        try:
            return load(strict=True)
        except json.JSONDecodeError as error:
            if not (error.pos < len(text) and text[error.pos] < " "):
                raise
            value = load(strict=False)
            repaired(Repair.CONTROL_CHARACTERS)
            return value
    except json.JSONDecodeError as error:
        raise Undecodable(f"the JSON is not well-formed at line {error.lineno}, column {error.colno}") from None
    except (ValueError, ArithmeticError, RecursionError):  # Decimal has an opinion on 1e99999999999999999999
        raise Undecodable("the JSON has a number of too many digits, or nests too deep") from None


def _scan(text: str) -> None:
    """Refuse what no provider sends. Everything but the loop over a bounded number of brackets is done in C."""
    # With what is escaped gone, every second part between quotation marks is outside of strings.
    if text.count('"') - text.count('\\"') > 4 * MAX_VALUES:
        raise TooComplex(f"JSON has at most {MAX_VALUES} values")
    outside = "".join(text.replace("\\\\", "").replace('\\"', "").split('"')[::2])
    if sum(map(outside.count, ",[{")) > MAX_VALUES:
        raise TooComplex(f"JSON has at most {MAX_VALUES} values")
    depth = 0
    for bracket in _BRACKET.findall(outside):
        depth += 1 if bracket in "[{" else -1
        if depth > MAX_DEPTH:
            raise TooComplex(f"JSON nests at most {MAX_DEPTH} deep")


def _listed(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    values: defaultdict[str, list[Any]] = defaultdict(list)
    for name, value in pairs:
        values[name].append(value)
    return {name: given if len(given) > 1 else given[0] for name, given in values.items()}


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Undecodable("a key of a JSON object is repeated")
    return found


def _refuse_constant(_name: str) -> NoReturn:
    raise Undecodable("NaN and Infinity are not JSON")
