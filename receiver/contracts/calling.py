"""OpenAPI 3.1: what can be called, and how each call is answered."""

from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from receiver import __version__, errors, providers
from receiver.contracts.answers import OF_CALLBACKS, OF_JOBS, OF_REFERENCES, OF_TOKENS, REFUSALS
from receiver.contracts.bodies import OPENAPI, Bodies
from receiver.contracts.own_bodies import OWN_BODIES
from receiver.settings import ANSWERS

Refusals = Iterable[type[errors.Refusal]]

# How a callback of each authentication mode shows who sent it; None: by nothing that OpenAPI has a word for.
SECURITY: Mapping[str, str | None] = {
    "none": None,
    "basic": "basic",
    "digest": "digest",
    "oauth2": "token",
    "hmac": "signature",
    "payload": None,
}
_SCHEMES = {
    "basic": {"type": "http", "scheme": "basic"},
    "digest": {"type": "http", "scheme": "digest"},
    "token": {"type": "http", "scheme": "bearer", "description": "Of your identity provider, or of /oauth2/token."},
    "signature": {
        "type": "apiKey",
        "in": "header",
        "name": "webhook-signature",
        "description": "Standard Webhooks, or the header that the endpoint's configuration names.",
    },
    "client": {"type": "http", "scheme": "basic", "description": "Id and secret of a client in [oauth2.clients]."},
    "jobKey": {"type": "http", "scheme": "bearer", "description": "One of the endpoint's job_keys."},
    "operator": {"type": "http", "scheme": "bearer", "description": "[server] ops_token; not needed from loopback."},
}
_ENDPOINT = {
    "name": "endpoint",
    "in": "path",
    "required": True,
    "description": "Its name in the configuration.",
    "schema": {"type": "string", "pattern": "^[a-z0-9][a-z0-9-]{0,62}$"},
}
_TOKEN = {
    "name": "token",
    "in": "path",
    "required": True,
    "description": "One of the endpoint's tokens, where it has any.",
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9._~-]{2,}$"},
}
_REFERENCE = {
    "name": "reference",
    "in": "path",
    "required": True,
    "description": "Your own id of the fax, for providers whose callback URL is given with each fax.",
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9._~-]{1,128}$"},
}
_BUSINESS_REFERENCE = {
    "name": "reference",
    "in": "path",
    "required": True,
    "description": "The id of your own that your faxes have in common; percent-encoded, it may hold anything.",
    "schema": {"type": "string"},
}
_HEADERS = {
    401: {"WWW-Authenticate": {"description": "The challenge.", "schema": {"type": "string"}}},
    405: {"Allow": {"description": "The methods.", "schema": {"type": "string"}}},
    503: {"Retry-After": {"description": "Seconds.", "schema": {"type": "string"}}},
}

# What gunicorn refuses before it is a request of ours.
_NO_REQUEST = {
    "description": "No proper HTTP request, or one with too long a line or header: 400, 414, 417, 431 or 501.",
    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
}
_OTHERS = {"default": {"$ref": "#/components/responses/NoRequest"}}


def document() -> dict[str, Any]:
    """Of this version, with every provider."""
    bodies = Bodies(providers.load().values())
    return {
        "openapi": OPENAPI,
        "info": {
            "title": "faxhook",
            "version": __version__,
            "description": (
                "What providers, your own systems and operators call. What a callback holds is the provider's to say:"
                " its fields are listed as far as they are read. What comes of it is published; see AsyncAPI."
            ),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [
            {"name": "callbacks", "description": "For providers."},
            {"name": "own systems", "description": "For those who send faxes, and for clients that need tokens."},
            {"name": "operations", "description": "For operators and their tools."},
        ],
        "paths": {**_callbacks(bodies), **_of_own_systems(bodies), **_operations()},
        "components": {
            "schemas": {**OWN_BODIES, **bodies.components},
            "responses": {"NoRequest": _NO_REQUEST},
            "securitySchemes": _SCHEMES,
        },
    }


# --- callbacks --------------------------------------------------------------------------------------------------------


def _callbacks(bodies: Bodies) -> dict[str, Any]:
    shapes = (
        ("Callback", "", (_ENDPOINT,)),
        ("CallbackWithToken", "/{token}", (_ENDPOINT, _TOKEN)),
        ("CallbackWithReference", "/r/{reference}", (_ENDPOINT, _REFERENCE)),
        ("CallbackWithTokenAndReference", "/{token}/r/{reference}", (_ENDPOINT, _TOKEN, _REFERENCE)),
    )
    return {f"/callbacks/{{endpoint}}{rest}": _callback(name, parameters, bodies) for name, rest, parameters in shapes}


def _callback(name: str, parameters: Sequence[Mapping[str, Any]], bodies: Bodies) -> dict[str, Any]:
    security = [{}, *(_by(scheme) for scheme in SECURITY.values() if scheme)]
    shared = {"tags": ["callbacks"], "security": security, "responses": _answers()}
    fields = {
        "name": "fields",
        "in": "query",
        "required": True,
        "explode": True,
        "description": "The fields of the callback, each a parameter of its own.",
        "schema": {"anyOf": bodies.query},
    }
    return {
        "parameters": list(parameters),
        "post": {
            "operationId": f"post{name}",
            "summary": "A provider announces the end of faxes.",
            "description": "What the body is, is told by how it begins: providers mislabel it.",
            "requestBody": {"content": bodies.content},
            **shared,
        },
        "get": {
            "operationId": f"get{name}",
            "summary": "The same in the query string, of providers that document it.",
            "parameters": [fields],
            **shared,
        },
        "head": {
            "operationId": f"head{name}",
            "summary": "Whether the address is right: portals look before they save it.",
            "tags": ["callbacks"],
            "responses": {
                "200": {"description": "It is."},
                "404": {"description": "No such endpoint, or token."},
                **_OTHERS,
            },
        },
    }


def _answers() -> dict[str, Any]:
    taken = "Committed to disk: accepted, partial, duplicate or ignored."
    ours = {"application/json": {"schema": _of("CallbackAnswer")}}
    theirs = {}
    for provider in providers.load().values():
        if provider.callback is not None and (success := provider.callback.success) is not None:
            media_type = success.content_type.partition(";")[0]
            theirs[media_type] = {"schema": {"type": "string", "const": success.body.decode()}}
    answers: dict[str, Any] = {str(status): {"description": taken, "content": ours} for status in ANSWERS}
    answers["200"] = {"description": taken, "content": ours | theirs}
    answers["204"] = {"description": taken}
    return answers | _refusals(OF_CALLBACKS)


# --- jobs and tokens --------------------------------------------------------------------------------------------------


def _of_own_systems(bodies: Bodies) -> dict[str, Any]:
    job = {"application/json": {"schema": _of("JobAnswer")}}
    token = {"application/json": {"schema": _of("Token")}}
    refused = {"application/json": {"schema": _of("TokenError")}}
    of_tokens = _refusals(OF_TOKENS)
    of_tokens["400"]["content"] |= refused
    return {
        "/jobs": {
            "post": {
                "operationId": "registerJob",
                "tags": ["own systems"],
                "summary": "Faxes that you have sent, and whose end is expected.",
                "description": "Only where an endpoint has job_keys.",
                "security": [_by("jobKey")],
                "requestBody": {"required": True, "content": {"application/json": {"schema": bodies.job}}},
                "responses": {
                    "200": {"description": "Nothing of it was new.", "content": job},
                    "201": {"description": "Registered.", "content": job},
                    **_refusals(OF_JOBS),
                },
            }
        },
        "/references/{reference}": {
            "parameters": [_BUSINESS_REFERENCE],
            "get": {
                "operationId": "readReference",
                "tags": ["own systems"],
                "summary": "All faxes of one business reference, and whether one of them is delivered.",
                "description": "Only where an endpoint has job_keys; only faxes of the accounts that the key opens.",
                "security": [_by("jobKey")],
                "responses": {
                    "200": {
                        "description": "Its faxes, the newest first.",
                        "content": {"application/json": {"schema": _of("ReferenceAnswer")}},
                    },
                    **_refusals(OF_REFERENCES),
                },
            },
        },
        "/oauth2/token": {
            "post": {
                "operationId": "fetchToken",
                "tags": ["own systems"],
                "summary": "An access token for the endpoints whose issuer is self (RFC 6749, client_credentials).",
                "description": "Only where an endpoint's auth.issuer is self.",
                "security": [_by("client"), {}],
                "requestBody": {
                    "required": True,
                    "content": {"application/x-www-form-urlencoded": {"schema": _of("TokenRequest")}},
                },
                "responses": {
                    "200": {"description": "The token.", "content": token},
                    **of_tokens,
                    "401": {"description": "Not a client.", "headers": _HEADERS[401], "content": refused},
                },
            }
        },
    }


# --- operations -------------------------------------------------------------------------------------------------------


def _operations() -> dict[str, Any]:
    details = {"application/json": {"schema": {"type": "object"}}, "text/plain": {"schema": {"type": "string"}}}
    operator = [_by("operator"), {}]
    return {
        "/healthz": _read("health", "The process is alive.", {"200": {"description": "It is."}}),
        "/readyz": _read(
            "readiness",
            "Whether a 2xx can be promised; details for operators only.",
            {
                "200": {"description": "It can.", "content": details},
                "503": {"description": "It cannot.", "content": details},
            },
            security=operator,
        ),
        "/metrics": _read(
            "metrics",
            "For Prometheus.",
            {"200": {"description": "Its text format.", "content": {"text/plain": {"schema": {"type": "string"}}}}}
            | _refusals([errors.NotFound]),
            security=operator,
        ),
        "/openapi.json": _read("openapi", "This document.", _document("application/json")),
        "/asyncapi.json": _read("asyncapi", "What is published.", _document("application/json")),
        "/schemas/fax-completed.v1.json": _read(
            "eventSchema", "JSON Schema of an event.", _document("application/schema+json")
        ),
    }


def _read(name: str, summary: str, responses: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    operation = {"operationId": name, "tags": ["operations"], "summary": summary, "responses": {**responses, **_OTHERS}}
    return {"get": operation | more}


def _document(media_type: str) -> dict[str, Any]:
    return {"200": {"description": "The document.", "content": {media_type: {"schema": {"type": "object"}}}}}


# --- parts ------------------------------------------------------------------------------------------------------------


def _of(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _by(scheme: str) -> dict[str, list[str]]:
    return {scheme: []}


def _refusals(refusals: Refusals) -> dict[str, Any]:
    """By status, each with the codes that it may have."""
    codes: dict[int, list[str]] = {}
    for refusal in refusals:
        codes.setdefault(refusal.status, []).append(refusal.code)
    said = {code: situation for situation, some in REFUSALS for code in (one.code for one in some)}
    answers: dict[str, Any] = {}
    for status, some in sorted(codes.items()):
        own = [*some, "bad_request"] if status == HTTPStatus.BAD_REQUEST else some
        narrowed = {"allOf": [_of("Problem"), {"properties": {"code": {"enum": own}, "status": {"const": status}}}]}
        answers[str(status)] = {
            "description": f"{HTTPStatus(status).phrase}: {'; '.join(dict.fromkeys(said[code] for code in some))}.",
            "content": {"application/problem+json": {"schema": narrowed}},
            **({"headers": _HEADERS[status]} if status in _HEADERS else {}),
        }
    return answers | _OTHERS
