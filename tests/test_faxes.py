"""What happened to a fax: found by whatever somebody has of it, on the command line and over HTTP."""

import json
import random
from typing import Any

import jsonschema
import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result
from house import FORM, House, house
from stock import Stock
from test_jobs import JOBS, KEY, OTHER_KEY, job, tell

from receiver.cli import main
from receiver.contracts import calling
from receiver.store import finding, projection
from receiver.store.projection import Keys
from receiver.store.tables import PROJECTOR

NUMBER = "+12085550139"


def run(made: Stock, *arguments: str) -> Result:
    return CliRunner().invoke(main, [*arguments, "--config", str(made.config)])


def found(made: Stock, *arguments: str) -> Any:
    """What a command prints as JSON; it must succeed."""
    result = run(made, *arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.parametrize("is_projected", [False, True])
def test_a_fax_is_found_by_whatever_names_it(anywhere: Stock, is_projected: bool) -> None:
    anywhere.fill(3)
    receipt = anywhere.take("faxage", SENT_BY_FAXAGE)
    (event,) = [one for one in anywhere.events() if one["receipt"] == receipt]
    if is_projected:
        anywhere.project()
    spellings = [NUMBER, "1 (208) 555-0139", "(208) 555-0139", "001 208 555 0139", "2085550139", "5550139", "0139"]
    for text in [event["fax_id"], event["id"], receipt, receipt.upper(), "115893796", *spellings]:
        assert found(anywhere, "fax", text)["fax_id"] == event["fax_id"], text
    for text in ("9139", "+2085550139", "order-0", "019a8b5e-6c2d-7f10-8a3b-2c4d5e6f7a8b"):
        assert run(anywhere, "fax", text).exit_code == 1, text
    assert run(anywhere, "fax", "139").exit_code == 1, "fewer than four digits"


SENT_BY_FAXAGE = (
    b"jobid=115893796&commid=5&destname=Anna&destnum=2085550139&shortstatus=success&longstatus=Success"
    b"&sendtime=2026-07-01+10%3A00%3A00&completetime=2026-07-01+10%3A01%3A00&xmittime=00%3A01%3A00&pagecount=1"
)


def test_several_hits_are_a_table_and_numbers_are_hidden_unless_revealed(anywhere: Stock) -> None:
    for number in (115893796, 115893797):
        anywhere.take("faxage", SENT_BY_FAXAGE.replace(b"115893796", b"%d" % number))
    rows = found(anywhere, "fax", NUMBER)
    assert [row["number"] for row in rows] == ["********39"] * 2
    assert NUMBER[2:] not in run(anywhere, "fax", NUMBER).output
    revealed = found(anywhere, "fax", NUMBER, "--reveal")
    assert [row["number"] for row in revealed] == [NUMBER] * 2
    assert anywhere.audit() == [("fax.find", "")], "who looked for a number did so unnamed"


def test_the_history_is_in_the_order_of_time_and_says_what_is_missing(anywhere: Stock) -> None:
    anywhere.take("faxage", SENT_BY_FAXAGE)
    anywhere.take("faxage", SENT_BY_FAXAGE)
    anywhere.take("faxage", SENT_BY_FAXAGE.replace(b"success", b"failure").replace(b"10%3A01", b"10%3A02"))
    fax_id = anywhere.events()[0]["fax_id"]
    anywhere.consumed()
    shown = found(anywhere, "fax", "show", fax_id)
    steps = [(step["what"], step.get("state") or step.get("outcome")) for step in shown["history"]]
    assert sorted(steps[:3], key=str)[0][0] == "completed"
    assert [what for what, _ in steps].count("received") == 3
    assert {state for what, state in steps if what == "received"} == {"accepted", "duplicate"}
    assert ("completed", "delivered") in steps
    assert ("amended", "failed") in steps
    assert [what for what, _ in steps].count("taken") == 2
    assert ("discrepancy", None) in steps, "a contradiction"
    times = [step["at"] for step in shown["history"]]
    assert times == sorted(times)
    assert shown["gaps"] == []
    assert shown["facts"]["recipient"]["number"] == "********39"
    with anywhere.runtime.store.writing() as connection:
        connection.execute(anywhere.runtime.store.tables.events.update().values(body=None))
    assert "purged" in found(anywhere, "fax", "show", fax_id)["gaps"][0]
    text = run(anywhere, "fax", "show", fax_id).output
    assert "purged" in text
    assert "answer 200" in text


def test_list_takes_what_is_so_and_so(anywhere: Stock) -> None:
    for number in range(6):
        anywhere.fax(number, status="0" if number % 2 else "17")
    anywhere.project()
    assert len(found(anywhere, "fax", "list")) == 6
    delivered = found(anywhere, "fax", "list", "--outcome", "delivered", "--provider", "openfax")
    assert [row["outcome"] for row in delivered] == ["delivered"] * 3
    assert found(anywhere, "fax", "list", "--since", "1h", "--state", "pending", "--limit", "4") != []
    assert found(anywhere, "fax", "list", "--until", "1h") == found(anywhere, "fax", "list", "--endpoint", "x") == []


def test_a_search_among_random_faxes_finds_what_a_recount_does(filled: Stock) -> None:
    chance = random.Random(7)
    numbers = [f"208555{chance.randrange(40):04}" for _ in range(120)]
    for index, number in enumerate(numbers):
        body = SENT_BY_FAXAGE.replace(b"115893796", b"%d" % (5000 + index)).replace(b"2085550139", number.encode())
        filled.take("faxage", body)
        if index == 60:
            filled.project()
    store, keys = filled.runtime.store, filled.runtime.find_keys
    for number in set(numbers):
        with store.reading() as connection:
            rows = finding.search(connection, store.tables, keys, f"+1{number}", [], 1000).rows
        assert len(rows) == numbers.count(number)
        assert {row["number"] for row in rows} == {f"+1{number}"}


def test_who_is_far_behind_is_said(filled: Stock, monkeypatch: pytest.MonkeyPatch) -> None:
    filled.fill(5)
    monkeypatch.setattr(finding, "LOOKED_THROUGH", 3)
    assert "5 events behind" in run(filled, "fax", "4711").output


def test_another_secret_key_is_said(filled: Stock) -> None:
    store = filled.runtime.store
    with store.writing() as connection:
        projection.note_maker(connection, store.tables, Keys([b"of another machine"]))
    assert "secret_key" in run(filled, "fax", "4711").output


# --- references -----------------------------------------------------------------------------------------------------


def asked(server: House, reference: str, key: str | None = KEY) -> Any:
    headers = {"Authorization": f"Bearer {key}"} if key is not None else {}
    return server.ask("GET", f"/references/{reference}", **headers)


@pytest.fixture
def server(tmp_path: Any, sqlite_url: str) -> Any:
    with house(tmp_path, sqlite_url, JOBS) as served:
        yield served


def test_a_reference_is_answered_with_its_faxes_and_masked(server: House) -> None:
    assert tell(server, job()).status == 201
    reply = asked(server, "order-4711")
    assert (reply.status, reply.headers["Cache-Control"]) == (200, "no-store")
    (fax,) = reply.json["faxes"]
    assert (fax["state"], fax["outcome"], fax["number"]) == ("expected", None, "********12")
    assert reply.json["delivered"] is False
    body = b"OutTransID=779029&AccountID=123456789&LastStatus=0"
    assert server.post("openfax", body, FORM).status == 200
    reply = asked(server, "order-4711")
    answer = {"$ref": "#/components/schemas/ReferenceAnswer"}
    jsonschema.Draft202012Validator({"components": calling.document()["components"], **answer}).validate(reply.json)
    assert (reply.json["delivered"], reply.json["faxes"][0]["outcome"]) == (True, "delivered")


def test_unknown_and_foreign_references_are_the_same_404_and_strangers_401(server: House) -> None:
    tell(server, job())
    unknown, foreign = asked(server, "order-0"), asked(server, "order-4711", OTHER_KEY)
    assert (unknown.status, unknown.body) == (404, foreign.body)
    assert foreign.status == 404
    stranger, nobody = asked(server, "order-4711", "wrong"), asked(server, "order-4711", None)
    assert stranger.status == nobody.status == 401
    assert stranger.body == nobody.body


def test_nothing_of_a_reference_is_logged(server: House, capfd: pytest.CaptureFixture[str]) -> None:
    for key in (KEY, "wrong", None):
        asked(server, "order-CANARY", key)
    assert "CANARY" not in "".join(capfd.readouterr())


def test_the_command_says_whether_one_is_delivered(filled: Stock) -> None:
    store = filled.runtime.store
    with store.writing() as connection:
        jobs = store.tables.jobs
        facts = json.dumps({"reference.id": "order-4711"})
        values = {"fax_id": "d0fbe9d4-3aab-5a4e-8862-dee22a10cd24", "provider": "openfax", "account": "123456789"}
        values |= {"endpoint": "openfax", "job_id": "779029", "facts": facts}
        connection.execute(sa.insert(jobs).values(**values, registered_at_ms=1, due_at_ms=1, asked=0))
    before = run(filled, "reference", "order-4711")
    assert (before.exit_code, "no fax of this reference is delivered" in before.output) == (1, True)
    filled.fax(779029)
    assert found(filled, "reference", "order-4711")[0]["outcome"] == "delivered"
    assert run(filled, "reference", "order-0").exit_code == 1
    with store.reading() as connection:
        waiting = store.tables.waiting
        assert connection.scalar(sa.select(sa.func.count()).where(waiting.c.sink == PROJECTOR)) == 1
