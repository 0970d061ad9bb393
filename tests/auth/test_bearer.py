"""What bearer.py decides by itself; the rest is in the conformance tests, over HTTP."""

from datetime import UTC, datetime, timedelta

import pytest

from receiver import errors
from receiver.auth import Request
from receiver.auth.bearer import _DESCRIPTIONS, Bearer, InvalidToken
from receiver.auth.jwts import Unreadable
from receiver.settings import OAuth2

NOW = datetime(2027, 1, 1, tzinfo=UTC)


def options(**changed):
    known = {
        "mode": "oauth2",
        "realm": "retarus",
        "credentials": (),
        "issuer": "https://login.example.com/",
        "audience": "faxhook",
        "scope": (),
        "jwks_uri": None,
        "algorithms": ("RS256",),
        "at_jwt_only": False,
        "leeway": timedelta(seconds=60),
        "required_claims": {},
        "allowed_clients": (),
        "introspection": None,
    }
    return OAuth2(**{**known, **changed})


class Source:
    """Takes any token, and remembers which."""

    def __init__(self, claims):
        self.given = claims
        self.tokens = []

    def claims(self, token):
        self.tokens.append(token)
        if isinstance(self.given, Exception):
            raise self.given
        return self.given


def verify(authorization, claims=None, *, query="", **changed):
    source = Source({"aud": "faxhook"} if claims is None else claims)
    environ = {"REQUEST_METHOD": "POST", "QUERY_STRING": query}
    if authorization is not None:
        environ["HTTP_AUTHORIZATION"] = authorization
    Bearer(options(**changed), "faxhook", source, clock=lambda: NOW).verify(Request(environ, b""))
    return source.tokens


@pytest.mark.parametrize("token", ["abc", "a.b.c", "A-Z._~+/09==", "x" * 8000])
def test_a_token_is_any_token68(token):
    assert verify(f"Bearer {token}") == [token]
    assert verify(f" \tbEARER \t {token} ") == [token]


@pytest.mark.parametrize(
    "header", ["Bearer =", "Bearer a=b", "Bearer a,", "Bearer a b", "Bearer \u00e9", "Bearer a\x00", "é", "x" * 8193]
)
def test_anything_else_is_malformed_and_not_repeated(header):
    with pytest.raises(errors.MalformedCredentials) as refused:
        verify(header)
    assert refused.value.headers[0][1].startswith('Bearer realm="retarus", error="invalid_request"')
    assert header not in str(refused.value.headers) + refused.value.detail


def test_a_caller_without_a_token_is_challenged_and_that_is_no_news():
    with pytest.raises(errors.Challenged) as refused:
        verify(None)
    assert refused.value.headers == (("WWW-Authenticate", 'Bearer realm="retarus"'),)


@pytest.mark.parametrize("reason", _DESCRIPTIONS)
def test_the_log_learns_the_reason_in_a_word(reason):
    with pytest.raises(InvalidToken) as refused:
        verify("Bearer abc", Unreadable(reason))
    assert refused.value.error == reason
    assert refused.value.detail == _DESCRIPTIONS[reason]


@pytest.mark.parametrize(
    ("leeway", "exp", "is_right"), [(60, -59, True), (60, -60, False), (0, 1, True), (0, 0, False), (0, -1, False)]
)
def test_leeway_is_as_configured(leeway, exp, is_right):
    claims = {"aud": "faxhook", "exp": NOW.timestamp() + exp}
    if is_right:
        assert verify("Bearer abc", claims, leeway=timedelta(seconds=leeway))
    else:
        with pytest.raises(InvalidToken):
            verify("Bearer abc", claims, leeway=timedelta(seconds=leeway))


def test_every_scope_and_claim_that_is_configured_is_needed():
    needed = {"scope": ("a", "b"), "required_claims": {"tenant": "t", "roles": "fax"}}
    claims = {"aud": "faxhook", "scope": "b c a", "tenant": "t", "roles": ["x", "fax"]}
    assert verify("Bearer abc", claims, **needed)
    for lacking in ({"scope": "a"}, {"tenant": "u"}, {"tenant": None}, {"roles": ["x"]}, {"roles": {"fax": 1}}):
        with pytest.raises(errors.Forbidden):
            verify("Bearer abc", {**claims, **lacking}, **needed)


def test_an_outage_of_the_issuer_stays_one():
    with pytest.raises(errors.Unavailable):
        verify("Bearer abc", errors.Unavailable("later"))
