"""Evidence: a signed document of one fax, verified by the script that is given to others."""

import importlib.util
import json
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from stock import Stock

from receiver.cli import main
from receiver.store import history

SCRIPT = Path(__file__).parents[1] / "deploy" / "verify-evidence.py"
_spec = importlib.util.spec_from_file_location("verify_evidence", SCRIPT)
assert _spec is not None
assert _spec.loader is not None
script: Any = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(script)

NUMBER = "2085550139"
SENT = (
    b"jobid=115893796&destname=Anna&destnum=2085550139&shortstatus=success&longstatus=Success"
    b"&sendtime=2026-07-01+10%3A00%3A00&completetime=2026-07-01+10%3A01%3A00&xmittime=00%3A01%3A00&pagecount=1"
)


def run(made: Stock, *arguments: str) -> Result:
    return CliRunner().invoke(main, [*arguments, "--config", str(made.config)])


def signed(made: Stock, *arguments: str) -> tuple[bytes, bytes]:
    """A file of evidence and the public key."""
    result, key = run(made, "evidence", *arguments), run(made, "keys", "show")
    assert (result.exit_code, key.exit_code) == (0, 0), result.output + key.output
    return result.stdout_bytes, key.stdout_bytes


def test_evidence_tells_the_chain_and_the_digests_of_what_is_stored(anywhere: Stock) -> None:
    receipts = [anywhere.take("faxage", SENT), anywhere.take("faxage", SENT)]
    amended = SENT.replace(b"success", b"failure").replace(b"10%3A01", b"10%3A02")
    receipts.append(anywhere.take("faxage", amended))
    evidence = script.verified(*signed(anywhere, "115893796"))
    assert "not that anybody has read" in evidence["says"]
    assert (evidence["fax"]["outcome"], evidence["fax"]["revision"]) == ("failed", 2)
    assert sorted(one["receipt"] for one in evidence["receipts"]) == sorted(receipts)
    assert {one["answer"] for one in evidence["receipts"]} == {200}
    digests = [sha256(body).hexdigest() for body in (SENT, SENT, amended)]
    assert sorted(one["body_sha256"] for one in evidence["receipts"]) == sorted(digests)
    for event in evidence["events"]:
        assert event["payload_sha256"] == sha256(anywhere.payload(event["event"])).hexdigest()
    assert NUMBER not in json.dumps(evidence)
    assert script.verified(*signed(anywhere, NUMBER, "--reveal"))["facts"]["recipient"]["number"] == f"+1{NUMBER}"
    fax_id = evidence["fax"]["fax_id"]
    assert anywhere.audit() == [("evidence", fax_id), ("evidence.reveal", fax_id)]


def test_what_is_purged_is_said_to_be(filled: Stock) -> None:
    filled.take("faxage", SENT)
    tables = filled.runtime.store.tables
    with filled.runtime.store.writing() as connection:
        connection.execute(tables.events.update().values(body=None))
        connection.execute(tables.receipts.update().values(body=None, content_type=None, query=None))
    evidence = script.verified(*signed(filled, filled.events()[0]["fax_id"]))
    assert [one["body_sha256"] for one in evidence["receipts"]] == ["purged"]
    assert [one["payload_sha256"] for one in evidence["events"]] == ["purged"]
    assert evidence["facts"] is None


def test_of_a_report_no_body_was_kept(filled: Stock) -> None:
    filled.take("faxage", SENT)
    tables = filled.runtime.store.tables
    with filled.runtime.store.writing() as connection:
        connection.execute(tables.receipts.update().values(auth="report", body=None, content_type=None, query=None))
    evidence = script.verified(*signed(filled, filled.events()[0]["fax_id"]))
    assert [one["body_sha256"] for one in evidence["receipts"]] == ["none kept"]


def test_several_faxes_of_a_number_are_refused_when_they_are_projected_too(filled: Stock) -> None:
    for number in (b"1", b"2"):
        filled.take("faxage", SENT.replace(b"115893796", number))
    filled.take("faxage", SENT.replace(b"115893796", b"2").replace(b"success", b"failure").replace(b"3A01", b"3A02"))
    filled.project()
    assert "several faxes" in run(filled, "evidence", NUMBER).output


def test_repetitions_that_are_left_out_are_said_to_be(filled: Stock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "_MOST_RECEIPTS", 2)
    for _ in range(2):
        filled.take("faxage", SENT)
    assert script.verified(*signed(filled, "115893796"))["gaps"] == []
    filled.take("faxage", SENT)
    assert "only the first 2" in script.verified(*signed(filled, "115893796"))["gaps"][0]


def test_one_changed_byte_anywhere_fails(filled: Stock) -> None:
    filled.take("faxage", SENT)
    content, key = signed(filled, "115893796")
    assert script.verified(content, key)
    for at in range(len(content)):
        for bit in (0x01, 0x20, 0x80):
            changed = bytearray(content)
            changed[at] ^= bit
            with pytest.raises(ValueError, match=r"signature|as faxhook wrote"):
                script.verified(bytes(changed), key)
    for changed in (content[:-1], content + b"\n", b" " + content, content.replace(b"\n", b"\r\n"), b"", b"{}"):
        with pytest.raises(ValueError, match=r"as faxhook wrote|signature"):
            script.verified(changed, key)
    again = json.loads(content)
    with pytest.raises(ValueError, match="as faxhook wrote"):
        script.verified(json.dumps(again).encode(), key)


def test_another_key_fails_and_ours_is_made_once_for_its_owner_alone(filled: Stock, tmp_path: Path) -> None:
    filled.take("faxage", SENT)
    content, key = signed(filled, "115893796")
    kept = filled.config.parent / "state" / "evidence_key"
    assert kept.stat().st_mode & 0o777 == 0o600
    assert run(filled, "keys", "show").stdout_bytes == key
    assert json.loads(run(filled, "keys", "show", "--json").stdout)["pem"].encode() == key
    kept.unlink()
    other = run(filled, "keys", "show").stdout_bytes
    assert other != key
    with pytest.raises(ValueError, match="another key"):
        script.verified(content, other)
    kept.write_text("no key")
    refused = run(filled, "keys", "show")
    assert (refused.exit_code, "evidence_key: expected an Ed25519" in refused.output) == (2, True)


def test_the_script_is_short_needs_only_cryptography_and_says_what_it_found(filled: Stock, tmp_path: Path) -> None:
    assert len(SCRIPT.read_text().splitlines()) <= 50
    filled.take("faxage", SENT)
    content, key = signed(filled, "115893796")
    (tmp_path / "fax.json").write_bytes(content)
    (tmp_path / "key.pem").write_bytes(key)
    command = [sys.executable, "-I", str(SCRIPT), "fax.json", "key.pem"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "genuine" in done.stdout
    assert "delivered" in done.stdout
    (tmp_path / "fax.json").write_bytes(content.replace(b"delivered", b"deliverev", 1))
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, "NOT genuine" in done.stderr) == (1, True)


def test_none_and_several_are_refused(filled: Stock) -> None:
    assert run(filled, "evidence", "4711").exit_code == 1
    for number in (b"115893796", b"115893797"):
        filled.take("faxage", SENT.replace(b"115893796", number))
    result = run(filled, "evidence", NUMBER)
    assert (result.exit_code, "several" in result.output) == (1, True)
