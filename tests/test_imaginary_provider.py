"""The drill: a provider is a module, a schema and its samples. Nothing else is touched to serve it."""

import sys
from textwrap import dedent

import pytest
from click.testing import CliRunner
from house import TOKEN, house

import receiver.providers
import schemas
from receiver.cli.simulating import simulate

SCHEMA = '''
"""What Nimbus sends."""

from schemas.fields import Count, Identity, ProviderSchema, StatusWord, Text, Timestamp


class Result(ProviderSchema):
    job_id = Identity(data_key="nimbusJob")
    status = StatusWord(data_key="nimbusState")
    number = Text(data_key="dialled")
    pages_sent = Count(data_key="sheets")
    ended_at = Timestamp(data_key="endedAt")


RESULT = Result()
'''

MODULE = '''
"""Nimbus: JSON for every fax."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from receiver.providers._contract import BodyKind, Callback, Provider, RawCallback, SimulatedJob, Source
from receiver.providers._normalising import CANCELED, DELIVERED, e164, failed, table, utc
from schemas.event import Confidence, FailureReason, FaxCompleted, Pages, Recipient, Retryable
from schemas.nimbus import RESULT

CODES = table(
    "nimbusState",
    [
        ("ARRIVED", DELIVERED, "arrived"),
        ("ENGAGED", failed(FailureReason.BUSY, Retryable.YES, Confidence.HIGH), "engaged"),
        ("WITHDRAWN", CANCELED, "withdrawn"),
        ("FLYING", None, "on its way"),
    ],
)


def normalise(result: Mapping[str, Any], source: Source) -> Sequence[FaxCompleted]:
    verdict = CODES.verdict(result["status"])
    if verdict is None:
        return []
    completed_at, time_quality = utc(result["ended_at"], source.timezone)
    return [
        FaxCompleted(
            account=source.account,
            key=(result["job_id"],),
            outcome=verdict.outcome,
            failure=verdict.failure,
            status_code=result["status"],
            provider_job_id=result["job_id"],
            recipient=Recipient(number=e164(result["number"], source.region), number_raw=result["number"]),
            pages=Pages(sent=result["pages_sent"]),
            completed_at=completed_at,
            time_quality=time_quality,
        )
    ]


def simulate(job: SimulatedJob) -> Sequence[RawCallback]:
    return [
        RawCallback(
            json.dumps({"nimbusJob": f"{job.job_id}.{i}", "nimbusState": fax.status, "dialled": fax.number}).encode(),
            "application/json",
        )
        for i, fax in enumerate(job.faxes)
    ]


PROVIDER = Provider(
    name="nimbus",
    title="Nimbus",
    callback=Callback(
        kinds=frozenset({BodyKind.JSON}),
        schema=RESULT,
        normalise=normalise,
        simulate=simulate,
        setup="Enter {url}.",
    ),
    codes=CODES,
)
'''

FIXTURES = {
    "01_success.json": b'{"nimbusJob": "n-1", "nimbusState": "ARRIVED", "dialled": "+12085550139", "sheets": 2,'
    b' "endedAt": "2026-06-14T15:19:13+02:00", "new": {"field": 1}}',
    "02_failed_busy.json": b'{"nimbusJob": "n-2", "nimbusState": "ENGAGED", "dialled": "+12085550140", "sheets": 0}',
}

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
    for package, source in ((receiver.providers, MODULE), (schemas, SCHEMA)):
        folder = tmp_path / package.__name__
        folder.mkdir()
        (folder / "nimbus.py").write_text(dedent(source))
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])
    receiver.providers.load.cache_clear()
    yield FIXTURES
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


def test_it_is_simulated(tmp_path, sqlite_url, dropped_in):
    with house(tmp_path / "house", sqlite_url, CONFIGURATION) as server:
        done = CliRunner().invoke(simulate, ["--all", "--config", str(server.config)])
        outcomes = [event["data"]["outcome"] for event in server.events()]
    assert done.exit_code == 0, done.output
    assert outcomes[:3] == ["delivered", "failed", "canceled"]
    assert set(outcomes[3:]) == {"delivered", "failed", "canceled"}
