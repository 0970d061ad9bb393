import secrets

import migrated
import psycopg
import pytest

from receiver.store import Store, places
from receiver.store.migrating import migrate
from receiver.store.places import Places

SERVER = "postgres@127.0.0.1:5432"


@pytest.fixture(scope="session")
def database():
    """One for all tests of this folder and this process: making one takes longer than most of them."""
    name = f"faxhook_test_{secrets.token_hex(6)}"
    with psycopg.connect(f"postgresql://{SERVER}/postgres", autocommit=True, connect_timeout=5) as admin:
        admin.execute(f'CREATE DATABASE "{name}" TEMPLATE template0')
        yield name
        admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def postgresql_url(database):
    """An empty database."""
    with psycopg.connect(f"postgresql://{SERVER}/{database}", autocommit=True, connect_timeout=5) as admin:
        admin.execute("DROP SCHEMA IF EXISTS faxhook CASCADE")
    return f"postgresql+psycopg://{SERVER}/{database}"


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.service("postgresql"))])
def store_url(request):
    """Each kind of store, without tables."""
    return request.getfixturevalue(f"{request.param}_url")


@pytest.fixture
def migrated_url(database):
    """The same with empty tables, which is had sooner. For tests that leave the tables as they are."""
    url = f"postgresql+psycopg://{SERVER}/{database}"
    store = Store(url)
    migrate(store)
    with store.writing() as connection:
        filled = [table.fullname for table in store.tables.metadata.tables.values() if table is not store.tables.meta]
        connection.exec_driver_sql("; ".join(f"DELETE FROM {name}" for name in filled))
        places.move(connection, store.tables, Places())
    store.close()
    return url


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.service("postgresql"))])
def store(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def sqlite(sqlite_url):
    """For what only a file can suffer."""
    migrated.make(sqlite_url)
    store = Store(sqlite_url)
    yield store
    store.close()


@pytest.fixture
def postgresql(migrated_url):
    """For what only several connections can do. A test that asks for it by name is marked service("postgresql")."""
    store = Store(migrated_url)
    yield store
    store.close()
