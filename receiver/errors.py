"""
Every refusal faxhook can answer, each with its HTTP status and its code.

A station raises the class that means it; ``receiver.web.app`` turns it into the answer. The messages are read by the
provider's staff and by operators, so they say what was expected and never carry a value from the request.
"""

from collections.abc import Mapping, Sequence


class Inbound(Exception):  # noqa: N818 - no error: the notice is acknowledged
    """A genuine notice of a fax that came in: it is acknowledged and counted, and its content is not kept."""


class Refusal(Exception):  # noqa: N818 - an answer, not always an error of ours
    """
    A request that is not accepted: base of all answers other than 2xx.

    detail: one sentence for a person. fields: wire name -> what was expected. received: names of what came instead.
    headers: sent with the answer. reason: for the operator only, where the answer may not tell; by default the code.
    """

    status = 500
    code = "internal_error"

    def __init__(
        self,
        detail: str,
        *,
        fields: Mapping[str, str] | None = None,
        received: Sequence[str] = (),
        headers: Sequence[tuple[str, str]] = (),
        reason: str | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.reason = reason or self.code
        self.fields = dict(fields or {})
        self.received = tuple(received)
        self.headers = tuple(headers)
        self.receipt: str | None = None  # where the request was kept


# --- station 1: the body -------------------------------------------------------------------------------------------


class BadFraming(Refusal):
    """The bytes on the wire do not add up: shorter than announced, a broken chunk, or too slow."""

    status = 400
    code = "bad_framing"


class TooLarge(Refusal):
    """The body is longer than ``[server] max_body``."""

    status = 413
    code = "too_large"


class UnsupportedEncoding(Refusal):
    """A Content-Encoding other than identity."""

    status = 415
    code = "unsupported_encoding"


# --- stations 2 and 3: who is calling ------------------------------------------------------------------------------


class NotFound(Refusal):
    """No endpoint at this path, or a wrong path token: the answer does not tell them apart, ``reason`` does."""

    status = 404
    code = "not_found"


class MethodNotAllowed(Refusal):
    status = 405
    code = "method_not_allowed"


class MalformedCredentials(Refusal):
    """An Authorization header that cannot be read."""

    status = 400
    code = "malformed_credentials"


class Unauthorized(Refusal):
    status = 401
    code = "unauthorized"


class Challenged(Unauthorized):
    """No credentials at all: many clients send them only after this, so that it is no news."""


class Forbidden(Refusal):
    status = 403
    code = "forbidden"


# --- stations 4 to 6: what was said --------------------------------------------------------------------------------


class Undecodable(Refusal):
    """The body cannot be read as what it claims to be: empty, broken, ambiguous, or with a DOCTYPE."""

    status = 400
    code = "undecodable"


class TooComplex(Refusal):
    """More nesting, elements, attributes or fields than any provider sends."""

    status = 413
    code = "too_complex"


class UnsupportedBody(Refusal):
    """A kind of body this provider never sends."""

    status = 415
    code = "unsupported_body"


class Unprocessable(Refusal):
    """Readable, but without what names the fax or its result."""

    status = 422
    code = "unprocessable"


class AccountMismatch(Unprocessable):
    code = "account_mismatch"


# --- station 7 and our own trouble ---------------------------------------------------------------------------------


class InternalError(Refusal):
    """Our own bug. The body is kept."""


class Unavailable(Refusal):
    """
    Our store, key source or process cannot promise anything now; the sender should try again.

    error: a short name of the cause, for logs. trouble: a sentence for operators, which the sender does not see.
    retryable: whether the same may work when it is tried again at once.
    """

    status = 503
    code = "unavailable"
    retryable = False

    def __init__(self, detail: str, *, retry_after_seconds: int = 5, error: str = "", trouble: str = "") -> None:
        super().__init__(detail, headers=(("Retry-After", str(retry_after_seconds)),))
        self.error = error or self.code
        self.trouble = trouble or (f"{detail} ({error})" if error else detail)


# --- not answers ---------------------------------------------------------------------------------------------------


class ConfigurationError(Exception):
    """The configuration cannot be used; the message names the key, the file and what was expected. Exit code 2."""


class BadValue(ValueError):  # noqa: N818 - like ValueError
    """A value of the configuration that cannot be used; the message says what is wrong, without the value."""


class StoreError(Exception):
    """The store cannot be used as it is; the message says why and what to do. Exit code 1."""


class ReportTrouble(Exception):  # noqa: N818 - the provider's, the network's, or a wrong credential's
    """
    A report could not be fetched or read; what was stored of it before stays, and the next run goes on from there.

    kind: ``unreachable``, ``timeout``, ``refused`` (credentials), ``overloaded`` (asked to come later), ``failed`` (the
    provider's own fault), ``unreadable``, ``budget`` (no more requests in this run), ``interrupted`` or
    ``not_installed`` (a library). detail: one sentence that says what to do; nothing of what was sent or came is in it.
    """

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail


class BrokerTrouble(Exception):  # noqa: N818 - the broker's, or the network's
    """
    The broker did not take or give what was asked; nothing counts as published but what it has confirmed.

    kind: ``connection`` (refused, lost), ``tls`` (a certificate, or no TLS at that port), ``timeout``, ``forbidden``,
    ``missing`` (an exchange or queue that was there, a virtual host), ``exchange_missing`` and ``queue_missing`` (which
    we may not declare), ``unroutable``, ``blocked`` (an alarm), ``full`` (memory or disk of Redis), ``refused`` (a
    channel was closed for what was sent on it), ``interrupted``, ``client`` (the client library's own). error: its
    class, for logs. detail: a sentence for operators, with host and port and without secrets.
    """

    def __init__(self, kind: str, error: BaseException | None = None, detail: str = "") -> None:
        super().__init__(f"broker trouble: {kind}")
        self.kind = kind
        self.error = error
        self.detail = detail or kind
