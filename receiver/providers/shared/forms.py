"""Forms to fields: urlencoded, in a body or a query string, and multipart. Each field has its own charset."""

import binascii
import re
from typing import NamedTuple

from werkzeug.datastructures import Headers
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.http import parse_options_header
from werkzeug.sansio.multipart import Data, Epilogue, Field, File, MultipartDecoder

from receiver.errors import TooComplex, Undecodable
from receiver.providers.shared import texts
from receiver.providers.shared.texts import text
from schemas.repairing import Repair, repaired

MAX_FIELDS = 200
_MOST_PERCENT_SIGNS = 10_000  # that begin no escape

_BARE_PERCENT = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_CHARSET = "_charset_"  # a field that says in which the others are: HTML, RFC 7578
# What no text has, but for a document that is sent as a file.
_BINARY = re.compile(r"\A\s*[^<\s].*[\x00-\x08\x0e-\x1f]", re.DOTALL)
_NOT_TEXT = re.compile(r"(image|audio|video|font|model)/|application/(pdf|postscript|zip|gzip)\b", re.IGNORECASE)


class FormField(NamedTuple):
    """
    is_certain: it was written as a form has to be; False: a percent sign in it begins no escape. follows: it has no
    value and stands behind another field, of whose text an ampersand may have cut it off.
    """

    name: str
    value: str
    is_certain: bool = True
    follows: bool = False


def form_fields(body: bytes, content_type: str, *, transferred: bool = True) -> list[FormField]:
    """
    The fields of an urlencoded or multipart form, in order. transferred: base64 and quoted-printable parts are read.

    Multipart is told by its first line too. Werkzeug's own form parser gives an empty form, and no error, where the
    Content-Type lacks the boundary.
    """
    body = body.lstrip()
    media_type, options = parse_options_header(content_type)
    charset = options.get("charset", "")
    stated = options.get("boundary", "").encode("latin-1", "replace") if media_type == "multipart/form-data" else b""
    if stated and b"--" + stated in body:
        return _multipart(body, stated, charset, transferred=transferred)
    if body.startswith(b"--"):
        return _multipart(body, body.split(b"\n", 1)[0].strip()[2:], charset, transferred=transferred)
    return urlencoded(body, charset)


def urlencoded(body: bytes, charset: str = "") -> list[FormField]:
    """
    The fields of an urlencoded form.

    Werkzeug's own parser gives an empty form, and no error, for one raw byte outside UTF-8.
    """
    body = body.removeprefix(b"\xef\xbb\xbf").lstrip()
    if body.count(b"&") >= MAX_FIELDS:
        raise TooComplex(f"a form has at most {MAX_FIELDS} fields")
    fields = [field.partition(b"=") for field in body.rstrip(b"\x00 \t\r\n").split(b"&") if field]
    charset = next((text(value) for name, _, value in fields if name == _CHARSET.encode()), charset)
    are_certain = not _BARE_PERCENT.search(body)
    return [
        FormField(
            text(_unquoted(name), charset),
            texts.value(_unquoted(value), charset),
            are_certain or not _BARE_PERCENT.search(name + sign + value),
            bool(number and not sign),
        )
        for number, (name, sign, value) in enumerate(fields)
    ]


def _unquoted(quoted: bytes) -> bytes:
    """
    With every escape read; a percent sign that begins none stays.

    Quoted-printable is the same but for its sign, and is read in C, forty times as fast as urllib's unquote.
    """
    plain = quoted.replace(b"+", b" ")
    if b"%" not in plain:
        return plain
    plain, bare = _BARE_PERCENT.subn(b"%25", plain, _MOST_PERCENT_SIGNS)
    if bare:
        repaired(Repair.PERCENT)
    if bare == _MOST_PERCENT_SIGNS:
        raise TooComplex(f"a field of a form has fewer than {_MOST_PERCENT_SIGNS} percent signs that begin no escape")
    return binascii.a2b_qp(plain.replace(b"=", b"=3D").replace(b"%", b"="))


def _multipart(body: bytes, boundary: bytes, charset: str, *, transferred: bool) -> list[FormField]:
    decoder = _Decoder(boundary, max_parts=MAX_FIELDS)
    decoder.receive_data(body)
    decoder.receive_data(None)
    parts: list[tuple[Field | File, bytearray]] = []
    try:
        # With all of the body given, the decoder ends in an Epilogue or raises.
        while not isinstance(event := decoder.next_event(), Epilogue):
            if isinstance(event, Field | File):
                parts.append((event, bytearray()))
            elif isinstance(event, Data):
                parts[-1][1].extend(event.data)
    except ValueError:
        raise Undecodable("the multipart form is incomplete; expected every part and the closing boundary") from None
    except RequestEntityTooLarge:
        raise TooComplex(f"a form has at most {MAX_FIELDS} fields") from None
    charset = next((text(bytes(value)) for part, value in parts if part.name == _CHARSET), charset)
    given = [(part, _as_written(part, bytes(value)) if transferred else bytes(value)) for part, value in parts]
    return [field for part, value in given if (field := _field(part, value, charset)) is not None]


def _as_written(part: Field | File, value: bytes) -> bytes:
    """The value before it was made fit for mail, which some libraries do in forms too."""
    encoding = (part.headers.get("content-transfer-encoding") or "").strip().lower()
    if encoding == "quoted-printable":
        return binascii.a2b_qp(value)
    if encoding == "base64":
        try:
            return binascii.a2b_base64(b"".join(value.split()), strict_mode=True)
        except binascii.Error:
            return value
    return value


def _field(part: Field | File, value: bytes, charset: str) -> FormField | None:
    """None: a part that is no text, as an attached image."""
    kind, options = parse_options_header(part.headers.get("content-type"))
    if _NOT_TEXT.match(kind):
        return None
    read = texts.value(value, options.get("charset", charset))
    if isinstance(part, File) and _BINARY.match(read):
        return None
    return FormField(part.name or "", read)  # Werkzeug says name is text, and gives None for a part without one


class _Decoder(MultipartDecoder):
    """Werkzeug's, which gives up a whole form for a file name that is not in UTF-8."""

    def _parse_headers(self, data: bytes | bytearray) -> Headers:
        return super()._parse_headers(text(bytes(data)).encode())
