"""Bringing a database to this version's tables: one runner at a time, additive steps only."""

import sys
import time
from io import StringIO
from pathlib import Path
from typing import TextIO

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from receiver.errors import StoreError
from receiver.store import Store
from receiver.store.carrying import COPYING
from receiver.store.sqlite import FOREIGN_TABLES
from receiver.store.tables import SCHEMA

# Raised only when older code could no longer work on the tables a migration leaves behind. The store keeps the
# number, so that older code knows it is refused; newer tables as such are no reason, since migrations add.
SERVES = 7
_FIRST_SERVED = 7  # below it: stores of development versions, which nothing carries over

_MIGRATIONS = Path(__file__).with_name("migrations")
_WAIT_SECONDS = 300.0  # for another runner to finish
_TABLES_SHOWN = 3
_ONE_RUNNER = 0x666178686F6F6B  # the advisory lock's key: "faxhook"


class MigrationDue(StoreError):  # noqa: N818 - no error, until nobody migrates
    """The database does not have all of this version's tables."""


def migrate(store: Store) -> bool:
    """
    Bring the database up to date; True if anything was done. Raises StoreError for a store we must not touch.

    Where nothing is due it needs no more than the right to read, and where the schema is there none to create one.
    """
    store.create_file()
    store.verify()
    with store.reading() as connection:
        if _is_served(store, connection):
            return False
    with store.writing(time.monotonic() + _WAIT_SECONDS) as connection:
        if store.dialect != "sqlite":
            connection.execute(sa.text("SET LOCAL lock_timeout = 0"))
            connection.execute(sa.text("SET LOCAL statement_timeout = 0"))
            connection.execute(sa.text("SET LOCAL idle_in_transaction_session_timeout = 0"))
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ONE_RUNNER})
            _make_schema(store, connection)
        if _is_served(store, connection):
            return False
        _upgrade(connection)
        meta = store.tables.meta
        connection.execute(meta.delete().where(meta.c.name == "serves"))
        connection.execute(meta.insert().values(name="serves", value=str(SERVES)))
    return True


def statements(store: Store) -> str:
    """
    What ``migrate`` would run now, as a script for an administrator; nothing where nothing is due. It runs nothing.

    Raises StoreError for a store we must not touch.
    """
    revision, preamble = None, "BEGIN;\n"
    if store.file is None or store.file.exists():
        store.verify()
        with store.reading() as connection:
            if _is_served(store, connection):
                return ""
            revision = _revision(store, connection)
            if store.dialect != "sqlite":
                preamble += _as_its_user(connection)
    script = StringIO()
    _upgrade(None, f"{revision or 'base'}:head", dialect=store.dialect, into=script)
    meta = store.tables.meta
    marked = meta.delete().where(meta.c.name == "serves"), meta.insert().values(name="serves", value=str(SERVES))
    options = {"literal_binds": True}
    said = [str(one.compile(dialect=store.engine.dialect, compile_kwargs=options)) for one in marked]
    return "\n\n".join([preamble + script.getvalue().strip(), *(f"{one};" for one in said), "COMMIT;\n"])


def _as_its_user(connection: Connection) -> str:
    """The tables are to be those of faxhook's user, whoever runs the script."""
    user = connection.execute(sa.select(sa.func.current_user())).scalar_one()
    named = connection.dialect.identifier_preparer.quote_identifier(user)
    make = (
        "" if connection.dialect.has_schema(connection, SCHEMA) else f"CREATE SCHEMA {SCHEMA} AUTHORIZATION {named};\n"
    )
    return f"SELECT pg_advisory_xact_lock({_ONE_RUNNER});\n{make}SET LOCAL ROLE {named};\n\n"


def _make_schema(store: Store, connection: Connection) -> None:
    """Raises StoreError where the user may not create what is missing."""
    database, user = connection.execute(sa.text("SELECT current_database(), current_user")).one()
    is_there = connection.dialect.has_schema(connection, SCHEMA)
    if is_there:
        object_, may = f"SCHEMA {SCHEMA}", sa.func.has_schema_privilege(SCHEMA, "CREATE")
        do = f'GRANT ALL ON SCHEMA {SCHEMA} TO "{user}"'
    else:
        object_, may = f"DATABASE {database}", sa.func.has_database_privilege(database, "CREATE")
        do = f'CREATE SCHEMA {SCHEMA} AUTHORIZATION "{user}", or GRANT CREATE ON DATABASE "{database}" TO "{user}"'
    if not connection.execute(sa.select(may)).scalar_one():
        raise StoreError(f"{store.where}: the user may not create anything in {object_}; as its owner: {do}")
    if not is_there:
        connection.execute(sa.schema.CreateSchema(SCHEMA))


def check_version(store: Store) -> None:
    """Raise StoreError unless the database can hold a store, MigrationDue where tables of this version are missing."""
    if store.file is not None and not store.file.exists():
        raise StoreError("the store does not exist yet; run: faxhook migrate")
    store.verify()
    with store.reading() as connection:
        if not _is_served(store, connection):
            raise MigrationDue(f"{store.where}: not up to date; run: faxhook migrate")
        meta = store.tables.meta
        if connection.scalar(sa.select(meta.c.value).where(meta.c.name == COPYING)) is not None:
            raise StoreError(
                f"{store.where}: a copy into it was not finished; run the same `faxhook store copy` or `restore` again,"
                " or empty it"
            )


def check_exact(store: Store) -> None:
    """Raise StoreError unless its tables are just those of this version: others may have columns unknown to us."""
    with store.reading() as connection:
        found = _revision(store, connection)
    if found != newest_revision():
        raise StoreError(
            f"{store.where}: its tables are those of another version ({found}, expected {newest_revision()}); use the"
            " faxhook that runs with it"
        )


def newest_revision() -> str:
    """Of this version's tables."""
    return _revisions()[-1]


def is_there(store: Store) -> bool:
    """Whether the database holds a store, of whatever version; False where it is empty or missing."""
    if store.file is not None and not store.file.exists():
        return False
    with store.reading() as connection:
        return _revision(store, connection) is not None


def _is_served(store: Store, connection: Connection) -> bool:
    """True: as this code needs it, or newer but still good for it. False: migrations are due."""
    revision = _revision(store, connection)
    if revision is None:
        _refuse_foreign(store, connection)
        return False
    meta = store.tables.meta
    serves = connection.execute(sa.select(meta.c.value).where(meta.c.name == "serves")).scalar_one_or_none()
    if serves is not None and int(serves) > SERVES:
        raise StoreError("the store was written by a newer faxhook that this version cannot work with; upgrade faxhook")
    if serves is not None and int(serves) < _FIRST_SERVED:
        raise StoreError(
            f"{store.where}: this store was made by a development version before 0.1.0, which nothing carries over;"
            " take what waits in it with that version's `faxhook consume`, then name another store.url or remove it"
        )
    known = _revisions()
    return revision not in known or revision == known[-1]


def _refuse_foreign(store: Store, connection: Connection) -> None:
    """Raise StoreError where a SQLite file is another application's: a slip of the pen, and no place for faxes."""
    if store.file is None:
        return
    names = connection.exec_driver_sql(FOREIGN_TABLES).scalars().all()
    if names:
        shown = ", ".join(names[:_TABLES_SHOWN])
        raise StoreError(
            f"{store.where}: this database belongs to another application (with the tables {shown}); store.url must"
            " name a file of faxhook's own"
        )


def _revision(store: Store, connection: Connection) -> str | None:
    sqlite = store.dialect == "sqlite"
    name, schema = ("faxhook_alembic_version", None) if sqlite else ("alembic_version", SCHEMA)
    if not connection.dialect.has_table(connection, name, schema=schema):
        return None
    version = sa.table(name, sa.column("version_num", sa.String), schema=schema)
    return connection.execute(sa.select(version.c.version_num)).scalar_one_or_none()


def _revisions() -> list[str]:
    """Those of this version, the newest last: their files' names begin with them."""
    return sorted(path.name.partition("_")[0] for path in (_MIGRATIONS / "versions").glob("[0-9]*.py"))


def _upgrade(
    connection: Connection | None, revision: str = "head", *, dialect: str = "", into: TextIO | None = None
) -> None:
    """On the connection; or where there is none, written down for the dialect."""
    # Imported where it is needed: it takes a sixth of a command's start, and nearly always nothing is due.
    from alembic import command
    from alembic.config import Config

    config = Config(output_buffer=into or sys.stdout)
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes.update({"connection": connection, "dialect": dialect})
    command.upgrade(config, revision, sql=connection is None)
