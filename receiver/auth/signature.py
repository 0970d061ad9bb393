"""
Signed callbacks: HMAC-SHA256 over the raw body, as Standard Webhooks does it or as one header that is described.

An id is not claimed as a Digest nonce is. A sender that did not get our answer sends the same message again: refused,
it would be an error for good although we have the fax, and after a 503 the fax would be lost. What a stranger can
repeat within the tolerance is a duplicate, which announces nothing.
"""

import base64
import hmac
import re
from collections.abc import Callable
from datetime import datetime

from receiver import errors
from receiver.auth.credentials import utc_now
from receiver.auth.request import Request
from receiver.settings import Signature as Options

_SECONDS = re.compile("[0-9]{1,12}")


class Signature:
    """The signatures of one endpoint; several secrets are valid at once while they rotate."""

    def __init__(self, options: Options, *, clock: Callable[[], datetime] = utc_now) -> None:
        self._options = options
        self._clock = clock
        self._keys = tuple(_key(secret, options) for secret in options.secrets)

    def verify(self, request: Request) -> None:
        """
        Raises Unauthorized unless one of the secrets has signed this body, within the tolerance where there is a time.

        Without a challenge: none is defined for signatures.
        """
        if request.has_query:
            raise errors.Unauthorized("Expected an address without a query, which no signature covers.")
        if self._options.header is None:
            identifier = _needed(request, "webhook-id")
            timestamp = self._timestamp(request, "webhook-timestamp")
            given = [one.removeprefix("v1,") for one in _needed(request, "webhook-signature").split(" ") if _is_v1(one)]
            signed = f"{identifier}.{timestamp}.".encode("latin-1") + request.body
        else:
            value = _needed(request, self._options.header)
            given = [value.removeprefix(self._options.prefix)] if value.startswith(self._options.prefix) else []
            signed = request.body
            if self._options.timestamp_header is not None:
                signed = f"{self._timestamp(request, self._options.timestamp_header)}.".encode() + signed
        if not self._is_one_of(given, signed):
            raise errors.Unauthorized("The signature is wrong.")

    def _timestamp(self, request: Request, header: str) -> str:
        """As it was sent, since that is what was signed."""
        text = _needed(request, header)
        if not _SECONDS.fullmatch(text):
            raise errors.Unauthorized(f"Expected seconds since 1970 in {header}.")
        if abs(self._clock().timestamp() - int(text)) > self._options.tolerance.total_seconds():
            raise errors.Unauthorized(f"The time in {header} is too far from ours.")
        return text

    def _is_one_of(self, given: list[str], signed: bytes) -> bool:
        """Every secret against every signature, whatever was found before."""
        is_right = False
        for key in self._keys:
            expected = self._written(hmac.digest(key, signed, "sha256"))
            for one in given:
                is_right |= hmac.compare_digest(expected, self._normal(one).encode("latin-1"))
        return is_right

    def _written(self, mac: bytes) -> bytes:
        return mac.hex().encode() if self._is_hex else base64.b64encode(mac)

    def _normal(self, text: str) -> str:
        return text.lower() if self._is_hex else text

    @property
    def _is_hex(self) -> bool:
        return self._options.header is not None and self._options.encoding == "hex"


def _key(secret: str, options: Options) -> bytes:
    return base64.b64decode(secret.removeprefix("whsec_")) if options.header is None else secret.encode()


def _needed(request: Request, header: str) -> str:
    value = (request.header(header) or "").strip(" \t")
    if not value:
        raise errors.Unauthorized(f"Expected the header {header}.")
    return value


def _is_v1(text: str) -> bool:
    return text.startswith("v1,")
