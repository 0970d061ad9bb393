"""A terminal that is closed or on a full disk, and a umask that lets everybody read."""

import stat
import subprocess
from pathlib import Path

import pytest
from house import CONFIGURATION, ask
from ports import free_port
from stock import FAXHOOK, environment
from waiting import until


def test_a_first_configuration_made_under_umask_0_is_its_owners_alone(tmp_path: Path) -> None:
    subprocess.run([*FAXHOOK, "init"], cwd=tmp_path, env=environment(), umask=0, check=True, capture_output=True)
    assert stat.S_IMODE((tmp_path / "faxhook.toml").stat().st_mode) == 0o600


@pytest.mark.parametrize("redirected", ["2>/dev/full", "2>&-"])
def test_a_command_with_something_to_say_works_where_stderr_cannot_be_written(tmp_path: Path, redirected: str) -> None:
    text = CONFIGURATION.format(port=1, store=f"sqlite:///{tmp_path}/var/faxhook.db")
    (tmp_path / "faxhook.toml").write_text(text.replace("[server]", "[server]\nunknown = 1"))
    command = ["sh", "-c", f'exec "$@" {redirected}', "sh", *FAXHOOK]
    refused = subprocess.run([*command, "migrate"], cwd=tmp_path, env=environment(), capture_output=True)
    assert refused.returncode == 2
    (tmp_path / "faxhook.toml").write_text(text)
    assert subprocess.run([*command, "migrate"], cwd=tmp_path, env=environment(), capture_output=True).returncode == 0


@pytest.mark.parametrize("command", [["--help"], ["--version"], ["events", "--help"], ["secrets", "new"], ["migrate"]])
def test_an_output_on_a_full_disk_is_said_to_be_that_and_not_the_store(tmp_path: Path, command: list[str]) -> None:
    text = CONFIGURATION.format(port=1, store=f"sqlite:///{tmp_path}/var/faxhook.db")
    (tmp_path / "faxhook.toml").write_text(text)
    shell = ["sh", "-c", 'exec "$@" >/dev/full', "sh", *FAXHOOK, *command]
    done = subprocess.run(shell, cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (1, "faxhook: standard output: No space left on device\n")


def test_a_first_serve_takes_callbacks_where_its_output_is_on_a_full_disk(tmp_path: Path) -> None:
    port = free_port()
    shell = ["sh", "-c", 'exec "$@" >/dev/full 2>/dev/full', "sh", *FAXHOOK, "serve"]
    with subprocess.Popen(shell, cwd=tmp_path, env=environment() | {"PORT": str(port)}) as process:
        until(lambda: is_up(port))
        process.terminate()
        assert process.wait(60) == 0


def is_up(port: int) -> bool:
    try:
        return ask(port, "GET", "/healthz").status == 200
    except OSError:
        return False
