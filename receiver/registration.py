"""
``POST /jobs``: which faxes were sent, from those who have a key of the endpoint (RFC 6750).

The endpoint is named inside the body, and nobody is told anything of a body without a key. So the key comes first: it
says which endpoints its holder may name, and any other one is the same 401.
"""

import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from receiver import body as request_body
from receiver import expecting
from receiver.errors import Challenged, Refusal, Unauthorized, UnsupportedBody
from receiver.logs import log
from receiver.runtime import Account, Runtime
from receiver.store.jobs import Registered

_CHALLENGE = ("WWW-Authenticate", 'Bearer realm="faxhook"')
_EXPECTED = "Expected a key of this endpoint as bearer token."


@dataclass(frozen=True, slots=True)
class Registration:
    """A document from somebody who may register faxes of this account. Not checked yet."""

    account: Account
    document: Mapping[str, Any]


def admit(environ: Mapping[str, Any], accounts: Mapping[str, Account]) -> Registration:
    """
    Who calls, and for which endpoint.

    Raises Unauthorized, always the same one, where a key is missing or wrong or not of the endpoint in the body;
    TooLarge, UnsupportedBody, Undecodable and what else is wrong with a body only to a right key.
    """
    authorization = _authorization(environ)
    opened = _opened(authorization, accounts)
    try:
        body = request_body.read(environ, expecting.LONGEST)
    except Refusal:
        if not opened:
            raise _unauthorized(authorization) from None
        raise
    if not opened:
        raise _unauthorized(authorization)
    if str(environ.get("CONTENT_TYPE", "")).partition(";")[0].strip().lower() != "application/json":
        raise UnsupportedBody("expected JSON, with Content-Type application/json")
    document = expecting.read(body)
    name = document.get("endpoint")
    if isinstance(name, str):
        if name not in opened:
            raise _unauthorized(authorization)
        return Registration(opened[name], document)
    expecting.check(document)
    raise AssertionError  # an endpoint that is no text does not pass


def opened(environ: Mapping[str, Any], accounts: Mapping[str, Account]) -> dict[str, Account]:
    """The endpoints that the caller's key is one of. Raises Unauthorized, as ``admit`` does, where there is none."""
    authorization = _authorization(environ)
    found = _opened(authorization, accounts)
    if not found:
        raise _unauthorized(authorization)
    return found


def register(registration: Registration, runtime: Runtime) -> tuple[int, bytes]:
    """
    Status and JSON of the answer: 201, or 200 where nothing of it was new.

    Raises Unprocessable, and Unavailable where nothing is registered.
    """
    faxes = expecting.expect(expecting.check(registration.document), registration.account, runtime)
    registered = expecting.register(runtime.store, faxes)
    new = sum(one.state == "expected" for one in registered.values())
    log.info("job_registered", endpoint=registration.account.endpoint, count=new)
    answer = {
        "status": "registered",
        "faxes": [_described(fax.fax_id, registered[fax.fax_id]) for fax in faxes],
    }
    return 201 if new else 200, json.dumps(answer).encode()


def _described(fax_id: str, registered: Registered) -> dict[str, str]:
    known = {"outcome": registered.outcome, "event": registered.event_id}
    return {"fax_id": fax_id, "state": registered.state} | {name: said for name, said in known.items() if said}


def _authorization(environ: Mapping[str, Any]) -> str:
    return str(environ.get("HTTP_AUTHORIZATION", "")).strip(" \t")


def _opened(authorization: str, accounts: Mapping[str, Account]) -> dict[str, Account]:
    """The endpoints this key is one of. Every key of every endpoint is compared, whichever is right."""
    scheme, _, key = authorization.partition(" ")
    digest = sha256(key.strip(" ").encode("utf-8", "surrogatepass")).digest()
    opened = {}
    for name, account in accounts.items():
        is_right = False
        for known in account.job_keys:
            is_right |= hmac.compare_digest(digest, known.digest)
        if is_right and scheme.lower() == "bearer":
            opened[name] = account
    return opened


def _unauthorized(authorization: str) -> Unauthorized:
    kind = Unauthorized if authorization else Challenged
    return kind(_EXPECTED, headers=[_CHALLENGE])
