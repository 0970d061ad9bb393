"""
A machine of a test's own: namespaces in which the documented commands run word for word, as root, on the real paths.

/etc, /opt and /var are this machine's with what the test changes on top, /tmp and /run are empty, the network is a
loopback with all ports free, and the first process is the test's. When that ends, everything is gone.
"""

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from waiting import until

ROOT = Path(__file__).parents[2]
# What the programs of the system find; a Python of a home folder is nothing for a service.
ENVIRONMENT = {
    "PATH": "/opt/faxhook/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "HOME": "/root",
}

_SET_UP = """
set -e
layers=$1 checkout=$2 installed=$3 network=$4; shift 4
mount --make-rprivate /
mount -t tmpfs tmpfs "$layers"
for name in etc opt var; do
    mkdir "$layers/$name" "$layers/$name.work"
    mount -t overlay overlay -o "lowerdir=/$name,upperdir=$layers/$name,workdir=$layers/$name.work" "/$name"
done
mkdir -p /opt/checkout /opt/faxhook
mount --bind "$checkout" /opt/checkout
mount --bind "$installed" /opt/faxhook
mount -t tmpfs tmpfs /run
mount -t tmpfs -o mode=1777 tmpfs /tmp
[ "$network" = host ] || ip link set lo up
exec "$@"
"""
# Does nothing but reap what is left behind, as an init does.
_REAPER = ["/usr/bin/python3", "-c", "import os, time\nwhile True:\n try: os.wait()\n except OSError: time.sleep(0.05)"]


class Machine:
    def __init__(self, process: "subprocess.Popen[bytes]", folder: Path) -> None:
        self.folder = folder  # seen from outside; holds the output of what was started
        (self.pid,) = map(int, Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split())

    def command(self, *arguments: str) -> list[str]:
        inside = ["sh", "-c", 'cd /opt/checkout && exec "$@"', "sh"]
        return ["nsenter", "--target", str(self.pid), "--all", *inside, *arguments]

    def run(
        self, *arguments: str, env: Mapping[str, str] = ENVIRONMENT, seconds: float = 120
    ) -> "subprocess.CompletedProcess[str]":
        """What came of a command; it may fail."""
        return subprocess.run(
            self.command(*arguments), env=env, capture_output=True, text=True, timeout=seconds, stdin=subprocess.DEVNULL
        )

    def sh(self, script: str, env: Mapping[str, str] = ENVIRONMENT, seconds: float = 240) -> str:
        """Documented commands, each of which must succeed; what they print."""
        done = self.run("bash", "-euo", "pipefail", "-c", script, env=env, seconds=seconds)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start(self, name: str, *arguments: str, env: Mapping[str, str] = ENVIRONMENT) -> "subprocess.Popen[bytes]":
        """A process that goes on; its output is in ``log(name)``."""
        with (self.folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                self.command(*arguments), env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )

    def beside(self, name: str, *arguments: str, cwd: Path) -> "subprocess.Popen[bytes]":
        """A process of the test's own files that shares only the machine's network."""
        with (self.folder / f"{name}.log").open("ab") as log:
            command = ["nsenter", "--target", str(self.pid), "--net", *arguments]
            return subprocess.Popen(command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def get(self, url: str, *headers: str) -> str:
        """The body of a 2xx answer; empty where there is none."""
        options = [part for header in headers for part in ("--header", header)]
        return self.run("curl", "--silent", "--fail", "--max-time", "10", *options, url).stdout


@contextmanager
def machine(folder: Path, checkout: Path, installed: Path, *init: str, network: str = "own") -> Iterator[Machine]:
    """
    checkout: becomes /opt/checkout, where commands run. installed: becomes /opt/faxhook, the environment.

    init: the first process; left out, one that only reaps. network: "own", or "host" to reach a package index.
    """
    if os.geteuid() != 0:
        (pytest.fail if os.environ.get("FAXHOOK_REQUIRE_SERVICES") else pytest.skip)("only root can make a machine")
    layers = folder / "layers"
    for made in (layers, checkout, installed):
        made.mkdir(parents=True, exist_ok=True)
    namespaces = ["--mount", "--pid", "--uts", "--ipc", "--cgroup", "--mount-proc", "--fork", "--kill-child"]
    namespaces += ["--net"] if network == "own" else []
    first = init or _REAPER
    set_up = ["sh", "-c", _SET_UP, "sh", str(layers), str(checkout), str(installed), network, *first]
    environment = {**ENVIRONMENT, "container": "faxhook-test"}
    with (folder / "init.log").open("wb") as log:
        process = subprocess.Popen(["unshare", *namespaces, *set_up], env=environment, stdout=log, stderr=log)
    try:
        until(lambda: process.poll() is not None or _is_set_up(process.pid, first[0]), 30)
        assert process.poll() is None, (folder / "init.log").read_text()
        yield Machine(process, folder)
    finally:
        process.kill()
        process.wait()


def _is_set_up(pid: int, init: str) -> bool:
    """Whether the script has become its last command."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return bool(children) and Path(f"/proc/{children[0]}/cmdline").read_bytes().startswith(init.encode() + b"\0")
