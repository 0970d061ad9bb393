"""
Wire to plain data: forms, XML and JSON, each behind one cheap scan that refuses bombs before the real parse.

Everything here takes bytes and gives dicts, lists and text. Parser exceptions hold the whole body, so ours are raised
``from None``. Limits and the traps behind them were measured; each is named where it is closed.
"""

import json
import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, NoReturn
from urllib.parse import parse_qsl
from xml.parsers import expat

import xmltodict
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.http import parse_options_header
from werkzeug.sansio.multipart import Data, Epilogue, Field, File, MultipartDecoder

from receiver.errors import TooComplex, Undecodable, UnsupportedBody
from receiver.providers._contract import BodyKind, Callback, RawCallback

MAX_DEPTH = 40
MAX_XML_ELEMENTS = 200_000
MAX_XML_ATTRIBUTES = 64
MAX_FORM_FIELDS = 200

# UTF-7 and the like turn ASCII into something else; expat takes any codec Python knows.
_XML_ENCODINGS = frozenset({"utf-8", "utf-16", "us-ascii", "iso-8859-1", "iso-8859-15", "windows-1252"})

# A string, escapes taken out before. One that never ends runs to the end of the text: were it no match, every quote in
# it would be tried, 8 MiB each.
_JSON_STRING = re.compile(r'"[^"]*"?')
_JSON_BRACKET = re.compile(r"[\[\]{}]")
_INDEX = re.compile(r"[0-9]{1,18}", re.ASCII)
_BAD_PERCENT = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_XML_DECLARATION = re.compile(r"\s*<\?xml\s[^>]*\?>")
# What a UTF-8 or UTF-16 byte order mark and UTF-16's NUL bytes put before the first character that means something.
_BLANK = b"\xef\xbb\xbf\xff\xfe\x00 \t\r\n"


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
        raise UnsupportedBody("this provider sends " + _kinds(callback))
    if kind is BodyKind.XML:
        return xml(raw.body, charset=parse_options_header(raw.content_type)[1].get("charset", ""))
    if kind is BodyKind.JSON:
        return json_object(raw.body)
    pairs = form_pairs(raw.body, raw.content_type)
    if callback.query:
        pairs = [*urlencoded(raw.query), *pairs]
    return _fields(pairs, callback.once)


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


def text(value: bytes) -> str:
    """Bytes of a form as text: UTF-8 where they are, else Windows-1252, its five holes as ISO-8859-1. Never fails."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return _western(value)


def _western(value: bytes) -> str:
    try:
        return value.decode("windows-1252")
    except UnicodeDecodeError:
        return value.decode("iso-8859-1")


# --- forms ---------------------------------------------------------------------------------------------------------


def form_pairs(body: bytes, content_type: str) -> list[tuple[str, str]]:
    """
    The fields of an urlencoded or multipart form, in order.

    Multipart is told by its first line too. Werkzeug's own form parser gives an empty form, and no error, where the
    Content-Type lacks the boundary.
    """
    body = body.lstrip()
    media_type, options = parse_options_header(content_type)
    stated = options.get("boundary", "").encode("latin-1", "replace") if media_type == "multipart/form-data" else b""
    if stated and b"--" + stated in body:
        return _multipart(body, stated)
    if body.startswith(b"--"):
        return _multipart(body, body.split(b"\n", 1)[0].strip()[2:])
    return urlencoded(body)


def urlencoded(body: bytes) -> list[tuple[str, str]]:
    """
    The fields of an urlencoded form. One charset for the whole form: UTF-8 if every value is, else Windows-1252.

    Werkzeug's own parser gives an empty form, and no error, for one raw byte outside UTF-8.
    """
    body = body.removeprefix(b"\xef\xbb\xbf").strip()
    if not body:
        return []
    if _BAD_PERCENT.search(body):
        raise Undecodable("a percent sign is not followed by two hexadecimal digits")
    try:
        # Latin-1 keeps every byte as it is, so that the charset can be told after unquoting.
        pairs = parse_qsl(
            body.decode("latin-1"), keep_blank_values=True, max_num_fields=MAX_FORM_FIELDS, encoding="latin-1"
        )
    except ValueError:
        raise TooComplex(f"a form has at most {MAX_FORM_FIELDS} fields") from None
    return _decoded([(name.encode("latin-1"), value.encode("latin-1")) for name, value in pairs])


def _multipart(body: bytes, boundary: bytes) -> list[tuple[str, str]]:
    decoder = MultipartDecoder(boundary, max_parts=MAX_FORM_FIELDS)
    decoder.receive_data(body)
    decoder.receive_data(None)
    pairs: list[tuple[bytes, bytes]] = []
    try:
        # With all of the body given, the decoder ends in an Epilogue or raises.
        while not isinstance(event := decoder.next_event(), Epilogue):
            if isinstance(event, Field | File):
                # Werkzeug says name is text, and gives None for a part without one.
                pairs.append(((event.name or "").encode("utf-8", "surrogateescape"), b""))
            elif isinstance(event, Data):
                name, value = pairs[-1]
                pairs[-1] = (name, value + event.data)
    except ValueError:
        raise Undecodable("the multipart form is incomplete; expected every part and the closing boundary") from None
    except RequestEntityTooLarge:
        raise TooComplex(f"a form has at most {MAX_FORM_FIELDS} fields") from None
    return _decoded(pairs)


def _decoded(pairs: list[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    try:
        return [(name.decode(), value.decode()) for name, value in pairs]
    except UnicodeDecodeError:
        return [(text(name), _western(value)) for name, value in pairs]


def _fields(pairs: list[tuple[str, str]], once_only: frozenset[str]) -> dict[str, Any]:
    if not pairs:
        raise Undecodable("the form has no fields")
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found and name in once_only:
            raise Undecodable("a field that may occur once is repeated", fields={name: "expected once"})
        found.setdefault(name, value)
    return found


# --- XML -----------------------------------------------------------------------------------------------------------


def xml(document: bytes | str, *, charset: str = "") -> dict[str, Any]:
    """
    An XML document as xmltodict gives it, by local names: ``{"root": {"@attribute": "...", "child": ...}}``.

    A child that occurs once is a value, one that is repeated a list: whoever reads it must allow both. charset: the
    HTTP header's, believed only where the document says nothing itself. Text has been decoded already, so what encoding
    it declares is left aside. Raises Undecodable for anything not well-formed, in an encoding no provider uses, or with
    a DOCTYPE: a document type can add attributes the sender never wrote, and entities can crash expat itself.
    """
    if isinstance(document, str):
        body = _XML_DECLARATION.sub("", document.lstrip("\ufeff"), count=1).encode()
        charset = "utf-8"
    else:
        body = document.lstrip(b" \t\r\n")  # expat takes no blank line before the declaration
    encoding = _undeclared(body, charset)
    prefixed = _scan_xml(body, encoding).prefixed
    try:
        parsed = xmltodict.parse(body, encoding=encoding, postprocessor=_local_name if prefixed else None)
    except (expat.ExpatError, ValueError, LookupError, RecursionError):
        raise Undecodable("the XML is not well-formed") from None
    return dict(parsed)


def _undeclared(body: bytes, charset: str) -> str | None:
    """The HTTP header's charset, if the document itself does not say how it is encoded."""
    says_so = body.startswith(b"<?xml") or body[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\x00" in body[:2]
    return charset if not says_so and charset.lower() in _XML_ENCODINGS else None


def leaf(value: Any) -> Any:
    """An element's text where attributes hang on it (xsi:type, xsi:nil); every other value as it is."""
    if isinstance(value, dict) and all(name[:1] in "@#" for name in value):
        return value.get("#text")
    return value


def listed(value: Any) -> Any:
    """A list also where it is an object with the indexes as keys, as PHP writes it with one missing; else the value."""
    if isinstance(value, dict) and value and all(_INDEX.fullmatch(key) for key in value):
        return [value[key] for key in sorted(value, key=int)]
    return value


def _local_name(_path: Any, key: str, value: Any) -> tuple[str, Any]:
    return (key if key.startswith("@") else key.rpartition(":")[2]), value


class _Scan:
    """One pass of bare expat over a document: counts, and refuses what no provider sends."""

    def __init__(self) -> None:
        self.depth = self.elements = 0
        self.prefixed = False

    def start(self, name: str, attributes: list[str]) -> None:
        self.depth += 1
        self.elements += 1
        if self.depth > MAX_DEPTH:
            raise TooComplex(f"XML nests at most {MAX_DEPTH} deep")
        if self.elements > MAX_XML_ELEMENTS:
            raise TooComplex(f"XML has at most {MAX_XML_ELEMENTS} elements")
        if len(attributes) > 2 * MAX_XML_ATTRIBUTES:
            raise TooComplex(f"an XML element has at most {MAX_XML_ATTRIBUTES} attributes")
        if ":" in name:
            self.prefixed = True

    def end(self, _name: str) -> None:
        self.depth -= 1


def _scan_xml(body: bytes, encoding: str | None) -> _Scan:
    scan = _Scan()
    parser = expat.ParserCreate(encoding)
    parser.ordered_attributes = True
    parser.StartElementHandler = scan.start
    parser.EndElementHandler = scan.end
    parser.StartDoctypeDeclHandler = _refuse_doctype
    parser.XmlDeclHandler = _check_encoding
    try:
        parser.Parse(body, True)
    # an unknown encoding is a LookupError, a multi-byte one a ValueError
    except (expat.ExpatError, ValueError, LookupError):
        raise Undecodable("the XML is not well-formed") from None
    return scan


def _refuse_doctype(*_declaration: object) -> NoReturn:
    raise Undecodable("a DOCTYPE is not accepted")


def _check_encoding(_version: str, encoding: str | None, _standalone: int) -> None:
    if encoding is not None and encoding.lower() not in _XML_ENCODINGS:
        raise Undecodable("the XML declares an encoding other than " + ", ".join(sorted(_XML_ENCODINGS)))


# --- JSON ----------------------------------------------------------------------------------------------------------


def json_object(body: bytes) -> dict[str, Any]:
    """A JSON object; numbers with a fraction as Decimal. Duplicate keys, NaN and Infinity are Undecodable."""
    try:
        document = body.decode(json.detect_encoding(body))  # UTF-8 or UTF-16, with or without a byte order mark
    except UnicodeDecodeError:
        document = text(body)
    document = document.removeprefix("\ufeff")
    _scan_json(document)
    try:
        value = json.loads(document, object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_float=Decimal)
    except (ValueError, ArithmeticError, RecursionError):  # Decimal has an opinion on 1e99999999999999999999
        raise Undecodable("the JSON is not well-formed") from None
    if not isinstance(value, dict):
        raise Undecodable("expected a JSON object")
    return value


def _scan_json(document: str) -> None:
    depth = 0
    bare = document.replace("\\\\", "").replace('\\"', "")  # no quote is left but those around strings
    for bracket in _JSON_BRACKET.findall(_JSON_STRING.sub("", bare)):
        depth += 1 if bracket in "[{" else -1
        if depth > MAX_DEPTH:
            raise TooComplex(f"JSON nests at most {MAX_DEPTH} deep")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Undecodable("a key of a JSON object is repeated")
    return found


def _refuse_constant(_name: str) -> NoReturn:
    raise Undecodable("NaN and Infinity are not JSON")


def _kinds(callback: Callback) -> str:
    names: dict[BodyKind, str] = {BodyKind.FORM: "a form", BodyKind.JSON: "JSON", BodyKind.XML: "XML"}
    return " or ".join(names[kind] for kind in sorted(callback.kinds))
