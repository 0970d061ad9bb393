"""[console]: who may look into the store with a browser, and what they may do there."""

from collections.abc import Iterator
from types import MappingProxyType

from receiver.settings import forms
from receiver.settings.model import ROLES, Console, ConsoleUser
from receiver.settings.tables import LATER, Table

_KEYS = ("enabled", "auth", "users", "groups", "user_header", "groups_header")
_MODES = ("basic", "proxy")
_MODE = 'auth = "basic" with users, or "proxy" behind a proxy that signs in'
_ROLE = f"one of {', '.join(ROLES)}, or a list of them"
_USER = "1 to 100 printable characters, the first and the last not a blank"


def console(root: Table) -> Console | None:
    """None where it is not enabled; what is written there is checked all the same."""
    table = root.table("console", _KEYS)
    auth = table.text("auth")
    if auth == "oidc":
        raise table.error("auth", f'"oidc" {LATER}; expected {_MODE}, which may ask your identity provider')
    if auth is not None and auth not in _MODES:
        raise table.error("auth", f"expected {_MODE}")
    found = Console(
        auth=auth or "",
        users=tuple(_users(table)),
        groups=MappingProxyType(_groups(table)),
        user_header=table.one("user_header", forms.header, forms.HEADER) or "X-Forwarded-User",
        groups_header=table.one("groups_header", forms.header, forms.HEADER) or "X-Forwarded-Groups",
    )
    if not table.flag("enabled"):
        return None
    _refuse_useless(root, table, found)
    return found


def _refuse_useless(root: Table, table: Table, console: Console) -> None:
    """Raise ConfigurationError for a console that nobody could use."""
    if not console.auth:
        raise table.error("auth", f"missing; expected {_MODE}")
    unfit = ("groups", "user_header", "groups_header") if console.auth == "basic" else ("users",)
    for key in unfit:
        if key in table.values:
            raise table.error(key, f'expected without this key: auth = "{console.auth}" has no use for it')
    if console.auth == "basic":
        if not console.users:
            raise table.error("users", 'missing; expected a list of { user = "…", password = "…", role = "viewer" }')
        return
    if not any(console.groups.values()):
        raise table.error("groups", f"missing; expected the groups of at least one of {', '.join(ROLES)}")
    if not root.table("server", None).values.get("trusted_proxies"):
        raise table.error("auth", '"proxy" expects server.trusted_proxies: nobody else may say who somebody is')


def _users(table: Table) -> Iterator[ConsoleUser]:
    known = set()
    for place, entry in table.items("users", "tables").items():
        one = Table(table.source, table.key(place), entry, ("user", "password", "role"))
        user = one.one("user", _user, _USER)
        password = one.one("password", forms.password, forms.CREDENTIAL_FORMS)
        if user is None or password is None:
            missing, expected = ("user", _USER) if user is None else ("password", forms.CREDENTIAL_FORMS)
            raise one.error(missing, f"missing; expected {expected}")
        if user in known:
            raise one.error("user", "expected each user once; role may be a list")
        known.add(user)
        yield ConsoleUser(user, password, _roles(one))


def _user(text: str) -> str:
    if not text.isprintable() or text != text.strip() or len(text) > 100:
        raise ValueError
    return text


def _roles(user: Table) -> frozenset[str]:
    one_of = forms.one_of(ROLES)
    if isinstance(user.values.get("role"), list):
        return frozenset(user.many("role", one_of, f"one of {', '.join(ROLES)}"))
    role = user.one("role", one_of, _ROLE)
    if role is None:
        raise user.error("role", f"missing; expected {_ROLE}")
    return frozenset([role])


def _groups(table: Table) -> dict[str, tuple[str, ...]]:
    below = table.table("groups", ROLES)
    return {role: below.many(role, str, "the name of a group", empty_ok=True) for role in ROLES}
