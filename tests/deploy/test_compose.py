"""deploy/compose.yaml: its services are started in their order in a network, and the event of a callback is read."""

import json
import re
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import compose
import pytest
import rules
from commands import assert_taken
from compose import DEPLOY, FILE, Stack
from containers import Image, stop
from documents import below, blocks
from machine import machine
from sqlalchemy.engine import make_url
from waiting import until

import receiver
from receiver import settings

HEADING = "### With compose"
MAKE_VARIABLES, UP, *_ = blocks(HEADING)
PROFILES = re.findall(r"--profile (\w+)", UP)


def variables() -> dict[str, str]:
    """As the documented commands make them."""
    names = re.findall(r"for name in ([A-Z_ ]+); do", MAKE_VARIABLES)[0].split()
    return {name: secrets.token_urlsafe(32) for name in names}


def ours(services: dict[str, Any]) -> dict[str, Any]:
    """The containers that run faxhook itself."""
    return {name: one for name, one in services.items() if "build" in one and one["command"][0] == "faxhook"}


# --- what the file says, compared with the product ------------------------------------------------------------------


@pytest.mark.campaign
@pytest.mark.tool("check-jsonschema")
def test_the_file_is_as_the_compose_specification_has_it() -> None:
    command = ["check-jsonschema", "--builtin-schema", "vendor.compose-spec", str(FILE)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_every_image_has_a_version() -> None:
    for name, service in compose.services(variables(), *PROFILES).items():
        image, _, tag = service["image"].rpartition(":")
        assert re.fullmatch(r"v?\d+\.\d+(\.\d+)?(-\w+)?", tag), name
        assert ("build" in service) == (image == "faxhook")
        if image == "faxhook":
            assert tag == receiver.__version__
            assert (FILE.parent / service["build"]["context"] / service["build"]["dockerfile"]).samefile(
                DEPLOY / "Dockerfile"
            )


def test_the_configuration_and_the_variables_are_understood_and_name_the_other_services(tmp_path: Path) -> None:
    services = compose.services(variables(), *PROFILES)
    assert len(ours(services)) == 4
    workdir = Image().stage.last("WORKDIR")
    for name, service in ours(services).items():
        assert_taken(service["command"])
        (mount,) = (one for one in service["volumes"] if one.startswith("./"))
        source, target, _ = mount.split(":")
        assert target == f"{workdir}/faxhook.toml"  # where faxhook looks without being told
        text = (DEPLOY / source).read_text()
        read = settings.load(None, {**service["environment"], "FAXHOOK_CONFIG_TOML": text})
        store, queue = make_url(read.store.url), make_url(read.queue.url)
        made, broker = services[store.host]["environment"], services[queue.host]["environment"]
        assert (store.username, store.password, store.database) == (
            *(made["POSTGRES_USER"], made["POSTGRES_PASSWORD"], made["POSTGRES_DB"]),
        ), name
        assert (queue.username, queue.password, queue.database) == (
            *(broker["RABBITMQ_DEFAULT_USER"], broker["RABBITMQ_DEFAULT_PASS"], broker["RABBITMQ_DEFAULT_VHOST"]),
        ), name


def test_only_this_machine_reaches_what_is_published() -> None:
    services = compose.services(variables(), *PROFILES)
    published = {name: one["ports"] for name, one in services.items() if "ports" in one}
    port = Image().stage.environment()["PORT"]
    assert published == {"web": [f"127.0.0.1:8000:{port}"], "prometheus": ["127.0.0.1:9090:9090"]}


# --- the whole of it, run -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, installed: Path) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("compose")
    shutil.copytree(DEPLOY, folder / "checkout" / "deploy", ignore=shutil.ignore_patterns("__pycache__", ".env"))
    with machine(folder, folder / "checkout", installed) as made:
        Image().make_user(made)
        made.sh(MAKE_VARIABLES)
        kept = folder / "checkout" / "deploy" / ".env"
        assert kept.stat().st_mode & 0o077 == 0
        text = kept.read_text()
        found = dict(line.split("=", 1) for line in text.splitlines())
        up = Stack(made, compose.services(found, *PROFILES), found)
        try:
            up.up()
            yield up
        finally:
            up.down()


@pytest.mark.campaign
@pytest.mark.tool("ip")
@pytest.mark.tool("prometheus")
def test_up_ends_with_one_simulated_event_that_the_consumer_has_read(stack: Stack) -> None:
    assert stack.processes["simulate"].wait(120) == 0, stack.log("simulate")
    until(lambda: "ended" in stack.log("consumer"))
    (line,) = (one for one in stack.log("consumer").splitlines() if one.startswith("ended"))
    assert " delivered " in line
    assert re.search(r"^`?consumer.*ended", below(HEADING), re.MULTILINE)
    for name in stack.services:
        if not stack.services[name].get("healthcheck", {}).get("disable"):
            until(lambda name=name: stack.is_healthy(name))


@pytest.mark.campaign
@pytest.mark.tool("ip")
@pytest.mark.tool("prometheus")
def test_the_doctor_has_two_doubts_which_the_document_explains(stack: Stack) -> None:
    (service, command) = re.findall(r"exec (\w+) (faxhook \w+)", below(HEADING))[0]
    doctor = compose.container_with(stack.container(service), [*command.split(), "--json"])

    def doubts() -> list[str]:
        return [one["detail"] for one in json.loads(doctor.run(stack.made).stdout) if one["verdict"] != "ok"]

    # The relay may just have begun.
    until(lambda: len(doubts()) == 2)
    of_file, of_queue = doubts()
    assert "faxhook.toml can be read by others" in of_file
    assert of_queue.startswith("queue.url: amqp:// sends events and the password in the clear")
    assert "`hooks.toml` can be read by others" in below(HEADING)
    assert "`amqp://`" in below(HEADING)


def asked(stack: Stack, path: str) -> Any:
    """What Prometheus answers on its host; None where it does not."""
    command = ["ip", "netns", "exec", "prometheus", "curl", "--silent", "--globoff", f"http://127.0.0.1:9090{path}"]
    answer = stack.made.run(*command).stdout
    return json.loads(answer)["data"] if answer else None


@pytest.mark.campaign
@pytest.mark.tool("ip")
@pytest.mark.tool("prometheus")
def test_prometheus_has_the_figures_and_the_rules(stack: Stack) -> None:
    def figure(query: str) -> str:
        found = asked(stack, f"/api/v1/query?query={query}")
        return str(found["result"][0]["value"][1]) if found and found["result"] else ""

    until(lambda: figure('faxhook_receipts_total{job="faxhook",state="accepted"}') == "1")
    assert figure('up{job="faxhook"}') == "1"
    assert figure("faxhook_ready") == "1"
    loaded = {rule["name"] for group in asked(stack, "/api/v1/rules")["groups"] for rule in group["rules"]}
    assert loaded >= rules.alerts().keys()


@pytest.mark.campaign
@pytest.mark.tool("ip")
@pytest.mark.tool("prometheus")
def test_what_is_kept_is_in_the_volumes_and_everything_ends_in_time(stack: Stack) -> None:
    """The last of these tests: nothing runs afterwards."""
    until(lambda: "ended" in stack.log("consumer"))
    for name in ("web", "relay", "consumer"):
        grace = int(stack.services[name]["stop_grace_period"].removesuffix("s"))
        assert stop(stack.processes[name], grace) == 0, stack.log(name)
    kept = stack.made.sh("ls /var/volumes").split()
    assert "faxes" in kept
    query = "print(sqlite3.connect('/var/volumes/faxes/faxes.db').execute('SELECT outcome FROM faxes').fetchall())"
    assert stack.made.sh(f'/usr/bin/python3 -c "import sqlite3; {query}"') == "[('delivered',)]\n"
