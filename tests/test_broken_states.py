"""Every command with state_dir, store, configuration or terminal in a broken state: a sentence, never a traceback."""

import os
import sqlite3
import subprocess
import sys
import zoneinfo
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner
from disks import disk
from house import TOKEN
from ports import listener
from stock import FAXHOOK, Stock, environment, stock

from receiver.cli import main
from receiver.store import file_causes

COMMANDS = (
    *("check", "doctor", "doctor --json", "endpoints", "migrate", "consume", "events list", "events list --json"),
    *("events show x", "events republish --since 1h", "receipts list", "receipts show x", "receipts replay x"),
    *("dead-letters list", "dead-letters show x", "dead-letters replay --all", "jobs list", "jobs add faxage 1"),
    *("discrepancies list", "reconcile", "providers show retarus --endpoint retarus", "serve", "endpoints --reveal"),
)
# Nothing is read of them but the configuration, at most.
UNTOUCHED_BY_STORE = ("endpoints", "providers show retarus --endpoint retarus")


@pytest.fixture(autouse=True)
def _nothing_of_the_callers_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FAXHOOK_CONFIG", "FAXHOOK_CONFIG_TOML", "FAXHOOK_BROKER_URL", "DATABASE_URL", "PORT"):
        monkeypatch.delenv(name, raising=False)


def run(made: Stock, command: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, [*command.split(), "--config", str(made.config)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    assert result.exit_code in (0, 1, 2)
    assert "Traceback" not in result.output
    assert result.exit_code == 0 or result.output.strip(), "it failed without a word"
    return result.exit_code, result.output


def edit(made: Stock, old: str, new: str) -> None:
    text = made.config.read_text()
    assert old in text
    made.config.write_text(text.replace(old, new))


# --- state_dir ------------------------------------------------------------------------------------------------------


def is_a_file(made: Stock) -> None:
    (made.config.parent / "file").write_text("x")
    edit(made, 'state_dir = "state"', 'state_dir = "file"')


def is_below_a_file(made: Stock) -> None:
    (made.config.parent / "file").write_text("x")
    edit(made, 'state_dir = "state"', 'state_dir = "file/state"')


def cannot_be_looked_at(made: Stock) -> None:
    edit(made, 'state_dir = "state"', f'state_dir = "{"x" * 300}"')


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("break_it", [is_a_file, is_below_a_file, cannot_be_looked_at])
def test_a_state_dir_that_cannot_be_used_is_named(
    filled: Stock, break_it: Callable[[Stock], None], command: str
) -> None:
    break_it(filled)
    code, output = run(filled, command)
    if command in ("check", "serve"):
        assert code == 2
        assert "server.state_dir" in output
    if command.startswith("doctor"):
        assert code == 1
        assert "server.state_dir" in output


@pytest.mark.parametrize("mode", [0o000, 0o500])
def test_a_state_dir_of_another_user_is_named(filled: Stock, mode: int) -> None:
    """As another user than root, whom no mode stops. The interpreter itself may be in a folder of root's."""
    filled.config.parent.chmod(0o755)
    state = filled.config.parent / "state"
    state.mkdir(exist_ok=True)
    state.chmod(mode)
    script = (
        "import os, sys; from pathlib import Path; from receiver import settings\n"
        f"chosen = settings.load(Path({str(filled.config)!r}), {{}})\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "print(settings.state_dir_trouble(chosen))"
    )
    for parent in filled.config.parents:
        if parent.stat().st_uid == os.geteuid() and not parent.stat().st_mode & 0o001:
            parent.chmod(parent.stat().st_mode | 0o011)
    done = subprocess.run([FAXHOOK[0], "-c", script], env=environment(), capture_output=True, text=True, timeout=60)
    state.chmod(0o700)
    assert "cannot be read and written by this user (uid 65534)" in done.stdout, done.stderr


# --- the store ------------------------------------------------------------------------------------------------------


def file_of(made: Stock) -> Path:
    made.runtime.store.close()
    assert made.runtime.store.file is not None
    return made.runtime.store.file.path


def store_is_missing(made: Stock) -> None:
    for path in file_of(made).parent.glob("faxhook.db*"):
        path.unlink()


def store_is_empty(made: Stock) -> None:
    store_is_missing(made)
    file_of(made).write_bytes(b"")


def store_is_no_database(made: Stock) -> None:
    store_is_missing(made)
    file_of(made).write_bytes(b"no database " * 1000)


def store_is_truncated(made: Stock) -> None:
    path = file_of(made)
    path.write_bytes(path.read_bytes()[:9000])


def store_is_zeroes(made: Stock) -> None:
    path = file_of(made)
    path.write_bytes(bytes(path.stat().st_size))


def store_is_a_folder(made: Stock) -> None:
    store_is_missing(made)
    file_of(made).mkdir()


def store_is_below_a_file(made: Stock) -> None:
    (made.config.parent / "plain").write_text("x")
    edit(made, str(file_of(made)), str(made.config.parent / "plain" / "faxhook.db"))


def store_is_newer(made: Stock) -> None:
    store = made.runtime.store
    meta = store.tables.meta
    with store.writing() as connection:
        connection.execute(meta.update().where(meta.c.name == "serves").values(value="99"))
    store.close()


STORES = [
    store_is_missing,
    store_is_empty,
    store_is_no_database,
    store_is_truncated,
    store_is_zeroes,
    store_is_a_folder,
    store_is_below_a_file,
    store_is_newer,
]


@pytest.mark.parametrize("break_it", STORES)
def test_a_store_that_cannot_be_used_is_a_sentence(filled: Stock, break_it: Callable[[Stock], None]) -> None:
    filled.fill(2)
    break_it(filled)
    for command in COMMANDS:
        code, output = run(filled, command)
        if command not in UNTOUCHED_BY_STORE and command not in ("check", "endpoints --reveal"):
            assert code != 0, (command, output)


WRITING = ["consume", "events republish --since 1h", "receipts replay x", "jobs add faxage 1", "serve", "doctor --deep"]


def test_the_database_of_another_application_is_refused_and_stays_as_it_is(filled: Stock) -> None:
    store_is_missing(filled)
    (filled.config.parent / "state" / "stores.json").unlink()
    with closing(sqlite3.connect(file_of(filled))) as theirs:
        theirs.execute("CREATE TABLE cookies (name)")
    before = file_of(filled).read_bytes()
    for command in (*WRITING, "check", "migrate", "migrate --new", "events list"):
        code, output = run(filled, command)
        assert code == 1, command
        assert f"SQLite at {file_of(filled)}: this database belongs to another application" in output
        assert "cookies" in output
    assert file_of(filled).read_bytes() == before


@pytest.mark.parametrize("break_it", [store_is_empty, store_is_missing])
def test_salvaging_a_file_without_tables_does_not_say_that_nothing_was_lost(
    filled: Stock, break_it: Callable[[Stock], None]
) -> None:
    filled.fill(1)
    break_it(filled)
    code, output = run(filled, f"store salvage {filled.config.parent}/new.db")
    assert code != 0
    assert str(file_of(filled)) in output
    assert "none lost" not in output


def lock_is_a_folder(made: Stock) -> None:
    lock = file_of(made).with_name("faxhook.db.lock")
    lock.unlink()
    lock.mkdir()


def index_is_a_folder(made: Stock) -> None:
    index = file_of(made).with_name("faxhook.db-shm")
    index.unlink(missing_ok=True)
    index.mkdir()


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (store_is_a_folder, "faxhook.db is a folder; store.url must name a file"),
        (lock_is_a_folder, "faxhook.db.lock is a folder; remove it while faxhook is stopped"),
        (index_is_a_folder, "faxhook.db-shm is a folder; remove it while faxhook is stopped"),
    ],
)
def test_what_is_a_folder_instead_of_a_file_is_named(
    filled: Stock, break_it: Callable[[Stock], None], said: str
) -> None:
    break_it(filled)
    for command in WRITING:
        code, output = run(filled, command)
        assert code == 1, (command, output)
        assert str(file_of(filled)) in output, command
        assert said in output, command
        assert "damaged" not in output, command


OTHER_PROGRAM = """
import fcntl, sqlite3, sys
if sys.argv[2] == "sqlite":
    sqlite3.connect(sys.argv[1], isolation_level=None).execute("BEGIN EXCLUSIVE")
else:
    lock = open(sys.argv[1] + ".lock")
    fcntl.flock(lock, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("command", ["consume", "doctor", "receipts replay x"])
@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("sqlite", "another program keeps it locked, such as a backup or an sqlite3 shell"),
        ("faxhook", "another faxhook process has kept it locked"),
    ],
)
def test_who_keeps_the_store_locked_is_said_within_seconds(filled: Stock, how: str, said: str, command: str) -> None:
    filled.fill(1)
    path = file_of(filled)
    holder = [sys.executable, "-c", OTHER_PROGRAM, str(path), how]
    with subprocess.Popen(holder, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        code, output = run(filled, command)
        process.communicate()
    assert code == 1
    assert f"SQLite at {path}: {said}" in output


@pytest.mark.parametrize("how", ["sqlite", "faxhook"])
def test_check_warns_of_a_store_that_is_kept_locked(filled: Stock, how: str) -> None:
    """A reader does not notice, so that all would look well while each callback is refused."""
    path = file_of(filled)
    with filled.runtime.store.writing():
        pass  # there is a lock file
    with subprocess.Popen(
        [sys.executable, "-c", OTHER_PROGRAM, str(path), how], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        code, output = run(filled, "check")
        process.communicate()
    assert code == 0
    assert f"warning: store.url: SQLite at {path}: another" in output
    assert "fuser" in output
    assert "503" in output
    assert "store.url" not in run(filled, "check")[1]


def test_a_follower_that_was_given_an_end_does_not_wait_for_the_store_beyond_it(filled: Stock) -> None:
    store_is_a_folder(filled)
    code, output = run(filled, "consume --follow --idle-seconds 0.5")
    assert code == 1
    assert f"faxhook: SQLite at {file_of(filled)}: faxhook.db is a folder" in output


@pytest.mark.parametrize("is_full", [True, False])
def test_a_disk_that_is_full_or_read_only_is_named_with_its_folder(tmp_path: Path, is_full: bool) -> None:
    with disk(tmp_path / "disk") as small, stock(tmp_path / "x", f"sqlite:///{tmp_path}/disk/store/faxhook.db") as made:
        made.fill(1)
        folder = file_of(made).parent
        if is_full:
            small.fill()
            said = f"the disk is full; make room at {folder}"
        else:
            small.forbid_writing()
            said = f"the file system at {folder} is mounted read-only"
        for command in (*WRITING, "check", "migrate", "events list", "receipts list --json", "discrepancies list"):
            code, output = run(made, command)
            assert code == 1, (command, output)
            assert said in output.replace("\n", ""), (command, output)
            assert "damage" not in output, command


def test_a_state_dir_on_a_read_only_disk_is_named_as_such(tmp_path: Path, sqlite_url: str) -> None:
    with stock(tmp_path, sqlite_url) as made, disk(tmp_path / "state") as small:
        small.forbid_writing()
        for command, expected in (("check", 2), ("doctor", 1), ("serve", 2)):
            code, output = run(made, command)
            assert code == expected
            assert f"{tmp_path}/state is on a file system that is mounted read-only" in output


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("SQLITE_IOERR_READ", "the disk or its file system has failed"),
        ("SQLITE_NOTADB", "it is no SQLite database"),
        ("SQLITE_SOMETHING_NEW", "see faxhook doctor"),
        ("FileReplaced", "was removed or replaced while it was in use"),
    ],
)
def test_each_refusal_of_sqlite_is_a_sentence_with_its_name_for_searching(filled: Stock, error: str, said: str) -> None:
    trouble = file_causes.unavailable(error, file_of(filled)).trouble
    assert trouble.startswith(f"SQLite at {file_of(filled)}: ")
    assert said in trouble
    assert trouble.endswith(f"({error})")


# --- the configuration ----------------------------------------------------------------------------------------------

CONFIGURATIONS = {
    "missing": None,
    "not UTF-8": b'[server]\nbind = "\xff"\n',
    "NUL": b'[server]\nbind = "\x00"\n',
    "no TOML": b"[server\n",
    "huge": b"#" * 20_000_000 + b"\nx = 1\n",
    "deep": b"x = " + b"[" * 100_000,
    "empty": b"",
}


@pytest.mark.parametrize("content", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_a_configuration_that_cannot_be_used_is_named(filled: Stock, content: bytes | None) -> None:
    filled.config.unlink()
    if content is not None:
        filled.config.write_bytes(content)
    for command in COMMANDS:
        code, output = run(filled, command)
        assert code == 2, (command, output)
        assert str(filled.config) in output.replace("\n", "") or "no endpoints" in output


def test_a_folder_as_configuration_is_named(filled: Stock) -> None:
    filled.config.unlink()
    filled.config.mkdir()
    for command in COMMANDS:
        assert run(filled, command)[0] == 2


def test_a_mark_of_byte_order_is_no_trouble(filled: Stock) -> None:
    filled.config.write_bytes(b"\xef\xbb\xbf" + filled.config.read_bytes())
    assert run(filled, "check")[0] == 0


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            'account = "acme"',
            "account = \u201cacme\u201d",
            "line 16, column 11); there is a left double quotation mark",
        ),
        ('account = "acme"', 'account\u00a0= "acme"', "there is a no-break space: type a plain blank"),
        ('provider = "faxage"', "provider = faxage", "expected TOML: Invalid value (at line 15, column 12)\n"),
        ('state_dir = "state"', f"max_body = {'9' * 5000}", "no number is that long"),
        ('account = "acme"', 'account = "m\u00fcller"', "expected UTF-8, and line 16 is not"),
        ('account = "acme"', 'account = { file = "a\\u0000b" }', "expected a file name without NUL"),
    ],
)
def test_what_an_editor_or_a_web_page_has_put_into_it_is_named(filled: Stock, old: str, new: str, said: str) -> None:
    edit(filled, old, new)
    if "UTF-8" in said:
        filled.config.write_bytes(filled.config.read_text().encode("latin-1"))
    for command in ("check", "serve", "doctor", "events list"):
        code, output = run(filled, command)
        assert code == 2
        assert said in output
        assert str(filled.config) in output


def test_a_machine_without_time_zones_is_named_and_not_the_configuration(
    filled: Stock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "tzdata"] + ["tzdata"]:
        monkeypatch.setitem(sys.modules, name, None)  # also its folders, where a test has read from them
    zoneinfo.reset_tzpath(to=[])
    zoneinfo.ZoneInfo.clear_cache()
    try:
        code, output = run(filled, "check")
    finally:
        zoneinfo.reset_tzpath()
    assert code == 2
    assert "this machine has no time zones; install its package tzdata" in output


def test_a_secret_from_a_file_may_have_a_mark_at_its_beginning_and_a_line_end(filled: Stock) -> None:
    (filled.config.parent / "secret").write_bytes(b"\xef\xbb\xbf" + TOKEN.encode() + b"\r\n")
    edit(filled, f'tokens = ["{TOKEN}"]', 'tokens = [{ file = "secret" }]')
    assert run(filled, "check")[0] == 0
    assert f"/callbacks/openfax/{TOKEN}\n" in run(filled, "endpoints --reveal")[1]


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("203.0.113.9:8000", "is no address of this machine"),
        ("no-such-host.invalid:8000", "names a host that does not exist"),
        ("unix:absent/faxhook.sock", "its folder does not exist"),
        (f"unix:{'x' * 200}", "its path is too long"),
        ("unix:faxhook.toml", "which is no socket"),
    ],
)
def test_an_address_that_cannot_be_bound_is_found_before_the_start(filled: Stock, address: str, said: str) -> None:
    edit(filled, 'bind = "127.0.0.1:8000"', f'bind = "{address}"')
    for command, expected in (("check", 2), ("serve", 2), ("doctor", 1)):
        code, output = run(filled, command)
        assert code == expected, command
        assert "server.bind" in output
        assert said in output


def test_an_address_that_another_process_uses_is_no_trouble_for_a_check(filled: Stock) -> None:
    with listener() as taken:
        edit(filled, "127.0.0.1:8000", f"127.0.0.1:{taken.getsockname()[1]}")
        assert run(filled, "check")[0] == 0


def test_a_descriptor_that_nobody_passed_is_no_address(filled: Stock) -> None:
    edit(filled, 'bind = "127.0.0.1:8000"', 'bind = "fd://3"')
    for command, expected in (("check", 2), ("serve", 2), ("doctor", 1)):
        code, output = run(filled, command)
        assert code == expected
        assert "server.bind" in output


# --- the terminal ---------------------------------------------------------------------------------------------------


def test_an_output_that_takes_only_ascii_gets_escapes(filled: Stock) -> None:
    terminal = environment() | {"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "TERM": "dumb", "COLUMNS": "20"}
    for command in (["secrets", "new", "--kind", "basic"], ["providers", "list"], ["--help"]):
        done = subprocess.run([*FAXHOOK, *command], env=terminal, capture_output=True, text=True, timeout=60)
        assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr


@pytest.mark.parametrize("command", ["consume", "events list", "check"])
def test_a_closed_output_is_no_traceback_and_reads_nothing(filled: Stock, command: str) -> None:
    filled.fill(2)
    shell = f"{' '.join(FAXHOOK)} {command} --config {filled.config} >&-"
    done = subprocess.run(["sh", "-c", shell], env=environment(), stderr=subprocess.PIPE, text=True, timeout=60)
    assert "Traceback" not in done.stderr
    assert done.returncode in (0, 1)
    if command == "consume":
        assert done.returncode == 1
        assert "standard output is closed" in done.stderr
        assert filled.states() == {"pending": 2}
