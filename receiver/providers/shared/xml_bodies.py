"""
XML to plain data: one cheap scan that refuses bombs, then the parse; and a second try where that fails. Plain documents
take the short way at the end of this file instead.

XML 1.0 has no way to write most control characters. But station ids, which the remote machine sends, hold them, and
what is written in C ends in NUL. And names with an ampersand are put into templates as they are. The second try has
characters of a private area in their place, and these are changed back in the values once the document has been parsed.
Were they taken out before, what stands in a text could become an element or the end of one.
"""

import re
from contextlib import suppress
from typing import Any, NoReturn
from xml.parsers import expat

import xmltodict

from receiver.errors import TooComplex, Undecodable
from receiver.providers.shared import texts
from receiver.providers.shared.texts import SINGLE_BYTE, document
from schemas.repairing import Mended, Repair, repaired

MAX_DEPTH = 40
MAX_ELEMENTS = 200_000
MAX_ATTRIBUTES = 64

_DECLARATION = re.compile(r"\s*<\?xml\s[^>]*\?>")
_DECLARED = re.compile(rb"<\?xml\s[^>]*?\bencoding\s*=\s*[\"']([^\"'>]*)[\"']")
_BLANK = b" \t\r\n"

_CONTROLS = {code for code in range(0x20) if chr(code) not in "\t\n\r"}
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_FORBIDDEN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
# A reference to a character, or an ampersand that begins none and no name; in CDATA neither is one.
_REFERENCE = re.compile(
    r"<!\[CDATA\[.*?(?:\]\]>|\Z)|&(?:#(?:x([0-9A-Fa-f]{1,12})|([0-9]{1,12}));|(?![A-Za-z_:][\w:.-]*;))", re.DOTALL
)
_MOST_REPLACED = 100_000  # of a document
_PRIVATE = 0xF0000
_SUBSTITUTE = 0x1A  # stands for what is no character
_AMPERSAND = chr(_PRIVATE + ord("&"))
_RESTORED = {_PRIVATE + code: code for code in (*_CONTROLS, ord("&"))}


def xml(given: bytes | str, *, charset: str = "") -> dict[str, Any]:
    """
    An XML document as xmltodict gives it, by local names: ``{"root": {"@attribute": "...", "child": ...}}``.

    A child that occurs once is a value, one that is repeated a list: readers must allow both. charset: the
    HTTP header's, believed only where the document says nothing itself. Text has been decoded already, so what encoding
    it declares is left aside. A value may hold control characters, as JSON's may. Raises Undecodable for anything not
    well-formed, in an encoding no provider uses, or with a DOCTYPE: a document type can add attributes the sender never
    wrote, and entities can crash expat itself.
    """
    if isinstance(given, str):
        body, declared = _without_declaration(given).encode("utf-8", "surrogatepass"), "utf-8"
    else:
        body, declared = given, _declared(given, charset)
    try:
        return _parsed(body.lstrip(_BLANK), _encoding(body, declared))  # no blank may stand before the declaration
    except expat.ExpatError as error:
        place = _place(error, body[: len(body) - len(body.lstrip(_BLANK))])
    if mended := _mended(document(body, declared)):
        with suppress(expat.ExpatError):
            return {name: restored(value) for name, value in _parsed(mended, "utf-8").items()}
    raise Undecodable(f"the XML is not well-formed at {place}")


def readable(body: bytes) -> bytes:
    """
    An answer for another parser: as it is where it is well-formed, else as the second try has it, in UTF-8.

    Its values are then what ``restored`` makes of them.
    """
    declared = _declared(body, "")
    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = _refuse_doctype
    try:
        if texts.charset(declared) not in SINGLE_BYTE:
            parser.Parse(body.lstrip(_BLANK), True)
            return body.lstrip(_BLANK)
    except (Undecodable, ValueError, LookupError):  # which the other parser refuses, too
        return body
    except expat.ExpatError:
        pass
    return _mended(_without_declaration(document(body, declared))) or body


def restored(value: Any) -> Any:
    """A value of the second try, or all that are in it, as it was sent but for NULs at its end."""
    if isinstance(value, dict):
        return {name: restored(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [restored(inner) for inner in value]
    if not isinstance(value, str) or (text := value.translate(_RESTORED)) == value:
        return value
    text = texts.unpadded(text)
    if _FORBIDDEN.search(text):
        repaired(Repair.CONTROL_CHARACTERS)
    if _AMPERSAND in value:
        repaired(Repair.AMPERSAND)
        return Mended(text)
    return text


def leaf(value: Any) -> Any:
    """An element's text where attributes hang on it (xsi:type, xsi:nil); every other value as it is."""
    if isinstance(value, dict) and all(name[:1] in "@#" for name in value):
        return value.get("#text")
    return value


# --- which charset -------------------------------------------------------------------------------------------------


def _declared(body: bytes, charset: str) -> str:
    """What the document says of its encoding, or else the HTTP header."""
    start = body.lstrip(_BLANK)[:256].removeprefix(b"\xef\xbb\xbf")
    if match := _DECLARED.match(start):
        return match[1].decode("latin-1")
    return "" if start.startswith(b"<?xml") else charset


def _encoding(body: bytes, declared: str) -> str | None:
    """The encoding that expat reads, whatever is declared; None: the one it finds itself."""
    name = texts.charset(declared)
    if name is None or texts.wide(body.lstrip(_BLANK)):
        return None
    if name in SINGLE_BYTE and (body.isascii() or not texts.is_utf8(body)):
        return name
    if name != "utf-8":
        repaired(Repair.CHARSET)
    return "utf-8"


def _without_declaration(text: str) -> str:
    """Blanks in its place, so that line and column are right."""
    return _DECLARATION.sub(lambda match: " " * len(match[0]), text.removeprefix("\ufeff"), count=1)


# --- the second try ------------------------------------------------------------------------------------------------


def _mended(text: str) -> bytes | None:
    """The document without what XML forbids; None where there is too much of it."""
    text, references = _REFERENCE.subn(_dereferenced, text, _MOST_REPLACED)
    if _SURROGATE.search(text):  # halves of one character are put together
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    bare = text.strip("".join(map(chr, range(0x21))))
    if len(bare) < len(text.strip()):
        repaired(Repair.CONTROL_CHARACTERS)
    bare, characters = _FORBIDDEN.subn(lambda match: _private(ord(match[0])), bare, _MOST_REPLACED)
    return None if _MOST_REPLACED in (references, characters) else bare.encode()


def _dereferenced(match: re.Match[str]) -> str:
    if not (match[1] or match[2]):
        return _AMPERSAND if match[0] == "&" else match[0]
    code = int(match[1], 16) if match[1] else int(match[2])
    if code in _CONTROLS or code in (0xFFFE, 0xFFFF) or code > 0x10FFFF:
        return _private(code)
    return chr(code) if 0xD800 <= code < 0xE000 else match[0]


def _private(code: int) -> str:
    return chr(_PRIVATE + (code if code in _CONTROLS else _SUBSTITUTE))


# --- the scan and the parse ----------------------------------------------------------------------------------------


def _parsed(body: bytes, encoding: str | None) -> dict[str, Any]:
    """Raises ExpatError where it is not well-formed; the error says nothing but where."""
    try:
        if plain := _plain(body, encoding):
            return plain
        prefixed = _scan(body, encoding).prefixed
        return dict(xmltodict.parse(body, encoding=encoding, postprocessor=_local_name if prefixed else None))
    # an unknown encoding is a LookupError, a multi-byte one a ValueError
    except (ValueError, LookupError, RecursionError):
        raise Undecodable("the XML is not well-formed") from None


def _place(error: expat.ExpatError, before: bytes) -> str:
    """Line and column, both from 1. before: what was cut off at the start."""
    column = error.offset + 1
    if error.lineno == 1:
        column += len(before) - (before.rfind(b"\n") + 1)
    lines = before.count(b"\n")
    return f"line {error.lineno + lines}, column {column}"


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
        if self.elements > MAX_ELEMENTS:
            raise TooComplex(f"XML has at most {MAX_ELEMENTS} elements")
        if len(attributes) > 2 * MAX_ATTRIBUTES:
            raise TooComplex(f"an XML element has at most {MAX_ATTRIBUTES} attributes")
        if ":" in name:
            self.prefixed = True

    def end(self, _name: str) -> None:
        self.depth -= 1


def _scan(body: bytes, encoding: str | None) -> _Scan:
    scan = _Scan()
    parser = expat.ParserCreate(encoding)
    parser.ordered_attributes = True
    parser.StartElementHandler = scan.start
    parser.EndElementHandler = scan.end
    parser.StartDoctypeDeclHandler = _refuse_doctype
    parser.XmlDeclHandler = _check_encoding
    parser.Parse(body, True)
    return scan


def _refuse_doctype(*_declaration: object) -> NoReturn:
    raise Undecodable("a DOCTYPE is not accepted")


def _check_encoding(_version: str, encoding: str | None, _standalone: int) -> None:
    if encoding is not None and texts.charset(encoding) is None:
        raise Undecodable("the XML declares an encoding other than " + ", ".join(texts.CHARSET_NAMES))


# --- the short way -------------------------------------------------------------------------------------------------

# A push to many recipients has the same few elements again and again, for which a scan, and then xmltodict, do much
# that is not needed. What is plain is read in one pass, to exactly what xmltodict gives; no layout is known here. All
# else is read, and all that is too complex is refused, by the general way.


def _plain(body: bytes, encoding: str | None) -> dict[str, Any] | None:
    """
    A document of elements that have either text, or attributes and elements inside, and no prefixes.

    None for any other one. Raises ExpatError and Undecodable as the general way does, and within the same limits.
    """
    if body.count(b"<") > MAX_ELEMENTS:  # each begins with one
        return None
    elements = _PlainElements()
    parser = expat.ParserCreate(encoding)
    parser.ordered_attributes = True
    parser.buffer_text = True
    parser.StartElementHandler = elements.start
    parser.CharacterDataHandler = elements.text
    parser.EndElementHandler = elements.end
    parser.StartDoctypeDeclHandler = _refuse_doctype
    parser.XmlDeclHandler = _check_encoding
    try:
        parser.Parse(body, True)
    except _NotPlain:
        return None
    return elements.inside


class _NotPlain(Exception):  # noqa: N818 - a way out, and no error
    """This document is for the general way."""


class _PlainElements:
    """
    The element that is open: what is inside it, and its text; each None while there is none.

    Only the first run of text is kept; a later one must be blank, and stand between elements. So a text that is longer
    than expat's buffer, and comes in pieces, is not plain: to join them one by one could take quadratic time.
    """

    __slots__ = ("_outer", "_text", "inside")

    def __init__(self) -> None:
        self._outer: list[tuple[dict[str, Any] | None, str | None]] = []
        self.inside: dict[str, Any] | None = None
        self._text: str | None = None

    def start(self, _name: str, attributes: list[str]) -> None:
        if len(self._outer) == MAX_DEPTH:
            raise _NotPlain
        inside = None
        if attributes:
            if len(attributes) > 2 * MAX_ATTRIBUTES:
                raise _NotPlain
            inside = {f"@{name}": value for name, value in zip(attributes[::2], attributes[1::2], strict=True)}
        self._outer.append((self.inside, self._text))
        self.inside, self._text = inside, None

    def text(self, text: str) -> None:
        if self._text is None:
            self._text = text
        elif self.inside is None or not text.isspace():
            raise _NotPlain

    def end(self, name: str) -> None:
        value: Any = self.inside
        text = self._text
        if value is None:
            value = text and (text.strip() or None)
        elif text and not text.isspace():
            raise _NotPlain
        self.inside, self._text = self._outer.pop()
        if self.inside is None:
            self.inside = {}
        others = self.inside.get(name)
        if others is None and name not in self.inside:
            if ":" in name:
                raise _NotPlain
            self.inside[name] = value
        elif type(others) is list:
            others.append(value)
        else:
            self.inside[name] = [others, value]
