"""The first configuration, and the first `faxhook serve`."""

import json
import os
import re
import signal
import stat
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from ports import free_port
from providers.samples import callers
from stock import FAXHOOK, environment

from receiver import init, providers, resolving, settings
from receiver.cli import main
from receiver.errors import ConfigurationError


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, and no configuration in the environment."""
    for name in (*(name for name in os.environ if name.startswith("FAXHOOK")), "PORT", "DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_file_loads_as_it_is_with_an_endpoint_for_each_provider(here: Path) -> None:
    init.write(here / "faxhook.toml")
    loaded = settings.load(None, {})
    assert sorted(loaded.endpoints) == sorted(callers())
    resolving.resolve(loaded)
    assert settings.doubts(loaded) == []


def test_the_file_is_for_its_owner_only_and_each_one_has_its_own_tokens(here: Path) -> None:
    init.write(here / "one.toml")
    init.write(here / "two.toml")
    assert stat.S_IMODE((here / "one.toml").stat().st_mode) == 0o600
    tokens = [
        re.findall(r'tokens = \["([A-Za-z0-9_-]{32})"\]', (here / name).read_text())
        for name in ("one.toml", "two.toml")
    ]
    assert len({*tokens[0], *tokens[1]}) == 2 * len(callers())


def test_a_file_that_is_there_is_never_overwritten(here: Path) -> None:
    (here / "faxhook.toml").write_text("mine")
    with pytest.raises(ConfigurationError, match="never overwritten"):
        init.write(here / "faxhook.toml")
    result = CliRunner().invoke(main, ["init"])
    assert result.exit_code == 2
    assert (here / "faxhook.toml").read_text() == "mine"


def test_init_shows_where_the_broker_is_and_not_its_password(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAXHOOK_BROKER_URL", "amqp://user:hidden-word@127.0.0.1:5672//")
    done = CliRunner().invoke(main, ["init"], catch_exceptions=False)
    assert "queue  amqp://127.0.0.1:5672" in done.output
    assert "hidden-word" not in done.output


def test_init_prints_urls_with_masked_tokens(here: Path) -> None:
    result = CliRunner().invoke(main, ["init"])
    assert result.exit_code == 0
    tokens = re.findall(r'tokens = \["(.*?)"', (here / "faxhook.toml").read_text())
    assert not any(token in result.output for token in tokens)
    assert "http://127.0.0.1:8000/callbacks/openfax/********" in result.output


def test_every_commented_line_can_be_uncommented(here: Path) -> None:
    """Nobody should have to guess how a suggestion is meant."""
    text = init.configuration(providers.load().values())
    uncommented = re.sub(r"(?m)^# (?=[a-z_]+ = )", "", text)
    # the two ways to authenticate exclude each other
    uncommented = re.sub(r"(?m)^auth = \{ mode = \"none\".*\n(?=tokens.*\nallow.*\nauth)", "", uncommented)
    (here / "faxhook.toml").write_text(uncommented)
    secret = "x" * 32
    settings.load(None, {"FAXHOOK_SECRET_KEY": secret, "FAXHOOK_OPS_TOKEN": secret})


def test_the_first_serve_writes_a_configuration_and_serves_on_it(here: Path) -> None:
    port = free_port()
    with (here / "log").open("wb") as log:
        process = subprocess.Popen(
            [*FAXHOOK, "serve"],
            cwd=here,
            env=environment() | {"PORT": str(port), "WEB_CONCURRENCY": "1"},
            stdout=subprocess.PIPE,
            stderr=log,
        )
    try:
        assert _is_up(port, process), (here / "log").read_text()
        token = settings.load(None, {}).endpoints["openfax"].tokens[0].plain
        url = f"http://127.0.0.1:{port}/callbacks/openfax/{token}"
        with urllib.request.urlopen(url, b"OutTransID=779029&AccountID=123456789&LastStatus=0") as answer:
            assert json.load(answer)["status"] == "accepted"
        consume = subprocess.run([*FAXHOOK, "consume"], cwd=here, env=environment(), capture_output=True, check=True)
        assert json.loads(consume.stdout)["id"] == "5ff6bb1e-405b-554b-829c-04e250504ee3"
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=120)
        assert process.returncode == 0
    finally:
        process.kill()
    assert b"/callbacks/openfax/********" in out
    assert b"faxhook simulate" in out
    assert str(token).encode() not in out
    assert "relay_started" in (here / "log").read_text()


# --- what a first configuration leaves to be filled in ---------------------------------------------------------------


def checked(config: Path, command: str = "check") -> Result:
    return CliRunner().invoke(main, [command, "--config", str(config)])


def test_accounts_that_stand_for_real_ones_are_warned_of_and_refused_in_public(tmp_path: Path) -> None:
    config = tmp_path / "faxhook.toml"
    init.write(config)
    text = config.read_text()
    trial = checked(config)
    assert trial.exit_code == 0
    assert trial.stdout.count('"change-me" stands for your account') == text.count('account = "change-me"') > 0
    config.write_text(text.replace("# public_url", "public_url"))
    for command in ("check", "serve"):
        told = checked(config, command)
        assert told.exit_code == 2
        assert "endpoints.efax.account: expected your account at eFax Developer" in told.stderr
        assert str(config) in told.stderr


def test_a_first_configuration_has_each_providers_likely_zone_and_utc_is_warned_of(tmp_path: Path) -> None:
    config = tmp_path / "faxhook.toml"
    init.write(config)
    text = config.read_text()
    zones = {name: str(endpoint.timezone) for name, endpoint in settings.load(config, {}).endpoints.items()}
    assert (zones["efax"], zones["faxage"]) == ("America/Los_Angeles", "America/Denver")
    assert "timezone" not in checked(config).stdout
    config.write_text(text.replace('"America/Denver"', '"UTC"'))
    assert "endpoints.faxage.timezone: UTC, but FAXAGE's times are likely those of" in checked(config).stdout


def _is_up(port: int, process: "subprocess.Popen[bytes]") -> bool:
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=60):
                return True
        except OSError:
            time.sleep(0.05)
    return False
