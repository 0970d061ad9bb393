"""
HTTP Basic on the server, RFC 7617: reading the Authorization header and writing the challenge.

Parsed by hand: Werkzeug's parser forgives padding and alphabet, reads a second header as part of the first and answers
every defect with "no credentials", so the provider's staff could not tell a broken client from a wrong password.
"""

import base64
import binascii
import re

from receiver import errors
from receiver.auth.credentials import Credentials
from receiver.auth.request import Request

_HEADER = re.compile(r"(?P<scheme>[!#$%&'*+.^_`|~0-9A-Za-z-]+)(?: +(?P<rest>.*))?", re.DOTALL)
_REALM = re.compile(r"[\x20-\x7e]*")


class Basic:
    """The Basic of one endpoint."""

    def __init__(self, realm: str, credentials: Credentials) -> None:
        self._challenge = challenge(realm)
        self._credentials = credentials

    def verify(self, request: Request) -> None:
        """
        Raises Unauthorized, with the challenge, unless the header holds right credentials.

        Many clients send credentials only after that challenge. Raises MalformedCredentials for a header that cannot
        be read, and Unavailable when too many credentials are being checked.
        """
        given = parse(request.authorization)
        if given is None:
            raise errors.Challenged("Expected HTTP Basic credentials.", headers=[self._challenge])
        if not self._credentials.match(*given):
            raise errors.Unauthorized("The user or the password is wrong.", headers=[self._challenge])


def parse(authorization: str | None) -> tuple[str, str] | None:
    """
    User and password of an Authorization header; None where there is none, or one of another scheme.

    The text is UTF-8 where it can be, else Latin-1: clients send either. Raises MalformedCredentials for what says it
    is Basic and cannot be read, two headers joined by a comma among it.
    """
    authorization = (authorization or "").strip(" \t")
    if not authorization:
        return None
    header = _HEADER.fullmatch(authorization)
    if header is None:
        raise errors.MalformedCredentials("The Authorization header does not begin with the name of a scheme.")
    if header["scheme"].lower() != "basic":
        return None

    decoded = _decode_base64(header["rest"] or "")
    # On bytes, so that the upper control characters of Latin-1 are no defect: they are half of somebody's UTF-8.
    if any(byte < 0x20 or byte == 0x7F for byte in decoded):
        raise errors.MalformedCredentials("The Basic credentials hold control characters.")
    try:
        text = decoded.decode("utf-8")
    except UnicodeDecodeError:
        text = decoded.decode("latin-1")
    user, colon, password = text.partition(":")
    if not colon:
        raise errors.MalformedCredentials("The Basic credentials hold no colon between user and password.")
    return user, password


def challenge(realm: str) -> tuple[str, str]:
    """
    The header of a 401. The charset makes Java's clients and HttpClient 5 send UTF-8.

    Raises ConfigurationError for a realm that is not printable ASCII.
    """
    if not _REALM.fullmatch(realm):
        raise errors.ConfigurationError("realm: expected printable ASCII characters")
    quoted = realm.replace("\\", "\\\\").replace('"', '\\"')
    return "WWW-Authenticate", f'Basic realm="{quoted}", charset="UTF-8"'


def _decode_base64(text: str) -> bytes:
    try:
        decoded = base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        decoded = b""
    # Encoding again is the strictest reading: what does not come back the same was not canonical base64.
    if not decoded or base64.b64encode(decoded).decode("ascii") != text:
        raise errors.MalformedCredentials("Expected 'Basic', a space and one base64 value with its padding.")
    return decoded
