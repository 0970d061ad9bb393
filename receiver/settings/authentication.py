"""endpoints.<name>.auth, and [oauth2]: who may call, mode by mode."""

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime, timedelta

from receiver.settings import forms
from receiver.settings.model import Auth, Client, Credential, Digest, Endpoint, Introspection, OAuth2, Signature
from receiver.settings.tables import Table

# Each mode with the keys it takes beside "mode".
AUTH_MODES: Mapping[str, tuple[str, ...]] = {
    "none": (),
    "basic": ("realm", "credentials"),
    "digest": ("realm", "credentials", "algorithms", "nonce_lifetime", "ignore_query", "prefix"),
    "oauth2": (
        *("realm", "issuer", "audience", "scope", "jwks_uri", "algorithms", "typ", "leeway"),
        *("required_claims", "allowed_clients", "introspection"),
    ),
    "hmac": ("secrets", "header", "encoding", "prefix", "timestamp_header", "tolerance"),
    "payload": ("credentials",),
}
SELF = "self"  # the issuer whose tokens POST /oauth2/token gives out
DIGEST_ALGORITHMS = ("MD5", "SHA-256")
JWT_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
_CREDENTIAL_KEYS = ("id", "user", "password", "not_before", "not_after")
_REALM = "characters of [A-Za-z0-9 ._-]"
_HTTPS = "an https:// URL (http:// only to loopback)"
_SCOPES = r"[!#-\[\]-~]+(?: [!#-\[\]-~]+)*"  # RFC 6749, 3.3; also safe inside the quotes of a challenge
_SCOPE = "scopes, with a space between"
_TYP = '"at+jwt", or no key at all to take JWT and none as well'
_WORD = "printable ASCII without spaces"


def auth(endpoint: Table) -> Auth:
    """The ``auth`` of one endpoint."""
    if "auth" not in endpoint.values:
        raise endpoint.error("auth", 'missing; expected to be written out, such as { mode = "none" }, or reports')
    # All keys first: which of them are right depends on the mode.
    mode = endpoint.table("auth", None).required("mode", f"one of {', '.join(AUTH_MODES)}")
    if mode not in AUTH_MODES:
        raise endpoint.error("auth.mode", f"unknown mode; expected one of {', '.join(AUTH_MODES)}")
    table = endpoint.table("auth", ("mode", *AUTH_MODES[mode]))
    realm = table.one("realm", forms.matching("[A-Za-z0-9 ._-]+"), _REALM) or "faxhook"
    match mode:
        case "digest":
            return _digest(table, realm)
        case "oauth2":
            return _oauth2(table, realm)
        case "hmac":
            return _signature(table)
    return Auth(mode, realm, tuple(_credentials(table, mode)) if "credentials" in AUTH_MODES[mode] else ())


def clients(root: Table) -> dict[str, Client]:
    """[oauth2.clients.<client_id>]: who may fetch tokens from POST /oauth2/token."""
    table = root.table("oauth2", ("clients",)).table("clients", None)
    found = {}
    for name in table.values:
        if not re.fullmatch(r"[A-Za-z0-9._~-]{1,128}", name):
            raise table.error(name, "expected a client_id of 1 to 128 characters of [A-Za-z0-9._~-]")
        one = table.table(name, ("secret",))
        secret = one.one("secret", forms.client_secret, forms.CLIENT_SECRET)
        if secret is None:
            raise one.error("secret", f"missing; expected {forms.CLIENT_SECRET}")
        found[name] = Client(name, secret)
    return found


def check_own_tokens(root: Table, endpoints: Mapping[str, Endpoint], known: Mapping[str, Client]) -> None:
    """Refuse endpoints whose tokens nobody could fetch."""
    for endpoint in endpoints.values():
        auth = endpoint.auth
        if not isinstance(auth, OAuth2) or auth.issuer != SELF:
            continue
        if not known:
            raise root.error(
                "oauth2.clients", f'missing; endpoints.{endpoint.name}.auth.issuer is "{SELF}" and expects a client'
            )
        for index, name in enumerate(auth.allowed_clients):
            if name not in known:
                raise root.error(
                    f"endpoints.{endpoint.name}.auth.allowed_clients[{index}]", "expected one of [oauth2.clients.<id>]"
                )


# --- digest ---------------------------------------------------------------------------------------------------------


def _digest(table: Table, realm: str) -> Digest:
    algorithms = table.many("algorithms", forms.one_of(DIGEST_ALGORITHMS), " or ".join(DIGEST_ALGORITHMS))
    # In the order clients need: most read the first challenge and know MD5, Java's last one is the one it takes.
    offered = tuple(one for one in DIGEST_ALGORITHMS if one in (algorithms or DIGEST_ALGORITHMS))
    found = Digest(
        mode="digest",
        realm=realm,
        credentials=tuple(_credentials(table, "digest")),
        algorithms=offered,
        nonce_lifetime=table.one("nonce_lifetime", forms.period, forms.PERIOD) or timedelta(seconds=300),
        ignore_query=table.flag("ignore_query"),
        prefix=table.one("prefix", forms.matching(r"/[!-~]*[^/?#\s]"), 'a path such as "/fax"') or "",
    )
    for index, credential in enumerate(found.credentials):
        _refuse_missing_ha1(table, index, credential, offered)
    return found


def _refuse_missing_ha1(table: Table, index: int, credential: Credential, offered: tuple[str, ...]) -> None:
    if not credential.password.startswith("ha1:"):
        return
    lengths = {len(one) for one in credential.password.split(":")[1:]}
    missing = [one for one in offered if forms.HA1_LENGTHS[one] not in lengths]
    if missing:
        raise table.error(
            f"credentials[{index}].password",
            f"expected the ha1: of {' and '.join(offered)}, which are offered; that of {missing[0]} is missing."
            " algorithms = [...] can offer fewer",
        )


# --- oauth2 ---------------------------------------------------------------------------------------------------------


def _oauth2(table: Table, realm: str) -> OAuth2:
    issuer = table.one("issuer", _issuer, f'"{SELF}" or {_HTTPS}')
    introspection = _introspection(table) if "introspection" in table.values else None
    if issuer is None and introspection is None:
        raise table.error("issuer", f'missing; expected "{SELF}" or {_HTTPS}')
    audience = table.one("audience", forms.matching("[!-~]+"), _WORD)
    if audience is None and issuer != SELF:
        expected = "the `aud` that your identity provider puts into tokens for faxhook"
        raise table.error("audience", f"missing; expected {expected}: without it, any of its tokens would be accepted")
    if issuer == SELF:
        for key in ("jwks_uri", "algorithms", "typ", "required_claims", "introspection"):
            if key in table.values:
                raise table.error(key, f'not for issuer "{SELF}", whose tokens faxhook makes itself')
    if introspection is not None:
        for key in ("jwks_uri", "algorithms", "typ"):
            if key in table.values:
                raise table.error(key, "not beside introspection, which is asked about every token")
    return OAuth2(
        mode="oauth2",
        realm=realm,
        credentials=(),
        issuer=issuer,
        audience=audience,
        scope=tuple((table.one("scope", forms.matching(_SCOPES), _SCOPE) or "").split()),
        jwks_uri=table.one("jwks_uri", forms.secure_url, _HTTPS),
        algorithms=table.many("algorithms", forms.one_of(JWT_ALGORITHMS), f"one of {', '.join(JWT_ALGORITHMS)}")
        or ("RS256", "PS256", "ES256", "EdDSA"),
        at_jwt_only=table.one("typ", forms.one_of(("at+jwt",)), _TYP) is not None,
        leeway=_or(table.one("leeway", forms.period_or_zero, forms.PERIOD), timedelta(seconds=60)),
        required_claims=_required_claims(table),
        allowed_clients=table.many("allowed_clients", forms.matching("[!-~]+"), _WORD),
        introspection=introspection,
    )


def _issuer(text: str) -> str:
    return text if text == SELF else forms.secure_url(text)


def _introspection(table: Table) -> Introspection:
    one = table.table("introspection", ("url", "client_id", "client_secret"))
    url = one.one("url", forms.secure_url, _HTTPS)
    if url is None:
        raise one.error("url", f"missing; expected {_HTTPS}")
    return Introspection(
        url, one.required("client_id", "our client_id there"), one.required("client_secret", "our secret there")
    )


def _required_claims(table: Table) -> dict[str, str]:
    claims = table.table("required_claims", None)
    return {name: claims.required(name, "the value the claim has, or that its list holds") for name in claims.values}


# --- hmac -----------------------------------------------------------------------------------------------------------


def _signature(table: Table) -> Signature:
    """Standard Webhooks, or with ``header`` the variant that it describes."""
    header = table.one("header", forms.header, forms.HEADER)
    own = ("encoding", "prefix", "timestamp_header")
    for key in own if header is None else ():
        if key in table.values:
            raise table.error(key, "expected header beside it: Standard Webhooks has no such choice")
    secret = forms.webhook_secret if header is None else forms.secret
    expected = forms.WEBHOOK_SECRET if header is None else forms.SECRET
    secrets = table.many("secrets", secret, expected)
    if not secrets:
        raise table.error("secrets", f"missing; expected {expected}")
    return Signature(
        mode="hmac",
        realm="",
        credentials=(),
        secrets=secrets,
        header=header,
        encoding=table.one("encoding", forms.one_of(("hex", "base64")), '"hex" or "base64"') or "hex",
        prefix=table.text("prefix", empty_ok=True) or "",
        timestamp_header=table.one("timestamp_header", forms.header, forms.HEADER),
        tolerance=table.one("tolerance", forms.period, forms.PERIOD) or timedelta(minutes=5),
    )


# --- credentials ----------------------------------------------------------------------------------------------------


def _credentials(auth: Table, mode: str) -> Iterator[Credential]:
    items = auth.items("credentials", "tables")
    if not items:
        raise auth.error("credentials", f'missing; mode "{mode}" expects at least one {{ user, password }}')
    for place, item in items.items():
        yield _credential(Table(auth.source, auth.key(place), item, _CREDENTIAL_KEYS), mode)


def _credential(table: Table, mode: str) -> Credential:
    user = table.required("user", "a user's name")
    if mode == "basic" and ":" in user:
        raise table.error("user", "expected no colon: Basic cannot send one")
    convert, expected = _password_form(mode)
    password = table.one("password", convert, expected)
    if password is None:
        raise table.error("password", f"missing; expected {expected}")
    not_before, not_after = _when(table, "not_before"), _when(table, "not_after")
    if not_before is not None and not_after is not None and not_before >= not_after:
        raise table.error("not_after", "expected to be later than not_before")
    return Credential(table.text("id"), user, password, not_before, not_after)


def _password_form(mode: str) -> tuple[Callable[[str], str], str]:
    if mode == "digest":
        return forms.digest_password, forms.DIGEST_CREDENTIAL_FORMS
    return forms.password, forms.CREDENTIAL_FORMS


def _when(table: Table, key: str) -> datetime | None:
    value = table.values.get(key)
    if not isinstance(value, date):
        return table.one(key, forms.instant, forms.WHEN)
    try:
        return forms.in_utc(value)
    except ValueError:
        raise table.error(key, f"expected {forms.WHEN}") from None


def _or(given: timedelta | None, default: timedelta) -> timedelta:
    return default if given is None else given
