"""
``POST /oauth2/token``: access tokens for the clients of the configuration, RFC 6749 with client_credentials only.

This is no authorization server: one grant, no discovery, and tokens that only our own endpoints take.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import parse_qsl, unquote_plus

from receiver import errors
from receiver.auth import basic
from receiver.auth.credentials import Credentials, utc_now
from receiver.auth.request import Request
from receiver.auth.tokens import LIFETIME_SECONDS, OwnTokens, secret_digest
from receiver.settings import Client, Credential

_FIELDS_MAX = 20
_NO_STORE = (("Cache-Control", "no-store"), ("Pragma", "no-cache"))
_CHALLENGE = ("WWW-Authenticate", 'Basic realm="faxhook"')


@dataclass(frozen=True, slots=True)
class Access:
    """What one endpoint takes: tokens of this audience, with these scopes. clients: empty for all of them."""

    audience: str
    scope: tuple[str, ...]
    clients: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """code: of the error, None for a token."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    code: str | None


class _Refused(Exception):  # noqa: N818 - an answer
    """code: one of RFC 6749's, section 5.2."""

    def __init__(self, code: str, description: str, *, status: int = 400) -> None:
        super().__init__(description)
        self.code = code
        self.description = description
        self.status = status


class TokenEndpoint:
    """Gives each client one token for all the endpoints that it may call."""

    def __init__(
        self,
        tokens: OwnTokens,
        clients: Iterable[Client],
        accesses: Iterable[Access],
        *,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._tokens = tokens
        self._accesses = tuple(accesses)
        self._clock = clock
        # By digest, so that a secret which looks like a hash is none.
        configured = (Credential(None, one.id, f"sha256:{secret_digest(one).hex()}", None, None) for one in clients)
        self._credentials = Credentials(configured, clock=clock)

    def answer(self, request: Request) -> Answer:
        """A token, or why there is none; always an answer."""
        try:
            form = _form(request)
            client = self._client(request, form)
            return self._token(client, form)
        except _Refused as refused:
            headers = (*_NO_STORE, _CHALLENGE) if refused.status == 401 else _NO_STORE
            document = {"error": refused.code, "error_description": refused.description}
            return Answer(refused.status, headers, json.dumps(document).encode(), refused.code)

    def _client(self, request: Request, form: Mapping[str, str]) -> str:
        """The client that has shown its secret, in the header or in the form."""
        try:
            in_header = basic.parse(request.authorization)
        except errors.MalformedCredentials as error:
            raise _Refused("invalid_request", error.detail) from None
        named, secret = form.get("client_id"), form.get("client_secret")
        if request.authorization and secret is not None:
            raise _Refused("invalid_request", "Expected the client's secret in the header or in the form, not in both.")
        if in_header is not None:
            # RFC 6749 has both encoded once more, and many clients do not.
            for user, password in {in_header, (unquote_plus(in_header[0]), unquote_plus(in_header[1]))}:
                if self._credentials.match(user, password):
                    if named not in (None, user):
                        raise _Refused("invalid_request", "The client_id of the form is not that of the header.")
                    return user
        elif not request.authorization and self._credentials.match(named or "", secret or ""):
            return named or ""
        raise _Refused("invalid_client", "The client is not known, or its secret is wrong.", status=401)

    def _token(self, client: str, form: Mapping[str, str]) -> Answer:
        if "grant_type" not in form:
            raise _Refused("invalid_request", "Expected grant_type.")
        if form["grant_type"] != "client_credentials":
            raise _Refused("unsupported_grant_type", "Expected grant_type client_credentials.")
        open_to = [one for one in self._accesses if not one.clients or client in one.clients]
        if not open_to:
            raise _Refused("unauthorized_client", "No endpoint takes tokens of this client.")
        scope = sorted({word for one in open_to for word in one.scope})
        if "scope" in form:
            asked = form["scope"].split(" ")
            if not set(asked) <= set(scope):
                raise _Refused("invalid_scope", "Expected scopes of the endpoints that are open to this client.")
            scope = sorted(set(asked))
        audience = sorted({one.audience for one in open_to})
        token = self._tokens.issue(client, audience, scope, self._clock().timestamp())
        document = {"access_token": token, "token_type": "Bearer", "expires_in": LIFETIME_SECONDS}
        if scope:
            document["scope"] = " ".join(scope)
        return Answer(200, _NO_STORE, json.dumps(document).encode(), None)


def _form(request: Request) -> dict[str, str]:
    """The fields that have a value; one without counts as not sent, RFC 6749, 3.2."""
    content_type = str(request.environ.get("CONTENT_TYPE", "")).partition(";")[0].strip().lower()
    if content_type != "application/x-www-form-urlencoded":
        raise _Refused("invalid_request", "Expected a body of application/x-www-form-urlencoded.")
    if request.environ.get("QUERY_STRING"):
        raise _Refused("invalid_request", "Expected nothing in the query: it is written to logs.")
    try:
        pairs = parse_qsl(
            request.body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_FIELDS_MAX
        )
    except ValueError:
        raise _Refused("invalid_request", "Expected a form of a few fields, in UTF-8.") from None
    if len({name for name, _ in pairs}) != len(pairs):
        raise _Refused("invalid_request", "A field is there twice.")
    return {name: value for name, value in pairs if value}
