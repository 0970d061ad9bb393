"""PostgreSQL in the states that operators meet: every command says what is wrong, where, and what to do."""

import secrets
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner
from databases import POSTGRESQL
from house import CONFIGURATION
from ports import free_port, listener
from served import running
from servers import postgresql_server
from sqlalchemy.engine import make_url
from stock import stock
from waiting import until

from receiver.cli import main
from receiver.errors import StoreError
from receiver.store import Store
from receiver.store.migrating import migrate

pytestmark = pytest.mark.service("postgresql")

WRITING = ["serve", "consume", "receipts replay x", "jobs add retarus J1", "reconcile"]
READING = [
    *("check", "doctor", "events list", "events show x", "events republish --since 1h", "receipts list"),
    *("receipts show x", "dead-letters list", "dead-letters replay --all", "jobs list", "discrepancies list"),
]


READ = "GRANT SELECT ON ALL TABLES IN SCHEMA faxhook TO {user}"


def administer(store_url: str, *statements: str) -> None:
    with psycopg.connect(f"{POSTGRESQL}/{make_url(store_url).database}", autocommit=True, connect_timeout=5) as admin:
        for statement in statements:
            admin.execute(statement.encode())


@contextmanager
def role(store_url: str, *rights: str) -> Iterator[str]:
    """The URL of the same database for a user with these rights only; ``{user}`` and ``{database}`` are filled in."""
    user, database = f"faxhook_test_{secrets.token_hex(6)}", make_url(store_url).database
    made = (f"CREATE ROLE {user} LOGIN", *(right.format(user=user, database=database) for right in rights))
    administer(store_url, *made)
    try:
        yield make_url(store_url).set(username=user).render_as_string()
    finally:
        administer(store_url, f"DROP OWNED BY {user}", f"DROP ROLE {user}")


@contextmanager
def encoded(encoding: str) -> Iterator[str]:
    """A database of that encoding."""
    name = f"faxhook_test_{secrets.token_hex(6)}"
    with psycopg.connect(f"{POSTGRESQL}/postgres", autocommit=True, connect_timeout=5) as admin:
        admin.execute(f"CREATE DATABASE {name} ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
        try:
            yield f"{POSTGRESQL.replace('postgresql:', 'postgresql+psycopg:')}/{name}"
        finally:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


def configured(folder: Path, store_url: str) -> Path:
    config = folder / "faxhook.toml"
    config.write_text(CONFIGURATION.format(port=8000, store=store_url))
    return config


def refuses(config: Path, commands: list[str], *words: str) -> None:
    """Each of the commands ends with 1 or 2, and says these words and no traceback."""
    for command in commands:
        result = CliRunner().invoke(main, [*command.split(), "--config", str(config)])
        assert isinstance(result.exception, SystemExit), (command, result.exc_info)
        assert result.exit_code in (1, 2), (command, result.output)
        assert all(word in result.output for word in words), (command, result.output)


@pytest.fixture(autouse=True)
def _no_store_of_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)


@pytest.fixture
def migrated_url(postgresql_url: str) -> str:
    store = Store(postgresql_url)
    migrate(store)
    store.close()
    return postgresql_url


def test_a_server_that_is_down(tmp_path: Path) -> None:
    port = free_port()
    config = configured(tmp_path, f"postgresql://faxhook:secret-word@127.0.0.1:{port}/fax")
    place = f"PostgreSQL at 127.0.0.1:{port}, database fax, user faxhook: "
    refuses(config, [*READING, *WRITING, "migrate"], place, "nothing listens there")
    result = CliRunner().invoke(main, ["check", "--config", str(config)])
    assert "secret-word" not in result.output


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"database": "nobodys"}, "database nobodys, user postgres: there is no such database"),
        ({"username": "nobody"}, "user nobody: there is no such user"),
        ({"host": "no-such-host.invalid"}, "no-such-host.invalid:5432"),
        ({"query": {"sslmode": "require"}}, "it offers no TLS"),
    ],
)
def test_a_server_that_refuses(tmp_path: Path, migrated_url: str, changed: dict[str, str], said: str) -> None:
    url = make_url(migrated_url).set(**changed).render_as_string()  # type: ignore[arg-type]
    refuses(configured(tmp_path, url), ["check", "doctor", "migrate", "consume", "serve", "events list"], said)


def test_a_port_of_another_service(tmp_path: Path) -> None:
    with listener() as taken:
        taken.listen()
        answering = threading.Thread(target=answer_as_http, args=(taken,), daemon=True)
        answering.start()
        config = configured(tmp_path, f"postgresql://faxhook@127.0.0.1:{taken.getsockname()[1]}/fax")
        refuses(config, ["check", "migrate", "consume"], "what answers there does not speak PostgreSQL")


def answer_as_http(taken: socket.socket) -> None:
    while True:
        try:
            near, _ = taken.accept()
        except OSError:
            return  # closed: the test is over
        with near:
            near.recv(1024)
            near.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def test_a_port_that_takes_connections_and_says_nothing(tmp_path: Path) -> None:
    with listener() as silent:
        silent.listen()
        config = configured(tmp_path, f"postgresql://faxhook@127.0.0.1:{silent.getsockname()[1]}/fax")
        refuses(config, ["check", "events list"], f"127.0.0.1:{silent.getsockname()[1]}", "no answer in time")


@pytest.mark.parametrize("parameter", ["connect_timeout=soon", "keepalives=many"])
def test_a_parameter_that_the_client_library_cannot_read(tmp_path: Path, parameter: str) -> None:
    config = configured(tmp_path, f"postgresql://faxhook@127.0.0.1:{free_port()}/fax?{parameter}")
    refuses(config, ["check", "doctor", "consume"], "a parameter of store.url, after the question mark, has a value")


def test_a_user_without_rights(tmp_path: Path, migrated_url: str) -> None:
    with role(migrated_url) as url:
        refuses(configured(tmp_path, url), [*READING, *WRITING, "migrate"], "the user lacks a right", "schema faxhook")


def test_a_database_that_takes_no_writes(tmp_path: Path, migrated_url: str) -> None:
    read_only = (
        "GRANT USAGE ON SCHEMA faxhook TO {user}",
        "GRANT ALL ON ALL TABLES IN SCHEMA faxhook TO {user}",
        "ALTER ROLE {user} SET default_transaction_read_only = on",
    )
    with role(migrated_url, *read_only) as url:
        refuses(configured(tmp_path, url), ["doctor", *WRITING], "it takes no writes", "primary")
        refuses(configured(tmp_path, f"{url}?target_session_attrs=read-write"), [*READING, *WRITING], "no host is what")


def test_a_database_without_tables(tmp_path: Path, postgresql_url: str) -> None:
    refuses(configured(tmp_path, postgresql_url), [*READING, *WRITING], "run: faxhook migrate", "127.0.0.1:5432")


def test_tables_of_a_newer_version(tmp_path: Path, migrated_url: str) -> None:
    administer(migrated_url, "UPDATE faxhook.meta SET value = '99' WHERE name = 'serves'")
    refuses(configured(tmp_path, migrated_url), [*READING, *WRITING, "migrate"], "newer faxhook")


def test_tables_that_were_dropped(tmp_path: Path, migrated_url: str) -> None:
    administer(
        migrated_url, "DROP TABLE faxhook.events CASCADE", "DROP TABLE faxhook.waiting", "DROP TABLE faxhook.endpoints"
    )
    refuses(configured(tmp_path, migrated_url), ["doctor", *WRITING], "the tables of faxhook are not there")


def test_an_encoding_that_cannot_hold_every_name(tmp_path: Path) -> None:
    with encoded("LATIN1") as url:
        refuses(configured(tmp_path, url), [*READING, *WRITING, "migrate"], "encoding is LATIN1", "ENCODING 'UTF8'")


def test_sql_ascii_keeps_every_name(tmp_path: Path) -> None:
    with encoded("SQL_ASCII") as url, stock(tmp_path, url) as made:
        made.fax(1, From="Zoë Müller 東京 😀")
        (event,) = made.events()
        assert "Zoë Müller 東京 😀" in made.payload(event["id"]).decode()
        for command in ("check", "doctor", "events list --json", "consume"):
            result = CliRunner().invoke(main, [*command.split(), "--config", str(made.config)], catch_exceptions=False)
            assert result.exit_code == 0, result.output


def test_migrate_creates_nothing_where_nothing_is_due(postgresql_url: str, migrated_url: str) -> None:
    with role(migrated_url, "GRANT USAGE ON SCHEMA faxhook TO {user}", READ) as url:
        store = Store(url)
        assert migrate(store) is False
        store.close()


def test_migrate_needs_no_right_to_create_a_schema_that_is_there(postgresql_url: str) -> None:
    with role(postgresql_url, "CREATE SCHEMA faxhook AUTHORIZATION {user}") as url:
        store = Store(url)
        assert migrate(store) is True
        store.close()


@pytest.mark.parametrize("rights", [(), ("CREATE SCHEMA faxhook",)])
def test_migrate_names_the_right_that_is_missing(postgresql_url: str, rights: tuple[str, ...]) -> None:
    with role(postgresql_url, *rights) as url:
        store = Store(url)
        with pytest.raises(StoreError, match="the user may not create anything in "):
            migrate(store)
        store.close()


def test_the_relay_waits_and_its_log_says_for_what(tmp_path: Path, postgresql_url: str) -> None:
    with stock(tmp_path, postgresql_url) as made:
        wrong = make_url(postgresql_url).set(database="nobodys").render_as_string()
        made.config.write_text(made.config.read_text().replace(postgresql_url, wrong))
        with running(made, "relay") as relay:
            until(lambda: "there is no such database" in (tmp_path / "relay.log").read_text(), 60)
            assert relay.poll() is None


def test_a_server_that_does_not_sync_is_trouble_for_doctor(tmp_path: Path) -> None:
    with postgresql_server(fsync="off", full_page_writes="off") as url:
        config = configured(tmp_path, url)
        store = Store(url)
        migrate(store)
        store.close()
        refuses(config, ["doctor"], "fsync off", "full_page_writes off", "a power cut loses what was answered with 2xx")
