"""A folder as platforms deploy it, the processes they start there, and a virtual host of RabbitMQ beside them."""

import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from amqp.exceptions import InternalError, NotFound
from house import ask
from kombu.connection import Connection
from stock import environment
from waiting import until

from receiver import hosting

ROOT = Path(__file__).parents[1]


def rabbitmqctl(*arguments: str) -> None:
    subprocess.run(["rabbitmqctl", "--quiet", *arguments], check=True, capture_output=True, timeout=60)


@pytest.fixture
def vhost() -> Iterator[str]:
    """A virtual host of this test's own. The tests that use it are marked service("rabbitmq")."""
    name = f"faxhook-test-{secrets.token_hex(6)}"
    try:
        rabbitmqctl("add_vhost", name)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no right to use rabbitmqctl")
    rabbitmqctl("set_permissions", "-p", name, "guest", ".*", ".*", ".*")
    try:
        yield name
    finally:
        rabbitmqctl("delete_vhost", name)


def amqp(vhost: str, user: str = "guest:guest") -> str:
    return f"amqp://{user}@127.0.0.1:5672/{vhost}"


def take_all(url: str, count: int) -> list[dict[str, Any]]:
    """So many events from the queue, once the relay has made it."""
    found: list[dict[str, Any]] = []

    def take() -> bool:
        with Connection(url) as connection, suppress(NotFound, InternalError):  # there, but not begun
            channel = connection.channel()
            while message := channel.basic_get("fax.completed", no_ack=True):
                found.append(json.loads(message.body))
        return len(found) >= count

    until(take)
    return found


@pytest.fixture
def slug(tmp_path: Path) -> Path:
    """What is deployed: the Procfile, and ``faxhook`` on the path."""
    command = tmp_path / "bin" / "faxhook"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m receiver "$@"\n')
    command.chmod(0o755)
    shutil.copy(ROOT / "Procfile", tmp_path)
    return tmp_path


def variables(slug: Path, **own: str) -> dict[str, str]:
    """Of a process there, and nothing of any other platform or configuration."""
    strange = {"PORT", "DATABASE_URL", "CLOUDAMQP_URL", "WEB_CONCURRENCY", *hosting._PLATFORMS}
    inherited = {name: value for name, value in environment().items() if name not in strange}
    path = os.pathsep.join((str(slug / "bin"), str(Path(sys.executable).parent), inherited["PATH"]))
    return {**inherited, "PATH": path, **own}


def of_documents(text: str) -> dict[str, str]:
    """The secrets that a documented configuration asks for."""
    return {name: secrets.token_urlsafe(32) for name in set(re.findall(r"\$\{([A-Z_]+)\}", text))}


@contextmanager
def running(slug: Path, command: list[str], env: dict[str, str]) -> Iterator["subprocess.Popen[bytes]"]:
    """In a process group of its own, its output in the file ``log``; whatever is left at the end is killed."""
    with (slug / "log").open("ab") as log:
        process = subprocess.Popen(command, cwd=slug, env=env, stdout=log, stderr=log, start_new_session=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def faxhook(slug: Path, env: dict[str, str], *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["faxhook", *arguments],
        cwd=slug,
        env=env,
        executable=str(slug / "bin" / "faxhook"),
        capture_output=True,
        text=True,
        timeout=60,
    )


def is_ready(port: int) -> bool:
    try:
        return ask(port, "GET", "/readyz").status == 200
    except OSError:
        return False


def log(slug: Path) -> str:
    return (slug / "log").read_text()
