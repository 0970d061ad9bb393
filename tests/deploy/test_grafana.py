"""deploy/grafana.json: each panel is answered by a Prometheus that has scraped faxhook with traffic and faults."""

import itertools
import json
import re
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import rules
import yaml
from documents import DEPLOY_README
from house import CONFIGURATION, FORM, TOKEN, ask
from machine import ROOT
from platforms import amqp
from ports import free_port
from providers.samples import manifest, sample
from queued import Way
from served import running
from stock import Process, Stock, environment, stock
from test_field import FOLDER, ROWS
from waiting import until

DASHBOARD = json.loads((ROOT / "deploy" / "grafana.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
# With a window that fits one scrape a second.
EXPRESSIONS = {
    f"{panel['title']} {target['refId']}": target["expr"].replace("$__rate_interval", "30s")
    for panel in PANELS
    for target in panel["targets"]
}
# What a panel shows where there is nothing to show is no answer.
ELSE_NOTHING = " or vector(0)"


def test_each_panel_has_its_place_and_is_explained() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    for panel in PANELS:
        assert panel["description"], panel["title"]
        named = set(re.findall(r"Faxhook\w+", panel["description"]))
        assert named <= rules.alerts().keys(), panel["title"]


def test_the_panels_ask_for_metrics_that_exist() -> None:
    recorded = {rule["record"] for group in rules.groups() for rule in group["rules"] if "record" in rule}
    documented = set(re.findall(r"^\| `(faxhook_\w+)`", DEPLOY_README, re.MULTILINE))
    for expression in EXPRESSIONS.values():
        found = set(re.findall(r"\bfaxhook[\w:]+", re.sub(r'"[^"]*"', "", expression)))
        assert {name.removesuffix("_bucket") for name in found} <= documented | recorded, expression


@pytest.mark.tool("promtool")
def test_prometheus_understands_each_expression(tmp_path: Path) -> None:
    asked = [{"record": f"panel:{number}", "expr": expr} for number, expr in enumerate(EXPRESSIONS.values())]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": asked}]}))
    done = subprocess.run(["promtool", "check", "rules", str(tmp_path / "rules.yml")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# --- answered by a real one -----------------------------------------------------------------------------------------

FURTHER = """
[queue]
url = "{queue}"

[sinks.partner]
url = "amqp://guest:guest@127.0.0.1:{nobody}//"
exchange = "partner.events"
queue = "partner.completed"

[endpoints.prepaid]
provider = "openfax"
account = "123456789"

[endpoints.prepaid.reports]
{reports}
"""


class Prometheus:
    """As deploy/prometheus.yml has it, but for the address, the token's file and the times."""

    def __init__(self, folder: Path, target: int) -> None:
        self.port = free_port()
        (folder / "token").write_text("")
        (folder / "alerts.yml").write_text(rules.TEXT)
        text = (ROOT / "deploy" / "prometheus.yml").read_text()
        text = text.replace("/run/secrets/ops_token", str(folder / "token")).replace("15s", "1s")
        (folder / "prometheus.yml").write_text(text.replace("web:8000", f"127.0.0.1:{target}"))
        self.command = [
            "prometheus",
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'series'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
        ]

    def answers(self, expression: str) -> bool:
        query = urllib.parse.urlencode({"query": expression})
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v1/query?{query}", timeout=60) as answer:
            rows = json.load(answer)["data"]["result"]
        return any(row["value"][1] != "NaN" for row in rows)

    def is_up(self) -> bool:
        try:
            return self.answers('up{job="faxhook"} == 1')
        except OSError:
            return False


def post_samples(port: int) -> None:
    """Every callback of the samples: some are refused, mended, odd or contradict another."""
    for row in manifest():
        callback = sample(f"{row['provider']}/{row['file']}")
        path = f"/callbacks/{row['provider']}/{TOKEN}"
        if callback.query:
            ask(port, "GET", f"{path}?{callback.query.decode()}")
        else:
            ask(port, "POST", path, callback.body, Content_Type=callback.content_type)
    for name, row in ROWS.items():
        if row["method"] == "POST":
            path = f"/callbacks/{row['provider']}/{TOKEN}"
            ask(port, "POST", path, (FOLDER / name).read_bytes(), Content_Type=row["content_type"])


def post(port: int, job: int, status: int, token: str = TOKEN) -> None:
    body = f"OutTransID={job}&AccountID=123456789&LastStatus={status}&RealCost=unreadable".encode()
    ask(port, "POST", f"/callbacks/openfax/{token}", body, Content_Type=FORM)


@pytest.fixture
def made(tmp_path: Path, sqlite_url: str, vhost: str) -> Iterator[tuple[Stock, int, Way]]:
    """Its broker is behind a way that is closed, its sink nowhere, and an account prepaid."""
    port, standin = free_port(), free_port()
    with ExitStack() as stack:
        command = [sys.executable, "-m", "standins", "openfax", "--port", str(standin)]
        of_tests = {**environment(), "PYTHONUNBUFFERED": "1"}
        provider = stack.enter_context(
            Process(command, cwd=ROOT / "tests", env=of_tests, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        )
        stack.callback(provider.kill)
        assert provider.stdout
        told = iter(provider.stdout.readline, b"")
        reports = next(line for line in told if b"api_key" in line) + next(line for line in told if b"url" in line)
        way = stack.enter_context(Way())
        queue = amqp(vhost).replace("5672", str(way.port))
        further = FURTHER.format(queue=queue, nobody=free_port(), reports=reports.decode())
        text = CONFIGURATION.replace("{port}", str(port)) + further
        yield stack.enter_context(stock(tmp_path, sqlite_url, text)), port, way


@pytest.mark.campaign
@pytest.mark.tool("prometheus")
@pytest.mark.service("rabbitmq")
def test_every_panel_is_answered_while_there_is_traffic(tmp_path: Path, made: tuple[Stock, int, Way]) -> None:
    one, port, way = made
    prometheus = Prometheus(tmp_path, port)
    way.cut()
    with ExitStack() as stack:
        stack.enter_context(running(one, "serve"))
        log = stack.enter_context((tmp_path / "prometheus.log").open("wb"))
        process = stack.enter_context(Process(prometheus.command, stdout=log, stderr=log))
        stack.callback(process.kill)
        until(lambda: process.poll() is not None or prometheus.is_up())
        assert process.poll() is None, (tmp_path / "prometheus.log").read_text()
        post_samples(port)
        for job in range(20):
            post(port, job, 0)
            post(port, job, 2 * (job % 2))
            post(port, job, 0, token="wrong" * 8)
        until(lambda: prometheus.answers("faxhook_relay_trouble == 1"))
        way.open()
        with one.start("reconcile", "--endpoint", "prepaid") as reconcile:
            told = reconcile.communicate()
            assert reconcile.returncode in (0, 1), told  # 1: what it reads does not add up
        waited_for = {name: expression.removesuffix(ELSE_NOTHING) for name, expression in EXPRESSIONS.items()}

        jobs = itertools.count(1000)

        def is_answered() -> bool:
            post(port, 1, 0)
            post(port, next(jobs), 0)  # a rate needs what grows between two looks
            for name in [name for name, expression in waited_for.items() if prometheus.answers(expression)]:
                del waited_for[name]
            return not waited_for

        try:
            until(is_answered)
        except AssertionError:
            pytest.fail(f"nothing is answered to {json.dumps(waited_for, indent=2)}")
