"""Processes as an engine would start them: a root that cannot be written to, no capability, and as process 1."""

import os
import shlex
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import image
from machine import Machine

_ENTER = """
set -e
mount -t proc proc /proc
for folder in $EMPTY; do mount -t tmpfs -o mode=1777 tmpfs "$folder"; done
for pair in $WRITABLE; do
    mkdir -p "${pair%%:*}" "${pair##*:}"; chown "$OWNER" "${pair%%:*}"; mount --bind "${pair%%:*}" "${pair##*:}"
done
for pair in $GIVEN; do
    if [ -d "${pair%%:*}" ]; then mkdir -p "${pair##*:}"
    else mkdir -p "$(dirname "${pair##*:}")"; [ -e "${pair##*:}" ] || touch "${pair##*:}"; fi
    mount --bind "${pair%%:*}" "${pair##*:}"; mount -o remount,bind,ro "${pair##*:}"
done
for point in / /etc /opt /opt/checkout /opt/faxhook /var; do mount -o "remount,bind$READ_ONLY" "$point"; done
exec setpriv --reuid "$OWNER" --regid "$OWNER" --clear-groups --no-new-privs --inh-caps=-all --bounding-set=-all "$@"
"""


def stop(process: "subprocess.Popen[bytes]", seconds: float = 15) -> int:
    """SIGTERM to process 1 of a container, as engines stop one; its exit code. seconds: until they would kill it."""
    pid = process.pid
    for _ in ("nsenter", "unshare"):
        (pid,) = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    os.kill(pid, signal.SIGTERM)
    return process.wait(seconds)


@dataclass(frozen=True)
class Container:
    """
    What a description says of one.

    writable: folders, or source:folder; each is kept with the machine, as a volume is. empty: folders in memory.
    given: source:target, a file or a folder, read-only. network: a host of the machine's network, or else itself.
    """

    command: Sequence[str]
    environment: Mapping[str, str]
    user: int
    writable: Sequence[str] = ()
    is_read_only: bool = True
    workdir: str = "/"
    empty: Sequence[str] = ("/tmp",)
    given: Sequence[str] = ()
    network: str = ""

    def arguments(self) -> list[str]:
        entered = {
            "WRITABLE": " ".join(self.writable),
            "EMPTY": " ".join(self.empty),
            "GIVEN": " ".join(self.given),
            "OWNER": str(self.user),
            "READ_ONLY": ",ro" if self.is_read_only else "",
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        }
        own = ["env", "-i", "--chdir", self.workdir, *(f"{name}={value}" for name, value in self.environment.items())]
        cleared = shlex.join(["env", "-i", *(f"{name}={value}" for name, value in entered.items())])
        script = f'exec {cleared} sh -c "$0" sh "$@"'
        inside = ["sh", "-c", script, _ENTER, *own, *self.command]
        joined = ["ip", "netns", "exec", self.network] if self.network else []
        return [*joined, "unshare", "--mount", "--pid", "--fork", "--kill-child=TERM", *inside]

    def start(self, made: Machine, name: str) -> "subprocess.Popen[bytes]":
        return made.start(name, *self.arguments())

    def run(self, made: Machine, seconds: float = 120) -> "subprocess.CompletedProcess[str]":
        return made.run(*self.arguments(), seconds=seconds)


@dataclass(frozen=True)
class Image:
    """The final stage of deploy/Dockerfile."""

    stage: image.Stage = field(default_factory=lambda: image.stages()[-1])

    def make_user(self, made: Machine) -> None:
        """What the final stage runs: it makes the user."""
        for command in self.stage.all("RUN"):
            made.sh(command)

    def container(self, command: Sequence[str] = (), **environment: str) -> Container:
        """One of this image: its defaults, and what is set at its start."""
        return Container(
            command or self.stage.command(),
            {**self.stage.environment(), **environment},
            int(self.stage.last("USER").partition(":")[0]),
            self.stage.all("VOLUME"),
            workdir=self.stage.last("WORKDIR"),
        )
