"""
Who may call an endpoint: path token, address list and credentials, each told by its own refusal.

Works on plain values and knows neither the providers nor the store. A refusal never repeats what was sent.
"""

import hmac
from collections.abc import Callable, Iterable
from datetime import datetime
from hashlib import sha256

from receiver import errors
from receiver.auth import basic
from receiver.auth.addresses import AllowList
from receiver.auth.credentials import Credentials, utc_now
from receiver.settings import Endpoint, Network

__all__ = ["Gate", "gate"]

_MODES = ("none", "basic", "payload")


class Gate:
    """
    What a caller of one endpoint has to show; every check that is not configured passes.

    reads_payload: the credentials are inside the body, so it is decoded before check_payload can be asked.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        trusted_proxies: Iterable[Network],
        *,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        """Raises ConfigurationError for what would leave the gate open or could never let anyone in."""
        auth = endpoint.auth
        if auth.mode not in _MODES:
            raise errors.ConfigurationError(f"endpoint {endpoint.name}: expected auth.mode to be one of {_MODES}")
        if auth.mode == "basic" and any(":" in one.user for one in auth.credentials):
            raise errors.ConfigurationError(f"endpoint {endpoint.name}: Basic cannot carry a user name with a colon")
        self._mode = auth.mode
        self._tokens = tuple(token.digest for token in endpoint.tokens)
        self._allow_list = AllowList(endpoint.allow, trusted_proxies)
        try:
            self._challenge = basic.challenge(auth.realm)
            self._credentials = Credentials(auth.credentials, clock=clock)
        except errors.ConfigurationError as error:
            raise errors.ConfigurationError(f"endpoint {endpoint.name}: {error}") from None

    @property
    def reads_payload(self) -> bool:
        return self._mode == "payload"

    def admits(self, token: str | None) -> bool:
        """Whether the path is right: with one of the tokens where there are any, else without one."""
        if token is None or not self._tokens:
            return token is None and not self._tokens
        digest = sha256(token.encode("utf-8", "surrogatepass")).digest()
        is_right = False
        for known in self._tokens:
            is_right |= hmac.compare_digest(digest, known)
        return is_right

    def check_address(self, peer: str, forwarded_for: str | None) -> None:
        """
        Raises Forbidden unless the client is in the allow list.

        peer: address of the socket, empty for a unix socket, which an allow list always refuses. forwarded_for: all
        X-Forwarded-For headers, joined by commas in their order.
        """
        if not self._allow_list.admits(peer, forwarded_for):
            raise errors.Forbidden("Callbacks to this endpoint are not accepted from this address.")

    def check_authorization(self, authorization: str | None) -> None:
        """
        Raises Unauthorized, with the challenge, unless the header holds right Basic credentials.

        Many clients send credentials only after that challenge. Raises MalformedCredentials for a header that cannot
        be read, and Unavailable when too many credentials are being checked. Other modes do not look at the header.
        """
        if self._mode != "basic":
            return
        given = basic.parse(authorization)
        if given is None:
            raise errors.Unauthorized("Expected HTTP Basic credentials.", headers=[self._challenge])
        if not self._credentials.match(*given):
            raise errors.Unauthorized("The user or the password is wrong.", headers=[self._challenge])

    def check_payload(self, credentials: tuple[str, str] | None) -> None:
        """
        Raises Unauthorized unless the body held right credentials; Unavailable when too many are being checked.

        Without a challenge, since no header would help. Other modes do not look at the body.
        """
        if self._mode != "payload":
            return
        if credentials is None:
            raise errors.Unauthorized("Expected user and password in the body.")
        if not self._credentials.match(*credentials):
            raise errors.Unauthorized("The user or the password in the body is wrong.")


def gate(endpoint: Endpoint, trusted_proxies: Iterable[Network]) -> Gate:
    """The gate of this endpoint, behind these proxies."""
    return Gate(endpoint, trusted_proxies)
