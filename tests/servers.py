"""PostgreSQL servers of one's own, for what must not be done to the shared one."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
from ports import free_port
from waiting import until

_NETWORK = {"listen_addresses": "127.0.0.1", "unix_socket_directories": ""}


@contextmanager
def postgresql_server(**settings: str) -> Iterator[str]:
    """Started with these settings; the URL of its database postgres, for a store."""
    with _folder() as folder:
        data = _made(folder)
        with _running(data, free_port(), **settings) as server:
            yield f"postgresql+psycopg://{server.place}/postgres"


class Server:
    """A server that runs. place: user, host and port, as in its URL."""

    def __init__(self, process: "subprocess.Popen[bytes]", port: int) -> None:
        self.place = f"postgres@127.0.0.1:{port}"
        self.port = port
        self._process = process

    def ask(self, statement: str) -> list[tuple[object, ...]]:
        with psycopg.connect(f"postgresql://{self.place}/postgres", autocommit=True, connect_timeout=5) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def cut_off(self) -> None:
        """As a power cut would: all of its processes at once."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


@contextmanager
def postgresql_pair() -> Iterator[tuple[Server, Server]]:
    """A primary, and a standby that has each commit before it is confirmed."""
    with _folder() as folder:
        data = _made(folder)
        with _running(data, free_port()) as primary:
            copied = [_program("pg_basebackup"), "-D", str(folder / "standby"), "-R", "-c", "fast", "--no-sync"]
            source = f"host=127.0.0.1 port={primary.port} user=postgres application_name=standby"
            subprocess.run([*copied, "-d", source], user=_user(), cwd=folder, check=True)
            # Not in the standby's own copy: promoted, it would wait for a standby that it has not.
            primary.ask("ALTER SYSTEM SET synchronous_standby_names = 'standby'")
            primary.ask("SELECT pg_reload_conf()")
            with _running(folder / "standby", free_port()) as standby:
                until(lambda: primary.ask("SELECT sync_state FROM pg_stat_replication") == [("sync",)])
                yield primary, standby


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="faxhook-postgresql-"))  # tests' own folders are closed to other users
    try:
        if (user := _user()) is not None:
            os.chown(folder, user, -1)
        yield folder
    finally:
        shutil.rmtree(folder)


def _user() -> int | None:
    """PostgreSQL refuses to run as root."""
    return pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None


def _program(name: str) -> str:
    return shutil.which(name) or max(map(str, Path("/usr/lib/postgresql").glob(f"*/bin/{name}")))


def _made(folder: Path) -> Path:
    """The data of a new server."""
    data = folder / "data"
    options = ["-U", "postgres", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale", "C"]
    command = [_program("initdb"), "-D", str(data), *options]
    subprocess.run(command, user=_user(), cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return data


@contextmanager
def _running(data: Path, port: int, **settings: str) -> Iterator[Server]:
    chosen = {"port": str(port), **_NETWORK, **settings}
    options = [part for name, value in chosen.items() for part in ("-c", f"{name}={value}")]
    command = [str(Path(_program("initdb")).with_name("postgres")), "-D", str(data), *options]
    said = data.with_name(f"{data.name}.log")
    with said.open("wb") as log:
        process = subprocess.Popen(
            command, user=_user(), cwd=data.parent, stdout=log, stderr=log, start_new_session=True
        )
    try:
        server = Server(process, port)
        until(lambda: process.poll() is not None or _answers(server), 60)
        assert process.poll() is None, said.read_text()
        yield server
    finally:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGQUIT)  # at once
        process.wait()


def _answers(server: Server) -> bool:
    try:
        server.ask("SELECT 1")
    except psycopg.OperationalError:
        return False
    return True
