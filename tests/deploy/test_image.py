"""deploy/Dockerfile: its instructions are carried out without an engine, and what they make runs as in a container."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import image
import pytest
from containers import Image, stop
from machine import ROOT, Machine, machine
from waiting import until

# python:3.13-slim-bookworm as registries list it, compressed, for x86_64. Nothing here can pull it.
BASE_MEGABYTES = 45
LARGEST_MEGABYTES = 150

pytestmark = pytest.mark.campaign


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, installed: Path) -> Iterator[Machine]:
    folder = tmp_path_factory.mktemp("image")
    with machine(folder, folder / "checkout", installed) as one:
        Image().make_user(one)
        yield one


@pytest.mark.tool("hadolint")
def test_hadolint_has_no_objection() -> None:
    done = subprocess.run(["hadolint", str(image.DOCKERFILE)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_context_holds_no_secret_no_history_and_no_tests(tmp_path: Path) -> None:
    image.copy_context(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        *("receiver", "schemas", "deploy", "pyproject.toml", "README.md", "LICENSE"),
    }
    assert [path.name for path in (tmp_path / "deploy").iterdir()] == ["requirements.lock"]


def test_a_container_takes_callbacks_with_a_root_that_cannot_be_written_to_and_no_capability(made: Machine) -> None:
    one = Image()
    served = one.container().start(made, "serve")
    port = one.stage.environment()["PORT"]
    assert one.stage.last("EXPOSE") == port
    check = one.container(one.stage.health_check())
    until(lambda: served.poll() is not None or made.get(f"http://127.0.0.1:{port}/readyz"), 60)
    assert served.poll() is None, made.log("serve")
    assert check.run(made).returncode == 0
    assert one.container(["faxhook", "simulate", "--all"]).run(made).returncode == 0
    assert len(one.container(["faxhook", "consume"]).run(made).stdout.splitlines()) > 50
    inside = one.container(["sh", "-c", "id -u; grep -E 'Cap(Eff|Bnd)|NoNew' /proc/self/status; touch /opt/faxhook/x"])
    told = inside.run(made)
    assert told.stdout.split()[0] == "10001"
    assert re.findall(r"\w+:\s+(\w+)", told.stdout) == ["0" * 16, "0" * 16, "1"]
    assert "Read-only file system" in told.stderr
    assert stop(served) == 0
    assert check.run(made).returncode != 0


def test_process_1_leaves_no_zombie(made: Machine) -> None:
    """Killed workers and relays are waited for, though there is no other init."""
    served = Image().container().start(made, "reaped")
    until(lambda: made.get("http://127.0.0.1:8000/readyz"), 60)

    def told() -> str:
        """Pid, state and arguments of gunicorn, its workers, and of what has ended."""
        lines = made.run("ps", "-e", "-o", "pid=,stat=,args=").stdout.splitlines()
        return "\n".join(line for line in lines if " gunicorn" in line or "<defunct>" in line)

    workers = [line.split()[0] for line in told().splitlines()[1:]]
    assert len(workers) >= 2
    made.sh("kill -KILL " + " ".join(workers))
    until(lambda: "<defunct>" not in told() and not set(workers) & set(told().split()), 60)
    until(lambda: len(told().splitlines()) > len(workers), 60)
    assert stop(served) == 0


def test_the_image_is_small(installed: Path, tmp_path: Path) -> None:
    layer = tmp_path / "layer.gz"
    subprocess.run(["tar", "--create", "--gzip", "--file", str(layer), "--directory", str(installed), "."], check=True)
    megabytes = layer.stat().st_size / 1_000_000
    assert BASE_MEGABYTES + megabytes <= LARGEST_MEGABYTES


def test_the_labels_are_those_of_the_project() -> None:
    (label,) = image.stages()[-1].all("LABEL")
    project = (ROOT / "pyproject.toml").read_text()
    assert f'title="{re.findall(r"(?m)^name = .(.+).$", project)[0]}"' in label
    assert f'licenses="{re.findall(r"(?m)^license = .(.+).$", project)[0]}"' in label
    assert re.findall(r'description="(.+?)"', label)[0] in project
