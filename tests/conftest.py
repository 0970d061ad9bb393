"""Stores to test on, and servers that may not be there: their tests are skipped, counted and named in the summary."""

import os
import secrets
import shutil
import socket
from collections import Counter
from contextlib import ExitStack, closing, contextmanager
from functools import cache

import migrated
import psycopg
import pytest
from brokers import line, node  # noqa: F401 - fixtures
from databases import POSTGRESQL
from hypothesis import HealthCheck, settings
from platforms import slug, vhost  # noqa: F401 - fixtures
from sqlalchemy.engine import make_url
from stock import stock

from receiver.store import Store
from receiver.store.migrating import migrate
from receiver.system.collecting import importing
from receiver.system.stderr import Stderr

# Tests start several hundred faxhook processes, and each would compile all of its modules again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# How fast a machine makes examples and runs them is no property of ours.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

SERVICES = {"postgresql": 5432, "rabbitmq": 5672, "redis": 6379, "nats": 4222}  # on their standard local ports


@cache
def is_there(service):
    try:
        socket.create_connection(("127.0.0.1", SERVICES[service]), timeout=2).close()
    except OSError:
        return False
    return True


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    # Thousands of tests, and all that they import, stay to the end.
    with importing():
        return (yield)


def pytest_runtest_setup(item):
    # .ci/run sets the variable: there, a test that cannot run has failed
    give_up = pytest.fail if os.environ.get("FAXHOOK_REQUIRE_SERVICES") else pytest.skip
    for mark in item.iter_markers("service"):
        if not is_there(mark.args[0]):
            give_up(f"no {mark.args[0]} on 127.0.0.1:{SERVICES[mark.args[0]]}")
    for mark in item.iter_markers("tool"):
        if shutil.which(mark.args[0]) is None:
            give_up(f"the program {mark.args[0]} is not installed")


def pytest_terminal_summary(terminalreporter):
    reasons = (report.longrepr[2].removeprefix("Skipped: ") for report in terminalreporter.stats.get("skipped", []))
    for reason, count in sorted(Counter(reasons).items()):
        terminalreporter.write_line(f"{count} tests skipped: {reason}", yellow=True, bold=True)
    for case in left_out(terminalreporter):
        terminalreporter.write_line(f"not applicable: {case}")


def left_out(terminalreporter):
    """Cases of a contract that something real cannot have, each with the reason."""
    passed = terminalreporter.stats.get("passed", [])
    return sorted({value for report in passed for name, value in report.user_properties if name == "left out"})


@pytest.fixture(autouse=True, scope="session")
def own_lines():
    """A test process writes its log lines itself, whichever commands ran in it: later tests read them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Stderr, "never_wait", lambda _self: None)
        yield


@pytest.fixture
def sqlite_url(tmp_path):
    """A SQLite store that does not exist yet."""
    return f"sqlite:///{tmp_path / 'store' / 'faxhook.db'}"


@contextmanager
def postgresql_database(template="template0"):
    """A database of one's own, gone at the end: empty, or a copy of another one of ours. Its URL for a store."""
    name = f"faxhook_test_{secrets.token_hex(6)}"
    with psycopg.connect(f"{POSTGRESQL}/postgres", autocommit=True, connect_timeout=5) as admin:
        # nobody may be connected to the template, and to template0 nobody can be
        admin.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
    try:
        yield f"{POSTGRESQL.replace('postgresql:', 'postgresql+psycopg:')}/{name}"
    finally:
        with psycopg.connect(f"{POSTGRESQL}/postgres", autocommit=True, connect_timeout=5) as admin:
            admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def postgresql_url():
    """An empty database of this test's own. A test that asks for it by name is marked service("postgresql")."""
    with postgresql_database() as url:
        yield url


@pytest.fixture(scope="session")
def migrated_database():
    """The name of a database with this version's tables, to be copied: making them takes longer than many a test."""
    with postgresql_database() as url:
        migrated.make(url)
        yield make_url(url).database


@pytest.fixture
def migrated_postgresql_url(migrated_database):
    """A database of this test's own with empty tables."""
    with postgresql_database(migrated_database) as url:
        yield url


@pytest.fixture(scope="module")
def module_postgresql_url():
    """The same for all tests of a module."""
    with postgresql_database() as url:
        yield url


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.service("postgresql"))])
def store_url(request):
    """Each kind of store, empty and of this test's own: no file yet, or a database that has its tables."""
    return request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "migrated_postgresql_url")


@pytest.fixture
def filled(tmp_path, sqlite_url):
    """A configured folder with a migrated SQLite store; callbacks are taken by ``.take()``."""
    with stock(tmp_path, sqlite_url) as made:
        yield made


@pytest.fixture
def anywhere(tmp_path, store_url):
    """The same on each kind of store."""
    with stock(tmp_path, store_url) as made:
        yield made


@pytest.fixture(scope="module")
def databases():
    """The URL of the database of a name, made when it is first asked for."""
    with ExitStack() as stack:
        yield cache(lambda _name: stack.enter_context(postgresql_database()))


@pytest.fixture
def store_of(databases, tmp_path):
    """The URL of the store of a kind and name; it is empty unless kept."""

    def make(kind, name, *, migrated=False, kept=False):
        url = f"sqlite:///{tmp_path / name}/faxhook.db" if kind == "sqlite" else databases(name)
        with closing(Store(url)) as store:
            if kind == "postgresql" and not kept:
                with store.writing() as connection:
                    connection.exec_driver_sql("DROP SCHEMA IF EXISTS faxhook CASCADE")
            if migrated:
                migrate(store)
        return url

    return make
