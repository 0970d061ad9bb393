"""A store that another one follows is not left behind in silence, nor is an endpoint that became another account's."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from sqlalchemy.engine import make_url
from stock import Stock

from receiver.cli import main
from receiver.store import remembered


@pytest.fixture(autouse=True)
def _no_store_of_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)


def run(made: Stock, *arguments: str) -> Result:
    return CliRunner().invoke(main, [*arguments, "--config", str(made.config)], catch_exceptions=False)


def switch(made: Stock) -> Result:
    """The same configuration and state_dir with another store, which has been migrated."""
    url = made.runtime.store.url.render_as_string(hide_password=False)
    made.config.write_text(made.config.read_text().replace(url, "sqlite:///afterwards/faxhook.db"))
    return run(made, "migrate")


@pytest.mark.parametrize("command", ["check", "doctor", "migrate"])
def test_undelivered_events_of_the_store_before_are_told(anywhere: Stock, command: str) -> None:
    anywhere.fill(3)
    switched = switch(anywhere)
    place = remembered.place(anywhere.runtime.store.url)
    result = switched if command == "migrate" else run(anywhere, command)
    assert result.exit_code == 0, result.output
    assert f"{place}, has 3 undelivered events" in result.output
    assert "faxhook consume" in result.output


def test_a_store_that_was_emptied_before_is_not_mentioned(anywhere: Stock) -> None:
    switch(anywhere)
    result = run(anywhere, "check")
    assert "used before" not in result.output


def test_a_former_store_that_cannot_be_read_may_have_events(filled: Stock) -> None:
    here = filled.runtime.store.url
    record = remembered.record(filled.runtime.settings.server.state_dir)
    gone = make_url("postgresql+psycopg://faxhook:secret-word@127.0.0.1:1/faxhook")
    remembered.note(record.parent, gone)
    remembered.note(record.parent, here)
    assert "secret-word" not in record.read_text()
    result = run(filled, "check")
    assert "may have undelivered events" in result.output
    assert str(record) in result.output, "what to do when it is known to be of no use"


def test_the_record_tells_since_when_a_store_is_used(filled: Stock) -> None:
    state_dir = filled.runtime.settings.server.state_dir
    found = remembered.find(state_dir, filled.runtime.store.url)
    assert found is not None
    assert found.url == f"sqlite:///{make_url(str(filled.runtime.store.url)).database}"
    assert remembered.record(state_dir).stat().st_mode & 0o777 == 0o600
    assert json.loads(remembered.record(state_dir).read_text())["stores"][-1]["since"] == found.since


@pytest.mark.parametrize("content", ["", "{", "[]", '{"stores": [{}]}', '{"stores": 1}', "\0"])
def test_a_record_that_cannot_be_read_is_begun_anew(tmp_path: Path, content: str) -> None:
    remembered.record(tmp_path).write_text(content)
    assert remembered.remembered(tmp_path) == ()
    remembered.note(tmp_path, make_url("sqlite:////srv/faxhook.db"))
    assert [one.url for one in remembered.remembered(tmp_path)] == ["sqlite:////srv/faxhook.db"]


def test_every_endpoint_with_another_account_is_named_with_both_accounts(anywhere: Stock) -> None:
    text = anywhere.config.read_text().replace('account = "acme"', 'account = "other"').replace("99999TE", "11111TE")
    anywhere.config.write_text(text)
    result = run(anywhere, "check")
    assert result.exit_code == 2
    assert 'endpoints.faxage: the store has it as faxage "acme", the configuration as faxage "other"' in result.stderr
    assert 'endpoints.retarus: the store has it as retarus "99999TE", the configuration as retarus "11111TE"' in (
        result.stderr
    )


# --- one that is not there any more -----------------------------------------------------------------------------------


def vanish(made: Stock) -> None:
    store = made.runtime.store
    if store.file is None:
        with store.writing() as connection:
            connection.exec_driver_sql("DROP SCHEMA faxhook CASCADE")
    store.close()
    if store.file is not None:
        for path in store.file.path.parent.glob("faxhook.db*"):
            path.unlink()


@pytest.mark.parametrize("command", [("serve",), ("migrate",), ("check",)], ids=" ".join)
def test_a_store_that_vanished_is_not_begun_anew_without_a_word(anywhere: Stock, command: tuple[str, ...]) -> None:
    vanish(anywhere)
    result = run(anywhere, *command)
    assert result.exit_code == 2, result.output
    assert "faxhook migrate --new" in result.output
    assert remembered.place(anywhere.runtime.store.url) in result.output
    file = anywhere.runtime.store.file
    assert file is None or not file.path.exists()


def test_doctor_says_that_serve_would_not_start(anywhere: Stock) -> None:
    vanish(anywhere)
    result = run(anywhere, "doctor")
    assert result.exit_code == 1
    assert "trouble  state_dir: " in result.output
    assert "faxhook migrate --new" in result.output


def test_a_new_store_is_begun_where_that_is_meant(anywhere: Stock) -> None:
    vanish(anywhere)
    assert run(anywhere, "migrate", "--new").exit_code == 0
    assert run(anywhere, "check").exit_code == 0
    assert run(anywhere, "events", "list").exit_code == 0


@pytest.mark.parametrize("content", [b"", None], ids=["empty", "gone"])
def test_an_empty_file_is_no_store_either(filled: Stock, content: bytes | None) -> None:
    vanish(filled)
    assert filled.runtime.store.file is not None
    if content is not None:
        filled.runtime.store.file.path.write_bytes(content)
    assert run(filled, "migrate").exit_code == 2


def test_where_the_loss_is_acceptable_it_is_begun_anew(filled: Stock) -> None:
    vanish(filled)
    filled.config.write_text(filled.config.read_text().replace("[store]", "[store]\nephemeral_ok = true"))
    assert run(filled, "migrate").exit_code == 0


def test_a_store_and_its_state_dir_deleted_together_are_a_first_start(filled: Stock) -> None:
    vanish(filled)
    shutil.rmtree(filled.runtime.settings.server.state_dir)
    assert run(filled, "check").exit_code == 0
    assert run(filled, "migrate").exit_code == 0
