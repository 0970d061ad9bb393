"""What may never change under a store, since it is part of every fax's identity: accounts and the salt."""

from collections.abc import Iterable
from hashlib import sha256

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from receiver.errors import ConfigurationError
from receiver.settings import Endpoint
from receiver.store.tables import Tables, insert_or_keep

_UNSALTED = "none"


def remember(connection: Connection, tables: Tables, endpoints: Iterable[Endpoint], salt: str | None) -> None:
    """Note the endpoints and the salt at first sight; ConfigurationError where they contradict what is noted."""
    _remember_salt(connection, tables, salt)
    known = {row.name: row for row in connection.execute(sa.select(tables.endpoints))}
    for endpoint in endpoints:
        row = known.get(endpoint.name)
        if row is None:
            values = {"name": endpoint.name, "provider": endpoint.provider, "account": endpoint.account}
            connection.execute(insert_or_keep(tables.endpoints, connection.dialect.name).values(values))
        elif (row.provider, row.account) != (endpoint.provider, endpoint.account):
            raise ConfigurationError(
                f"endpoints.{endpoint.name}: this store knows the endpoint with another provider or account. Both are "
                "part of each fax's identity: after a change, the same fax would be announced again under a new id. "
                "Give the endpoint a new name, or restore its provider and account."
            )


def _remember_salt(connection: Connection, tables: Tables, salt: str | None) -> None:
    mark = sha256(b"identity_salt:" + salt.encode()).hexdigest() if salt else _UNSALTED
    meta = tables.meta
    connection.execute(insert_or_keep(meta, connection.dialect.name).values(name="identity_salt", value=mark))
    noted = connection.execute(sa.select(meta.c.value).where(meta.c.name == "identity_salt")).scalar_one()
    if noted != mark:
        raise ConfigurationError(
            "store.identity_salt: this store was begun with another one, or without. It is fixed for the life of the "
            "store, since every fax's id depends on it."
        )
