"""
Client certificates, which the proxy in front has seen: TLS ends there, and a header tells which one it was.

The proxy has verified that the client holds the key; whose it is, the fingerprint says. Only a trusted proxy is
believed: the certificate itself is public, so that anybody could send the header.
"""

import base64
import binascii
import hmac
from collections.abc import Iterable
from hashlib import sha256
from urllib.parse import unquote_to_bytes

from receiver import errors
from receiver.auth.addresses import AllowList
from receiver.auth.request import Request
from receiver.settings import Network

_BEGIN, _END = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"


class ClientCertificates:
    """Those of one endpoint. fingerprints: SHA-256 of the DER certificates. header: in which the proxy puts one."""

    def __init__(self, fingerprints: Iterable[bytes], header: str, trusted_proxies: Iterable[Network]) -> None:
        """Raises ConfigurationError where no proxy is trusted, so that nobody could ever call."""
        self._fingerprints = tuple(fingerprints)
        self._header = header
        trusted = tuple(trusted_proxies)
        if not trusted:
            raise errors.ConfigurationError(
                "client_certificates: expected server.trusted_proxies to name the proxy that passes certificates on"
            )
        self._proxies = AllowList(trusted, ())

    def verify(self, request: Request) -> None:
        """Raises Forbidden unless a trusted proxy has passed on one of the certificates."""
        given = request.header(self._header) if self._proxies.admits(request.peer, None) else None
        certificate = parse(given or "")
        if certificate is None:
            raise errors.Forbidden("Callbacks to this endpoint are accepted with a client certificate only.")
        fingerprint = sha256(certificate).digest()
        is_known = False
        for known in self._fingerprints:
            is_known |= hmac.compare_digest(fingerprint, known)
        if not is_known:
            raise errors.Forbidden("Callbacks to this endpoint are not accepted with this client certificate.")


def parse(text: str) -> bytes | None:
    """
    The DER certificate out of ``:<base64>:`` (RFC 9440) or PEM that is URL-encoded (nginx).

    None for anything else, a second one behind it included.
    """
    text = text.strip(" \t")
    if text.startswith(":") and text.endswith(":"):
        return _base64(text[1:-1].encode("latin-1"))
    pem = unquote_to_bytes(text).strip()
    if pem.startswith(_BEGIN) and pem.endswith(_END):
        return _base64(b"".join(pem.removeprefix(_BEGIN).removesuffix(_END).split()))
    return None


def _base64(text: bytes) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True) or None
    except (ValueError, binascii.Error):
        return None
