"""deploy/compose.yaml without an engine: its services, started in their order with what the file says of each."""

import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import yaml
from containers import Container, Image
from machine import ROOT, Machine
from network import Network
from waiting import until

DEPLOY = ROOT / "deploy"
FILE = DEPLOY / "compose.yaml"
INSIDE = "/opt/checkout/deploy"  # where the file's folder is in a machine

# What the images themselves say: the folder of their data, who they run as, and what they start.
_POSTGRESQL_DATA = "/var/lib/postgresql/data"
_RABBITMQ_DATA = "/var/lib/rabbitmq"
_PROMETHEUS = ["prometheus", "--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"]
_NOBODY = 65534


def interpolated(value: Any, variables: Mapping[str, str]) -> Any:
    """With ${NAME}, ${NAME:?} and ${NAME:-default} replaced, and $$ as $."""
    if isinstance(value, dict):
        return {name: interpolated(one, variables) for name, one in value.items()}
    if isinstance(value, list):
        return [interpolated(one, variables) for one in value]
    if not isinstance(value, str):
        return value

    def found(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        name, operator, rest = match[1], match[2], match[3]
        if operator == ":?" or not operator:
            return variables[name]
        return variables.get(name) or rest

    return re.sub(r"\$\$|\$\{(\w+)(:[-?])?([^}]*)\}", found, value)


def services(variables: Mapping[str, str], *profiles: str) -> dict[str, Any]:
    """Those that are started, each after those it depends on."""
    document = interpolated(yaml.safe_load(FILE.read_text()), variables)
    wanted = {
        name: one
        for name, one in document["services"].items()
        if not one.get("profiles") or set(one["profiles"]) & set(profiles)
    }
    ordered: dict[str, Any] = {}
    while len(ordered) < len(wanted):
        ready = {name: one for name, one in wanted.items() if set(one.get("depends_on", ())) <= ordered.keys()}
        assert ready.keys() - ordered.keys(), "services depend on each other in a circle"
        ordered |= {name: one for name, one in ready.items() if name not in ordered}
    return ordered


@dataclass
class Stack:
    """The services in a machine; each is a host of its network."""

    made: Machine
    services: dict[str, Any]
    variables: Mapping[str, str]
    processes: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    def up(self) -> None:
        self.network = Network(self.made)
        for name in self.services:
            self.network.join(name)
        for name, service in self.services.items():
            for other, dependency in service.get("depends_on", {}).items():
                self._await(other, dependency["condition"])
            self.processes[name] = self._start(name, service)

    def down(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()

    def log(self, name: str) -> str:
        return self.made.log(name)

    def is_healthy(self, name: str) -> bool:
        service = self.services[name]
        check = service.get("healthcheck", {})
        assert not check.get("disable"), name
        if "build" in service:
            container = self.container(name)
            return (
                container_with(container, check.get("test", ["CMD", *Image().stage.health_check()])[1:])
                .run(self.made)
                .returncode
                == 0
            )
        environment = self.network.of_rabbitmq(name, _RABBITMQ_DATA) if is_image(service, "rabbitmq") else {}
        assert check["test"][0] == "CMD"
        return self.network.run(name, *check["test"][1:], **environment) == 0

    def container(self, name: str) -> Container:
        """One of the service as the file has it."""
        service = self.services[name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        given, writable = [], []
        for volume in service.get("volumes", ()):
            source, target, *mode = volume.split(":")
            if source.startswith("./"):
                assert mode == ["ro"], volume
                given.append(f"{INSIDE}/{source}:{target}")
            else:
                writable.append(f"/var/volumes/{source}:{target}")
        of_files = {"given": given, "empty": service.get("tmpfs", ()), "network": name}
        if "build" not in service:
            return Container(self._of_prometheus(service), {"PATH": "/usr/bin:/bin"}, _NOBODY, writable, **of_files)
        made = Image().container(service["command"], **service.get("environment", {}))
        # Without a volume for what the image says, an engine makes one that has no name.
        targets = [pair.split(":")[1] for pair in writable]
        nameless = [f"/var/volumes/{name}:{folder}" for folder in made.writable if folder not in targets]
        return replace(made, writable=[*writable, *nameless], **of_files)

    def _start(self, name: str, service: dict[str, Any]) -> "subprocess.Popen[bytes]":
        kept = {one.split(":")[1] for one in service.get("volumes", ())}
        if is_image(service, "postgres"):
            assert _POSTGRESQL_DATA in kept
            return self.network.postgresql(name, service["environment"], _POSTGRESQL_DATA)
        if is_image(service, "rabbitmq"):
            assert _RABBITMQ_DATA in kept
            assert service["hostname"] == name
            return self.network.rabbitmq(name, service["environment"], _RABBITMQ_DATA)
        return self.container(name).start(self.made, name)

    def _of_prometheus(self, service: dict[str, Any]) -> list[str]:
        """Its command; its secrets are made where an engine puts them."""
        assert is_image(service, "prom/prometheus")
        known = yaml.safe_load(FILE.read_text())["secrets"]
        for secret in service["secrets"]:
            value = self.variables[known[secret]["environment"]]
            self.made.sh(f"mkdir -p /run/secrets; printf %s '{value}' > /run/secrets/{secret}")
        return _PROMETHEUS

    def _await(self, name: str, condition: str) -> None:
        process = self.processes[name]
        if condition == "service_completed_successfully":
            assert process.wait(120) == 0, self.log(name)
        elif condition == "service_healthy":
            until(lambda: process.poll() is not None or self.is_healthy(name))
            assert process.poll() is None, self.log(name)
        else:
            assert condition == "service_started"


def is_image(service: dict[str, Any], name: str) -> bool:
    return str(service["image"]).partition(":")[0] == name


def container_with(container: Container, command: list[str]) -> Container:
    """Another command in the same container."""
    return replace(container, command=command)
