"""The files for Heroku, Fly.io and Render: faxhook runs with what they say, and nothing else."""

import base64
import json
import os
import re
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import image
import psycopg
import pytest
import yaml
from commands import assert_taken
from documents import below
from house import ask
from platforms import ROOT, amqp, faxhook, is_ready, log, of_documents, running, take_all, variables
from ports import free_port
from waiting import until

from receiver import hosting, settings

DEPLOY = ROOT / "deploy"
HOOKS = (DEPLOY / "hooks.toml").read_text()
HEROKU = json.loads((DEPLOY / "app.json").read_text())
FLY_TEXT = (DEPLOY / "fly.toml").read_text()
FLY = tomllib.loads(FLY_TEXT)
RENDER = yaml.safe_load((DEPLOY / "render.yaml").read_text())
IMAGE = image.stages()[-1]
# The image's folder for what lasts; tests have another.
STATE = IMAGE.last("VOLUME")

SECRETS = ("FAXHOOK_SECRET_KEY", "FAXHOOK_OPS_TOKEN", "OPENFAX_TOKEN")
# The add-on -> the variable that it sets.
ADDONS = {"heroku-postgresql": "DATABASE_URL", "cloudamqp": "CLOUDAMQP_URL"}


def postgres(url: str) -> str:
    """As platforms hand it out."""
    return url.replace("postgresql+psycopg:", "postgres:")


def assert_secrets_are_kept(slug: Path, env: dict[str, str]) -> None:
    for secret in (*(env[name] for name in SECRETS), "guest:guest"):
        assert secret not in log(slug)


def assert_ends(process: "subprocess.Popen[bytes]", allowed_seconds: int, number: int = signal.SIGTERM) -> None:
    """Within 10 s, which is less than the platform allows; a busy machine may take longer."""
    assert allowed_seconds > 10
    process.send_signal(number)
    assert process.wait(60) == 0


# --- Heroku ---------------------------------------------------------------------------------------------------------


def heroku(slug: Path, **of_addons: str) -> dict[str, str]:
    """The variables of an application that Heroku has set up by app.json."""
    addons = {ADDONS[name.partition(":")[0]] for name in HEROKU["addons"]}
    config = {
        name: secrets.token_hex(32) if one.get("generator") == "secret" else one["value"]
        for name, one in HEROKU["env"].items()
    }
    set_up = {name: url for name, url in of_addons.items() if name in addons}
    return variables(slug, DYNO="web.1", PORT=str(free_port()), **config, **set_up)


@pytest.fixture
def folder(slug: Path) -> Path:
    """What heroku.sh makes, but for what is installed."""
    shutil.copy(DEPLOY / "hooks.toml", slug / "faxhook.toml")
    return slug


def assert_heroku_serves(folder: Path, env: dict[str, str]) -> None:
    port = int(env["PORT"])
    with running(folder, ["honcho", "start", "release"], env) as release:
        assert release.wait(60) == 0, log(folder)
    assert "the store has been migrated" in log(folder)
    with running(folder, ["honcho", "start", *HEROKU["formation"]], env) as web:
        until(lambda: web.poll() is not None or is_ready(port))
        assert web.poll() is None, log(folder)
        sent = faxhook(folder, env, "simulate", "--count", "20", "--parallel", "4")
        assert sent.returncode == 0, sent.stdout + sent.stderr
        events = take_all(env["CLOUDAMQP_URL"], 20)
        assert len({event["id"] for event in events}) == 20
        assert {event["data"]["outcome"] for event in events} == {"delivered"}
        assert_everybody_counts_alike(port)
        told = faxhook(folder, env, "doctor", "--json")
        assert told.returncode == 0, told.stdout
        found = {one["check"]: one for one in json.loads(told.stdout)}
        assert found["platform"]["detail"] == "Heroku"
        assert "fax.completed holds 0 messages for 0 consumers" in told.stdout
        web.terminate()
        web.wait(60)
    assert "(rc=0)" in log(folder)  # honcho's word on how web ended
    assert_secrets_are_kept(folder, env)


def assert_everybody_counts_alike(port: int) -> None:
    """Either worker sums what both and the relay have counted, and reads the same figures from the store."""
    lines = (
        'faxhook_receipts_total{endpoint="openfax",reason="",state="accepted"} 20.0',
        'faxhook_published_total{outcome="delivered",type="fax.completed.v1"} 20.0',
        "faxhook_delivery_seconds_count 20.0",
        "faxhook_backlog_events 0.0",
        "faxhook_relay_trouble 0.0",
    )

    def is_told(text: str) -> bool:
        # The figures are some seconds old, and at first of before the callbacks and the relay.
        seen = re.findall(r"^faxhook_relay_last_seen_\w+ (\S+)$", text, re.MULTILINE)
        return (
            "faxhook_commit_to_consumer_seconds{" in text
            and all(line in text.splitlines() for line in lines)
            and time.time() - float(seen[0]) < 120
        )

    def metrics() -> str:
        return ask(port, "GET", "/metrics").body.decode()

    until(lambda: is_told(metrics()) and is_told(metrics()) and is_told(metrics()))
    text = metrics()
    assert float(re.findall(r"^faxhook_publish_seconds_count (\S+)$", text, re.MULTILINE)[0]) >= 1


@pytest.mark.service("postgresql")
@pytest.mark.service("rabbitmq")
def test_on_heroku_the_procfile_migrates_serves_relays_and_ends_in_time(
    folder: Path, postgresql_url: str, vhost: str
) -> None:
    env = heroku(folder, DATABASE_URL=postgres(postgresql_url), CLOUDAMQP_URL=amqp(vhost))
    assert_heroku_serves(folder, env)


@pytest.mark.campaign
@pytest.mark.service("postgresql")
@pytest.mark.service("rabbitmq")
def test_the_folder_that_the_script_makes_is_all_that_heroku_needs(
    tmp_path: Path, postgresql_url: str, vhost: str
) -> None:
    checkout, made = tmp_path / "checkout", tmp_path / "hooks"
    image.copy_context(checkout)
    for name in ("Procfile", "deploy/app.json", "deploy/hooks.toml", "deploy/heroku.sh"):
        shutil.copy(ROOT / name, checkout / name)
    (command,) = re.findall(r"(?m)^(deploy/heroku\.sh \.\./hooks)$", below("#### Heroku"))
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    subprocess.run(command, shell=True, cwd=checkout, env={**os.environ, "PATH": path}, check=True)
    assert {path.name for path in made.iterdir() if path.suffix != ".whl"} == {
        *("Procfile", "app.json", "faxhook.toml", "requirements.txt", ".python-version"),
    }
    # As Heroku installs it; the folder's bin/ is what its PATH begins with.
    subprocess.run([sys.executable, "-m", "venv", str(made)], check=True)
    install = [made / "bin" / "pip", "install", "--quiet", "--require-hashes", "--requirement", "requirements.txt"]
    subprocess.run(install, cwd=made, check=True)
    env = heroku(made, DATABASE_URL=postgres(postgresql_url), CLOUDAMQP_URL=amqp(vhost))
    del env["PYTHONPATH"]  # the checkout's
    assert_heroku_serves(made, env)


@pytest.mark.service("postgresql")
def test_a_relay_of_its_own_takes_what_another_process_has_received(folder: Path, postgresql_url: str) -> None:
    """The two lines of the Procfile for scaling out."""
    env = heroku(folder, DATABASE_URL=postgres(postgresql_url))
    port = int(env["PORT"])
    scaled = re.sub(r"(?m)^# (relay: )", r"\1", (folder / "Procfile").read_text())
    scaled = scaled.replace("web: faxhook serve", "web: faxhook serve --no-relay")
    (folder / "Procfile").write_text(scaled)
    assert faxhook(folder, env, "migrate").returncode == 0
    with running(folder, ["honcho", "start", "web", "relay"], env) as both:
        until(
            lambda: both.poll() is not None or (is_ready(port) and ask(port, "GET", "/readyz").json["relay"]["alive"])
        )
        assert both.poll() is None, log(folder)
        assert log(folder).count("relay_started") == 1


def test_without_a_store_that_lasts_heroku_gets_an_explanation(folder: Path) -> None:
    env = heroku(folder)
    if hosting.mount(folder)[0] != "/" and hosting.mount(folder)[1] not in hosting._DOUBTFUL:
        pytest.fail("temporary files are on a volume of their own: set TMPDIR to another place")
    for process in ("release", "web"):
        with running(folder, ["honcho", "start", process], env) as started:
            assert started.wait(60) != 0
    assert log(folder).count("store.url: expected PostgreSQL") == 2
    assert "(rc=2)" in log(folder)
    assert not (folder / "var").exists()


# --- Fly.io ---------------------------------------------------------------------------------------------------------


def fly(slug: Path, **own: str) -> dict[str, str]:
    """The variables of a machine of fly.toml, its volume at ``data``, its port another one."""
    set_up = {name: value.replace(STATE, str(slug / "data")) for name, value in FLY["env"].items()}
    (slug / "data").mkdir()
    asked_for = of_documents(FLY["env"]["FAXHOOK_CONFIG_TOML"])
    return variables(slug, FLY_APP_NAME=FLY["app"], PORT=str(free_port()), **set_up, **asked_for, **own)


def is_healthy_on_fly(port: int) -> bool:
    """What its own checks find."""
    try:
        return all(ask(port, check["method"], check["path"]).status == 200 for check in FLY["http_service"]["checks"])
    except OSError:
        return False


def can_mount() -> bool:
    return subprocess.run(["unshare", "--mount", "--map-root-user", "true"], capture_output=True).returncode == 0


def test_on_fly_the_image_is_built_and_asked_where_it_serves() -> None:
    assert DEPLOY / FLY["build"]["dockerfile"] == image.DOCKERFILE
    assert (DEPLOY / FLY["build"]["ignorefile"]).is_file()
    assert str(FLY["http_service"]["internal_port"]) == IMAGE.environment()["PORT"]


def test_on_fly_sqlite_is_served_from_a_volume_and_refused_without(slug: Path) -> None:
    """The volume is a mount of its own, in a namespace that only this server sees."""
    env = fly(slug)
    refused = faxhook(slug, env, "serve")
    assert refused.returncode == 2
    assert "store.url: expected PostgreSQL, or SQLite on a volume of its own: Fly.io" in refused.stderr
    assert list((slug / "data").iterdir()) == []
    if not can_mount():
        pytest.skip("no right to make mounts")
    mounted = FLY["mounts"]["destination"].replace(STATE, "data")
    volume = [
        "unshare",
        "--mount",
        "--map-root-user",
        "sh",
        "-c",
        f'mount --bind {mounted} {mounted} && exec "$@"',
        "-",
    ]
    with running(slug, [*volume, *IMAGE.command()], env) as served:
        until(lambda: served.poll() is not None or is_healthy_on_fly(int(env["PORT"])))
        assert served.poll() is None, log(slug)
        assert faxhook(slug, env, "simulate").returncode == 0
        until(lambda: "relay_active" in log(slug))
        assert_ends(served, int(FLY["kill_timeout"].removesuffix("s")), signal.Signals[FLY["kill_signal"]])
    assert "warning" not in log(slug)
    assert_secrets_are_kept(slug, env)
    consumed = faxhook(slug, {**env, "FLY_APP_NAME": ""}, "consume")
    assert json.loads(consumed.stdout)["data"]["outcome"] == "delivered"


@pytest.mark.service("postgresql")
def test_on_fly_postgresql_wins_over_the_volume(slug: Path, postgresql_url: str) -> None:
    env = fly(slug, DATABASE_URL=postgres(postgresql_url))
    commented = re.findall(r"(?m)^# (\[deploy\])\n# (.+)$", FLY_TEXT)
    release = tomllib.loads("\n".join(commented[0]))["deploy"]["release_command"]
    assert faxhook(slug, env, *shlex.split(release)[1:]).stdout == "the store has been migrated\n"
    with running(slug, IMAGE.command(), env) as served:
        until(lambda: served.poll() is not None or is_healthy_on_fly(int(env["PORT"])))
        assert ask(int(env["PORT"]), "GET", "/readyz").json["store"]["store"] == "postgresql"
        assert faxhook(slug, env, "simulate").returncode == 0
    with psycopg.connect(postgresql_url.replace("+psycopg", "")) as connection:
        assert connection.execute("SELECT count(*) FROM faxhook.events").fetchone() == (1,)


# --- Render ---------------------------------------------------------------------------------------------------------


def render(slug: Path, service: dict[str, Any], database: str, **asked_for: str) -> dict[str, str]:
    """The variables of a service of the Blueprint. asked_for: what its owner is asked to enter."""
    (made,) = RENDER["databases"]
    found = {}
    for one in service["envVars"]:
        if "fromDatabase" in one:
            assert one["fromDatabase"] == {"name": made["name"], "property": "connectionString"}
            found[one["key"]] = database
        elif one.get("generateValue"):
            found[one["key"]] = base64.b64encode(secrets.token_bytes(32)).decode()
        elif one.get("sync") is False:
            found[one["key"]] = asked_for[one["key"]]
        else:
            found[one["key"]] = one["value"]
    return variables(slug, RENDER="true", PORT=str(free_port()), **found)


def test_on_render_the_blueprints_commands_and_variables_are_understood(slug: Path) -> None:
    (service,) = RENDER["services"]
    asked_for = {"OPENFAX_TOKEN": secrets.token_urlsafe(32), "FAXHOOK_BROKER_URL": ""}
    env = render(slug, service, "postgresql://faxes:word@host/faxes", **asked_for)
    assert_taken(shlex.split(service["preDeployCommand"]))
    read = settings.load(None, env)
    hosting.check(read, env)
    assert (read.store.url, read.queue.url) == ("postgresql+psycopg://faxes:word@host/faxes", "embedded:")
    assert (read.server.bind, read.server.workers) == (f"0.0.0.0:{env['PORT']}", int(env["WEB_CONCURRENCY"]))


@pytest.mark.campaign
@pytest.mark.service("postgresql")
@pytest.mark.service("rabbitmq")
def test_on_render_the_blueprint_migrates_serves_relays_and_ends_in_time(
    slug: Path, postgresql_url: str, vhost: str
) -> None:
    (service,) = RENDER["services"]
    asked_for = {"OPENFAX_TOKEN": secrets.token_urlsafe(32), "FAXHOOK_BROKER_URL": amqp(vhost)}
    env = render(slug, service, postgres(postgresql_url), **asked_for)
    assert ROOT / service["dockerContext"] / service["dockerfilePath"] == image.DOCKERFILE
    assert faxhook(slug, env, *shlex.split(service["preDeployCommand"])[1:]).returncode == 0
    port = int(env["PORT"])
    with running(slug, IMAGE.command(), env) as served:
        until(lambda: served.poll() is not None or is_ready(port))
        assert served.poll() is None, log(slug)
        assert ask(port, "GET", service["healthCheckPath"]).status == 200
        assert faxhook(slug, env, "simulate").returncode == 0
        (event,) = take_all(amqp(vhost), 1)
        assert event["data"]["outcome"] == "delivered"
        assert_ends(served, service["maxShutdownDelaySeconds"])
    assert_secrets_are_kept(slug, env)


# --- the documents --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("heading", "text"),
    [("#### Heroku", HOOKS), ("#### Fly.io", FLY["env"]["FAXHOOK_CONFIG_TOML"])],
    ids=["Heroku", "Fly.io"],
)
def test_the_secrets_of_a_walk_through_are_those_its_configuration_asks_for(heading: str, text: str) -> None:
    (loop,) = re.findall(r"for name in ([A-Z_ ]+); do", below(heading))
    assert set(loop.split()) == of_documents(text).keys()


def test_the_add_ons_of_the_walk_through_are_those_of_the_file() -> None:
    assert re.findall(r"heroku addons:create (\S+)", below("#### Heroku")) == HEROKU["addons"]


def test_the_public_url_and_the_endpoints_are_the_same_on_each_platform() -> None:
    (service,) = RENDER["services"]
    (on_render,) = (one["value"] for one in service["envVars"] if one["key"] == "FAXHOOK_CONFIG_TOML")
    on_fly = tomllib.loads(FLY["env"]["FAXHOOK_CONFIG_TOML"])
    assert on_fly.pop("store")
    assert on_fly["server"].pop("state_dir") == STATE
    assert on_fly == tomllib.loads(on_render) == tomllib.loads(HOOKS)
