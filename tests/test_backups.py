"""Backups of a store in either database, restored in either: whole, or refused with a word."""

import json
import re
import threading
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from disks import disk
from house import CONFIGURATION, house
from moving import (
    ALL_WAYS,
    SERVICE,
    StoreOf,
    configured,
    fill_every_table,
    path_of,
    rows_of,
    run,
    told,
)
from served import Load
from stock import Stock, stock

from receiver.store import backups
from receiver.store.projection import Keys, note_maker
from receiver.store.sqlite import SQLITE


@ALL_WAYS
def test_every_table_is_backed_up_and_restored(store_of: StoreOf, tmp_path: Path, old_kind: str, new_kind: str) -> None:
    old, new = store_of(old_kind, "a", migrated=True), store_of(new_kind, "b")
    fill_every_table(old)
    folder = tmp_path / "100% of what? #1"
    folder.mkdir()
    result = run("store", "backup", folder, "--config", configured(tmp_path / "c", old))
    assert result.exit_code == 0, result.output
    (backup,) = folder.iterdir()
    assert backup.stat().st_mode & 0o777 == 0o600
    before = backup.read_bytes()
    config = configured(tmp_path / "d", new)
    verified = run("store", "verify", backup, "--config", config)
    assert (verified.exit_code, "whole" in verified.output) == (0, True), verified.output
    result = run("store", "restore", backup, "--config", config)
    assert result.exit_code == 0, result.output
    assert (list(folder.iterdir()), backup.read_bytes()) == ([backup], before)
    expected = rows_of(old)
    expected["waiting"] = sorted((*row[:5], None, None) for row in expected["waiting"])
    assert rows_of(new) == expected
    again = run("store", "restore", backup, "--config", config)
    assert again.exit_code == 1
    assert "exists" in again.output or "expected an empty store" in again.output
    assert rows_of(new) == expected


@pytest.fixture
def backed_up(filled: Stock) -> Path:
    filled.fill(30)
    target = filled.config.parent / "backup.db"
    assert told(filled, "store", "backup", target).exit_code == 0
    return target


def test_the_documented_commands_back_up_and_restore(filled: Stock) -> None:
    filled.fill(2)
    folder = filled.config.parent / "backups"
    folder.mkdir()
    document = (Path(__file__).parents[1] / "deploy" / "README.md").read_text()
    commands = re.findall(r"^faxhook (store (?:backup|verify|restore) \S+)", document, re.MULTILINE)
    assert [command.split()[1] for command in commands] == ["backup", "verify", "restore"]
    before = filled.payloads()
    for command in commands:
        made = next(folder.iterdir(), folder)
        *words, path = command.split()
        if words[-1] == "restore":
            filled.runtime.close()
            for file in path_of(filled).parent.glob("faxhook.db*"):
                file.unlink()
        result = told(filled, *words, folder if path == "/var/backups/faxhook" else made)
        assert result.exit_code == 0, result.output
        assert path == "/var/backups/faxhook" or re.sub(r"\d", "0", Path(path).name) == re.sub(r"\d", "0", made.name)
    assert filled.payloads() == before


def test_a_backup_that_was_put_in_place_by_hand_is_a_store(filled: Stock, backed_up: Path) -> None:
    filled.runtime.close()
    for suffix in ("-wal", "-shm"):
        path_of(filled).with_name(path_of(filled).name + suffix).unlink(missing_ok=True)
    path_of(filled).write_bytes(backed_up.read_bytes())
    with stock(filled.config.parent, f"sqlite:///{path_of(filled)}") as made:
        made.fax(1)
        assert made.states() == {"pending": 31}
        again = backed_up.with_name("50% of what? #1.db")
        assert told(made, "store", "backup", again).exit_code == 0
        assert told(made, "store", "verify", again).exit_code == 0


def test_a_damaged_store_is_not_backed_up(filled: Stock, backed_up: Path) -> None:
    filled.runtime.close()
    damage(path_of(filled))
    result = told(filled, "store", "backup", backed_up.with_name("damaged.db"))
    assert (result.exit_code, "faxhook store salvage" in result.output) == (1, True), result.output
    assert not backed_up.with_name("damaged.db").exists()


def damage(path: Path) -> None:
    """A page in the middle of the file."""
    content = path.read_bytes()
    middle = len(content) // 8192 * 4096
    path.write_bytes(content[:middle] + b"\xde\xad" * 2048 + content[middle + 4096 :])


def test_no_file_is_replaced_and_nothing_is_left_of_a_backup_that_failed(filled: Stock, backed_up: Path) -> None:
    before = backed_up.read_bytes()
    files = set(backed_up.parent.iterdir())
    result = told(filled, "store", "backup", backed_up)
    assert (result.exit_code, "exists; expected the name of a new file" in result.output) == (2, True)
    assert told(filled, "store", "backup", backed_up.parent / "no" / "such").exit_code == 1
    assert (backed_up.read_bytes(), set(backed_up.parent.iterdir())) == (before, files)


def test_a_full_disk_is_named_and_nothing_stays_there(filled: Stock, backed_up: Path, tmp_path: Path) -> None:
    filled.rewrite(filled.events()[0]["id"], body=bytes(2 * 1024 * 1024))
    whole = backed_up.with_name("larger.db")
    assert told(filled, "store", "backup", whole).exit_code == 0
    with disk(tmp_path / "disk", 1) as small:
        target = small.folder / "backup.db"
        result = told(filled, "store", "backup", target)
        assert (result.exit_code, f"{target}: the disk is full" in result.output) == (1, True), result.output
        filled.config.write_text(filled.config.read_text().replace(str(path_of(filled)), f"{small.folder}/faxhook.db"))
        result = told(filled, "store", "restore", whole)
        said = f"{small.folder}/faxhook.db: No space left on device; nothing was written"
        assert (result.exit_code, said in result.output) == (1, True), result.output
        assert list(small.folder.iterdir()) == []


def test_a_backup_that_was_changed_is_not_restored(filled: Stock, backed_up: Path, tmp_path: Path) -> None:
    config = tmp_path / "new.toml"
    config.write_text(filled.config.read_text().replace(str(path_of(filled)), f"{tmp_path}/new.db"))
    for change, words in [
        ("DELETE FROM faxhook_waiting WHERE sink = 'queue' AND turn = 3", "faxhook_waiting: 59 rows, expected 60"),
        ("UPDATE faxhook_events SET outcome = 'failed' WHERE seq = 3", "faxhook_events: its rows were changed"),
        ("DROP TABLE faxhook_audit", "faxhook_audit: is missing"),
        ("CREATE TABLE faxhook_more (a)", "faxhook_more: is not of this backup"),
    ]:
        changed = tmp_path / "changed.db"
        changed.write_bytes(backed_up.read_bytes())
        with closing(SQLITE.connect(changed)) as connection, connection:
            connection.execute(change)
        for command in ("verify", "restore"):
            result = run("store", command, changed, "--config", config)
            assert (result.exit_code, words in result.output) == (1, True), result.output
    damaged = tmp_path / "damaged.db"
    damaged.write_bytes(backed_up.read_bytes())
    damage(damaged)
    result = run("store", "verify", damaged, "--config", config)
    assert (result.exit_code, "damaged:" in result.output) == (1, True), result.output
    for no_backup in (filled.config, tmp_path / "nowhere", path_of(filled)):
        result = run("store", "restore", no_backup, "--config", config)
        assert (result.exit_code, "store backup" in result.output) == (1, True), result.output
    assert not (tmp_path / "new.db").exists()


def with_key(configuration: str, key: str) -> str:
    return configuration.replace('state_dir = "state"', f'state_dir = "state"\nsecret_key = {key}')


def test_another_secret_key_is_refused_until_it_is_said_to_be_lost(tmp_path: Path) -> None:
    with stock(tmp_path / "old", f"sqlite:///{tmp_path}/a/faxhook.db") as made:
        made.take("faxage", b"jobid=1&destname=Anna&destnum=2085550139&shortstatus=success&longstatus=Success")
        made.project()
        backup = tmp_path / "backup.db"
        assert told(made, "store", "backup", backup).exit_code == 0
        counted = rows_of(f"sqlite:///{tmp_path}/a/faxhook.db")["stats"]
        assert counted
    text = made.config.read_text().replace("/a/faxhook.db", "/b/faxhook.db")
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    config = fresh / "faxhook.toml"
    config.write_text(text)
    for command in ("verify", "restore"):
        none = run("store", command, backup, "--config", config)
        assert (none.exit_code, "none is configured" in none.output) == (2, True), none.output
    assert not (fresh / "state").exists(), "no key is made by asking"
    config.write_text(with_key(text, '"another one of the server"'))
    for command in ("verify", "restore"):
        other = run("store", command, backup, "--config", config)
        assert (other.exit_code, "was made with the secret key" in other.output) == (2, True), other.output
    assert not (tmp_path / "b").exists()
    assert run("store", "restore", backup, "--key-is-lost", "--config", config).exit_code == 0
    restored = f"sqlite:///{tmp_path}/b/faxhook.db"
    with stock(fresh, restored, with_key(CONFIGURATION, '"another one of the server"')) as made:
        made.project()
        found = told(made, "fax", "find", "2085550139")
        assert (found.exit_code, "fax_id" in found.output) == (0, True), found.output
        assert rows_of(restored)["stats"] == counted, "no fax is counted twice"
    # and where it is one of several it is taken
    (tmp_path / "b" / "faxhook.db").unlink()
    key = (tmp_path / "old" / "state" / "secret_key").read_text()
    config.write_text(with_key(text, f'["a new one of them", "{key}"]'))
    assert run("store", "restore", backup, "--config", config).exit_code == 0


def noted(made: Stock, *keys: str) -> list[str]:
    """Their marks, the first noted as a relay that works with them notes it."""
    known = Keys([key.encode() for key in keys])
    with made.runtime.store.writing() as connection:
        note_maker(connection, made.runtime.store.tables, known)
    return known.marks


def test_a_backup_without_the_relay_s_secret_key_is_refused(filled: Stock, tmp_path: Path) -> None:
    (mark,) = noted(filled, "the key that the relay has")
    backup, config = tmp_path / "backup.db", filled.config
    text, kept = config.read_text(), config.parent / "state" / "secret_key"
    other = told(filled, "store", "backup", backup)
    assert (other.exit_code, f"works with the secret key {mark}, configured is" in other.output) == (2, True)
    kept.unlink()
    none = told(filled, "store", "backup", backup)
    assert (none.exit_code, f"none is configured, and {kept} is not there" in none.output) == (2, True), none.output
    assert not backup.exists()
    assert not kept.exists(), "no key is made by asking"
    config.write_text(with_key(text, '["the next key of all", "the key that the relay has"]'))
    assert told(filled, "store", "backup", backup).exit_code == 0
    assert backups.read(backup).secret_keys[0] == mark, "the relay has not begun with the next one yet"


def test_each_secret_key_of_a_backup_must_be_configured(filled: Stock, tmp_path: Path) -> None:
    text, backup = filled.config.read_text(), tmp_path / "backup.db"
    new, old = noted(filled, "the new key of all", "the old key of all")
    filled.config.write_text(with_key(text, '["the new key of all", "the old key of all"]'))
    assert told(filled, "store", "backup", backup).exit_code == 0
    verified = told(filled, "store", "verify", backup)
    assert (verified.exit_code, f"the secret keys {new} and {old}, as configured" in verified.output) == (0, True)
    filled.config.write_text(with_key(text.replace("faxhook.db", "new.db"), '"the new key of all"'))
    for command in ("verify", "restore"):
        result = told(filled, "store", command, backup)
        assert (result.exit_code, f"configured is {new}; {old} is missing" in result.output) == (2, True), result.output


def test_a_log_that_was_left_without_its_file_is_not_taken_for_the_restored_ones(
    filled: Stock, backed_up: Path
) -> None:
    filled.runtime.close()
    path = path_of(filled)
    for name in ("", "-shm", ".lock", ".relay"):
        path.with_name(path.name + name).unlink(missing_ok=True)
    log = path.with_name(path.name + "-wal")
    log.write_bytes(b"what a crash has left")
    result = told(filled, "store", "restore", backed_up)
    assert (result.exit_code, "-wal: exists" in result.output) == (1, True), result.output
    log.unlink()
    assert told(filled, "store", "restore", backed_up).exit_code == 0


def test_nothing_is_restored_where_its_log_cannot_be_emptied(
    filled: Stock, backed_up: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody reads all that is written, such as a search for viruses: the last to close empties the log."""
    folder = tmp_path / "new"
    made_whole, readers = backups.made_whole, ExitStack()

    def watched(*arguments: Any, **options: Any) -> None:
        (part,) = folder.glob(".*.part")
        reader = readers.enter_context(closing(SQLITE.connect(part, isolation_level=None)))
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM faxhook_waiting").fetchone()
        made_whole(*arguments, **options)

    monkeypatch.setattr(backups, "made_whole", watched)
    filled.config.write_text(filled.config.read_text().replace(str(path_of(filled)), f"{folder}/faxhook.db"))
    with readers:
        result = told(filled, "store", "restore", backed_up)
    assert (result.exit_code, f"{folder}/faxhook.db: another program" in result.output) == (1, True), result.output
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgresql", marks=SERVICE)])
def test_what_was_acknowledged_before_a_backup_began_is_there_when_it_is_restored(
    store_of: StoreOf, tmp_path: Path, kind: str
) -> None:
    """The drill of deploy/README.md, with callbacks all the while."""
    backup = tmp_path / "backup.db"
    with house(tmp_path / "old", store_of(kind, "a")) as running:
        loads = [Load(running.port, prefix) for prefix in ("7", "8")]
        ended = threading.Event()
        senders = [threading.Thread(target=post, args=(load, ended)) for load in loads]
        for sender in senders:
            sender.start()
        while min(len(load.accepted) for load in loads) < 20:
            pass
        told_before = [set(load.accepted) for load in loads]
        result = run("store", "backup", backup, "--config", running.config)
        ended.set()
        for sender in senders:
            sender.join()
        assert result.exit_code == 0, result.output
        key = running.config.parent / "state" / "secret_key"
    config = configured(tmp_path / "new", store_of(kind, "b"), key.read_text())
    assert run("store", "verify", backup, "--config", config).exit_code == 0
    result = run("store", "restore", backup, "--config", config)
    assert result.exit_code == 0, result.output
    with stock(tmp_path / "new", store_of(kind, "b", kept=True)) as made:
        count = len(made.events())
        published = {(one["provider_job_id"], one["outcome"]) for one in map(data, made.payloads().values())}
        assert set().union(*told_before) <= published
        job, outcome = sorted(told_before[0])[0]
        made.fax(int(job), AccountID="1", status="0" if outcome == "delivered" else "2")
        assert (made.receipts()[0]["state"], len(made.events())) == ("duplicate", count)
        delivered = [json.loads(line)["id"] for line in made.consumed()]
        assert sorted(delivered) == sorted(made.payloads())
        assert made.states() == {"published": count}


def post(load: Load, ended: threading.Event) -> None:
    while not ended.is_set():
        load.post()


def data(body: bytes) -> dict[str, str]:
    found: dict[str, str] = json.loads(body)["data"]
    return found
