"""A pgbouncer of one's own before PostgreSQL, with Debian's configuration and nothing else that helps."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ports import free_port
from sqlalchemy.engine import make_url
from waiting import until

# As /etc/pgbouncer/pgbouncer.ini of Debian has it, but for files and ports; whoever connects is the user postgres.
_CONFIGURATION = """
[databases]
* = host=127.0.0.1 port=5432 user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
"""


@contextmanager
def pgbouncer(store_url: str, mode: str = "transaction") -> Iterator[str]:
    """The URL of the same database through the pooler."""
    port = free_port()
    folder = Path(tempfile.mkdtemp(prefix="faxhook-pgbouncer-"))  # tests' own folders are closed to other users
    try:
        folder.chmod(0o755)
        configuration = folder / "pgbouncer.ini"
        configuration.write_text(_CONFIGURATION.format(port=port, mode=mode))
        user = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None  # it refuses to run as root
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(["pgbouncer", str(configuration)], stdout=log, stderr=log, user=user)
        try:
            until(lambda: process.poll() is not None or _listens(port))
            assert process.poll() is None, (folder / "log").read_text()
            url = make_url(store_url).set(host="127.0.0.1", port=port)
            yield url.render_as_string(hide_password=False)
        finally:
            process.kill()
            process.wait()
    finally:
        shutil.rmtree(folder)


def _listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0
