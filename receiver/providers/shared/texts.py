"""
Bytes to text: one rule for callbacks and reports, for forms, XML, JSON and lines.

The declared charset where the bytes really are that, else UTF-8, else Windows-1252. Declarations are often wrong: they
are written by a template, the bytes by whatever came from a database or a remote machine.
"""

import re
from collections.abc import Mapping

from schemas.repairing import Repair, repaired

# The charsets that providers use, by their names without hyphens and the like. UTF-7 and its kin turn ASCII into
# something else. What calls itself ISO-8859-1 or ASCII is read as its superset Windows-1252, as browsers do.
_WESTERN = "windows-1252"
_CHARSETS: Mapping[str, str] = {
    **dict.fromkeys(("utf8", "utf8sig", "unicode11utf8"), "utf-8"),
    **dict.fromkeys(("utf16", "ucs2", "iso10646ucs2", "unicode"), "utf-16"),
    "utf16le": "utf-16-le",
    "utf16be": "utf-16-be",
    **dict.fromkeys(("iso88591", "88591", "latin1", "l1", "cp819", "ibm819"), _WESTERN),
    "ansi": _WESTERN,
    **dict.fromkeys(("usascii", "ascii", "ansix341968", "iso646us"), _WESTERN),
    **dict.fromkeys(("latin2", "l2"), "iso-8859-2"),
    **dict.fromkeys(("latin9", "latin0", "l9"), "iso-8859-15"),
    # Those of other languages that have ASCII in its place: a template may declare them, whatever it then holds.
    **{
        f"{prefix}{number}": f"cp{number}" for number in range(1250, 1259) for prefix in ("windows", "cp", "win", "xcp")
    },
    **{f"{iso}8859{part}": f"iso-8859-{part}" for part in range(2, 17) for iso in ("iso", "") if part != 12},
    **dict.fromkeys(("windows1252", "cp1252", "win1252", "xcp1252"), _WESTERN),
}
CHARSET_NAMES = ("utf-8", "utf-16", "us-ascii", "iso-8859-1 to -16", "windows-1250 to -1258")  # for messages
SINGLE_BYTE = frozenset(_CHARSETS.values()) - {"utf-8", "utf-16", "utf-16-le", "utf-16-be"}

_MARKS = (
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
# Which of the first four bytes are not NUL, where the first two characters are ASCII.
_WIDE = {
    b"\1\0\1\0": "utf-16-le",
    b"\0\1\0\1": "utf-16-be",
    b"\1\0\0\0": "utf-32-le",
    b"\0\0\0\1": "utf-32-be",
}
_WIDE_STARTS = (b"\xff\xfe", b"\xfe\xff", b"<\x00", b"\x00<")
_PADDING = "\x00 \t\r\n"
_NOT_IN_A_NAME = re.compile(r"[-_ .:()]+")
_LONGEST_MIXED = 1024**2  # bytes: telling each apart is slow, and nothing that long is mixed
_ESCAPED = {0xDC00 + byte: bytes([byte]).decode(_WESTERN, "ignore") or chr(byte) for byte in range(0x80, 0x100)}


def charset(name: str) -> str | None:
    """Python's name of a charset that providers use, whatever it is called; None: of no other."""
    return _CHARSETS.get(_NOT_IN_A_NAME.sub("", name.lower()))


def wide(body: bytes) -> str | None:
    """UTF-16 or UTF-32 if the body begins so: with a byte order mark, or with ASCII in units of that width."""
    for mark, name in _MARKS:
        if body.startswith(mark):
            return name
    return _WIDE.get(bytes(map(bool, body[:4])))


def text(value: bytes, declared: str = "") -> str:
    """
    A value as text; never fails.

    What is neither UTF-8 nor declared to have one byte a character is UTF-8 where its bytes are, since texts of several
    sources are put together; each other byte is Windows-1252, the five it does not have ISO-8859-1.
    """
    try:
        return value.decode()
    except UnicodeDecodeError:
        name = charset(declared)
        if name is not None and name in SINGLE_BYTE:
            return _single_byte(value, name)
        if len(value) > _LONGEST_MIXED:
            return _single_byte(value, _WESTERN)
        return value.decode("utf-8", "surrogateescape").translate(_ESCAPED)


def value(given: bytes, declared: str = "") -> str:
    """
    A value of a form as text, without NULs at its end; never fails.

    In UTF-16 where its mark, its markup, or its declaration and its NULs say so; else as ``text`` has it.
    """
    if given.isascii() and b"\x00" not in given:
        return given.decode()
    is_wide = given[:2] in _WIDE_STARTS or (b"\x00" in given and (charset(declared) or "").startswith("utf-16"))
    read = _wide(given) if is_wide else None
    return unpadded(text(given, declared) if read is None else read.removeprefix("\ufeff"))


def document(body: bytes, declared: str = "") -> str:
    """
    A whole document as text, without byte order mark, and without NULs and blanks at its end; never fails.

    Notes the repair where it is not in the declared charset, which is UTF-8 where none is declared.
    """
    name = charset(declared)
    read = _wide(body)
    if read is not None:
        is_declared = name is None or name.startswith("utf-16")
    else:
        read = text(body, declared)
        if is_utf8(body):
            is_declared = name in (None, "utf-8") or (name in SINGLE_BYTE and body.isascii())
        else:
            is_declared = name in SINGLE_BYTE
    if not is_declared:
        repaired(Repair.CHARSET)
    return unpadded(read.removeprefix("\ufeff"))


def is_utf8(body: bytes) -> bool:
    """Whether that is what the bytes are: hardly any text of another charset is UTF-8 by chance."""
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def _wide(body: bytes) -> str | None:
    name = wide(body)
    if name is None:
        return None
    unit = 4 if name.startswith("utf-32") else 2
    try:
        return body[: len(body) // unit * unit].decode(name, "surrogatepass")  # one NUL may be added at the end
    except UnicodeDecodeError:
        return None


def unpadded(read: str) -> str:
    """Text without the NULs at its end: of a C string, or of a field of fixed width, with blanks among them."""
    bare = read.rstrip(_PADDING)
    if "\x00" not in read[len(bare) :]:
        return read
    repaired(Repair.TRAILING_NUL)
    return bare


def _single_byte(value: bytes, name: str) -> str:
    """In the charset, or in the one of the same width that has every byte."""
    try:
        return value.decode(name)
    except UnicodeDecodeError:
        return value.decode("iso-8859-1")
