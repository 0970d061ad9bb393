"""deploy/kubernetes/: its containers run as the manifests say beside real servers, each in a network of its own."""

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cluster
import pytest
import rules
import yaml
from cluster import FOLDER, KUSTOMIZATION, Pod, allowed, connections, is_answered, is_chosen, manifests, one, workloads
from commands import assert_taken
from containers import Container, Image, stop
from documents import blocks
from machine import Machine, machine
from network import Network
from platforms import of_documents
from sqlalchemy.engine import make_url
from waiting import until

import receiver
from receiver import settings

MAKE_SECRET, CREATE_SECRET, APPLY = blocks("### On Kubernetes")
SECRET = "secret.env"
DEFAULT_PORTS = {"postgresql+psycopg": 5432, "amqp": 5672}


def secret(folder: Path) -> dict[str, str]:
    """As the documented commands make it."""
    subprocess.run(["bash", "-euo", "pipefail", "-c", MAKE_SECRET], cwd=folder, check=True)
    assert (folder / SECRET).stat().st_mode & 0o077 == 0
    assert f"create secret generic --from-env-file={SECRET} faxhook" in CREATE_SECRET
    return dict(line.split("=", 1) for line in (folder / SECRET).read_text().splitlines())


# --- the manifests, compared with each other and with the product ---------------------------------------------------


@pytest.mark.campaign
@pytest.mark.tool("kubernetes-validate")
def test_the_manifests_are_as_the_api_has_them() -> None:
    """All but the ServiceMonitor, which is no part of Kubernetes."""
    files = [str(FOLDER / name) for name in KUSTOMIZATION["resources"] if name != "monitoring.yaml"]
    done = subprocess.run(["kubernetes-validate", "--strict", *files], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("passed") + done.stderr.count("passed") == len(manifests()) - 1


@pytest.mark.campaign
@pytest.mark.tool("kubectl")
def test_kubectl_puts_them_together() -> None:
    """With the namespace, the image, and the configuration under a name of its own."""
    text = subprocess.run(["kubectl", "kustomize", str(FOLDER)], capture_output=True, text=True, check=True).stdout
    made = list(yaml.safe_load_all(text))
    assert len(made) == len(manifests()) + 1
    assert {each["metadata"]["namespace"] for each in made} == {"faxhook"}
    (configuration,) = (each for each in made if each["kind"] == "ConfigMap")
    assert configuration["data"] == {"faxhook.toml": (FOLDER / "faxhook.toml").read_text()}
    for each in made:
        if "template" in each.get("spec", {}):
            pod = Pod(each, {})
            assert pod.main["image"] == f"registry.example.com/faxhook:{receiver.__version__}"
            (mounted,) = (volume["configMap"]["name"] for volume in pod.spec["volumes"] if "configMap" in volume)
            assert mounted == configuration["metadata"]["name"] != "faxhook"


def test_each_command_and_the_configuration_are_understood_with_the_secret(tmp_path: Path) -> None:
    made = secret(tmp_path)
    text = (FOLDER / "faxhook.toml").read_text()
    assert of_documents(text).keys() <= made.keys()
    found = list(workloads())
    assert {each["metadata"]["name"] for each in found} == {"migrate", "web", "relay"}
    for each in found:
        pod = Pod(each, made)
        assert_taken(pod.main["command"])
        assert pod.environment()["FAXHOOK_CONFIG"] == "/etc/faxhook/faxhook.toml"
        variables = {name: value for name, value in pod.environment().items() if name != "FAXHOOK_CONFIG"}
        read = settings.load(None, variables | {"FAXHOOK_CONFIG_TOML": text})
        # Both end in the manifests' network.
        urls = {make_url(read.store.url), make_url(read.queue.url)}
        ports = {url.port or DEFAULT_PORTS[url.drivername] for url in urls}
        egress = allowed(pod.template["metadata"]["labels"], "egress")
        assert (ports <= egress) == (each["metadata"]["name"] == "relay")
        assert DEFAULT_PORTS["postgresql+psycopg"] in egress


def test_no_secret_is_in_the_files() -> None:
    assert "Secret" not in {each["kind"] for each in manifests()}
    for each in workloads():
        assert {env["name"] for env in Pod(each, {}).main["env"]} <= {"FAXHOOK_CONFIG", "PORT", "WEB_CONCURRENCY"}
    text = (FOLDER / "faxhook.toml").read_text()
    assert set(re.findall(r"(?m)^(?:\w*(?:key|token|tokens)) = (.+?)\W*$", text)) == {
        *('"${FAXHOOK_SECRET_KEY', '"${FAXHOOK_OPS_TOKEN', '["${OPENFAX_TOKEN'),
    }


def test_selectors_choose_the_pods_they_are_about() -> None:
    labels = {each["metadata"]["name"]: each["spec"]["template"]["metadata"]["labels"] for each in workloads()}
    for name in ("web", "relay"):
        assert one("Deployment", name)["spec"]["selector"]["matchLabels"] == labels[name]
        assert one("PodDisruptionBudget", name)["spec"]["selector"]["matchLabels"] == labels[name]
    assert one("Service", "faxhook")["spec"]["selector"] == labels["web"]
    scaled = one("HorizontalPodAutoscaler", "web")["spec"]
    assert scaled["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    # With fewer, a budget of one would let no node be emptied.
    assert scaled["minReplicas"] >= 2
    assert one("Deployment", "relay")["spec"]["replicas"] == 2
    pod = Pod(one("Deployment", "web"), {})
    (port,) = one("Service", "faxhook")["spec"]["ports"]
    assert pod.port(port["targetPort"]) == pod.port("http")
    assert allowed(labels["web"], "ingress") == {"http"}
    assert allowed(labels["relay"], "ingress") == allowed(labels["migrate"], "ingress") == set()


def test_the_documented_commands_name_what_is_there() -> None:
    named = set(re.findall(r"(job|deployment)[ /](\w+)", APPLY))
    assert named == {("job", "migrate"), ("deployment", "web")}
    assert all(one(kind.title(), name) for kind, name in named)
    assert {KUSTOMIZATION["namespace"]} == set(re.findall(r"namespace[= ](\w+)", CREATE_SECRET + APPLY))


def test_the_image_runs_as_the_user_of_the_pods() -> None:
    for each in workloads():
        of_pod = Pod(each, {}).spec["securityContext"]
        assert f"{of_pod['runAsUser']}:{of_pod['runAsGroup']}" == Image().stage.last("USER")
        assert of_pod["fsGroup"] == of_pod["runAsGroup"]


# --- the whole of it, run -------------------------------------------------------------------------------------------


@dataclass
class Running:
    made: Machine
    network: Network
    secret: dict[str, str]
    addresses: dict[str, str] = field(default_factory=dict)
    processes: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    def pod(self, kind: str, name: str) -> Pod:
        return Pod(one(kind, name), self.secret)

    def start(self, pod: Pod, host: str) -> None:
        self.addresses[host] = self.network.join(host)
        self.processes[host] = pod.container(host).start(self.made, host)

    def run(self, host: str, pod: Pod, *command: str) -> str:
        """What a command prints in a container like the pod's."""
        done = replace(pod.container(host), command=command).run(self.made)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, installed: Path) -> Iterator[Running]:
    """PostgreSQL and RabbitMQ where the Secret says, the Job done, and as many pods as there are at least."""
    folder = tmp_path_factory.mktemp("kubernetes")
    cluster.put_configuration(folder / "checkout")
    with machine(folder, folder / "checkout", installed) as made:
        Image().make_user(made)
        up = Running(made, Network(made), secret(folder))
        try:
            start_servers(up)
            job = up.pod("Job", "migrate")
            up.network.join("migrate")
            until(lambda: job.container("migrate").run(made).returncode == 0)
            web, relay = up.pod("Deployment", "web"), up.pod("Deployment", "relay")
            for number in range(one("HorizontalPodAutoscaler", "web")["spec"]["minReplicas"]):
                up.start(web, f"web-{number}")
            for number in range(relay.workload["spec"]["replicas"]):
                up.start(relay, f"relay-{number}")
            for host in ("web-0", "web-1"):
                until(lambda host=host: is_answered(made, up.addresses[host], web, "readinessProbe"))
                to = f"http://{host}:{web.port('http')}/callbacks/openfax/{up.secret['OPENFAX_TOKEN']}"
                up.run("web-0", web, "faxhook", "simulate", "openfax", "--to", to)
            yield up
        finally:
            for process in up.processes.values():
                process.kill()
                process.wait()


def start_servers(up: Running) -> None:
    store, broker = make_url(up.secret["DATABASE_URL"]), make_url(up.secret["FAXHOOK_BROKER_URL"])
    for url in (store, broker):
        assert url.host
        up.network.join(url.host)
    of_store = {"POSTGRES_USER": store.username, "POSTGRES_PASSWORD": store.password, "POSTGRES_DB": store.database}
    up.processes["postgresql"] = up.network.postgresql(store.host, of_store, "/var/lib/postgresql/data")
    of_broker = {"USER": broker.username, "PASS": broker.password, "VHOST": broker.database}
    environment = {f"RABBITMQ_DEFAULT_{name}": value for name, value in of_broker.items()}
    data = "/var/lib/rabbitmq"
    up.processes["rabbitmq"] = up.network.rabbitmq(broker.host, environment, data)
    check = ("rabbitmq-diagnostics", "--quiet", "check_port_connectivity")
    until(lambda: up.network.run(broker.host, *check, **up.network.of_rabbitmq(broker.host, data)) == 0)


@pytest.mark.campaign
@pytest.mark.tool("ip")
def test_the_pods_pass_their_probes_and_a_callbacks_event_reaches_the_broker(running: Running) -> None:
    web, relay = running.pod("Deployment", "web"), running.pod("Deployment", "relay")
    for host in ("web-0", "web-1"):
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            until(lambda host=host, probe=probe: is_answered(running.made, running.addresses[host], web, probe))
    documented = APPLY.splitlines()[-1].partition(" -- ")[2].split()
    assert running.secret["OPENFAX_TOKEN"] in running.run("web-0", web, *documented)
    told = running.run("relay-0", relay, "faxhook", "consume", "--max", "2", "--idle-seconds", "60")
    events = [json.loads(line) for line in told.splitlines()]
    assert [event["data"]["outcome"] for event in events] == ["delivered", "delivered"]
    assert any("relay_active" in running.made.log(f"relay-{number}") for number in (0, 1))


@pytest.mark.campaign
@pytest.mark.tool("ip")
def test_every_connection_of_a_pod_is_one_that_its_policy_allows(running: Running) -> None:
    def used(name: str) -> set[int]:
        return connections(running.made, f"{name}-0") | connections(running.made, f"{name}-1")

    # The relay that is not active talks to the database alone.
    until(lambda: used("relay") == {5432, 5672})
    until(lambda: used("web") == {5432})
    for name in ("web", "relay"):
        labels = running.pod("Deployment", name).template["metadata"]["labels"]
        assert used(name) <= allowed(labels, "egress")


@pytest.mark.campaign
@pytest.mark.tool("ip")
@pytest.mark.tool("prometheus")
def test_the_prometheus_that_the_monitor_describes_has_the_figures_of_each_pod(running: Running) -> None:
    running.network.join("prometheus")
    checkout = running.made.folder / "checkout"
    (checkout / "prometheus.json").write_text(json.dumps(scraping(running)))
    command = ["prometheus", "--config.file=/opt/checkout/prometheus.json", "--storage.tsdb.path=/tmp/series"]
    container = Container(command, {"PATH": "/usr/bin:/bin"}, 65534, network="prometheus")
    running.processes["prometheus"] = container.start(running.made, "prometheus")

    def series(query: str) -> list[Any]:
        url = f"http://127.0.0.1:9090/api/v1/query?query={query}"
        asked = ["ip", "netns", "exec", "prometheus", "curl", "--silent", "--globoff", url]
        answer = running.made.run(*asked).stdout
        return list(json.loads(answer)["data"]["result"]) if answer else []

    until(lambda: [row["value"][1] for row in series('faxhook_ready{job="faxhook"}')] == ["1", "1"])
    assert [row["value"][1] for row in series('sum(faxhook_receipts_total{state="accepted"})')] == ["2"]
    assert 'job="faxhook"' in rules.TEXT


def scraping(running: Running) -> dict[str, Any]:
    """What the Prometheus Operator makes of the ServiceMonitor."""
    monitor = one("ServiceMonitor", "faxhook")["spec"]
    (service,) = (
        each
        for each in manifests()
        if each["kind"] == "Service" and is_chosen(monitor["selector"]["matchLabels"], each["metadata"]["labels"])
    )
    (endpoint,) = monitor["endpoints"]
    (port,) = (each for each in service["spec"]["ports"] if each["name"] == endpoint["port"])
    web = running.pod("Deployment", "web")
    assert is_chosen(service["spec"]["selector"], web.template["metadata"]["labels"])
    credentials = endpoint["authorization"]["credentials"]
    assert credentials["name"] == "faxhook"
    return {
        "scrape_configs": [
            {
                "job_name": service["metadata"]["labels"][monitor["jobLabel"]],
                "metrics_path": endpoint["path"],
                "scrape_interval": "1s",
                "authorization": {
                    "type": endpoint["authorization"]["type"],
                    "credentials": running.secret[credentials["key"]],
                },
                "static_configs": [{"targets": [f"web-{number}:{web.port(port['targetPort'])}" for number in (0, 1)]}],
            }
        ]
    }


@pytest.mark.campaign
@pytest.mark.tool("ip")
def test_the_pods_end_in_the_time_that_they_are_given(running: Running) -> None:
    """The last of these tests: nothing runs afterwards."""
    for host, process in running.processes.items():
        name, _, number = host.partition("-")
        if number:
            pod = running.pod("Deployment", name)
            assert pod.grace() > 10
            assert stop(process, pod.grace()) == 0, running.made.log(host)
