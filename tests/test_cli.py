"""The commands as an operator meets them: output, exit codes, what is hidden and what is noted."""

import hashlib
import json
import os
import pty
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from house import CONFIGURATION, EFAX_PASSWORD, TOKEN
from stock import FAXHOOK, Stock, environment, stock
from werkzeug.security import check_password_hash

from receiver import providers, settings, stations
from receiver.cli import main, printing
from receiver.store import now_ms, outbox

FIXTURES = Path(__file__).parent / "fixtures"
HOUR_MS = 3_600_000


@pytest.fixture(autouse=True)
def _no_configuration_of_our_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("FAXHOOK_CONFIG", "FAXHOOK_CONFIG_TOML", "PORT", "DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def run(made: Stock | None, *arguments: str, stdin: str | None = None) -> Result:
    options = ["--config", str(made.config)] if made else []
    return CliRunner().invoke(main, [*arguments, *options], input=stdin, catch_exceptions=False)


def loaded(made: Stock | None, *arguments: str) -> Any:
    result = run(made, *arguments)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def publish_all(made: Stock) -> None:
    store = made.runtime.store
    with store.writing() as connection:
        leased, _ = outbox.lease(connection, store.tables, "me/1/1", 1000, now_ms())
        outbox.acknowledge(connection, store.tables, "me/1/1", leased, now_ms())


# --- the whole --------------------------------------------------------------------------------------------------------


def test_help_names_every_command_and_imports_none_of_them() -> None:
    code = """
import sys
from receiver.cli import main
main(["--help"], standalone_mode=False)
print(sorted({"sqlalchemy", "flask", "alembic", "marshmallow"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, check=True, text=True)
    for command in ("serve", "relay", "migrate", "init", "check", "consume", "simulate", "endpoints", "providers"):
        assert f"\n  {command} " in done.stdout
    assert done.stdout.endswith("\n[]\n")


def test_on_a_sqlite_store_postgresqls_dialect_is_not_imported(filled: Stock) -> None:
    """An eighth of what a command takes to start."""
    code = f"""
import sys
from receiver.cli import main
main(["consume", "--config", {str(filled.config)!r}], standalone_mode=False)
print([name for name in sys.modules if name.startswith(("sqlalchemy.dialects.postgresql", "psycopg"))])
"""
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, check=True, text=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("command", main.list_commands(None))  # type: ignore[arg-type]
def test_every_command_has_help_and_is_known_by_its_name(command: str) -> None:
    result = CliRunner().invoke(main, [command, "--help"])
    assert result.exit_code == 0
    assert f"{command} [OPTIONS]" in result.output


def test_version_and_unknown_commands() -> None:
    assert run(None, "--version").output.startswith("faxhook, version ")
    assert run(None, "frobnicate").exit_code == 2


def test_a_configuration_that_cannot_be_used_is_exit_2_and_names_the_key(tmp_path: Path) -> None:
    (tmp_path / "faxhook.toml").write_text("[server]\nbnid = 1\n")
    for command in (["check"], ["serve"], ["consume"], ["events", "list"], ["endpoints"], ["migrate"]):
        result = run(None, *command)
        assert result.exit_code == 2
        assert "server.bnid" in result.stderr
        assert result.stdout == ""


def test_no_configuration_is_exit_2_for_all_but_serve() -> None:
    result = run(None, "consume")
    assert result.exit_code == 2
    assert "faxhook.toml" in result.stderr


def test_config_is_also_taken_before_the_command(filled: Stock) -> None:
    result = CliRunner().invoke(main, ["--config", str(filled.config), "check"])
    assert result.exit_code == 0


def test_a_store_that_is_not_migrated_is_exit_1_and_says_what_to_do(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/none.db"
    (tmp_path / "faxhook.toml").write_text(CONFIGURATION.format(port=8000, store=url))
    for command in (["consume"], ["events", "list"], ["receipts", "list"], ["receipts", "replay", "x"]):
        result = run(None, *command)
        assert result.exit_code == 1, command
        assert "faxhook migrate" in result.stderr
    assert not (tmp_path / "none.db").exists()


@pytest.mark.service("postgresql")
def test_serve_does_not_migrate_postgresql(tmp_path: Path, postgresql_url: str) -> None:
    (tmp_path / "faxhook.toml").write_text(CONFIGURATION.format(port=8000, store=postgresql_url))
    result = run(None, "serve")
    assert result.exit_code == 1
    assert "faxhook migrate" in result.stderr
    assert run(None, "migrate").exit_code == 0


def test_a_database_that_is_away_is_exit_1(tmp_path: Path) -> None:
    url = "postgresql+psycopg://nobody:secret-word@127.0.0.1:1/none"
    (tmp_path / "faxhook.toml").write_text(CONFIGURATION.format(port=8000, store=url))
    for command in (["serve"], ["migrate"], ["consume"], ["events", "list"]):
        result = run(None, *command)
        assert result.exit_code == 1
        assert "nothing listens there" in result.stderr
        assert "secret-word" not in result.output


def test_migrate_can_be_run_twice(tmp_path: Path) -> None:
    (tmp_path / "faxhook.toml").write_text(CONFIGURATION.format(port=8000, store=f"sqlite:///{tmp_path}/new.db"))
    assert "migrated" in run(None, "migrate").output
    assert "up to date" in run(None, "migrate").output


# --- check ------------------------------------------------------------------------------------------------------------


def test_check_prints_doubts_as_warnings(filled: Stock) -> None:
    good = run(filled, "check")
    assert (good.exit_code, good.output.count("warning")) == (0, 0)
    filled.config.write_text(filled.config.read_text() + '\n[retention]\nbodies = "1d"\nrejected = "1d"\nids = "2d"\n')
    doubtful = run(filled, "check")
    assert doubtful.exit_code == 0
    assert "warning: retention.ids" in doubtful.output


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ('provider = "faxage"', 'provider = "faxagge"', "endpoints.faxage.provider"),
        ('account = "acme"', "", "endpoints.faxage.account"),
        ('timezone = "America/Denver"', "", "endpoints.faxage.timezone"),
    ],
)
def test_check_knows_what_providers_need(filled: Stock, old: str, new: str, key: str) -> None:
    filled.config.write_text(filled.config.read_text().replace(old, new))
    result = run(filled, "check")
    assert result.exit_code == 2
    assert key in result.stderr


@pytest.mark.parametrize(
    ("endpoint", "auth", "can"),
    [
        (
            "faxage",
            '{ mode = "basic", credentials = [{ user = "u", password = "a-good-word" }] }',
            "what can: none, and",
        ),
        ("efax", '{ mode = "digest", credentials = [{ user = "u", password = "a-good-word" }] }', "none, payload, and"),
        ("retarus", '{ mode = "hmac", secrets = ["a-secret-of-16-characters"], header = "X-A" }', "basic, digest"),
    ],
)
def test_check_warns_of_what_a_provider_cannot_do_and_stops_nothing(
    filled: Stock, endpoint: str, auth: str, can: str
) -> None:
    head, name, tail = filled.config.read_text().partition(f"[endpoints.{endpoint}]")
    filled.config.write_text(head + name + re.sub(r"(?m)^auth = .*$", f"auth = {auth}", tail, count=1))
    result = run(filled, "check")
    assert result.exit_code == 0
    assert f"warning: endpoints.{endpoint}.auth.mode: " in result.output
    assert can in result.output


def test_check_wants_a_proxy_where_client_certificates_are(filled: Stock) -> None:
    plain = filled.config.read_text()
    certified = plain.replace("[endpoints.faxage]", f'[endpoints.faxage]\nclient_certificates = ["sha256:{64 * "a"}"]')
    filled.config.write_text(certified)
    result = run(filled, "check")
    assert result.exit_code == 2
    assert "endpoint faxage: client_certificates: expected server.trusted_proxies" in result.stderr
    filled.config.write_text(certified.replace("[server]", '[server]\ntrusted_proxies = ["127.0.0.1"]'))
    assert run(filled, "check").exit_code == 0


def test_a_changed_account_stops_serve(filled: Stock) -> None:
    filled.config.write_text(filled.config.read_text().replace('account = "acme"', 'account = "emca"'))
    result = run(filled, "serve")
    assert result.exit_code == 2
    assert "endpoints.faxage" in result.stderr


def test_a_changed_account_stops_check_too(filled: Stock) -> None:
    filled.config.write_text(filled.config.read_text().replace('account = "acme"', 'account = "other"'))
    result = run(filled, "check")
    assert result.exit_code == 2
    assert "endpoints.faxage" in result.stderr


def test_check_tells_of_a_store_it_cannot_read(filled: Stock) -> None:
    store = filled.runtime.store
    assert store.file is not None
    filled.config.write_text(
        filled.config.read_text().replace("sqlite:///", "sqlite:///").replace(str(store.file.path), str(filled.config))
    )
    result = run(filled, "check")
    assert result.exit_code == 1
    assert f"trouble: store.url: SQLite at {filled.config}: " in result.output


# --- endpoints, providers ---------------------------------------------------------------------------------------------


def test_tokens_are_masked_unless_revealed_and_that_is_noted(filled: Stock) -> None:
    masked = loaded(filled, "endpoints", "--json")
    assert [row["endpoint"] for row in masked] == ["openfax", "faxage", "retarus", "efax"]
    assert masked[0]["url"] == "http://127.0.0.1:8000/callbacks/openfax/********"
    assert TOKEN not in run(filled, "endpoints").output
    assert filled.audit() == []
    assert loaded(filled, "endpoints", "--json", "--reveal")[0]["url"].endswith(f"/callbacks/openfax/{TOKEN}")
    assert filled.audit() == [("endpoints.reveal", "tokens")]
    assert EFAX_PASSWORD not in run(filled, "endpoints", "--reveal").output


def test_tokens_are_shown_on_a_terminal(filled: Stock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(printing, "is_terminal", lambda: True)
    assert TOKEN in run(filled, "endpoints", "--json").output


def test_tokens_can_be_revealed_before_there_is_a_store(tmp_path: Path) -> None:
    assert run(None, "init").exit_code == 0
    result = run(None, "endpoints", "--reveal")
    assert result.exit_code == 0
    assert settings.load(None, {}).endpoints["openfax"].tokens[0].plain in result.stdout
    assert "no audit row" in result.stderr


def test_providers_list_knows_all_of_them() -> None:
    rows = loaded(None, "providers", "list", "--json")
    assert [row["name"] for row in rows] == sorted(providers.load())
    assert run(None, "providers", "list").output.startswith("name\ttitle\tbodies\t")


def test_providers_show_has_codes_answers_and_what_to_enter(filled: Stock) -> None:
    shown = loaded(filled, "providers", "show", "retarus", "--endpoint", "retarus", "--json")
    assert {code["code"]: code["outcome"] for code in shown["codes"]}["OK"] == "delivered"
    assert {row["status"] for row in shown["answers"]} == {200, 400, 401, 403, 404, 405, 413, 415, 422, 500, 503}
    assert '"targetUrl": "http://127.0.0.1:8000/callbacks/retarus/********"' in shown["setup"]
    assert '"authMethod": "NONE"' in shown["setup"]
    assert {code["code"]: code["advice"] for code in shown["codes"]}["BUSY"]["action"] == "retry"
    plain = run(filled, "providers", "show", "efax", "--endpoint", "efax", "--reveal").output
    assert f"http://127.0.0.1:8000/callbacks/efax/{TOKEN}" in plain
    assert "user exampleuser" in plain
    assert "Post Successful" in plain
    assert ("providers.reveal", "efax") in filled.audit()


@pytest.mark.parametrize("name", ["efax", "faxage", "openfax", "retarus"])
def test_providers_show_needs_no_configuration_and_leaves_nothing_unfilled(name: str) -> None:
    setup = loaded(None, "providers", "show", name, "--json")["setup"]
    assert f"https://<your host>/callbacks/{name}/<token>" in setup
    assert not any(left in setup for left in ("{url}", "{user}", "{auth}"))


def test_providers_show_refuses_what_does_not_fit(filled: Stock) -> None:
    assert run(filled, "providers", "show", "nofax").exit_code == 2
    assert run(filled, "providers", "show", "efax", "--endpoint", "none").exit_code == 2
    assert run(filled, "providers", "show", "efax", "--endpoint", "openfax").exit_code == 2


# --- events -----------------------------------------------------------------------------------------------------------


def test_events_list_has_the_promised_fields_and_filters(anywhere: Stock) -> None:
    anywhere.fill(3)
    publish_all(anywhere)
    receipt = anywhere.fax(7, status="2")
    rows = loaded(anywhere, "events", "list", "--json")
    fields = {"id", "fax_id", "type", "outcome", "state", "receipt", "created_at", "published_at"}
    assert [set(row) for row in rows] == [fields] * 4
    assert rows[0] | {"id": "", "fax_id": "", "created_at": ""} == {
        "id": "",
        "fax_id": "",
        "type": "fax.completed.v1",
        "outcome": "failed",
        "state": "pending",
        "receipt": receipt,
        "created_at": "",
        "published_at": None,
    }
    assert len(loaded(anywhere, "events", "list", "--json", "--state", "published")) == 3
    assert len(loaded(anywhere, "events", "list", "--json", "--limit", "2")) == 2
    assert len(loaded(anywhere, "events", "list", "--json", "--since", "1h")) == 4
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    assert loaded(anywhere, "events", "list", "--json", "--since", later) == []
    assert len(loaded(anywhere, "events", "list", "--json", "--fax", rows[0]["fax_id"])) == 1
    assert len(run(anywhere, "events", "list").output.splitlines()) == 5
    assert run(anywhere, "events", "list", "--since", "soon").exit_code == 2
    reason = json.loads(anywhere.payload(rows[0]["id"]))["data"]["failure"]["reason"]
    for narrowed, count in (
        (["--outcome", "failed"], 1),
        (["--outcome", "delivered"], 3),
        (["--provider", "openfax"], 4),
        (["--provider", "faxage"], 0),
        (["--endpoint", "openfax", "--state", "published"], 3),
        (["--reason", reason], 1),
        (["--reason", "other"], 0),
    ):
        assert len(loaded(anywhere, "events", "list", "--json", *narrowed)) == count, narrowed


def test_events_show_masks_personal_data_unless_revealed(filled: Stock) -> None:
    body = (FIXTURES / "faxage" / "01_success.form").read_bytes()
    filled.take("faxage", body)
    event_id = filled.events()[0]["id"]
    original = json.loads(filled.payload(event_id))
    shown = loaded(filled, "events", "show", event_id)
    recipient = shown["payload"]["data"]["recipient"]
    assert recipient["number"] == "********" + original["data"]["recipient"]["number"][-2:]
    for part in ("recipient", "sender", "reference"):
        for value in original["data"][part].values():
            assert value is None or f'"{value}"' not in json.dumps(shown)
    assert shown["payload"]["id"] == shown["id"] == event_id
    assert filled.audit() == []
    assert loaded(filled, "events", "show", event_id, "--reveal")["payload"] == original
    assert filled.audit() == [("events.reveal", event_id)]
    assert run(filled, "events", "show", "none").exit_code == 1


def test_republish_sends_the_same_bytes_again_and_is_noted(anywhere: Stock) -> None:
    anywhere.fill(2)
    anywhere.take("faxage", (FIXTURES / "faxage" / "01_success.form").read_bytes())
    publish_all(anywhere)
    newest, *older = (event["id"] for event in anywhere.events())
    before = anywhere.payload(older[0])
    assert run(anywhere, "events", "republish").exit_code == 2
    assert run(anywhere, "events", "republish", "--id", older[0]).output == "1 event put into the queue again\n"
    assert anywhere.states() == {"pending": 1, "published": 2}
    assert anywhere.payload(older[0]) == before
    for narrowed, count in ((["--outcome", "delivered"], 2), (["--provider", "faxage"], 1), (["--reason", "busy"], 0)):
        told = run(anywhere, "events", "republish", "--dry-run", *narrowed).output
        assert told == f"{count} event{'' if count == 1 else 's'} would be put into the queue again\n", narrowed
    assert "1 event " in run(anywhere, "events", "republish", "--endpoint", "faxage").output
    assert {event["id"] for event in anywhere.events() if event["state"] == "pending"} == {newest, older[0]}
    assert "1 event " in run(anywhere, "events", "republish", "--since", "1h").output
    assert anywhere.states() == {"pending": 3}
    assert run(anywhere, "events", "republish", "--id", older[0]).exit_code == 1  # it waits already
    assert [action for action, _ in anywhere.audit()] == ["events.republish"] * 4
    assert anywhere.audit()[0] == ("events.republish", f"id={older[0]}")


# --- dead letters -----------------------------------------------------------------------------------------------------


def damage(made: Stock, event_id: str) -> None:
    """One byte of the payload, as a bad disk would."""
    body = made.payload(event_id)
    made.rewrite(event_id, body=body[:-9] + bytes([body[-9] ^ 1]) + body[-8:])


def test_an_argument_that_is_no_text_is_refused(filled: Stock) -> None:
    for arguments in (["events", "republish", "--id"], ["receipts", "list", "--endpoint"], ["fax"]):
        process = filled.start(*arguments, os.fsdecode(b"\xff"))
        _, err = process.communicate(timeout=120)
        assert (process.returncode, b"is not UTF-8" in err) == (2, True)


def test_dead_letters_are_listed_with_why(anywhere: Stock) -> None:
    ids = [event["id"] for event in anywhere.fill(3) and anywhere.events()]
    anywhere.park(ids[0], ids[1])
    damage(anywhere, ids[1])
    rows = loaded(anywhere, "dead-letters", "list", "--json")
    assert [(row["id"], row["reason"], row["damaged"]) for row in rows] == [
        (ids[0], "refused", False),
        (ids[1], "refused", True),
    ]
    by_id = {event["id"]: event for event in anywhere.events()}
    same = ("id", "fax_id", "outcome", "receipt", "created_at")
    assert [{name: row[name] for name in same} for row in rows] == [
        {name: by_id[row["id"]][name] for name in same} for row in rows
    ]
    assert len(run(anywhere, "dead-letters", "list").stdout.splitlines()) == 3


def test_a_dead_letter_that_has_lost_its_event_is_listed_and_can_be_dropped(anywhere: Stock) -> None:
    first, second = sorted(anywhere.fill(2))
    anywhere.park(first, second)
    store = anywhere.runtime.store
    with store.writing() as connection:
        connection.execute(store.tables.events.delete().where(store.tables.events.c.id == first))
    lost = [row for row in loaded(anywhere, "dead-letters", "list", "--json") if row["id"] is None]
    assert [(row["reason"], row["damaged"], len(row["fax_id"])) for row in lost] == [("refused", True, 36)]
    assert run(anywhere, "dead-letters", "drop", "--all-damaged", "--yes").stdout == "1 event dropped\n"
    assert anywhere.states() == {"dead": 1}


def test_a_dead_letter_is_masked_unless_revealed(filled: Stock) -> None:
    (event_id,) = filled.fill(1)
    assert run(filled, "dead-letters", "show", event_id).exit_code == 1
    filled.park(event_id)
    masked = run(filled, "dead-letters", "show", event_id)
    assert json.loads(masked.stdout)["damaged"] is False
    assert "Example Sender" not in masked.stdout
    assert filled.audit() == []
    assert "Example Sender" in run(filled, "dead-letters", "show", event_id, "--reveal").stdout
    assert filled.audit() == [("dead-letters.reveal", event_id)]


def test_a_replayed_dead_letter_is_sent_again_with_the_same_bytes(anywhere: Stock) -> None:
    ids = sorted(anywhere.fill(3))
    body = anywhere.payload(ids[0])
    anywhere.park(*ids)
    result = run(anywhere, "dead-letters", "replay", ids[0])
    assert (result.exit_code, result.stdout) == (0, "1 event put into the queue again\n")
    assert anywhere.states() == {"pending": 1, "dead": 2}
    assert run(anywhere, "dead-letters", "replay", "--all").stdout == "2 events put into the queue again\n"
    assert run(anywhere, "dead-letters", "replay", "--all").stdout == "0 events put into the queue again\n"
    assert anywhere.states() == {"pending": 3}
    assert anywhere.payload(ids[0]) == body
    assert sorted(anywhere.audit()) == [("dead-letters.replay", event_id) for event_id in ids]


def test_all_dead_letters_are_more_than_one_transaction_takes(filled: Stock) -> None:
    ids = filled.fill(450)
    filled.park(*ids)
    assert run(filled, "dead-letters", "replay", "--all").exit_code == 0
    assert filled.states() == {"pending": 450}


def test_a_damaged_dead_letter_stays_and_is_said_to_be_damaged(anywhere: Stock) -> None:
    ids = sorted(anywhere.fill(2))
    anywhere.park(*ids)
    damage(anywhere, ids[1])
    for arguments in ([ids[1]], ["--all"]):
        result = run(anywhere, "dead-letters", "replay", *arguments)
        assert result.exit_code == 1
        assert f"{ids[1]}: damaged" in result.stderr
    assert anywhere.states() == {"pending": 1, "dead": 1}
    assert ("dead-letters.replay", ids[1]) not in anywhere.audit()
    shown = loaded(anywhere, "dead-letters", "show", ids[1])
    assert (shown["damaged"], shown["payload"]) == (True, None)
    assert "Example Sender" in run(anywhere, "dead-letters", "show", ids[1], "--reveal").stdout


def test_a_dropped_dead_letter_is_gone_and_its_receipt_tells_it_anew(anywhere: Stock) -> None:
    ids = sorted(anywhere.fill(3))
    anywhere.park(*ids)
    body = anywhere.payload(ids[1])
    damage(anywhere, ids[1])
    (receipt,) = (event["receipt"] for event in anywhere.events() if event["id"] == ids[1])
    counted = run(anywhere, "dead-letters", "drop", "--all-damaged")
    assert (counted.exit_code, counted.stdout) == (0, "1 event would be dropped; --yes drops\n")
    assert anywhere.states() == {"dead": 3}
    assert run(anywhere, "dead-letters", "drop", ids[1].upper(), "--yes").stdout == "1 event dropped\n"
    assert anywhere.states() == {"dead": 2}
    assert anywhere.audit() == [("dead-letters.drop", ids[1])]
    assert run(anywhere, "receipts", "replay", receipt).exit_code == 0
    assert anywhere.states() == {"dead": 2, "pending": 1}
    assert json.loads(anywhere.payload(ids[1]))["data"] == json.loads(body)["data"]


def test_only_dead_letters_are_dropped(filled: Stock) -> None:
    (event_id,) = filled.fill(1)
    result = run(filled, "dead-letters", "drop", event_id, "--yes")
    assert (result.exit_code, result.stdout) == (1, "0 events dropped\n")
    assert "no such dead letter" in result.stderr
    assert filled.states() == {"pending": 1}
    for arguments in ([], [event_id, "--all-damaged"]):
        assert run(filled, "dead-letters", "drop", *arguments).exit_code == 2


def test_only_dead_letters_are_replayed(filled: Stock) -> None:
    (event_id,) = filled.fill(1)
    publish_all(filled)
    result = run(filled, "dead-letters", "replay", event_id)
    assert result.exit_code == 1
    assert "no such dead letter" in result.stderr
    assert filled.states() == {"published": 1}
    for arguments in ([], [event_id, "--all"]):
        assert run(filled, "dead-letters", "replay", *arguments).exit_code == 2


# --- receipts ---------------------------------------------------------------------------------------------------------


def test_receipts_list_has_the_promised_fields_and_filters(anywhere: Stock) -> None:
    first = anywhere.fax(1)
    refused = anywhere.take("openfax", b"AccountID=1&LastStatus=0")
    rows = loaded(anywhere, "receipts", "list", "--json")
    assert [row["id"] for row in rows] == [refused, first]
    assert rows[0] | {"received_at": ""} == {
        "id": refused,
        "endpoint": "openfax",
        "provider": "openfax",
        "state": "rejected",
        "reason": "unprocessable",
        "received_at": "",
        "size": 24,
        "events": [],
    }
    assert rows[1]["events"] == [anywhere.events()[0]["id"]]
    assert [row["id"] for row in loaded(anywhere, "receipts", "list", "--json", "--state", "rejected")] == [refused]
    assert loaded(anywhere, "receipts", "list", "--json", "--endpoint", "faxage") == []
    for narrowed, ids in (
        (["--provider", "openfax"], [refused, first]),
        (["--provider", "faxage"], []),
        (["--reason", "unprocessable"], [refused]),
        (["--reason", "inbound"], []),
        (["--since", "1h", "--state", "accepted"], [first]),
        (["--until", "1h"], []),
    ):
        assert [row["id"] for row in loaded(anywhere, "receipts", "list", "--json", *narrowed)] == ids, narrowed


def test_a_list_for_programs_holds_all_and_one_for_people_the_newest(filled: Stock) -> None:
    for number in range(60):
        filled.take("faxage", f"jobid=9{number:03d}&shortstatus=success".encode())
    assert len(loaded(filled, "receipts", "list", "--json")) >= 60
    assert len(loaded(filled, "events", "list", "--json")) >= 60
    assert len(loaded(filled, "events", "list", "--json", "--limit", "7")) == 7
    listed = run(filled, "receipts", "list")
    assert len(listed.stdout.splitlines()) == 51
    assert "--limit" in listed.stderr


def test_receipts_show_hides_the_body_unless_revealed(filled: Stock) -> None:
    receipt = filled.take("openfax", b"OutTransID=1&AccountID=1&LastStatus=0&To=Erika\x1b[2J")
    shown = run(filled, "receipts", "show", receipt)
    assert "Erika" not in shown.output
    assert json.loads(shown.output)["state"] == "accepted"
    assert filled.audit() == []
    revealed = loaded(filled, "receipts", "show", receipt, "--reveal")
    assert revealed["body"] == "OutTransID=1&AccountID=1&LastStatus=0&To=Erika\\x1b[2J"
    assert filled.audit() == [("receipts.reveal", receipt)]
    assert run(filled, "receipts", "show", "none").exit_code == 1


# A receipt is refused, the cause is mended, and the replay announces the fax as observed when its callback came.


def observed(made: Stock) -> str:
    return str(json.loads(made.payload(made.events()[0]["id"]))["data"]["observed_at"])


def received(made: Stock, receipt: str) -> str:
    rows = loaded(made, "receipts", "list", "--json")
    return str(next(row["received_at"] for row in rows if row["id"] == receipt))


def test_a_receipt_refused_for_the_configuration_is_replayed_after_it_is_mended(anywhere: Stock) -> None:
    good = anywhere.config.read_text()
    anywhere.config.write_text(good.replace('provider = "openfax"', 'provider = "openfax"\naccount = "42"'))
    with stock_like(anywhere, good.replace("[endpoints.openfax]", '[endpoints.strict]\naccount = "42"')) as strict:
        receipt = strict.take("strict", b"OutTransID=1&AccountID=43&LastStatus=0", age_ms=5 * HOUR_MS)
    anywhere.config.write_text(good)
    assert loaded(anywhere, "receipts", "list", "--json")[0]["reason"] == "account_mismatch"
    refused = run(anywhere, "receipts", "replay", receipt)
    assert (refused.exit_code, "--as" in refused.stderr) == (2, True)
    assert run(anywhere, "receipts", "replay", receipt, "--as", "faxage").exit_code == 2  # another provider
    replayed = run(anywhere, "receipts", "replay", receipt, "--as", "openfax")
    assert replayed.exit_code == 0
    (row,) = loaded(anywhere, "receipts", "list", "--json")
    assert (row["state"], row["reason"], row["events"]) == ("accepted", None, [anywhere.events()[0]["id"]])
    assert observed(anywhere) == received(anywhere, receipt)
    assert anywhere.audit() == [("receipts.replay", f"{receipt} as openfax")]


def stock_like(made: Stock, configuration: str) -> Any:
    """The same store with another configuration."""
    escaped = configuration.replace("{", "{{").replace("}", "}}")
    return stock(made.config.parent / "other", "", escaped)


def test_a_receipt_of_an_internal_error_is_replayed(anywhere: Stock, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(stations, "check", lambda *_: 1 / 0)
        receipt = anywhere.take("openfax", b"OutTransID=1&AccountID=43&LastStatus=0", age_ms=HOUR_MS)
        still = run(anywhere, "receipts", "replay", receipt)
    assert still.exit_code == 1
    assert "internal_error" in still.stdout
    assert loaded(anywhere, "receipts", "list", "--json", "--state", "rejected")[0]["reason"] == "internal_error"
    assert run(anywhere, "receipts", "replay", receipt).exit_code == 0
    assert observed(anywhere) == received(anywhere, receipt)


def test_a_replay_of_what_is_known_announces_nothing(filled: Stock) -> None:
    receipt = filled.fax(1)
    result = run(filled, "receipts", "replay", receipt)
    assert result.exit_code == 0
    assert len(filled.events()) == 1
    assert loaded(filled, "receipts", "list", "--json")[0]["state"] == "accepted"


@pytest.mark.parametrize(
    ("endpoint", "fixture"),
    [("efax", "efax/01_success.form"), ("retarus", "retarus/01_success.xml"), ("retarus", "retarus/40_success.json")],
)
def test_what_was_kept_without_its_secrets_can_be_replayed(filled: Stock, endpoint: str, fixture: str) -> None:
    kind = {"form": "application/x-www-form-urlencoded", "xml": "text/xml", "json": "application/json"}
    with pytest.MonkeyPatch.context() as broken:
        broken.setattr(stations, "check", lambda *_: 1 / 0)
        receipt = filled.take(endpoint, (FIXTURES / fixture).read_bytes(), kind[fixture.rpartition(".")[2]])
    assert run(filled, "receipts", "replay", receipt).exit_code == 0
    assert len(filled.events()) == 1


def test_a_purged_body_cannot_be_replayed_and_the_others_are(filled: Stock) -> None:
    purged = filled.take("openfax", b"OutTransID=1&AccountID=1&LastStatus=0")
    kept = filled.take("openfax", b"OutTransID=2&AccountID=1&LastStatus=0")
    receipts = filled.runtime.store.tables.receipts
    with filled.runtime.store.writing() as connection:
        change = receipts.update().where(receipts.c.id == purged)
        connection.execute(change.values(dict.fromkeys(("content_type", "reference", "query", "body"))))
    result = run(filled, "receipts", "replay", purged, "none", kept)
    assert result.exit_code == 1
    assert f"the body of receipt {purged} has been purged" in result.stderr
    assert "there is no receipt none" in result.stderr
    assert f"{kept}: duplicate" in result.stdout


# --- secrets, schema --------------------------------------------------------------------------------------------------


KINDS = ["token", "basic", "digest", "client", "hmac"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_secret_comes_with_the_lines_that_configure_it(tmp_path: Path, kind: str) -> None:
    secret, lines = run(None, "secrets", "new", "--kind", kind).output.split("\n", 1)
    assert len(secret) >= 43
    assert run(None, "secrets", "new", "--kind", kind).output.split("\n", 1)[0] != secret
    needed = {"token": 'auth = { mode = "none" }\n', "client": 'auth = { mode = "none" }\ninsecure = true\n'}
    endpoint = f'[endpoints.x]\nprovider = "openfax"\n{needed.get(kind, "")}'
    (tmp_path / "x.toml").write_text(endpoint + lines.replace("…", "me"))
    loaded = settings.load(tmp_path / "x.toml", {})
    auth, hashed = loaded.endpoints["x"].auth, hashlib.sha256(secret.encode())
    kept = {
        "token": lambda: loaded.endpoints["x"].tokens[0].digest == hashed.digest(),
        "basic": lambda: auth.credentials[0].password == f"sha256:{hashed.hexdigest()}",
        "digest": lambda: auth.credentials[0].password == secret,
        "client": lambda: loaded.clients["me"].secret == f"sha256:{hashed.hexdigest()}",
        "hmac": lambda: isinstance(auth, settings.Signature) and auth.secrets == (secret,),
    }
    assert kept[kind]()
    assert (secret in lines) == (kind in ("digest", "hmac"))


def test_a_new_secret_is_a_path_token_unless_told_otherwise() -> None:
    assert 'tokens = ["sha256:' in run(None, "secrets", "new").output
    assert run(None, "secrets", "new", "--kind", "password").exit_code == 2


def test_a_secret_is_hashed_from_standard_input() -> None:
    assert run(None, "secrets", "hash", stdin="päss word\n").output == (
        "sha256:" + hashlib.sha256("päss word".encode()).hexdigest() + "\n"
    )
    assert check_password_hash(run(None, "secrets", "hash", "--scrypt", stdin="word\n").output.strip(), "word")
    assert run(None, "secrets", "hash", stdin="\n").exit_code == 2
    assert run(None, "secrets", "hash", "word").exit_code == 2  # others could read it in the list of processes


def test_the_ha1_of_a_secret_is_made_for_digest() -> None:
    made = run(None, "secrets", "hash", "--digest", "--user", "Mufasa", "--realm", "a@host.com", stdin="päss\n").output
    of = b"Mufasa:a@host.com:p\xc3\xa4ss"
    assert made == f"ha1:{hashlib.md5(of).hexdigest()}:{hashlib.sha256(of).hexdigest()}\n"
    for wrong in (
        ["--digest"],
        ["--digest", "--user", "x"],
        ["--user", "x"],
        ["--realm", "x"],
        ["--scrypt", "--digest"],
    ):
        result = run(None, "secrets", "hash", *wrong, stdin="word\n")
        assert result.exit_code == 2
        assert "expected" in result.stderr


def test_a_secret_is_asked_for_on_a_terminal_and_not_shown() -> None:
    main_end, our_end = pty.openpty()
    command = [*FAXHOOK, "secrets", "hash"]
    with subprocess.Popen(command, stdin=our_end, stdout=subprocess.PIPE, stderr=our_end, env=environment()) as process:
        os.close(our_end)
        shown = b""
        while shown.count(b": ") < 2:
            shown += os.read(main_end, 1000)
            if shown.endswith(b": "):
                os.write(main_end, b"typed-word\n")
        assert process.stdout is not None
        assert process.stdout.read().decode().strip() == "sha256:" + hashlib.sha256(b"typed-word").hexdigest()
    assert b"typed" not in shown
    os.close(main_end)


def test_the_event_schema_is_printed() -> None:
    assert loaded(None, "schema", "event")["$id"] == "urn:faxhook:schema:fax-completed:v1"


# --- processes --------------------------------------------------------------------------------------------------------


def test_the_module_is_the_command(filled: Stock) -> None:
    done = subprocess.run(
        [*FAXHOOK, "check", "--config", str(filled.config)], env=environment(), capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("ok: ")


def test_an_uncaught_error_shows_its_class_only(filled: Stock) -> None:
    code = """
from receiver.cli import main, schema
def event(): raise RuntimeError("+4989123456")
schema.contracts.event = event
main(["schema", "event"])
"""
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True)
    assert done.returncode == 1
    assert json.loads(done.stderr)["error"] == "RuntimeError"
    assert "4989" not in done.stderr
