import base64
import json
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from urllib.parse import urlencode

import pytest

from receiver.auth import Request
from receiver.auth.jwts import Unreadable
from receiver.auth.token_endpoint import Access, TokenEndpoint
from receiver.auth.tokens import OwnTokens
from receiver.settings import Client

NOW = datetime(2027, 1, 1, tzinfo=UTC)
KEY = b"the-secret-key-of-this-service"
SECRET = "retarus-secret-0123456789"
ODD = "a%41 b+c:d&e=f-0123456789"
CLIENTS = {
    "retarus": Client("retarus", SECRET),
    "hashed": Client("hashed", "sha256:" + sha256(SECRET.encode()).hexdigest()),
    "odd": Client("odd", ODD),
    "looks": Client("looks", "scrypt:that-is-no-hash"),
    "nobody": Client("nobody", SECRET),
}
ACCESSES = [
    Access("a", ("fax.push",), ("retarus", "hashed", "odd", "looks")),
    Access("b", ("fax.pull",), ("retarus",)),
]
FORM = "application/x-www-form-urlencoded"
GRANT = {"grant_type": "client_credentials"}


def endpoint(clients=CLIENTS, accesses=ACCESSES):
    return TokenEndpoint(OwnTokens("faxhook", [KEY], clients), clients.values(), accesses, clock=lambda: NOW)


def login(client, secret):
    return "Basic " + base64.b64encode(f"{client}:{secret}".encode()).decode()


def ask(form, authorization=None, *, content_type=FORM, query="", of=None):
    environ = {"REQUEST_METHOD": "POST", "CONTENT_TYPE": content_type, "QUERY_STRING": query}
    if authorization:
        environ["HTTP_AUTHORIZATION"] = authorization
    body = form if isinstance(form, bytes) else urlencode(form).encode()
    answer = (of or endpoint()).answer(Request(environ, body))
    assert ("Cache-Control", "no-store") in answer.headers
    assert ("Pragma", "no-cache") in answer.headers
    document = json.loads(answer.body)
    assert document.get("error") == answer.code
    return answer, document


def claims(document, *, key=KEY, clients=CLIENTS, issuer="faxhook"):
    return OwnTokens(issuer, [key] if isinstance(key, bytes) else key, clients).claims(document["access_token"])


def refusal(*args, **kwargs):
    answer, document = ask(*args, **kwargs)
    assert answer.status == 400 or answer.code == "invalid_client"
    assert "access_token" not in document
    return answer.code


def test_a_client_that_shows_its_secret_gets_a_token_of_ten_minutes():
    answer, document = ask(GRANT, login("retarus", SECRET))
    assert answer.status == 200
    assert document["token_type"] == "Bearer"
    assert document["expires_in"] == 600
    assert document["scope"] == "fax.pull fax.push"
    found = claims(document)
    assert found["exp"] == NOW.timestamp() + 600
    assert found["sub"] == found["client_id"] == "retarus"
    assert found["aud"] == ["a", "b"]
    assert found["jti"] != claims(ask(GRANT, login("retarus", SECRET))[1])["jti"]


@pytest.mark.parametrize(
    ("form", "authorization"),
    [
        ({**GRANT, "client_id": "retarus", "client_secret": SECRET}, None),
        ({**GRANT, "client_id": "retarus"}, login("retarus", SECRET)),
        (GRANT, login("hashed", SECRET)),
        (GRANT, login("odd", ODD)),
        (GRANT, login("odd", "a%2541+b%2Bc%3Ad%26e%3Df-0123456789")),
        ({**GRANT, "client_id": "odd", "client_secret": ODD}, None),
        (GRANT, login("looks", "scrypt:that-is-no-hash")),
        ({**GRANT, "unknown": "parameter"}, login("retarus", SECRET)),
    ],
)
def test_the_secret_comes_in_the_header_or_in_the_form(form, authorization):
    answer, document = ask(form, authorization)
    assert answer.status == 200
    assert "a" in claims(document)["aud"]


def test_a_token_is_for_the_endpoints_that_allow_its_client_only():
    assert claims(ask(GRANT, login("hashed", SECRET))[1])["aud"] == ["a"]
    assert refusal(GRANT, login("nobody", SECRET)) == "unauthorized_client"
    to_all = endpoint(accesses=[Access("c", (), ())])
    _, document = ask(GRANT, login("nobody", SECRET), of=to_all)
    assert "scope" not in document
    assert claims(document)["aud"] == ["c"]


@pytest.mark.parametrize(
    ("form", "authorization", "query", "code"),
    [
        ({**GRANT, "client_id": "retarus", "client_secret": SECRET}, login("retarus", SECRET), "", "invalid_request"),
        ({**GRANT, "client_id": "hashed"}, login("retarus", SECRET), "", "invalid_request"),
        ({}, login("retarus", SECRET), "", "invalid_request"),
        ({"grant_type": ""}, login("retarus", SECRET), "", "invalid_request"),
        ({}, login("retarus", SECRET), "grant_type=client_credentials", "invalid_request"),
        (GRANT, login("retarus", SECRET), "scope=x", "invalid_request"),
        ({"grant_type": "password"}, login("retarus", SECRET), "", "unsupported_grant_type"),
        ({"grant_type": "Client_Credentials"}, login("retarus", SECRET), "", "unsupported_grant_type"),
        ([*GRANT.items(), *GRANT.items()], login("retarus", SECRET), "", "invalid_request"),
        ({**GRANT, "scope": "fax.push admin"}, login("retarus", SECRET), "", "invalid_scope"),
        ({**GRANT, "scope": "fax.pull"}, login("hashed", SECRET), "", "invalid_scope"),
        ([*GRANT.items(), ("scope", "a"), ("scope", "a")], login("retarus", SECRET), "", "invalid_request"),
        ([("x" + str(n), "") for n in range(21)], login("retarus", SECRET), "", "invalid_request"),
        (b"grant_type=\xff", login("retarus", SECRET), "", "invalid_request"),
        (b"grant_type=%ff", login("retarus", SECRET), "", "invalid_request"),
        (GRANT, "Basic !!!", "", "invalid_request"),
        (GRANT, login("retarus", SECRET) + "," + login("retarus", SECRET), "", "invalid_request"),
    ],
)
def test_what_is_asked_wrongly_gets_none(form, authorization, query, code):
    assert refusal(form, authorization, query=query) == code


@pytest.mark.parametrize("content_type", ["application/json", "", "multipart/form-data; boundary=x"])
def test_only_a_form_is_read(content_type):
    assert refusal(GRANT, login("retarus", SECRET), content_type=content_type) == "invalid_request"
    assert ask(GRANT, login("retarus", SECRET), content_type=FORM + "; charset=utf-8")[0].status == 200


def test_an_empty_scope_is_the_default_and_a_part_of_it_is_given_as_asked():
    assert ask({**GRANT, "scope": ""}, login("retarus", SECRET))[1]["scope"] == "fax.pull fax.push"
    document = ask({**GRANT, "scope": "fax.push"}, login("retarus", SECRET))[1]
    assert document["scope"] == claims(document)["scope"] == "fax.push"


def test_who_is_not_known_is_told_nothing_more():
    answers = [
        ask(GRANT, login("retarus", SECRET + "x"))[0],
        ask(GRANT, login("unknown", SECRET))[0],
        ask({**GRANT, "client_id": "unknown", "client_secret": SECRET})[0],
        ask({**GRANT, "client_id": "retarus", "client_secret": "x"})[0],
        ask({**GRANT, "client_id": "retarus"})[0],
        ask(GRANT, login("hashed", CLIENTS["hashed"].secret))[0],
        ask(GRANT)[0],
        ask(GRANT, "Bearer abc")[0],
        ask({**GRANT, "client_id": "retarus", "client_secret": ""})[0],
    ]
    assert {answer.status for answer in answers} == {401}
    assert {answer.code for answer in answers} == {"invalid_client"}
    assert len({(answer.body, answer.headers) for answer in answers}) == 1
    assert ("WWW-Authenticate", 'Basic realm="faxhook"') in answers[0].headers


# --- the tokens -----------------------------------------------------------------------------------------------------


def test_a_token_ends_with_its_client_or_its_secret():
    document = ask(GRANT, login("retarus", SECRET))[1]
    others = {"hashed": CLIENTS["hashed"]}
    for clients in (others, {**others, "retarus": Client("retarus", "another-secret-0123456789")}, {}):
        with pytest.raises(Unreadable, match="client"):
            claims(document, clients=clients)
    # the same secret, written in the other form
    same = {"retarus": Client("retarus", "sha256:" + sha256(SECRET.encode()).hexdigest())}
    assert claims(document, clients=same)["sub"] == "retarus"


def test_the_first_key_signs_and_all_verify():
    document = ask(GRANT, login("retarus", SECRET))[1]
    assert claims(document, key=[b"a-new-key-0123456789", KEY])["sub"] == "retarus"
    with pytest.raises(Unreadable, match="signature"):
        claims(document, key=[b"a-new-key-0123456789"])


def test_tokens_of_another_issuer_type_or_algorithm_are_not_ours():
    document = ask(GRANT, login("retarus", SECRET))[1]
    with pytest.raises(Unreadable, match="issuer"):
        claims(document, issuer="https://hooks.example.com")
    _, payload, signature = document["access_token"].split(".")
    for header, reason in [
        ({"alg": "none", "typ": "at+jwt"}, "algorithm"),
        ({"alg": "HS512", "typ": "at+jwt"}, "algorithm"),
        ({"alg": "HS256", "typ": "JWT"}, "type"),
        ({"alg": "HS256"}, "type"),
    ]:
        other = base64.urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=").decode()
        with pytest.raises(Unreadable, match=reason):
            claims({"access_token": f"{other}.{payload}.{signature}"})


def test_the_version_of_a_secret_tells_nothing_about_it():
    document = ask(GRANT, login("retarus", SECRET))[1]
    same = ask(GRANT, login("hashed", SECRET))[1]
    assert claims(document)["cv"] != claims(same)["cv"]
    assert claims(document)["cv"] not in sha256(SECRET.encode()).hexdigest()
    assert claims(document)["exp"] > (NOW + timedelta(seconds=599)).timestamp()
