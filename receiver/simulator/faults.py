"""
Callbacks as they must not be, and the answer that each must get.

A fault changes what can be wrong about any callback; what it is written in is seen by its first byte, as the receiver
sees it.
"""

import gzip
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from urllib.parse import parse_qsl, urlencode

from receiver.providers.shared.contract import BodyKind
from receiver.providers.shared.decoding import MAX_DEPTH, MAX_FIELDS, kind_of
from receiver.simulator.targets import Target

Change = Callable[[bytes, Target], bytes | None]

_DECLARATION = re.compile(rb"\s*(?:<\?xml[^>]*\?>)?")
_XML = re.compile(rb"(\s*(?:<\?xml[^>]*\?>)?\s*)(<[^>]*>)(.*)(</[^>]*>)\s*", re.DOTALL)


class Manner(Enum):
    """How the bytes are sent."""

    WHOLE = "whole"
    CUT = "half of the body, then the end of the stream"
    SILENT = "half of the body, then nothing"
    TWICE = "as it should be, and then the very same request again"


@dataclass(frozen=True, slots=True)
class Fault:
    """
    status: the answer it must get. target, body: what they are with the fault; None where they cannot have it.

    The body of a callback that has none is not changed.
    """

    about: str
    status: int
    target: Callable[[Target], Target | None] = lambda target: target
    body: Change = lambda body, _: body
    manner: Manner = Manner.WHOLE
    method: str | None = None  # in place of its own
    headers: Mapping[str, str] = field(default_factory=dict)


def _wrong_password(target: Target) -> Target | None:
    return None if target.identity.mode == "none" else replace(target, identity=target.identity.spoiled())


def _wrong_token(target: Target) -> Target:
    path, mark, query = target.path.partition("?")
    return replace(target, path=f"{path.rstrip('/')}x{mark}{query}")


def _by_digest(target: Target) -> Target | None:
    """Whoever sends the bytes of another mode again says the same thing again, which is allowed."""
    return target if target.identity.mode == "digest" else None


def _in_clear(target: Target) -> Target | None:
    """Nobody can end one direction of a TLS connection and still read the other."""
    return None if target.https else target


def _in_document(change: Callable[[bytes], bytes | None]) -> Change:
    """Of what is XML or JSON, also as a field of a form."""

    def changed(body: bytes, _target: Target) -> bytes | None:
        if kind_of(body) is not BodyKind.FORM:
            return change(body)
        fields = parse_qsl(body.decode("latin-1"), keep_blank_values=True, encoding="latin-1")
        inside = [(name, change(value.encode("latin-1"))) for name, value in fields if value[:1] in ("<", "{")]
        if not inside or None in dict(inside).values():
            return None
        return urlencode([(name, dict(inside).get(name, value)) for name, value in fields], encoding="latin-1").encode()

    return changed


def _doctype(document: bytes) -> bytes | None:
    if kind_of(document) is not BodyKind.XML:
        return None
    return _DECLARATION.sub(lambda match: match[0] + b"<!DOCTYPE report>", document, count=1)


def _everything_twice(body: bytes, _target: Target) -> bytes | None:
    if kind_of(body) is BodyKind.FORM:
        return body + b"&" + body
    if kind_of(body) is BodyKind.JSON:
        inside = body.strip()[1:-1]
        return b"{" + inside + b"," + inside + b"}"
    match = _XML.fullmatch(body)
    return match and match[1] + match[2] + 2 * match[3] + match[4]


def _too_complex(body: bytes, _target: Target) -> bytes:
    if kind_of(body) is BodyKind.FORM:
        return body + b"&x=1" * MAX_FIELDS
    opening, closing = (b"<x>", b"</x>") if kind_of(body) is BodyKind.XML else (b'{"x":', b"}")
    return opening * (MAX_DEPTH + 1) + closing * (MAX_DEPTH + 1)


FAULTS: Mapping[str, Fault] = {
    "wrong-token": Fault("another path token", 404, target=_wrong_token),
    "wrong-password": Fault("wrong credentials of the endpoint's mode", 401, target=_wrong_password),
    "replay": Fault("the same Digest answer twice; the first gets in", 401, target=_by_digest, manner=Manner.TWICE),
    "method": Fault("PUT", 405, method="PUT"),
    "truncated": Fault("a body shorter than announced", 400, target=_in_clear, manner=Manner.CUT),
    "slow": Fault("a body that stops half-way and never ends", 400, manner=Manner.SILENT),
    "too-large": Fault(
        "a body longer than the server takes", 413, body=lambda body, target: body.ljust(target.max_body + 1)
    ),
    "compressed": Fault(
        "Content-Encoding: gzip", 415, body=lambda body, _: gzip.compress(body), headers={"Content-Encoding": "gzip"}
    ),
    "empty": Fault("no body", 400, body=lambda _body, _: b""),
    "broken": Fault("half a document of XML or JSON", 400, body=_in_document(lambda body: body[: len(body) // 2])),
    "doctype": Fault("XML with a DOCTYPE", 400, body=_in_document(_doctype)),
    "duplicate-fields": Fault("every field twice", 400, body=_everything_twice),
    "too-complex": Fault("nested deeper, or with more fields, than anybody sends", 413, body=_too_complex),
}
