"""A PostgreSQL server of one's own, for what must not be done to the shared one."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from ports import free_port
from waiting import until


@contextmanager
def postgresql_server(**settings: str) -> Iterator[str]:
    """Started with these settings; the URL of its database postgres, for a store."""
    initdb = shutil.which("initdb") or max(map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb")))
    folder = Path(tempfile.mkdtemp(prefix="faxhook-postgresql-"))  # tests' own folders are closed to other users
    port = free_port()
    url = f"postgres@127.0.0.1:{port}/postgres"
    try:
        user = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None  # it refuses to run as root
        if user is not None:
            os.chown(folder, user, -1)
        data = folder / "data"
        made = [initdb, "-D", str(data), "-U", "postgres", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale", "C"]
        subprocess.run(made, user=user, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        settings = {"port": str(port), "listen_addresses": "127.0.0.1", "unix_socket_directories": "", **settings}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with (folder / "log").open("wb") as log:
            command = [str(Path(initdb).with_name("postgres")), "-D", str(data), *options]
            server = subprocess.Popen(command, user=user, cwd=folder, stdout=log, stderr=log)
        try:
            until(lambda: server.poll() is not None or _answers(url), 60)
            assert server.poll() is None, (folder / "log").read_text()
            yield f"postgresql+psycopg://{url}"
        finally:
            server.send_signal(3)  # SIGQUIT: at once
            server.wait()
    finally:
        shutil.rmtree(folder)


def _answers(url: str) -> bool:
    try:
        psycopg.connect(f"postgresql://{url}", connect_timeout=5).close()
    except psycopg.OperationalError:
        return False
    return True
