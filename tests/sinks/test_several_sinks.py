"""Several sinks beside the queue, through the relay's process and the commands: none holds another back."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from contract import message
from house import CONFIGURATION
from served import running
from stock import Stock, stock
from test_webhook_sink import SECRET, Endpoint
from waiting import until

from receiver import metrics, settings
from receiver.cli import main
from receiver.errors import ConfigurationError
from receiver.outgoing import formats
from receiver.store import figures
from receiver.web import operations


def toml(name: str, port: int, more: str = "") -> str:
    url = f"http://127.0.0.1:{port}/"
    return f'\n[sinks.{name}]\nurl = "{url}"\nsecrets = ["{SECRET}"]\nallow_private = true\n{more}\n'


@contextmanager
def stocked(folder: Path, store_url: str, sinks: str) -> Iterator[Stock]:
    text = CONFIGURATION + sinks.replace("{", "{{").replace("}", "}}")
    with stock(folder, store_url, text) as made:
        yield made


@pytest.fixture
def endpoints() -> Iterator[tuple[Endpoint, Endpoint]]:
    both = Endpoint(), Endpoint()
    yield both
    for one in both:
        one.close()


def run(made: Stock, *command: str) -> Result:
    return CliRunner().invoke(main, [*command, "--config", str(made.config)])


def said(made: Stock, *command: str) -> str:
    return run(made, *command).stdout


def code(made: Stock, *command: str) -> int:
    return run(made, *command).exit_code


def standing(made: Stock) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in json.loads(said(made, "sinks", "list", "--json"))}


def test_one_that_is_away_holds_no_other_back_and_catches_up(
    tmp_path: Path, store_url: str, endpoints: tuple[Endpoint, Endpoint]
) -> None:
    well, ill = endpoints
    ill.answer = lambda _: 500
    with stocked(tmp_path, store_url, toml("well", well.port) + toml("ill", ill.port)) as made:
        made.fill(30)
        with running(made, "relay") as relay:
            until(lambda: len(well.took) == 30)
            until(lambda: standing(made)["ill"]["trouble"] == "failing")
            found = standing(made)
            assert (found["well"]["backlog"], found["ill"]["backlog"]) == (0, 30)
            assert {event["sinks"]["well"] for event in made.events()} == {"published"}
            assert {event["state"] for event in made.events()} == {"pending"}
            ill.answer = lambda _: 200
            until(lambda: len(ill.took) == 30)
            until(lambda: standing(made)["ill"]["trouble"] is None)
            relay.terminate()
            assert relay.wait(60) == 0
    assert dict(well.took) == dict(ill.took)


def test_sinks_that_hang_do_not_keep_the_relay_from_ending(
    filled_with: Any, endpoints: tuple[Endpoint, Endpoint]
) -> None:
    hanging = threading.Event()
    for one in endpoints:
        one.answer = lambda _: (hanging.wait(60), 200)[1]
    with filled_with(toml("one", endpoints[0].port) + toml("other", endpoints[1].port)) as made:
        made.fill(3)
        with running(made, "relay") as relay:
            until(lambda: all(one.at_once for one in endpoints))
            relay.terminate()
            assert relay.wait(60) == 0
        hanging.set()
        assert {event["state"] for event in made.events()} == {"pending"}


def test_a_start_names_what_is_wrong_with_a_sink(filled_with: Any) -> None:
    with filled_with('\n[sinks.partner]\nurl = "nats://host"\n') as made:
        for command in ("serve", "relay", "check", "doctor"):
            assert code(made, command) == 2


def test_410_stops_a_sink_until_it_is_resumed(filled_with: Any, endpoints: tuple[Endpoint, Endpoint]) -> None:
    one, _ = endpoints
    one.answer = lambda _: 410
    with filled_with(toml("partner", one.port)) as made:
        made.fill(3)
        with running(made, "relay") as relay:
            until(lambda: standing(made)["partner"]["state"] == "stopped")
            asked = len(one.asked)
            one.answer = lambda _: 200
            assert standing(made)["partner"]["backlog"] == 3
            (doctor,) = [
                finding for finding in json.loads(said(made, "doctor", "--json")) if finding["check"] == "sink partner"
            ]
            assert doctor["verdict"] == "trouble"
            assert "3 events wait" in doctor["detail"]
            assert len(one.asked) == asked
            assert "resumed" in said(made, "sinks", "resume", "partner")
            until(lambda: len(one.took) == 3)
            relay.terminate()
        assert code(made, "sinks", "resume", "partner") == 1
        assert [action for action, _ in made.audit()].count("sinks.resume") == 1


@pytest.fixture
def filled_with(tmp_path: Path, sqlite_url: str) -> Any:
    return lambda sinks: stocked(tmp_path, sqlite_url, sinks)


def test_a_sink_that_the_configuration_has_no_more_is_dropped_by_hand_while_events_wait(
    filled_with: Any, endpoints: tuple[Endpoint, Endpoint]
) -> None:
    with filled_with(toml("partner", endpoints[0].port)) as made:
        made.fill(2)
        assert code(made, "sinks", "drop", "partner", "--yes") == 2  # it is configured
        made.config.write_text(made.config.read_text().partition("[sinks.partner]")[0])
        assert code(made, "relay") == 2
        assert code(made, "check") == 2
        assert "2 events would be dropped" in said(made, "sinks", "drop", "partner")
        assert "dropped, with 2 events" in said(made, "sinks", "drop", "partner", "--yes")
        assert code(made, "sinks", "drop", "partner", "--yes") == 1
        assert code(made, "check") == 0
        assert made.states() == {"pending": 2}


def test_events_are_republished_into_one_sink_alone(filled_with: Any, endpoints: tuple[Endpoint, Endpoint]) -> None:
    one, other = endpoints
    with filled_with(toml("one", one.port) + toml("other", other.port)) as made:
        made.fill(2)
        with running(made, "relay") as relay:
            until(lambda: len(one.took) == len(other.took) == 2)
            until(lambda: {event["sinks"]["one"] for event in made.events()} == {"published"})
            assert "2 events put into the sink one again" in said(
                made, "events", "republish", "--since", "1d", "--sink", "one"
            )
            until(lambda: len(one.took) == 4)
            relay.terminate()
        assert len(other.took) == 2
        assert code(made, "events", "republish", "--since", "1d", "--sink", "nobody") == 2


def test_the_figures_have_each_sink(filled_with: Any, endpoints: tuple[Endpoint, Endpoint]) -> None:
    with filled_with(toml("partner", endpoints[0].port)) as made:
        made.fill(2)
        store = made.runtime.store
        with store.reading() as connection:
            found = figures.read(connection, store.tables)
        text = metrics.render(operations._sinks(found))[0].decode()
        assert 'faxhook_sink_backlog_events{sink="partner"} 2.0' in text
        assert 'faxhook_sink_stopped{sink="partner"} 0.0' in text
        assert operations.described(found)["sinks"]["partner"]["backlog"]["events"] == 2


# --- the forms ------------------------------------------------------------------------------------------------------


def test_each_form_follows_from_the_stored_bytes(filled_with: Any, endpoints: tuple[Endpoint, Endpoint]) -> None:
    one, other = endpoints
    forms = toml("one", one.port, 'format = "thin"'), toml("other", other.port, 'format = "binary"')
    with filled_with("".join(forms)) as made:
        made.take("openfax", b"OutTransID=1&AccountID=1&LastStatus=0&ToFaxNumber=2085550139")
        (event,) = made.events()
        stored = json.loads(made.payload(event["id"]))
        with running(made, "relay") as relay:
            until(lambda: one.took and other.took)
            relay.terminate()
    ((_, headers, thin),) = one.asked
    names = {"fax_id", "provider", "provider_job_id", "provider_fax_id", "outcome", "revision"}
    assert headers["content-type"] == "application/cloudevents+json"
    assert json.loads(thin)["data"] == {name: stored["data"][name] for name in names}
    assert b"5550139" not in thin
    ((_, headers, data),) = other.asked
    assert json.loads(data) == stored["data"]
    assert headers["content-type"] == "application/json"
    assert (headers["ce-id"], headers["ce-type"], headers["ce-specversion"]) == (event["id"], stored["type"], "1.0")
    assert headers["ce-traceparent"] == headers["traceparent"] == stored["traceparent"]


def test_the_stored_form_is_the_stored_bytes() -> None:
    sent = message()
    assert formats.packed(sent, "structured").body is sent.body


# --- configuration --------------------------------------------------------------------------------------------------

_ENDPOINT = '[endpoints.a]\nprovider = "openfax"\nauth = { mode = "none" }\ninsecure = true\n'
_PARTNER = f'[sinks.partner]\nurl = "https://host/x"\nsecrets = ["{SECRET}"]\n'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[sinks.queue]\nurl = "amqp://host"', "sinks.queue: expected another name"),
        ('[sinks.projector]\nurl = "amqp://host"', "sinks.projector: expected another name"),
        ('[sinks."A B"]\nurl = "amqp://host"', "expected a name of 1 to 40 characters"),
        ("[sinks.x]\n", r"sinks\.x\.url: missing"),
        ('[sinks.x]\nurl = "ftp://host"', r"sinks\.x\.url: expected the URL of a sink"),
        ('[sinks.x]\nurl = "gcpubsub://host"', r"sinks\.x\.url: gcpubsub is not offered"),
        ('[sinks.x]\nurl = "https://host/"', r"sinks\.x\.secrets: missing"),
        (f'[sinks.x]\nurl = "amqp://host"\nsecrets = ["{SECRET}"]', r"sinks\.x\.secrets: expected without this key"),
        (f'{_PARTNER}format = "fat"', r"sinks\.partner\.format: expected one of structured, binary, thin"),
        (f'{_PARTNER}from = "then"', r"sinks\.partner\.from"),
        (f"{_PARTNER}sekrets = 1", r"sinks\.partner\.sekrets: unknown key; did you mean secrets"),
        (f'{_PARTNER}filter = {{ outcom = ["failed"] }}', r"sinks\.partner\.filter\.outcom: unknown key"),
        (f'{_PARTNER}filter = {{ outcome = ["fail"] }}', r"sinks\.partner\.filter\.outcome"),
        (f'{_PARTNER}filter = {{ endpoint = ["b"] }}', r"sinks\.partner\.filter\.endpoint: expected some of .*: a"),
        (f'{_PARTNER}filter = {{ provider = ["efax"] }}', r"sinks\.partner\.filter\.provider: .*: openfax"),
    ],
)
def test_what_is_wrong_with_a_sink_is_named(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "faxhook.toml"
    path.write_text(f"{_ENDPOINT}{text}\n")
    with pytest.raises(ConfigurationError, match=expected):
        settings.load(path, {})
