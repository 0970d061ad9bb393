"""A terminal that is closed or on a full disk, and a umask that lets everybody read."""

import stat
import subprocess
from pathlib import Path

import pytest
from house import CONFIGURATION
from stock import FAXHOOK, environment


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
