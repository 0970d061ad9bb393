"""What may never change under a store, since it is part of every fax's identity: accounts and the salt."""

from collections.abc import Iterable
from hashlib import sha256
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from receiver.errors import ConfigurationError
from receiver.settings import Endpoint
from receiver.store.tables import Tables, insert_or_keep

_UNSALTED = "none"


def verify(connection: Connection, tables: Tables, endpoints: Iterable[Endpoint], salt: str | None) -> None:
    """Raise ConfigurationError where endpoints or salt contradict what the store has noted."""
    meta = tables.meta
    noted = connection.execute(sa.select(meta.c.value).where(meta.c.name == "identity_salt")).scalar_one_or_none()
    if noted is not None and noted != _mark(salt):
        raise ConfigurationError(
            "store.identity_salt: this store was begun with another one, or without. It is fixed for the life of the "
            "store, since every fax's id depends on it."
        )
    known = {row.name: row for row in connection.execute(sa.select(tables.endpoints))}
    changed = [
        f"endpoints.{one.name}: the store has it as {_named(known[one.name])}, the configuration as {_named(one)}"
        for one in endpoints
        if one.name in known and not _is_same(known[one.name], one)
    ]
    if changed:
        raise ConfigurationError(
            f"{'; '.join(changed)}. Provider and account are part of each fax's identity: after a change, the same fax "
            "would be announced again under a new id. Restore them, or give the endpoint a new name."
        )


def remember(connection: Connection, tables: Tables, endpoints: Iterable[Endpoint], salt: str | None) -> None:
    """Note endpoints and salt at first sight; ConfigurationError as ``verify``."""
    endpoints = list(endpoints)
    dialect = connection.dialect.name
    connection.execute(insert_or_keep(tables.meta, dialect).values(name="identity_salt", value=_mark(salt)))
    for endpoint in endpoints:
        values = {"name": endpoint.name, "provider": endpoint.provider, "account": endpoint.account}
        connection.execute(insert_or_keep(tables.endpoints, dialect).values(values))
    verify(connection, tables, endpoints, salt)
    table = tables.endpoints
    for endpoint in endpoints:
        if endpoint.account is not None:
            named = table.c.name == endpoint.name, table.c.account.is_(None)
            connection.execute(table.update().where(*named).values(account=endpoint.account))


def _is_same(known: Row[Any], endpoint: Endpoint) -> bool:
    """An account that was left to the payloads may be written out later: every fax had it from its payload."""
    return known.provider == endpoint.provider and known.account in (None, endpoint.account)


def _named(one: Row[Any] | Endpoint) -> str:
    return f'{one.provider} "{one.account}"' if one.account is not None else f"{one.provider} without an account"


def _mark(salt: str | None) -> str:
    return sha256(b"identity_salt:" + salt.encode()).hexdigest() if salt else _UNSALTED
