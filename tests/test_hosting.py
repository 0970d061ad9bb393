"""Where a store would be lost, and what is said of it."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from house import CONFIGURATION, house

from receiver import hosting, settings
from receiver.cli import main
from receiver.errors import ConfigurationError
from receiver.settings import Settings
from receiver.web import serving

MOUNTS = """\
22 1 0:30 / / rw,relatime - overlay overlay rw,lowerdir=/x
23 22 0:31 / /dev/shm rw - tmpfs shm rw
24 22 8:1 / /data rw,noatime shared:1 - ext4 /dev/sda1 rw
25 24 0:40 / /data/far\\040away rw - nfs4 host:/x rw
"""
KEY = 'secret_key = "0123456789abcdef0123456789abcdef"\n'


@pytest.fixture
def mounts(tmp_path: Path) -> Path:
    (tmp_path / "mountinfo").write_text(MOUNTS)
    return tmp_path / "mountinfo"


def configured(folder: Path, url: str, *, server: str = KEY, store: str = "") -> Settings:
    text = CONFIGURATION.format(port=8000, store=url)
    text = text.replace("[server]\n", f"[server]\n{server}").replace("[store]\n", f"[store]\n{store}")
    (folder / "some.toml").write_text(text)
    return settings.load(folder / "some.toml", {})


@pytest.mark.parametrize(
    ("path", "point", "kind"),
    [
        ("/srv/faxhook.db", "/", "overlay"),
        ("/data/faxhook.db", "/data", "ext4"),
        ("/database/faxhook.db", "/", "overlay"),
        ("/data/far away/faxhook.db", "/data/far away", "nfs4"),
        ("/dev/shm/x/faxhook.db", "/dev/shm", "tmpfs"),
    ],
)
def test_the_mount_of_a_file_is_found(mounts: Path, path: str, point: str, kind: str) -> None:
    assert hosting.mount(Path(path), mounts) == (point, kind)


@pytest.mark.parametrize(
    "variable", ["DYNO", "FLY_APP_NAME", "RENDER", "K_SERVICE", "RAILWAY_ENVIRONMENT", "VCAP_APPLICATION"]
)
def test_a_platform_takes_no_store_it_would_forget(tmp_path: Path, mounts: Path, variable: str) -> None:
    platform = {variable: "1"}
    for path in ("/srv/faxhook.db", "/dev/shm/faxhook.db"):
        inside = configured(tmp_path, f"sqlite:///{path}")
        hosting.check(inside, {}, mounts)
        with pytest.raises(ConfigurationError, match=r"store\.url"):
            hosting.check(inside, platform, mounts)
    hosting.check(configured(tmp_path, "sqlite:////data/faxhook.db"), platform, mounts)
    hosting.check(configured(tmp_path, "postgresql+psycopg://host/faxhook"), platform, mounts)
    accepted = configured(tmp_path, "sqlite:////srv/faxhook.db", server="", store="ephemeral_ok = true\n")
    hosting.check(accepted, platform, mounts)


def test_a_platform_needs_the_secret_key_in_the_configuration(tmp_path: Path, mounts: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"server\.secret_key"):
        hosting.check(configured(tmp_path, "sqlite:////data/faxhook.db", server=""), {"DYNO": "web.1"}, mounts)


def test_elsewhere_there_are_doubts(tmp_path: Path, mounts: Path) -> None:
    for path, word in (("/srv", "container"), ("/dev/shm", "memory"), ("/data/far away", "network")):
        (doubt,) = hosting.doubts(configured(tmp_path, f"sqlite:///{path}/faxhook.db"), mounts)
        assert word in doubt
    assert hosting.doubts(configured(tmp_path, "sqlite:////data/faxhook.db"), mounts) == []
    assert hosting.doubts(configured(tmp_path, "postgresql+psycopg://host/faxhook"), mounts) == []


def test_a_first_serve_on_a_platform_stops_and_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DYNO", "web.1")
    for name in ("FAXHOOK_CONFIG", "FAXHOOK_CONFIG_TOML"):
        monkeypatch.delenv(name, raising=False)
    result = CliRunner().invoke(main, ["serve"])
    assert result.exit_code == 2
    assert "Heroku" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_every_command_that_starts_something_looks_at_the_platform(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configured(tmp_path, f"sqlite:///{tmp_path}/faxhook.db", server="")
    monkeypatch.setenv("RENDER", "true")
    for command in ("check", "serve", "relay", "migrate", "doctor"):
        result = CliRunner().invoke(main, [command, "--config", str(tmp_path / "some.toml")])
        assert result.exit_code == 2
        assert "server.secret_key" in result.stderr
    assert not (tmp_path / "faxhook.db").exists()


@pytest.fixture
def in_memory() -> Iterator[Path]:
    """A folder that is lost at a restart."""
    folder = Path(tempfile.mkdtemp(dir="/dev/shm", prefix="faxhook-test-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def test_a_store_in_memory_is_told_of_wherever_somebody_looks(
    tmp_path: Path, in_memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with house(tmp_path, f"sqlite:///{in_memory}/faxhook.db") as made:
        ready = made.ask("GET", "/readyz")
        assert ready.status == 200
        (warning,) = ready.json["warnings"]
    assert "(tmpfs) is memory" in warning
    monkeypatch.setattr(serving, "serve", lambda *_, **__: 0)
    for command in ("check", "doctor", "serve"):
        result = CliRunner().invoke(main, [command, "--config", str(made.config)])
        assert result.exit_code == 0, result.output
        assert "(tmpfs) is memory" in result.output, command


def test_a_loss_that_was_accepted_is_no_doubt(tmp_path: Path, in_memory: Path) -> None:
    accepted = CONFIGURATION.replace("[store]\n", "[store]\nephemeral_ok = true\n")
    with house(tmp_path, f"sqlite:///{in_memory}/faxhook.db", accepted) as made:
        assert "warnings" not in made.ask("GET", "/readyz").json
