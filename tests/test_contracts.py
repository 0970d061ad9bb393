"""The contracts as documents: valid, the same from the command line as from the server, and true."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner
from house import House, house

from receiver import contracts, settings
from receiver.cli import main
from receiver.contracts import publishing
from receiver.outgoing.broker import DEAD
from schemas.envelope import CONTENT_TYPE

COMMANDS = {"/asyncapi.json": "asyncapi", "/schemas/fax-completed.v1.json": "event"}


@pytest.fixture
def server(tmp_path: Path, sqlite_url: str) -> Iterator[House]:
    with house(tmp_path, sqlite_url) as made:
        yield made


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for inner in node.values():
            yield from references(inner)
    elif isinstance(node, list):
        for inner in node:
            yield from references(inner)


def found(document: Any, reference: str) -> Any:
    for name in reference.removeprefix("#/").split("/"):
        document = document[name.replace("~1", "/").replace("~0", "~")]
    return document


def test_anybody_can_fetch_what_the_commands_print(server: House) -> None:
    assert COMMANDS.keys() == contracts.SERVED.keys()
    for path, command in COMMANDS.items():
        answer = server.ask("GET", path, X_Forwarded_For="203.0.113.9")
        assert answer.status == 200
        assert answer.headers["Content-Type"] == contracts.SERVED[path][1]
        printed = CliRunner().invoke(main, ["schema", command])
        assert printed.exit_code == 0
        assert printed.output == answer.body.decode() + "\n"
        assert set(references(answer.json)) or command == "event"
        for reference in references(answer.json):
            assert found(answer.json, reference)
    assert server.ask("POST", "/asyncapi.json", b"{}").status == 405
    assert server.ask("GET", "/schemas/fax-completed.v2.json").status == 404


def test_no_document_says_what_this_server_is_configured_with(server: House) -> None:
    own = (str(server.port), str(server.config.parent), "exampleuser", "acme")
    for path in contracts.SERVED:
        assert not [word for word in own if word in server.ask("GET", path).body.decode()]


# --- AsyncAPI -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def published() -> Any:
    return json.loads(contracts.asyncapi())


def test_the_names_are_those_of_the_configurations_defaults(published: Any, tmp_path: Path) -> None:
    path = tmp_path / "faxhook.toml"
    path.write_text('[endpoints.openfax]\nprovider = "openfax"\nauth = { mode = "none" }\ninsecure = true\n')
    queue = settings.load(path, {}).queue
    assert (queue.exchange, queue.queue) == (publishing.EXCHANGE, publishing.QUEUE)
    assert published["channels"]["queue"]["address"] == queue.queue
    assert queue.queue + DEAD in published["channels"]["queue"]["description"]


def test_each_type_of_event_is_a_message_of_each_channel(published: Any) -> None:
    types = json.loads(contracts.event())["properties"]["type"]["enum"]
    for channel in published["channels"].values():
        messages = [found(published, message["$ref"]) for message in channel["messages"].values()]
        assert [message["name"] for message in messages] == types
        assert {message["contentType"] for message in messages} == {CONTENT_TYPE}


def test_the_payload_is_the_events_own_schema(published: Any) -> None:
    """Under draft 7 as well, which AsyncAPI reads it as."""
    schema = published["components"]["schemas"]["event"]
    assert json.loads(contracts.event()).items() >= schema.items()
    jsonschema.Draft7Validator.check_schema(schema)
    (example,) = published["components"]["messages"]["completed"]["examples"]
    jsonschema.Draft7Validator(schema).validate(example["payload"])
    assert not jsonschema.Draft7Validator(schema).is_valid({**example["payload"], "type": "fax.completed.v2"})
