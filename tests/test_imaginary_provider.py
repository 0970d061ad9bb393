"""The worked example of receiver/providers/README.md, built from that page and run: nothing else serves it."""

import csv
import json
import re
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from house import TOKEN, house
from providers.samples import verdict

import receiver.providers
import schemas
from receiver.cli import main
from receiver.errors import ConfigurationError

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "receiver" / "providers" / "README.md").read_text()
# What the page calls each file -> its text.
FILES = dict(
    re.findall(r"`([a-z_0-9./]+)`(?:: [^\n]+|, [^\n]+:)\n\n```(?:python|json|csv)\n(.*?)```\n", PAGE, re.DOTALL)
)
SAMPLES = {Path(path).name: text.encode() for path, text in FILES.items() if "/nimbus/" in path}


def rows(name):
    """Those of the page for a table of the fixtures, by the table's own columns."""
    with (ROOT / "tests" / "fixtures" / name).open(newline="") as file:
        columns = next(csv.reader(file))
    return list(csv.DictReader(FILES[f"tests/fixtures/{name}"].splitlines(), columns, strict=True))


CONFIGURATION = f"""
[server]
bind = "127.0.0.1:{{port}}"
state_dir = "state"

[store]
url = "{{store}}"

[endpoints.clouds]
provider = "nimbus"
account = "acme"
auth = {{{{ mode = "none" }}}}
tokens = ["{TOKEN}"]
"""


@pytest.fixture
def dropped_in(tmp_path, monkeypatch):
    """The two files, each in a folder beside the installed ones; the samples."""
    for package, name in ((receiver.providers, "receiver/providers/nimbus.py"), (schemas, "schemas/nimbus.py")):
        folder = tmp_path / package.__name__
        folder.mkdir()
        (folder / "nimbus.py").write_text(FILES[name])
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])
    receiver.providers.load.cache_clear()
    yield SAMPLES
    receiver.providers.load.cache_clear()
    for package in (receiver.providers, schemas):
        sys.modules.pop(f"{package.__name__}.nimbus", None)
        vars(package).pop("nimbus", None)


def test_it_is_served(tmp_path, sqlite_url, dropped_in):
    with house(tmp_path / "house", sqlite_url, CONFIGURATION) as server:
        replies = [server.post("clouds", body, "application/json") for body in dropped_in.values()]
        again = server.post("clouds", dropped_in["01_success.json"], "application/json")
        lacking = server.post("clouds", b'{"nimbusState": "ARRIVED"}')
        pending = server.post("clouds", b'{"nimbusJob": "n-3", "nimbusState": "FLYING"}')
        delivered, busy = server.events()
    assert [reply.json["status"] for reply in replies] == ["accepted", "accepted"]
    assert again.json == {**again.json, "status": "duplicate", "events": [delivered["id"]]}
    assert (lacking.status, list(lacking.json["fields"])) == (422, ["nimbusJob"])
    assert pending.json["status"] == "ignored"
    assert delivered["source"] == "/nimbus/acme"
    assert delivered["time"] == delivered["data"]["completed_at"] == "2026-06-14T13:19:13Z"
    assert delivered["data"]["recipient"]["number"] == "+12085550139"
    assert delivered["data"]["pages"] == {"total": None, "sent": 2}
    assert busy["data"]["failure"] == {"reason": "busy", "retryable": "yes", "confidence": "high"}


def test_it_is_simulated_with_every_code_and_listed(tmp_path, sqlite_url, dropped_in):
    with house(tmp_path / "house", sqlite_url, CONFIGURATION) as server:
        done = CliRunner().invoke(main, ["simulate", "nimbus", "--all", "--config", str(server.config)])
        assert done.exit_code == 0, done.output
        events = server.events()
    codes = receiver.providers.load()["nimbus"].codes
    announced = {event["data"]["provider_status"]["code"] for event in events}
    assert announced == {code for code, verdict in codes.verdicts.items() if verdict}
    listed = CliRunner().invoke(main, ["providers", "list", "--json"])
    assert "nimbus" in [provider["name"] for provider in json.loads(listed.stdout)]


def test_its_rows_say_what_its_table_says_and_what_each_sample_becomes(tmp_path, sqlite_url, dropped_in):
    codes = receiver.providers.load()["nimbus"].codes
    mapped = rows("failure_mapping.csv")
    assert {row["code"]: verdict(row) for row in mapped} == codes.verdicts
    assert {row["field"] for row in mapped} == {codes.field}
    assert {row["file"] for row in rows("manifest.csv")} == dropped_in.keys()
    with house(tmp_path / "house", sqlite_url, CONFIGURATION) as server:
        for row in rows("manifest.csv"):
            server.post("clouds", dropped_in[row["file"]], row["content_type"])
        found = [
            (one["data"]["outcome"], (one["data"]["failure"] or {"reason": ""})["reason"]) for one in server.events()
        ]
    assert found == [(row["expect_outcome"], row["expect_class"]) for row in rows("manifest.csv")]


def test_two_modules_of_one_name_are_refused_naming_both(tmp_path, dropped_in):
    folder = tmp_path / "receiver.providers"
    (folder / "cumulus.py").write_text("from receiver.providers.nimbus import PROVIDER\n")
    receiver.providers.load.cache_clear()
    try:
        with pytest.raises(ConfigurationError, match=r"cumulus.*nimbus.*\"nimbus\""):
            receiver.providers.load()
    finally:
        sys.modules.pop("receiver.providers.cumulus", None)
        vars(receiver.providers).pop("cumulus", None)
