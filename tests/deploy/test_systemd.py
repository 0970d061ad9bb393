"""The units: looked over by systemd-analyze, and run by a real systemd that boots in a machine of the test's own."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import image
import pytest
from documents import blocks
from machine import ROOT, Machine, machine
from waiting import until

UNITS = [ROOT / "deploy" / name for name in ("faxhook.service", "faxhook-reconcile.service", "faxhook-reconcile.timer")]
INSTALL, ENABLE, BY_HAND = blocks("### Under systemd")

# Of what a system starts, only the journal: the kernel's settings and the disks belong to the machine we run on.
_BOOT = """
rm -r /etc/systemd/system && mkdir /etc/systemd/system && : > /etc/fstab
cd /lib/systemd/system
for unit in sysinit.target.wants/* local-fs.target.wants/* /systemd-remount-fs.service; do
    case $unit in */systemd-journald.service) ;; *) ln -sf /dev/null "/etc/systemd/system/${unit##*/}" ;; esac
done
printf '[Unit]\\nDefaultDependencies=no\\nAllowIsolate=yes\\n' > /etc/systemd/system/bare.target
exec /lib/systemd/systemd --system --unit=bare.target --log-target=console --show-status=no
"""


@pytest.mark.tool("systemd-analyze")
def test_the_units_are_sound_and_leave_little_open(tmp_path: Path) -> None:
    for unit in UNITS:
        (tmp_path / unit.name).write_text(unit.read_text().replace("/opt/faxhook/bin/faxhook", "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", *tmp_path.iterdir()], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    for unit in UNITS[:2]:
        analysed = ["systemd-analyze", "security", "--offline=true", str(unit)]
        told = subprocess.run(analysed, capture_output=True, text=True, check=True).stdout
        assert float(re.findall(r"exposure level for \S+: ([\d.]+)", told)[0]) <= 2.0


def test_the_environment_is_made_as_in_the_image() -> None:
    """So that it is the image's that the other tests of this module run."""
    (run,) = image.stages()[0].all("RUN")
    assert [line for line in INSTALL.splitlines() if line not in run] == []


@pytest.fixture(scope="module")
def booted(tmp_path_factory: pytest.TempPathFactory, installed: Path) -> Iterator[Machine]:
    """With faxhook installed by the documented commands."""
    folder = tmp_path_factory.mktemp("systemd")
    checkout = folder / "checkout"
    for unit in UNITS:
        (checkout / "deploy").mkdir(parents=True, exist_ok=True)
        (checkout / "deploy" / unit.name).write_bytes(unit.read_bytes())
    with machine(folder, checkout, installed, "sh", "-c", _BOOT) as made:
        until(lambda: made.run("systemctl", "is-system-running").stdout.strip() in ("running", "degraded"), 60)
        made.sh(ENABLE)
        until(lambda: made.get("http://127.0.0.1:8000/readyz"), 60)
        yield made


def by_hand(made: Machine, *arguments: str) -> str:
    """A command as it is documented, with other arguments."""
    return made.sh(BY_HAND.replace("faxhook doctor", "faxhook " + " ".join(arguments)))


def shown(made: Machine, *properties: str, unit: str = "faxhook.service") -> list[str]:
    lines = made.run("systemctl", "show", unit).stdout.splitlines()
    known = dict(line.split("=", 1) for line in lines if "=" in line)
    return [known[name] for name in properties]


def journal(made: Machine, unit: str = "faxhook.service") -> str:
    return made.run("journalctl", "--no-pager", "--output=cat", f"--unit={unit}").stdout


@pytest.mark.campaign
@pytest.mark.tool("systemd-analyze")
def test_callbacks_are_taken_and_consumed_under_the_unit(booted: Machine) -> None:
    by_hand(booted, "simulate", "--all")
    events = [json.loads(line) for line in by_hand(booted, "consume").splitlines()]
    assert {event["data"]["provider"] for event in events} == {"openfax", "faxage", "retarus", "efax"}
    found = {one["check"]: one["verdict"] for one in json.loads(by_hand(booted, "doctor", "--json"))}
    assert set(found.values()) <= {"ok", "warning"}
    assert shown(booted, "StateDirectory", "User") == ["faxhook", "faxhook"]
    assert booted.sh("stat --format '%U %a' /var/lib/faxhook /var/lib/faxhook/faxhook.db").split() == [
        *("faxhook", "700"),
        *("faxhook", "600"),
    ]


@pytest.mark.campaign
@pytest.mark.tool("systemd-analyze")
def test_it_reloads_is_started_again_and_ends_in_order(booted: Machine) -> None:
    booted.sh("systemctl reload faxhook")
    until(lambda: '"reloaded"' in journal(booted), 60)
    booted.sh("systemctl kill --signal KILL --kill-whom main faxhook")
    until(lambda: shown(booted, "NRestarts", "ActiveState") == ["1", "active"], 60)
    until(lambda: booted.get("http://127.0.0.1:8000/readyz"), 60)
    booted.sh("systemctl stop faxhook")
    assert shown(booted, "Result", "ExecMainStatus") == ["success", "0"]
    assert "SIGKILL" not in journal(booted).partition('"stopping"')[2]


@pytest.mark.campaign
@pytest.mark.tool("systemd-analyze")
def test_a_store_that_is_away_is_waited_for_and_a_wrong_configuration_is_not(booted: Machine) -> None:
    environment = "install --mode 0600 /dev/stdin /etc/faxhook/environment"
    booted.sh(f"echo DATABASE_URL=postgresql://faxhook@127.0.0.1:5432/faxhook | {environment}")
    booted.sh("systemctl restart faxhook")
    until(lambda: int(shown(booted, "NRestarts")[0]) >= 2)
    assert shown(booted, "StartLimitIntervalUSec") == ["0"]  # by default it gives up after five in 10 s
    assert "127.0.0.1:5432" in journal(booted)
    booted.sh("systemctl stop faxhook; rm /etc/faxhook/environment")
    booted.sh(
        "echo 'nonsense = 1' | cat - /etc/faxhook/faxhook.toml > /tmp/new && cp /tmp/new /etc/faxhook/faxhook.toml"
    )
    booted.run("systemctl", "start", "faxhook")
    until(lambda: shown(booted, "ActiveState", "ExecMainStatus") == ["failed", "2"], 60)
    assert "faxhook.toml: nonsense" in journal(booted)
    booted.sh("sed --in-place 1d /etc/faxhook/faxhook.toml; systemctl start faxhook")
    until(lambda: booted.get("http://127.0.0.1:8000/readyz"), 60)


@pytest.mark.campaign
@pytest.mark.tool("systemd-analyze")
def test_the_timer_fetches_what_was_missed(booted: Machine) -> None:
    command = [sys.executable, "-m", "standins", "faxage", "--port", "9900"]
    with booted.beside("faxage", *command, cwd=ROOT / "tests") as provider:
        until(lambda: "[endpoints." in booted.log("faxage"), 60)
        told = booted.log("faxage")
        reports = told[told.index("[endpoints.faxage.reports]") :].partition("\n\n")[0]
        table = re.sub(r"(?m)^(?!\[|\w+ = ).*\n?", "", reports + "\n")
        (booted.folder / "checkout" / "reports.toml").write_text(table)
        booted.sh("cat reports.toml >> /etc/faxhook/faxhook.toml; systemctl reload faxhook")
        booted.sh("systemctl enable --now faxhook-reconcile.timer")
        assert "faxhook-reconcile.service" in booted.sh("systemctl list-timers --no-pager")
        booted.run("systemctl", "start", "faxhook-reconcile.service")
        provider.kill()
    assert shown(booted, "Result", "ExecMainStatus", unit="faxhook-reconcile.service") == ["success", "0"]
    rows = [json.loads(line) for line in by_hand(booted, "consume").splitlines()]
    assert len(rows) == 20
    assert {row["data"]["observed_via"] for row in rows} == {"report"}


@pytest.mark.campaign
@pytest.mark.tool("systemd-analyze")
def test_a_socket_of_systemd_is_served_where_it_is_named_and_refused_where_not(booted: Machine) -> None:
    unit = "printf '[Socket]\\nListenStream=127.0.0.1:8000\\n' > /etc/systemd/system/faxhook.socket"
    booted.sh(f"systemctl stop faxhook; {unit}; systemctl daemon-reload; systemctl start faxhook.socket")
    booted.run("systemctl", "start", "faxhook")
    until(lambda: shown(booted, "ActiveState", "ExecMainStatus") == ["failed", "2"], 60)
    assert 'choose "fd://3" to serve it' in journal(booted)
    booted.sh("""sed --in-place 's|^bind = "127.0.0.1:8000" |bind = "fd://3" |' /etc/faxhook/faxhook.toml""")
    booted.sh("systemctl reset-failed; systemctl start faxhook.socket")
    until(lambda: booted.get("http://127.0.0.1:8000/readyz"), 60)
    assert shown(booted, "ActiveState") == ["active"]
