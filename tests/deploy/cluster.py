"""deploy/kubernetes/ without a cluster: its manifests, and their containers started with what they say."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from containers import Container, Image
from machine import ROOT, Machine

FOLDER = ROOT / "deploy" / "kubernetes"
KUSTOMIZATION = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
CONFIGURATION = "configuration"  # the folder in a machine where the ConfigMap lies

# What a pod has that does not say otherwise.
_GRACE_SECONDS = 30


def manifests() -> list[dict[str, Any]]:
    """What the files hold, without what the kustomization changes."""
    texts = [(FOLDER / name).read_text() for name in KUSTOMIZATION["resources"]]
    return [one for text in texts for one in yaml.safe_load_all(text)]


def one(kind: str, name: str) -> dict[str, Any]:
    (found,) = (each for each in manifests() if each["kind"] == kind and each["metadata"]["name"] == name)
    return found


def workloads() -> Iterator[dict[str, Any]]:
    return (each for each in manifests() if "template" in each["spec"])


def is_chosen(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    return selector.items() <= labels.items()


@dataclass(frozen=True)
class Pod:
    """Of a Job or a Deployment. secret: the Secret of the namespace, by the names of its keys."""

    workload: dict[str, Any]
    secret: Mapping[str, str]

    @property
    def template(self) -> dict[str, Any]:
        found: dict[str, Any] = self.workload["spec"]["template"]
        return found

    @property
    def spec(self) -> dict[str, Any]:
        found: dict[str, Any] = self.template["spec"]
        return found

    @property
    def main(self) -> dict[str, Any]:
        (found,) = self.spec["containers"]
        return dict(found)

    def environment(self) -> dict[str, str]:
        """Of the container, beside what its image sets; what ``env`` says wins."""
        for source in self.main["envFrom"]:
            assert source == {"secretRef": {"name": "faxhook"}}
        return {**self.secret, **{each["name"]: each["value"] for each in self.main["env"]}}

    def port(self, name: str) -> int:
        """The number of a named port."""
        (found,) = (each["containerPort"] for each in self.main["ports"] if each["name"] == name)
        return int(found)

    def grace(self) -> int:
        """The seconds that SIGTERM leaves it: of those it is given, what comes before it is taken off."""
        total = int(self.spec.get("terminationGracePeriodSeconds", _GRACE_SECONDS))
        command = self.main.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", ["sleep", "0"])
        assert command[0] == "sleep"
        return total - int(command[1])

    def container(self, host: str) -> Container:
        """Its container, on a host of the network."""
        allowed, of_pod = self.main["securityContext"], self.spec["securityContext"]
        assert allowed["allowPrivilegeEscalation"] is False
        assert allowed["capabilities"] == {"drop": ["ALL"]}
        assert of_pod["runAsNonRoot"] is True
        assert of_pod["seccompProfile"] == {"type": "RuntimeDefault"}
        volumes = {each["name"]: each for each in self.spec["volumes"]}
        given, writable = [], []
        for mount in self.main["volumeMounts"]:
            volume = volumes[mount["name"]]
            if "configMap" in volume:
                generated = [each["name"] for each in KUSTOMIZATION["configMapGenerator"]]
                assert volume["configMap"]["name"] in generated
                given.append(f"/opt/checkout/{CONFIGURATION}:{mount['mountPath']}")
            else:
                assert "emptyDir" in volume
                writable.append(f"/var/volumes/{host}-{mount['name']}:{mount['mountPath']}")
        made = Image().container(self.main["command"], **self.environment())
        return replace(
            made,
            user=of_pod["runAsUser"],
            writable=writable,
            is_read_only=allowed["readOnlyRootFilesystem"],
            empty=(),
            given=given,
            network=host,
        )


def put_configuration(checkout: Path) -> None:
    """The ConfigMap, as it is mounted."""
    folder = checkout / CONFIGURATION
    folder.mkdir(parents=True)
    (generator,) = KUSTOMIZATION["configMapGenerator"]
    for name in generator["files"]:
        (folder / name).write_text((FOLDER / name).read_text())


def is_answered(made: Machine, address: str, pod: Pod, probe: str) -> bool:
    """Whether a probe of the pod succeeds, asked from its node."""
    asked = pod.main[probe]["httpGet"]
    assert asked.keys() == {"path", "port"}
    url = f"http://{address}:{pod.port(asked['port'])}{asked['path']}"
    status = made.run("curl", "--silent", "--output", "/dev/null", "--write-out", "%{http_code}", url).stdout
    return bool(re.fullmatch(r"[23]\d\d", status))


def connections(made: Machine, host: str) -> set[int]:
    """The ports that a host has connected to, at this moment."""
    told = made.run(
        "ip", "netns", "exec", host, "ss", "--no-header", "--tcp", "--numeric", "state", "established"
    ).stdout
    pairs = [line.split()[-2:] for line in told.splitlines()]
    # What begins below the kernel's own range is a server's end.
    return {int(there.rpartition(":")[2]) for here, there in pairs if int(here.rpartition(":")[2]) >= 32768}


def allowed(labels: Mapping[str, str], direction: str) -> set[Any]:
    """The TCP ports that the network policies leave to a pod, names of ports among them."""
    chosen = [
        each["spec"]
        for each in manifests()
        if each["kind"] == "NetworkPolicy" and is_chosen(each["spec"]["podSelector"]["matchLabels"], labels)
    ]
    assert chosen
    assert all(set(each["policyTypes"]) == {"Ingress", "Egress"} for each in chosen)
    rules = [rule for each in chosen for rule in each.get(direction, ())]
    return {port["port"] for rule in rules for port in rule["ports"] if port["protocol"] == "TCP"}
