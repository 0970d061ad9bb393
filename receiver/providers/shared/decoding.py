"""
Wire to plain data: which kind of body came, and the reader for it.

Everything here takes bytes and gives dicts, lists and text. Parser exceptions hold the whole body, so ours are raised
``from None``. Limits and the traps behind them were measured; each is named where it is closed. What has to be mended
first (``schemas.repairing``) is mended only where reading it as it is has failed, and noted.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from werkzeug.http import parse_options_header

from receiver.errors import Undecodable, UnsupportedBody
from receiver.providers.shared.contract import BodyKind, Callback, RawCallback
from receiver.providers.shared.forms import MAX_FIELDS, FormField, form_fields, urlencoded
from receiver.providers.shared.inbound import comes_in, says_inbound
from receiver.providers.shared.json_bodies import json_object, json_value, listed
from receiver.providers.shared.texts import document, text
from receiver.providers.shared.xml_bodies import MAX_DEPTH, leaf, readable, restored, xml
from schemas.fields import Identity, Text
from schemas.repairing import Repair, repaired

__all__ = [
    "MAX_DEPTH",
    "MAX_FIELDS",
    "comes_in",
    "decode",
    "document",
    "json_object",
    "json_value",
    "kind_of",
    "leaf",
    "listed",
    "names_in",
    "once",
    "place_in",
    "read",
    "readable",
    "restored",
    "says_inbound",
    "text",
    "xml",
]

# What a UTF-8 or UTF-16 byte order mark and UTF-16's NUL bytes put before the first character that means something.
_BLANK = b"\xef\xbb\xbf\xff\xfe\x00 \t\r\n"
_KINDS: dict[BodyKind, str] = {BodyKind.FORM: "a form", BodyKind.JSON: "JSON", BodyKind.XML: "XML"}
# How a body begins that is not read as what its sender takes it for.
_BEGINNINGS = (
    (b'"', "a quotation mark, as JSON that is written into a JSON string does"),
    (b"\x1f\x8b", "the first bytes of gzip"),
    (b"PK", "the first bytes of a zip file"),
    (b"%3C", "an escaped <, as XML that is escaped once too often does"),
    (b"%7B", "an escaped {, as JSON that is escaped once too often does"),
    (b"<", "<, as XML does"),
    (b"{", "{, as JSON does"),
    (b"[", "[, as JSON does"),
    (b"--", "--, as a multipart form does"),
)


def decode(raw: RawCallback, callback: Callback) -> Mapping[str, Any]:
    """
    The callback's data as its provider's schema reads it.

    Raises Undecodable (400), TooComplex (413), UnsupportedBody (415), and what the provider's ``shape`` raises.
    """
    return callback.shape(read(raw, callback))


def read(raw: RawCallback, callback: Callback) -> Mapping[str, Any]:
    """
    The callback's data before ``callback.shape``, which is where ``callback.credentials`` looks.

    The kind of body is told by its first non-blank byte, since providers mislabel; the Content-Type only helps to tell
    multipart from urlencoded, and the encoding of XML that does not declare one.
    """
    kind = kind_of(raw.body)
    if kind is None and not (callback.query and raw.query):
        raise Undecodable("the body is empty; expected " + _kinds(callback))
    if kind not in callback.kinds and kind is not None:
        raise UnsupportedBody(f"the body begins with {_beginning(raw.body)}; this provider sends {_kinds(callback)}")
    if kind is BodyKind.XML:
        return xml(raw.body, charset=_charset(raw))
    if kind is BodyKind.JSON:
        return json_object(raw.body, _charset(raw), callback.batch)
    # Secrets that are encoded once more would not be found where they have to be blanked.
    fields = form_fields(raw.body, raw.content_type, transferred=callback.redact is None)
    if callback.query:
        fields = [*urlencoded(raw.query), *fields]
    return _by_name(fields, callback)


def kind_of(body: bytes) -> BodyKind | None:
    """How the body is written, by its first non-blank byte; None: blank."""
    start = body[:256].lstrip(_BLANK) or body.lstrip(_BLANK)
    if not start:
        return None
    return {b"<": BodyKind.XML, b"{": BodyKind.JSON, b"[": BodyKind.JSON}.get(start[:1], BodyKind.FORM)


def once(mapping: Mapping[str, Any], names: Iterable[str]) -> None:
    """Refuse data in which a name that says which fax or which result is meant occurs more than once."""
    repeated = {name: "expected once" for name in names if isinstance(mapping.get(name), list)}
    if repeated:
        raise Undecodable("a field that may occur once is repeated", fields=repeated)


# --- forms ---------------------------------------------------------------------------------------------------------


def _by_name(fields: list[FormField], callback: Callback) -> dict[str, Any]:
    """
    The value of each name, the list of them where it is repeated, as XML's is.

    What says which fax or which result is meant must be certain and there once.
    """
    if not fields:
        raise Undecodable("the form has no fields")
    found: dict[str, list[str]] = {}
    before = ""
    for name, value, is_certain, follows in fields:
        if follows and before in _texts(callback) and name not in _names_of(callback):
            found[before][-1] += f"&{name}"
            repaired(Repair.AMPERSAND)
            continue
        before = "" if name in found else name
        if name in found and name in callback.once:
            raise Undecodable("a field that may occur once is repeated", fields={name: "expected once"})
        if not is_certain:
            if name in _identities(callback):
                expected = "expected a percent sign to be followed by two hexadecimal digits"
                raise Undecodable("what names the fax or its result is escaped wrongly", fields={name: expected})
            repaired(Repair.PERCENT)
        found.setdefault(name, []).append(value)
    return {name: values[0] if len(values) == 1 else values for name, values in found.items()}


def _identities(callback: Callback) -> set[str]:
    """The names of fields that are read strictly."""
    return {field.data_key or name for name, field in callback.schema.fields.items() if isinstance(field, Identity)}


def _names_of(callback: Callback) -> set[str]:
    return {field.data_key or name for name, field in callback.schema.fields.items()}


def _texts(callback: Callback) -> set[str]:
    """The names of fields that may hold any text."""
    return {field.data_key or name for name, field in callback.schema.fields.items() if isinstance(field, Text)}


# --- what a refusal may tell ---------------------------------------------------------------------------------------

# Neither a number, nor a token, nor most of what could be anybody's.
_FIELD_NAME = re.compile(r"[A-Za-z][A-Za-z_.-]{0,39}[0-9]{0,2}", re.ASCII)
_MOST_NAMES = 20
_DEEPEST_NAME = 4


def names_in(data: Any) -> list[str]:
    """The names that data have, dotted where they lie inside each other: 20 at most, and only what can be a name."""
    found: dict[str, None] = {}
    for name in _names(data, "", _DEEPEST_NAME):
        found[name] = None
        if len(found) == _MOST_NAMES:
            break
    return list(found)


def _names(data: Any, before: str, levels: int) -> Iterator[str]:
    while isinstance(data, list) and data:
        data = data[0]
    if not isinstance(data, dict) or not levels:
        return
    inside = []
    for key, value in list(data.items())[:_MOST_NAMES]:
        name = key.removeprefix("@")
        if _FIELD_NAME.fullmatch(name) and not name.startswith("xmlns"):
            yield before + name
            inside.append((value, f"{before}{name}."))
    for value, path in inside:
        yield from _names(value, path, levels - 1)


def place_in(data: Any, part: Any) -> tuple[str, ...] | None:
    """The names and indexes that lead to a part of decoded data; None where it is not in there."""
    if data is part:
        return ()
    children: Iterable[tuple[Any, Any]] = ()
    if isinstance(data, dict):
        children = data.items()
    elif isinstance(data, list):
        children = enumerate(data)
    for name, child in children:
        if (rest := place_in(child, part)) is not None:
            return (str(name).removeprefix("@"), *rest)
    return None


def _beginning(body: bytes) -> str:
    start = body[:256].lstrip(_BLANK) or body.lstrip(_BLANK)
    return next((told for beginning, told in _BEGINNINGS if start.startswith(beginning)), "neither <, { nor [")


def _kinds(callback: Callback) -> str:
    return " or ".join(_KINDS[kind] for kind in sorted(callback.kinds))


def _charset(raw: RawCallback) -> str:
    return parse_options_header(raw.content_type)[1].get("charset", "")
