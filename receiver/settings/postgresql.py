"""
URLs of PostgreSQL as people have them: libpq's, and those that services and frameworks hand out.

A password may hold ``@ : / # ?`` as they are, where only one reading is possible. Several hosts, sockets and whatever
libpq takes as a parameter are taken; a parameter that only another client knows is named, with what to write instead.
"""

import re
from urllib.parse import parse_qsl, quote, unquote, urlencode

from receiver.errors import BadValue

# user, password, hosts, database, parameters. The shortest password that leaves hosts without any of @ / ? # is right.
_URL = re.compile(
    r"(?:(?P<user>[^:@/?#]*)(?::(?P<password>.*?))?@)?"
    r"(?P<hosts>[^@/?#]*)"
    r"(?:/(?P<database>[^@/?#]*))?"
    r"(?:\?(?P<query>(?:[A-Za-z_]+=[^&#@]*(?:&|$))*))?",
    re.DOTALL,
)
_HOST = re.compile(r"(?P<host>\[[0-9A-Fa-f:.%]+\]|[^:\[\]]*)(?::(?P<port>[0-9]*))?")
_PARTS = {"user": "user", "password": "password", "dbname": "database"}  # parameters that are parts of the URL as well

# What libpq takes; a service file would hide what we connect to, and the rest is ours to set.
_KNOWN = frozenset(
    (
        *("application_name", "channel_binding", "connect_timeout", "fallback_application_name", "gssdelegation"),
        *("gssencmode", "gsslib", "hostaddr", "keepalives", "keepalives_count", "keepalives_idle"),
        *("keepalives_interval", "krbsrvname", "load_balance_hosts", "options", "passfile", "require_auth"),
        *("requirepeer", "ssl_max_protocol_version", "ssl_min_protocol_version", "sslcert", "sslcertmode", "sslcrl"),
        *("sslcrldir", "sslkey", "sslmode", "sslnegotiation", "sslpassword", "sslrootcert", "sslsni"),
        *("target_session_attrs", "tcp_user_timeout"),
    )
)
# Said for other clients of the same database, and without a meaning for us: faxhook works behind a pooler anyway.
_WITHOUT_MEANING = frozenset(
    ("pgbouncer", "connection_limit", "pool_timeout", "statement_cache_size", "prepared_statements")
)
_INSTEAD = {
    "ssl": "write sslmode=require, or better sslmode=verify-full&sslrootcert=system",
    "sslaccept": "write sslmode=require, or sslmode=verify-full&sslrootcert=system",
    "schema": "faxhook's tables are in the schema faxhook; leave it out",
    "currentSchema": "faxhook's tables are in the schema faxhook; leave it out",
    "client_encoding": "it is UTF-8 in any case; leave it out",
    "service": "write host, user and database into the URL",
}
_CHOICES = {
    "sslmode": ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "channel_binding": ("disable", "prefer", "require"),
    "target_session_attrs": ("any", "read-write", "primary"),
    "load_balance_hosts": ("disable", "random"),
}
_EXPECTED = "postgresql://<user>:<password>@<host>[:<port>][,<host>…]/<database>[?<parameter>=<value>…]"


def url(text: str) -> str:
    """What follows ``postgresql://``, as SQLAlchemy's psycopg takes it. Raises BadValue, which never has the value."""
    found = _URL.fullmatch(text)
    if found is None:
        raise BadValue(f"expected {_EXPECTED}, with / @ : ? # in user and password percent-encoded")
    query = _query(found["query"] or "")
    parts = {name: unquote(found[name] or "") for name in ("user", "password", "database")}
    parts |= {_PARTS[name]: query.pop(name) for name in list(query) if name in _PARTS}
    hosts = [_host(one) for one in (found["hosts"] or "").split(",")]
    if "host" in query:
        ports = query.pop("port", "").split(",")
        names = query.pop("host").split(",")
        hosts = [_host(f"[{name}]" if ":" in name else name) for name in names]
        hosts = [(name, port or given) for (name, port), given in zip(hosts, _spread(ports, len(names)), strict=True)]
    elif "port" in query:
        hosts = [(name, port or query["port"]) for name, port in hosts]
        del query["port"]
    if not parts["database"]:
        raise BadValue(f"the database is missing; expected {_EXPECTED}")
    return _written(parts, hosts, query)


def _host(text: str) -> tuple[str, str]:
    found = _HOST.fullmatch(text)
    if found is None or not 0 < int(found["port"] or "5432") < 65536:
        raise BadValue("expected <host>:<port>; / @ : ? # in the password are to be percent-encoded")
    return unquote(found["host"]).strip("[]"), found["port"] or ""


def _spread(ports: list[str], count: int) -> list[str]:
    if len(ports) not in (1, count) or not all(re.fullmatch("[0-9]*", port) for port in ports):
        raise BadValue("port: expected one, or one for each host")
    return ports * count if len(ports) == 1 else ports


def _query(text: str) -> dict[str, str]:
    found = {}
    for name, value in parse_qsl(text, keep_blank_values=True):
        if name in _WITHOUT_MEANING:
            continue
        if name in _INSTEAD and not (name == "client_encoding" and value.lower() in ("utf8", "utf-8")):
            raise BadValue(f"parameter {name} is another client's: {_INSTEAD[name]}")
        if name not in _KNOWN | {"host", "port", *_PARTS, "client_encoding"}:
            raise BadValue(f"parameter {name} is not known to PostgreSQL's client library; leave it out")
        if name in _CHOICES and value not in _CHOICES[name]:
            raise BadValue(f"parameter {name}: expected {', '.join(_CHOICES[name])}")
        if name != "client_encoding":
            found[name] = value
    return found


def _written(parts: dict[str, str], hosts: list[tuple[str, str]], query: dict[str, str]) -> str:
    user = quote(parts["user"], safe="") + (f":{quote(parts['password'], safe='')}" if parts["password"] else "")
    (name, port), *others = hosts
    address = ""
    if others or name.startswith("/"):
        query = {"host": ",".join(one for one, _ in hosts), "port": ",".join(one or "5432" for _, one in hosts)} | query
    elif name:
        address = (f"[{name}]" if ":" in name else name) + (f":{port}" if port else "")
    at = f"{user}@" if user else ""
    parameters = f"?{urlencode(query)}" if query else ""
    return f"postgresql+psycopg://{at}{address}/{quote(parts['database'], safe='')}{parameters}"
