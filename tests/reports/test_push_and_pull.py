"""Callbacks and reports of the same faxes, through the real store: one event a fax, whichever way it was heard of."""

import json
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from flask import Flask
from house import TOKEN, house
from pulling import served
from standins import faxage, retarus
from standins.world import Announcement, SentFax, World, standing

from receiver.providers import RawCallback
from receiver.reconcile import Choice, reconcile
from receiver.system.stopping import Stop

CONFIGURATION = f"""
[server]
bind = "127.0.0.1:{{port}}"
state_dir = "state"

[store]
url = "{{store}}"

[endpoints.fax]
auth = {{{{ mode = "none" }}}}
tokens = ["{TOKEN}"]
"""

NOW = datetime.now(UTC).replace(microsecond=0)
SENT, DONE = NOW - timedelta(hours=3), NOW - timedelta(hours=2)


def fax(job_id, status, number, **more):
    return SentFax(job_id, number, status, SENT, DONE, **more)


def faxage_house(stack):
    world = World(
        "faxage",
        "acme",
        fax("1", "success", "+12085550139"),
        fax("2", "failure", "+12085550140", attempts=3),
        fax("3", "success", "+12085550139", pages=2),
        timezone=ZoneInfo("America/Denver"),
    )
    url = stack.enter_context(standing(faxage.application(world)))
    return (
        world,
        f"""
provider = "faxage"
account = "acme"
timezone = "America/Denver"

[endpoints.fax.reports]
company = "acme"
user = "exampleuser"
password = "example-password"
url = "{url}/httpsfax.php"
cdr_url = "{url}/getcdr.php"
""",
    )


def retarus_house(stack):
    world = World(
        "retarus",
        "99999TE",
        fax("FJ1", "OK", "+498912345678900", fax_id="FN1", customer_id="order-4711"),
        fax("FJ1", "BUSY", "+498912345678900", fax_id="FN2", customer_id="order-4711"),
        fax("FJ1", "OK", "+498912345678901", fax_id="FN3", customer_id="order-4711"),
        fax("FJ2", "BUSY", "+498912345678902", fax_id="FN4", data_center="de2"),
    )
    urls = [
        stack.enter_context(standing(retarus.application(world, data_center=name, spelling=retarus.spaced, shuffle=7)))
        for name in ("de1", "de2")
    ]
    return world, retarus_endpoint(" ".join(f"{url}/rest/v1" for url in urls))


def retarus_endpoint(bases):
    return f"""
provider = "retarus"
account = "99999TE"

[endpoints.fax.reports]
user = "exampleuser"
password = "example-password"
url = "{bases}"
"""


@pytest.mark.parametrize("made", [faxage_house, retarus_house])
def test_a_report_fills_what_callbacks_missed_and_nothing_else_is_told_again(made, tmp_path, sqlite_url):
    with ExitStack() as stack:
        world, endpoint = made(stack)
        configuration = CONFIGURATION + endpoint.replace("{", "{{").replace("}", "}}")
        here = stack.enter_context(house(tmp_path / "house", sqlite_url, configuration))
        url = f"http://127.0.0.1:{here.port}/callbacks/fax/{TOKEN}"
        lost = world.announce(url, lose=[world.faxes()[-1].job_id])
        announced = here.events()

        summary = reconcile(here.runtime, here.runtime.accounts["fax"], Choice(), Stop())
        assert (summary.trouble, summary.unreadable) == ([], 0)
        assert (summary.faxes, summary.filled, summary.amended, summary.contradicting) == (len(world.faxes()), 1, 0, 0)
        told = here.events()
        assert told[: len(announced)] == announced
        assert len({event["subject"] for event in told}) == len(told) == len(world.faxes())
        assert (told[-1]["data"]["observed_via"], told[-1]["data"]["provider_job_id"]) == (
            "report",
            world.faxes()[-1].job_id,
        )

        world.deliver(url, lost)  # late, and no news
        again = reconcile(here.runtime, here.runtime.accounts["fax"], Choice(), Stop())
        assert (again.filled, again.trouble) == (0, [])
        assert [event["id"] for event in here.events()] == [event["id"] for event in told]


@pytest.mark.parametrize("first", ["push", "report"])
def test_a_number_that_is_twice_in_a_retarus_job_is_told_when_both_are_final_and_never_contradicted(
    first, tmp_path, sqlite_url
):
    blocked = {"number": "+498912345678900", "status": "BLACKLIST", "sentTs": None}
    pending = {"number": "+498912345678900", "status": "PENDING", "sentTs": None}
    arrived = pending | {"status": "OK", "sentTs": f"{DONE:%Y-%m-%dT%H:%M:%SZ}"}
    job = {"jobId": "FJ1", "recipientStatus": [blocked, pending], "pages": 1}
    center = Flask("retarus")
    center.add_url_rule("/99999TE/fax/reports", "list", lambda: {"reports": [job]})
    center.add_url_rule("/99999TE/fax/reports/FJ1", "job", lambda: job)

    with ExitStack() as stack:
        endpoint = retarus_endpoint(stack.enter_context(served(center)))
        here = stack.enter_context(house(tmp_path / "house", sqlite_url, CONFIGURATION + endpoint))
        url = f"http://127.0.0.1:{here.port}/callbacks/fax/{TOKEN}"

        def push():
            world = World("retarus", "99999TE")
            world.deliver(url, [Announcement((), RawCallback(json.dumps(job).encode(), "application/json"))])

        def pull():
            summary = reconcile(here.runtime, here.runtime.accounts["fax"], Choice(), Stop())
            assert (summary.trouble, summary.unreadable, summary.amended, summary.contradicting) == ([], 0, 0, 0)

        ways = [push, pull] if first == "push" else [pull, push]
        for way in ways:
            way()
            assert here.events() == []
        job["recipientStatus"] = [blocked, arrived]
        for way in ways:
            way()
            outcomes = sorted(event["data"]["outcome"] for event in here.events())
            assert outcomes == ["delivered", "failed"]
