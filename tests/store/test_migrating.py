"""Bringing a database up to date, and refusing one that is not ours to touch."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from announcing import fax, rows, tell
from click.testing import CliRunner

import receiver
from receiver import settings as configuration
from receiver.cli import main
from receiver.errors import ConfigurationError, StoreError
from receiver.store import Store, migrating
from receiver.store.identity import remember
from receiver.store.migrating import check_version, migrate
from receiver.store.sqlite import SQLITE, has_wal_fix
from receiver.store.tables import SCHEMA, define

CONFIGURATION = """
[endpoints.openfax]
provider = "openfax"
auth = { mode = "none" }
tokens = ["uX2mFfN0Q2v6c4Yw8bJ1kZ5tR7sD9gH3"]

[endpoints.retarus]
provider = "retarus"
account = "99999TE"
auth = { mode = "none" }
tokens = ["aX2mFfN0Q2v6c4Yw8bJ1kZ5tR7sD9gH3"]
"""


@pytest.fixture
def empty(store_url):
    """Not yet migrated."""
    store = Store(store_url)
    yield store
    store.close()


@pytest.fixture
def store(empty):
    """Migrated, and of this test's own down to its tables."""
    migrate(empty)
    return empty


def test_the_order_of_the_files_is_that_of_the_migrations():
    script = ScriptDirectory(str(Path(migrating.__file__).with_name("migrations")))
    assert migrating._revisions() == [step.revision for step in script.walk_revisions()][::-1]


def set_serves(store, value):
    meta = store.tables.meta
    with store.writing() as connection:
        connection.execute(meta.update().where(meta.c.name == "serves").values(value=value))


def set_revision(store, value):
    name = "faxhook_alembic_version" if store.dialect == "sqlite" else f"{SCHEMA}.alembic_version"
    with store.writing() as connection:
        connection.execute(sa.text(f"UPDATE {name} SET version_num = '{value}'"))


def test_the_migrations_make_the_tables_the_code_works_with(store):
    def ours(name, kind, _parents):
        return kind != "schema" or name == (None if store.dialect == "sqlite" else SCHEMA)

    with store.reading() as connection:
        options = {
            "include_schemas": True,
            "include_name": ours,
            "compare_type": True,
            "version_table": "faxhook_alembic_version" if store.dialect == "sqlite" else "alembic_version",
            "version_table_schema": None if store.dialect == "sqlite" else SCHEMA,
        }
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, store.tables.metadata) == []
        inspector = sa.inspect(connection)
        schema = None if store.dialect == "sqlite" else SCHEMA
        assert len(inspector.get_table_names(schema)) == len(store.tables.metadata.tables) + 1
        for table in store.tables.metadata.tables.values():  # partial indexes are not compared above
            made = {index["name"] for index in inspector.get_indexes(table.name, schema) if not index["unique"]}
            assert made == {index.name for index in table.indexes}


def test_migrating_twice_does_nothing(empty):
    assert migrate(empty) is True
    assert migrate(empty) is False
    check_version(empty)


def test_an_empty_database_is_not_up_to_date(empty):
    with pytest.raises(StoreError, match="faxhook migrate"):
        check_version(empty)
    if empty.file:
        assert not empty.file.path.exists()
        empty.create_file()
        with pytest.raises(StoreError, match="faxhook migrate"):
            check_version(empty)


def test_data_survive_another_migration(store):
    tell(store, fax())
    migrate(store)
    assert len(rows(store, "events")) == 1


OF_A_SCHEMA = (
    (
        "SELECT table_name, column_name, ordinal_position, data_type, is_nullable, column_default"
        " FROM information_schema.columns WHERE table_schema = 'faxhook' ORDER BY 1, 3"
    ),
    "SELECT tablename, tableowner FROM pg_tables WHERE schemaname = 'faxhook' ORDER BY 1",
    "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'faxhook' ORDER BY 1",
    (
        "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE connamespace = 'faxhook'::regnamespace ORDER BY 1"
    ),
    (
        "SELECT sequencename, data_type, start_value, increment_by FROM pg_sequences"
        " WHERE schemaname = 'faxhook' ORDER BY 1"
    ),
    "SELECT nspname, nspowner FROM pg_namespace WHERE nspname = 'faxhook'",
    "SELECT * FROM faxhook.meta ORDER BY 1",
    "SELECT * FROM faxhook.alembic_version",
)
OF_A_FILE = (
    "SELECT type, name, sql FROM sqlite_master ORDER BY name",
    "SELECT * FROM faxhook_meta ORDER BY 1",
    "SELECT * FROM faxhook_alembic_version",
)


def test_an_administrator_can_run_what_migrate_prints(empty, tmp_path):
    def said(*options):
        result = CliRunner().invoke(main, ["migrate", *options, "--config", str(tmp_path / "faxhook.toml")])
        assert result.exit_code == 0, result.output
        return result.output

    def made():
        with empty.reading() as connection:
            queries = OF_A_FILE if empty.dialect == "sqlite" else OF_A_SCHEMA
            found = [connection.exec_driver_sql(query).all() for query in queries]
            return [[" ".join(str(value).split()) for row in rows for value in row] for rows in found]

    url = empty.url.render_as_string(hide_password=False)
    (tmp_path / "faxhook.toml").write_text(f'[store]\nurl = "{url}"\n{CONFIGURATION}')
    assert said("--dry-run") == "a migration is due\n"
    script = said("--dry-run", "--sql")
    assert "a migration is due" in said("--dry-run"), "nothing has been run"
    assert empty.file is None or not empty.file.path.exists()
    if empty.dialect == "sqlite":
        empty.create_file()
        with closing(SQLITE.connect(empty.file.path)) as connection:
            connection.executescript(script)
    else:
        with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute(script)
    check_version(empty)
    by_hand = made()
    assert said("--dry-run") == "the store is up to date\n"
    assert said("--dry-run", "--sql") == "-- the store is up to date\n"
    if empty.dialect == "sqlite":
        empty.close()
        empty.file.path.unlink()
    else:
        with empty.writing() as connection:
            connection.exec_driver_sql("DROP SCHEMA faxhook CASCADE")
    migrate(empty)
    assert by_hand == made()


def test_statements_are_printed_only_where_nothing_is_run():
    result = CliRunner().invoke(main, ["migrate", "--sql"])
    assert (result.exit_code, "add --dry-run" in result.output) == (2, True)


@pytest.mark.parametrize(("revision", "serves"), [("0001", "1"), ("0007", "2")])
def test_a_store_of_a_development_version_is_refused_with_what_to_do_and_left_untouched(store, revision, serves):
    set_revision(store, revision)
    set_serves(store, serves)
    for refused in (migrate, check_version):
        with pytest.raises(StoreError, match=r"before 0\.1\.0.*faxhook consume"):
            refused(store)
    with store.reading() as connection:
        assert migrating._revision(store, connection) == revision


def test_a_newer_store_that_still_serves_us_is_used(store):
    set_revision(store, "9999")
    assert migrate(store) is False
    check_version(store)
    assert tell(store, fax()).state == "accepted"


def test_a_newer_store_that_does_not_serve_us_is_refused_and_left_untouched(store):
    set_revision(store, "9999")
    set_serves(store, str(migrating.SERVES + 1))
    store.close()

    def content():
        return store.file and {path.name: path.read_bytes() for path in store.file.path.parent.glob("faxhook.db*")}

    before = content()
    for refused in (migrate, check_version):
        with pytest.raises(StoreError, match="newer faxhook"):
            refused(store)
    store.close()
    assert content() == before


def test_several_runners_at_once_migrate_once(empty):
    url = empty.url.render_as_string(hide_password=False)

    def run(_number):
        store = Store(url)
        try:
            return migrate(store)
        finally:
            store.close()

    with ThreadPoolExecutor(4) as threads:
        assert sorted(threads.map(run, range(4))) == [False, False, False, True]


def test_several_processes_at_once_migrate_once(empty):
    program = (
        "import sys; from receiver.store import Store; from receiver.store.migrating import migrate;"
        "print(migrate(Store(sys.argv[1])))"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(receiver.__path__[0]).parent)}
    url = empty.url.render_as_string(hide_password=False)
    command = [sys.executable, "-c", program, url]
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(3)]
    said = [run.communicate(timeout=120)[0].strip() for run in runs]
    assert sorted(said) == ["False", "False", "True"]


def test_a_migration_that_fails_leaves_nothing_behind(empty, monkeypatch):
    monkeypatch.setattr(migrating, "SERVES", object())
    monkeypatch.setattr(migrating, "str", lambda _value: 1 / 0, raising=False)
    with pytest.raises(ZeroDivisionError):
        migrate(empty)
    monkeypatch.undo()
    assert migrate(empty) is True


# --- the SQLite file -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "fixed"),
    [
        ((3, 40, 1), False),
        ((3, 44, 5), False),
        ((3, 44, 6), True),
        ((3, 45, 0), False),
        ((3, 49, 2), False),
        ((3, 50, 6), False),
        ((3, 50, 7), True),
        ((3, 51, 0), False),
        ((3, 51, 2), False),
        ((3, 51, 3), True),
        ((3, 52, 0), False),
        ((3, 53, 0), True),
        ((3, 60, 0), True),
        ((4, 0, 0), True),
    ],
)
def test_wal_is_chosen_where_it_cannot_corrupt(version, fixed):
    assert has_wal_fix(version) is fixed


@pytest.mark.parametrize(
    ("version", "mode", "synchronous"), [((3, 53, 0), "wal", "full"), ((3, 40, 1), "delete", "extra")]
)
def test_each_journal_mode_has_its_safe_level(sqlite_url, monkeypatch, version, mode, synchronous):
    monkeypatch.setattr("receiver.store.sqlite.SQLITE.sqlite_version_info", version)
    store = Store(sqlite_url)
    migrate(store)
    tell(store, fax())
    durability = store.durability()
    assert (durability["journal_mode"], durability["synchronous"]) == (mode, synchronous)
    assert store.empty_log()
    store.close()


def test_an_index_that_was_left_beside_a_rollback_journals_file_is_no_false_alarm(sqlite_url, monkeypatch):
    """By a copy or a crash: SQLite does not look at it, and so it is never replaced."""
    monkeypatch.setattr("receiver.store.sqlite.SQLITE.sqlite_version_info", (3, 40, 1))
    store = Store(sqlite_url)
    migrate(store)
    store.close()
    Path(f"{store.file.path}-shm").write_bytes(b"\xa5" * 32768)
    for key in ("1", "2"):
        assert tell(store, fax(key)).state == "accepted"
    assert len(rows(store, "events")) == 2
    store.close()


def test_a_new_file_is_its_owners_and_forgets_what_is_deleted(sqlite):
    tell(sqlite, fax())
    folder = sqlite.file.path.parent
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()} == dict.fromkeys(
        ["faxhook.db", "faxhook.db-wal", "faxhook.db-shm", "faxhook.db.lock"], 0o600
    )
    with sqlite.reading() as connection:
        assert connection.exec_driver_sql("PRAGMA auto_vacuum").scalar_one() == 2
        assert connection.exec_driver_sql("PRAGMA secure_delete").scalar_one() == 1


def test_connecting_writes_nothing_and_waits_for_no_writer(sqlite):
    tell(sqlite, fax())
    another = Store(str(sqlite.url))
    with sqlite.writing() as connection:
        connection.exec_driver_sql("DELETE FROM faxhook_faxes")
        assert len(rows(another, "faxes")) == 1
    another.close()


def test_a_path_may_hold_any_character(tmp_path):
    store = Store("sqlite:///" + str(tmp_path / "50% of a #1 folder" / "fäx hook.db"))
    migrate(store)
    assert tell(store, fax()).state == "accepted"
    assert [path.name for path in tmp_path.iterdir()] == ["50% of a #1 folder"]
    assert store.file.path.exists()
    store.close()


def test_a_relative_path_is_of_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = Store("sqlite:///var/faxhook.db")
    migrate(store)
    assert tell(store, fax()).state == "accepted"
    assert (tmp_path / "var" / "faxhook.db").exists()
    store.close()


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_a_store_in_memory_is_refused(url):
    with pytest.raises(StoreError, match="file"):
        Store(url)


def test_tables_are_defined_once():
    assert define("sqlite") is define("sqlite")


# --- what may never change -----------------------------------------------------------------------------------------


@pytest.fixture
def start(store, tmp_path):
    """Start on the store with these changes to an endpoint, or with a salt."""
    (tmp_path / "faxhook.toml").write_text(CONFIGURATION)
    endpoints = configuration.load(tmp_path / "faxhook.toml", {}).endpoints

    def start(salt=None, **changes):
        changed = [*endpoints.values()]
        changed = [replace(one, **changes) if one.name == "retarus" else one for one in changed]
        with store.writing() as connection:
            remember(connection, store.tables, changed, salt)

    return start


def test_the_same_endpoints_start_again(start):
    start()
    start()


def test_a_new_endpoint_is_noted(start, store):
    start(name="another")
    start()
    assert sorted(rows(store, "endpoints", "name")) == ["another", "openfax", "retarus"]


@pytest.mark.parametrize("change", [{"account": "other"}, {"provider": "faxage"}])
def test_another_account_or_provider_stops_the_start(start, change):
    start()
    with pytest.raises(ConfigurationError, match=r"endpoints\.retarus"):
        start(**change)
    start()


@pytest.mark.parametrize(("first", "then"), [(None, "salt"), ("salt", None), ("salt", "other")])
def test_another_salt_stops_the_start(start, store, first, then):
    start(salt=first)
    with pytest.raises(ConfigurationError, match="identity_salt"):
        start(salt=then)
    assert "salt" not in rows(store, "meta", "value"), "only its digest is kept"
