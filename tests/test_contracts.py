"""The contracts as documents: valid, the same from the command line as from the server, and true."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import jsonschema
import openapi_spec_validator
import pytest
from click.testing import CliRunner
from house import CONFIGURATION, FORM, TOKEN, House, Reply, house
from providers.samples import manifest, sample

from receiver import contracts, errors, settings
from receiver.cli import main
from receiver.contracts import publishing
from receiver.contracts.answers import OF_CALLBACKS
from receiver.contracts.calling import SECURITY
from receiver.outgoing.broker import DEAD
from receiver.settings import AUTH_MODES
from receiver.web.app import create_app
from schemas.envelope import CONTENT_TYPE

COMMANDS = {"/openapi.json": "openapi", "/asyncapi.json": "asyncapi", "/schemas/fax-completed.v1.json": "event"}


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


# --- OpenAPI --------------------------------------------------------------------------------------------------------

KEY, SECRET = "job-key-0123456789abcdef", "client-secret-0123456789"
OWN_SYSTEMS = f"""
[endpoints.registered]
provider = "faxage"
account = "acme"
timezone = "America/Denver"
auth = {{{{ mode = "oauth2", issuer = "self", scope = "fax.push" }}}}
tokens = ["{TOKEN}"]
job_keys = ["{KEY}"]

[oauth2.clients.sender]
secret = "{SECRET}"
"""
WITH_TOKEN = "/callbacks/{endpoint}/{token}"


@pytest.fixture(scope="module")
def called() -> Any:
    return json.loads(contracts.openapi())


@pytest.fixture
def complete(tmp_path: Path, sqlite_url: str) -> Iterator[House]:
    """A server with all that it can have."""
    with house(tmp_path, sqlite_url, CONFIGURATION + OWN_SYSTEMS) as made:
        yield made


def test_the_document_is_openapi(called: Any) -> None:
    assert called["openapi"].startswith("3.1.")
    openapi_spec_validator.validate(called)
    operations = [one["operationId"] for path in called["paths"].values() for one in path.values() if "summary" in one]
    assert len(operations) == len(set(operations))


def test_every_url_of_the_server_is_in_it_and_no_other(called: Any, complete: House) -> None:
    rules = {rule.rule for rule in create_app(complete.runtime).url_map.iter_rules()}
    documented = {path if not path.startswith("/callbacks/") else "/callbacks/<path:_path>" for path in called["paths"]}
    documented = {path.replace("{", "<path:").replace("}", ">") for path in documented}
    assert documented == rules


def test_every_way_to_authenticate_has_its_scheme(called: Any) -> None:
    assert list(SECURITY) == list(AUTH_MODES)
    assert {scheme for scheme in SECURITY.values() if scheme} <= called["components"]["securitySchemes"].keys()


def test_every_refusal_of_a_callback_is_an_answer_of_it(called: Any) -> None:
    answers = called["paths"][WITH_TOKEN]["post"]["responses"]
    assert {str(one.status) for one in OF_CALLBACKS} | {"200", "202", "204", "default"} == answers.keys()
    known = {one.code for one in vars(errors).values() if isinstance(one, type) and issubclass(one, errors.Refusal)}
    assert {one.code for one in OF_CALLBACKS} == known
    assert set(called["components"]["schemas"]["Problem"]["properties"]["code"]["enum"]) == known | {"bad_request"}


def test_what_is_no_request_has_an_answer_too(called: Any) -> None:
    """gunicorn's, which has no title."""
    schema = called["components"]["responses"]["NoRequest"]["content"]["application/problem+json"]["schema"]
    fits(called, schema, {"status": 414, "code": "bad_request", "detail": "Request-URI Too Long."})
    for path in called["paths"].values():
        for method, operation in path.items():
            assert method == "parameters" or operation["responses"]["default"]


def fits(called: Any, schema: Any, value: Any) -> None:
    jsonschema.Draft202012Validator({"components": called["components"], **schema}).validate(value)


def check(called: Any, method: str, path: str, answer: Reply, status: int, code: str | None = None) -> None:
    """The answer is one that the document has for this operation, to its body."""
    assert answer.status == status, answer.body
    documented = called["paths"][path][method.lower()]["responses"][str(status)]
    assert documented.get("headers", {}).keys() <= answer.headers.keys()
    if not answer.body:
        return
    media_type = answer.headers["Content-Type"].partition(";")[0]
    schema = documented["content"][media_type]["schema"]
    fits(called, schema, answer.json if media_type.endswith("json") else answer.body.decode())
    if code is not None:
        assert answer.json["code"] == code


OPENFAX = "OutTransID=1&AccountID=123456789&LastStatus=%s"


def test_callbacks_are_answered_as_the_document_says(called: Any, complete: House) -> None:
    for expected in ("accepted", "duplicate"):
        answer = complete.post("openfax", OPENFAX % 0)
        check(called, "POST", WITH_TOKEN, answer, 200)
        assert answer.json["status"] == expected
    answer = complete.post("efax", sample("efax/01_success.form").body, FORM)
    check(called, "POST", WITH_TOKEN, answer, 200)
    assert answer.body == b"Post Successful"
    for body, media_type, status, code in (
        ("", FORM, 400, "undecodable"),
        (b"\x00" * 9_000_000, FORM, 413, "too_large"),
        ("&".join(f"a{number}=1" for number in range(300)), FORM, 413, "too_complex"),
        ("<a/>", "text/xml", 415, "unsupported_body"),
        (OPENFAX % "busy", FORM, 422, "unprocessable"),
    ):
        check(called, "POST", WITH_TOKEN, complete.post("openfax", body, media_type), status, code)
    path = f"/callbacks/openfax/{TOKEN}"
    check(called, "GET", WITH_TOKEN, complete.ask("GET", f"{path}?{OPENFAX % 0}"), 200)
    check(called, "GET", WITH_TOKEN, complete.ask("GET", f"{path}/r/order-1?{OPENFAX % 0}"), 200)
    check(called, "POST", WITH_TOKEN, complete.ask("PUT", path, b""), 405, "method_not_allowed")
    check(called, "POST", WITH_TOKEN, complete.ask("POST", f"{path}x", b"a=1"), 404, "not_found")
    check(called, "HEAD", WITH_TOKEN, complete.ask("HEAD", path), 200)
    check(called, "HEAD", WITH_TOKEN, complete.ask("HEAD", f"{path}x"), 404)
    check(called, "POST", WITH_TOKEN, complete.ask("POST", path, b"a", Content_Encoding="gzip"), 415)
    check(called, "POST", WITH_TOKEN, complete.post("registered", "jobid=1"), 401, "unauthorized")


def test_jobs_tokens_and_operations_are_answered_as_the_document_says(called: Any, complete: House) -> None:
    job = {"endpoint": "registered", "job_id": "1", "recipients": [{"number": "+12085550139"}], "due_in": "90m"}
    fits(called, {"$ref": "#/components/schemas/JobToExpect"}, job)
    headers = {"Authorization": f"Bearer {KEY}", "Content_Type": "application/json"}
    for document, status, code in (
        (job, 201, None),
        (job, 200, None),
        ({**job, "pages": 0}, 422, "unprocessable"),
        ([], 400, "undecodable"),
    ):
        answer = complete.ask("POST", "/jobs", json.dumps(document).encode(), **headers)
        check(called, "POST", "/jobs", answer, status, code)
    check(called, "POST", "/jobs", complete.ask("POST", "/jobs", b"{}"), 401, "unauthorized")
    grant = f"grant_type=client_credentials&client_id=sender&client_secret={SECRET}"
    for form, status in ((grant, 200), (grant + "x", 401), ("grant_type=password&" + grant[30:], 400)):
        answer = complete.ask("POST", "/oauth2/token", form.encode(), Content_Type=FORM)
        check(called, "POST", "/oauth2/token", answer, status)
    check(called, "POST", "/oauth2/token", complete.ask("GET", "/oauth2/token"), 405, "method_not_allowed")
    for path in ("/healthz", "/readyz", "/metrics", *contracts.SERVED):
        check(called, "GET", path, complete.ask("GET", path), 200)
    check(called, "GET", "/readyz", complete.ask("GET", "/readyz", X_Forwarded_For="203.0.113.9"), 200)
    check(called, "GET", "/metrics", complete.ask("GET", "/metrics", X_Forwarded_For="203.0.113.9"), 404, "not_found")


def test_what_providers_send_is_what_the_document_says_they_do(called: Any) -> None:
    """Forms, and JSON in the documented layout; XML has no JSON Schema that could be checked."""
    content = called["paths"][WITH_TOKEN]["post"]["requestBody"]["content"]
    checked = 0
    for row in manifest():
        if row["kind"] != "push" or row["expect_outcome"] not in ("delivered", "failed"):
            continue
        body = sample(f"{row['provider']}/{row['file']}").body
        if row["content_type"].startswith(FORM):
            fits(called, content[FORM]["schema"], dict(parse_qsl(body.decode())))
            checked += 1
        elif row["content_type"].startswith("application/json"):
            document = json.loads(body)
            if "faxJobReport" in document or isinstance(document, list):
                fits(called, content["application/json"]["schema"], document)
                checked += 1
    assert checked > 20
    for form in ({}, {"jobid": "1"}, {"OutTransID": "1"}, {"jobid": "1", "shortstatus": "lost"}):
        with pytest.raises(jsonschema.ValidationError):
            fits(called, content[FORM]["schema"], form)


def test_a_start_does_not_wait_for_what_makes_the_document() -> None:
    script = "import sys, receiver.web.app, receiver.bootstrap, receiver.cli.schema; sys.exit('apispec' in sys.modules)"
    root = Path(contracts.__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", script], cwd=root, check=False).returncode == 0
