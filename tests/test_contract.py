"""Where the same thing is said twice (code, JSON Schema, documents, examples), both say the same."""

import base64
import inspect
import json
import os
import re
import subprocess
import sys
import tomllib
import uuid
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

import click
import jsonschema
import pytest
from cloudevents.core.formats.json import JSONFormat
from prometheus_client.metrics import MetricWrapperBase
from providers.samples import events, manifest, sample

from receiver import advice, destinations, doctor, errors, facts, metrics, providers, settings
from receiver.cli import main
from receiver.errors import ConfigurationError
from receiver.providers.shared import forms, json_bodies, xml_bodies
from receiver.providers.shared.normalising import failed
from receiver.settings import AUTH_MODES
from receiver.web import exchange
from schemas import envelope, event, identity
from schemas.advice import Action, Fault
from schemas.event import Confidence, Cost, FailureReason, FaxCompleted, Outcome, Recipient, Retryable
from schemas.repairing import Repair

ROOT = Path(__file__).parents[1]
SCHEMA = json.loads((ROOT / "schemas" / "fax_completed.v1.json").read_text())
DATA = SCHEMA["properties"]["data"]
CHECKER = jsonschema.Draft202012Validator.FORMAT_CHECKER
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA, format_checker=CHECKER)
OBSERVED_AT = "2026-11-21T01:12:00.123Z"
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
MARKDOWN = [
    path
    for path in sorted(ROOT.rglob("*.md"))
    if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
]
SCHEMAS_README = (ROOT / "schemas" / "README.md").read_text()
DEPLOY_README = (ROOT / "deploy" / "README.md").read_text()
EXAMPLE = ROOT / "deploy" / "faxhook.example.toml"


# --- the event ------------------------------------------------------------------------------------------------------


def completed(fax: FaxCompleted, provider: str) -> bytes:
    fax_id = identity.fax_id(provider, fax.account, fax.key)
    return envelope.envelope(
        event_id=str(identity.completed_id(fax_id, fax.outcome)),
        event_type=envelope.COMPLETED,
        fax_id=str(fax_id),
        provider=provider,
        endpoint=provider,
        facts=facts.of(fax),
        advice=advice.RULES_ALONE.advise(provider, facts.of(fax)),
        observed_at=OBSERVED_AT,
        observed_via="callback",
        traceparent=TRACEPARENT,
    )


def amended(fax: FaxCompleted, later: FaxCompleted, provider: str = "faxage") -> bytes:
    fax_id = identity.fax_id(provider, fax.account, fax.key)
    merged = facts.merge(facts.of(fax), facts.of(later))
    return envelope.envelope(
        event_id=str(identity.amended_id(fax_id, facts.digest(merged.facts))),
        event_type=envelope.AMENDED,
        fax_id=str(fax_id),
        provider=provider,
        endpoint=provider,
        facts=merged.facts,
        advice=advice.RULES_ALONE.advise(provider, merged.facts),
        observed_at=OBSERVED_AT,
        observed_via="callback",
        traceparent=TRACEPARENT,
        revision=2,
        supersedes=str(identity.completed_id(fax_id, fax.outcome)),
        changed=merged.changed,
        conflict=merged.conflict,
    )


def amendments() -> list[bytes]:
    busy = failed(FailureReason.BUSY, Retryable.YES, Confidence.HIGH).failure
    was = FaxCompleted(account="acme", key=("1",), outcome=Outcome.FAILED, status_code="busy", failure=busy)
    late = datetime(2026, 7, 1, 12, tzinfo=UTC)
    number = Recipient(number="+12085550139", number_raw="(208) 555-0139")
    again = FaxCompleted(
        account="acme",
        key=("1",),
        outcome=Outcome.DELIVERED,
        status_code="ok",
        recipient=number,
        completed_at=late,
        cost=Cost(Decimal("0.0294"), "USD"),
    )
    return [amended(was, again), amended(again, was)]


def of_samples() -> list[bytes]:
    rows = [row for row in manifest() if row["kind"] == "push"]
    return [
        completed(fax, row["provider"])
        for row in rows
        for fax in events(row["provider"], sample(f"{row['provider']}/{row['file']}"))
    ]


@pytest.fixture(scope="module")
def published() -> list[bytes]:
    return [*of_samples(), *amendments()]


def test_the_schema_is_a_schema_and_its_formats_are_checked():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$id"] == envelope.SCHEMA_URN
    used = set(re.findall(r'"format": "([^"]+)"', json.dumps(SCHEMA)))
    assert used == {"uuid", "date-time", "uri-reference"}
    assert used <= CHECKER.checkers.keys()


def test_every_event_is_as_the_schema_says(published):
    assert len(published) > 40
    for body in published:
        VALIDATOR.validate(json.loads(body))


def test_the_schema_refuses_what_an_event_never_is():
    good = json.loads(of_samples()[0])
    for path, value in [
        (("data", "outcome"), "queued"),
        (("data", "failure"), {"reason": "busy", "retryable": "yes", "confidence": "high"}),
        (("data", "observed_at"), "2026-11-21T01:12:00+01:00"),
        (("data", "recipient", "number"), "5550139"),
        (("data", "revision"), 2),
        (("data", "duration_seconds"), 1.5),
        (("data", "advice"), {"action": "none", "after_seconds": None, "max_tries": None, "fault": None}),
        (("id",), "1"),
        (("type",), "fax.completed.v2"),
        (("time",), "yesterday"),
    ]:
        bad = json.loads(json.dumps(good))
        inner = bad
        for name in path[:-1]:
            inner = inner[name]
        inner[path[-1]] = value
        assert not VALIDATOR.is_valid(bad), path


def test_the_schema_lets_providers_and_fields_be_added():
    more = json.loads(of_samples()[0])
    more["data"]["provider"] = "another"
    more["data"]["recipient"]["country"] = "US"
    more["sequence"] = "1"
    VALIDATOR.validate(more)
    assert "additionalProperties" not in json.dumps(SCHEMA)


def test_the_cloudevents_sdk_reads_every_event(published):
    for body in published:
        told = json.loads(body)
        read = JSONFormat().read(None, body)
        assert read.get_id() == told["id"]
        assert read.get_type() == told["type"] in (envelope.COMPLETED, envelope.AMENDED)
        assert read.get_source() == told["source"]
        assert urlsplit(read.get_source()).path == read.get_source()
        assert read.get_subject() == told["data"]["fax_id"] == read.get_extension("partitionkey")
        assert read.get_time() == datetime.fromisoformat(told["data"]["completed_at"] or OBSERVED_AT)
        assert read.get_datacontenttype() == "application/json"
        assert read.get_dataschema() == envelope.SCHEMA_URN
        assert read.get_data() == told["data"]
        assert json.loads(JSONFormat().write(read))["data"] == told["data"]


def test_the_source_of_an_account_with_odd_characters_is_a_uri_reference():
    fax = FaxCompleted(account="Müller & Söhne/2 %", key=("1",), outcome=Outcome.DELIVERED, status_code="0")
    body = completed(fax, "openfax")
    VALIDATOR.validate(json.loads(body))
    assert JSONFormat().read(None, body).get_source() == "/openfax/M%C3%BCller%20%26%20S%C3%B6hne%2F2%20%25"


def fields_of(schema, prefix=""):
    """Every property of the schema, dotted."""
    found = set()
    for name, inner in schema.get("properties", {}).items():
        found |= {prefix + name, *fields_of(inner, f"{prefix}{name}.")}
    return found


def keys_of(document, prefix=""):
    found = set()
    for name, inner in document.items() if isinstance(document, dict) else ():
        found |= {prefix + name, *keys_of(inner, f"{prefix}{name}.")}
    return found


def test_events_have_the_schemas_fields_and_no_others(published):
    assert set().union(*(keys_of(json.loads(body)) for body in published)) == fields_of(SCHEMA)


# Events that a store made before are published again as they were.
ADDED_LATER = {"provider_call_id", "country", "advice", "traceparent"}


def test_every_field_is_required_named_and_explained():
    def check(schema):
        assert schema["title"]
        assert schema["description"]
        if "properties" in schema:
            assert schema["required"] == [name for name in schema["properties"] if name not in ADDED_LATER]
        for inner in schema.get("properties", {}).values():
            check(inner)

    check(SCHEMA)


@pytest.mark.parametrize(
    ("words", "schema"),
    [
        (event.Outcome, DATA["properties"]["outcome"]),
        (event.FailureReason, DATA["properties"]["failure"]["properties"]["reason"]),
        (event.Retryable, DATA["properties"]["failure"]["properties"]["retryable"]),
        (event.Confidence, DATA["properties"]["failure"]["properties"]["confidence"]),
        (event.TimeQuality, DATA["properties"]["time_quality"]),
    ],
)
def test_closed_lists_are_the_same_in_the_schema_and_the_code(words, schema):
    assert schema["enum"] == [word.value for word in words]


def test_the_code_has_no_other_closed_lists():
    lists = {one for one in vars(event).values() if inspect.isclass(one) and issubclass(one, StrEnum)}
    known = {event.Outcome, event.FailureReason, event.Retryable, event.Confidence, event.TimeQuality}
    assert lists - {StrEnum} == known


# --- schemas/README.md ----------------------------------------------------------------------------------------------


def first_words(text: str) -> set[str]:
    """What the rows of all tables are about."""
    return set(re.findall(r"^\| `([^`]+)`", text, re.MULTILINE))


def test_the_readme_of_the_event_explains_every_field_and_word():
    tables = first_words(SCHEMAS_README)
    assert set(Action) <= tables
    assert {name.removeprefix("data.") for name in fields_of(SCHEMA)} <= tables
    assert {word.value for word in (*Outcome, *FailureReason)} <= tables
    for word in (*event.TimeQuality, *Fault, *Retryable, *Confidence, *(fact.path for fact in facts.TABLE)):
        assert f"`{word}`" in SCHEMAS_README


def test_the_readme_of_the_event_shows_an_event():
    (shown,) = (json.loads(text) for text in blocks(SCHEMAS_README, "json"))
    assert SCHEMA["examples"] == [shown]
    VALIDATOR.validate(shown)
    # As it is published from the sample it was made of, to the last id.
    assert shown == json.loads(completed(events("retarus", sample("retarus/01_success.xml"))[0], "retarus"))


def test_the_vectors_in_the_readme_are_right():
    rows = re.findall(r"^\| `(\w+)` \| `([^`]+)` \| (.+?) \| `([0-9a-f-]{36})` \|$", SCHEMAS_README, re.MULTILINE)
    assert len(rows) == 3
    for provider, account, key, expected in rows:
        assert str(identity.fax_id(provider, account, re.findall("`([^`]+)`", key))) == expected
    first = uuid.UUID(rows[0][3])
    assert str(identity.completed_id(first, "delivered")) in SCHEMAS_README
    assert str(identity.NAMESPACE) in SCHEMAS_README


def test_the_consumer_in_the_readme_keeps_the_newest_revision_of_each_fax_once(tmp_path):
    (program,) = blocks(SCHEMAS_README, "python")
    first, *_ = of_samples()
    overtaken, newer = completed_then_amended()
    lines = [first, newer, overtaken, newer, first]
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, input=b"\n".join(lines), capture_output=True, check=True
    )
    assert [line.split()[1] for line in done.stdout.decode().splitlines()] == [
        json.loads(first)["data"]["outcome"],
        json.loads(newer)["data"]["outcome"],
    ]


def completed_then_amended() -> tuple[bytes, bytes]:
    fax = FaxCompleted(account="acme", key=("2",), outcome=Outcome.CANCELED, status_code="x")
    later = FaxCompleted(account="acme", key=("2",), outcome=Outcome.DELIVERED, status_code="ok")
    return completed(fax, "faxage"), amended(fax, later)


# --- deploy/README.md and the examples ------------------------------------------------------------------------------


def table_below(text: str, heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, without the table's own head."""
    lines = text.partition(f"\n{heading}\n")[2].splitlines()
    assert lines, f"no heading {heading!r}"
    rows = []
    for line in lines:
        if line.startswith("|"):
            rows.append([cell.strip().strip("`") for cell in line.strip("|").split("|")])
        elif rows or line.startswith("#"):
            break
    return rows[2:]


def test_the_error_codes_are_a_documented_closed_list():
    refusals = {errors.Refusal, *all_below(errors.Refusal)}
    answered = {(one.code, str(one.status)) for one in refusals if one.__module__ == errors.__name__}
    documented = {code: status for code, status, *_ in table_below(DEPLOY_README, "## Error codes")}
    # what gunicorn refuses before it is a request of ours
    by_worker = {HTTPStatus.BAD_REQUEST, *exchange._STATUS_OF.values()}
    assert documented.pop("bad_request") == ", ".join(str(status.value) for status in sorted(by_worker))
    assert documented == dict(answered)
    assert len(answered) == len(documented)
    others = {one.code for one in refusals if one.__module__ != errors.__name__}
    assert others <= {code for code, _ in answered}


def all_below(base):
    return {one for below in base.__subclasses__() for one in (below, *all_below(below))}


def known_keys(tmp_path, document: str, unknown: str) -> list[str]:
    """The keys that a table takes, as the refusal of an unknown one lists them."""
    path = tmp_path / "faxhook.toml"
    path.write_text(document)
    with pytest.raises(ConfigurationError) as refused:
        settings.load(path, {})
    found = re.search(rf"{re.escape(unknown)}: unknown key; known here: (.+)$", str(refused.value))
    assert found, refused.value
    return found[1].split(", ")


OF_ALL_REPORTS = ("every", "requests")  # the other keys of an endpoint's reports are its provider's
ENDPOINT = '[endpoints.a]\nprovider = "openfax"\n'


@pytest.fixture
def every_key(tmp_path) -> set[str]:
    """All keys of the configuration, dotted; the endpoint's name is <name>."""
    keys = set()
    for table in known_keys(tmp_path, "qqq = 1", "qqq"):
        if table not in ("endpoints", "oauth2", "advice", "sinks"):
            names = known_keys(tmp_path, f"[{table}]\nqqq = 1", f"{table}.qqq")
            keys |= {f"{table}.{name}" for name in names}
    anybody = f'{ENDPOINT}auth = {{ mode = "none" }}\ninsecure = true\n'
    keys -= {"console.users", "console.groups"}
    names = known_keys(tmp_path, "[console]\nusers = [{ qqq = 1 }]", "console.users[0].qqq")
    keys |= {f"console.users.{name}" for name in names}
    keys |= {
        f"console.groups.{name}" for name in known_keys(tmp_path, "[console.groups]\nqqq = 1", "console.groups.qqq")
    }
    for kind in destinations.KINDS.values():
        names = known_keys(tmp_path, f'{anybody}[sinks.a]\nurl = "{kind.url}"\nqqq = 1', "sinks.a.qqq")
        keys |= {f"sinks.<name>.{name}" for name in names} - {"sinks.<name>.filter"}
    names = known_keys(
        tmp_path, f'{anybody}[sinks.a]\nurl = "amqp://host"\nfilter = {{ qqq = 1 }}', "sinks.a.filter.qqq"
    )
    keys |= {f"sinks.<name>.filter.{name}" for name in names}
    assert known_keys(tmp_path, "[advice.qqq]", "advice.qqq") == list(advice.RULES)
    names = known_keys(tmp_path, "[advice.busy]\nqqq = 1", "advice.busy.qqq")
    keys |= {f"advice.<reason>.{name}" for name in names}
    names = known_keys(tmp_path, f"{ENDPOINT}qqq = 1", "endpoints.a.qqq")
    keys |= {f"endpoints.<name>.{name}" for name in names} - {"endpoints.<name>.auth"}
    for mode in AUTH_MODES:
        auth = f'{ENDPOINT}auth = {{ mode = "{mode}", %s }}'
        names = known_keys(tmp_path, auth % "qqq = 1", "endpoints.a.auth.qqq")
        keys |= {f"endpoints.<name>.auth.{name}" for name in names}
        if "credentials" in names:
            unknown = "endpoints.a.auth.credentials[0].qqq"
            names = known_keys(tmp_path, auth % "credentials = [{ qqq = 1 }]", unknown)
            keys |= {f"endpoints.<name>.auth.credentials.{name}" for name in names}
    unknown = "endpoints.a.auth.introspection.qqq"
    asked = f'{ENDPOINT}auth = {{ mode = "oauth2", audience = "x", introspection = {{ qqq = 1 }} }}'
    keys |= {f"endpoints.<name>.auth.introspection.{name}" for name in known_keys(tmp_path, asked, unknown)}
    assert known_keys(tmp_path, f"{anybody}[oauth2]\nqqq = 1", "oauth2.qqq") == ["clients"]
    names = known_keys(tmp_path, f"{anybody}[oauth2.clients.x]\nqqq = 1", "oauth2.clients.x.qqq")
    keys |= {f"oauth2.clients.<id>.{name}" for name in names}
    keys |= {"endpoints.<name>.auth.required_claims.<claim>"}  # any
    keys -= {"endpoints.<name>.reports"}
    keys |= {f"endpoints.<name>.reports.{name}" for name in (*OF_ALL_REPORTS, "<option>")}
    return keys - {f"endpoints.<name>.auth.{name}" for name in ("credentials", "introspection", "required_claims")}


def test_every_configuration_key_is_documented(every_key):
    documented = first_words(DEPLOY_README)
    assert every_key <= documented
    of_tables = {
        name
        for name in documented
        if re.match(r"(server|store|queue|retention|advice|endpoints|oauth2|sinks|console)\.", name)
    }
    assert of_tables == every_key


def example_variables() -> dict[str, str]:
    names = re.findall(r"\$\{([A-Z_]+)", EXAMPLE.read_text())
    signing = f"whsec_{base64.b64encode(b'0123456789abcdef01234567').decode()}"
    return {name: f"{name.lower()}-0123456789abcdef" for name in names} | {"PARTNER_SECRET": signing}


def uncommented() -> str:
    return re.sub(r"^# (?=[a-z_]+ = )", "", EXAMPLE.read_text(), flags=re.MULTILINE)


@pytest.mark.parametrize("text", [EXAMPLE.read_text(), uncommented()], ids=["as it is", "with its commented lines"])
def test_the_example_configuration_can_be_used(text, tmp_path):
    path = tmp_path / "faxhook.toml"
    path.write_text(text)
    loaded = settings.load(path, example_variables())
    known = providers.load()
    assert {endpoint.provider for endpoint in loaded.endpoints.values()} <= known.keys()
    for endpoint in loaded.endpoints.values():
        assert endpoint.account or known[endpoint.provider].account_from_payload
        assert endpoint.timezone or not known[endpoint.provider].zoneless


NAMED = {
    "advice": "<reason>",
    "endpoints": "<name>",
    "endpoints.<name>.auth.required_claims": "<claim>",
    "oauth2.clients": "<id>",
    "sinks": "<name>",
    "endpoints.<name>.reports": "<option>",
}


def test_the_example_configuration_shows_every_key(every_key):
    shown = set()

    def walk(value, path):
        if isinstance(value, dict) and set(value) != {"file"}:
            for name, inner in value.items():
                shown_name = name if name in OF_ALL_REPORTS else NAMED.get(path, name)
                walk(inner, f"{path}.{shown_name}".lstrip("."))
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for inner in value:
                walk(inner, path)
        else:
            shown.add(path)

    walk(tomllib.loads(uncommented()), "")
    assert shown == every_key


def test_every_metric_is_documented():
    # in a process of its own: the counts of this one are other tests'
    shown = "metrics.render(dict.fromkeys(metrics.GAUGES, 0))[0]"
    script = f"from receiver import metrics; import sys; sys.stdout.buffer.write({shown})"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PROMETHEUS")}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=True,
        text=True,
    )
    exported = set(re.findall(r"^# TYPE (faxhook_\w+)", done.stdout, re.MULTILINE))
    in_code = set(re.findall(r'"(faxhook_\w+)"', inspect.getsource(metrics)))
    documented = {name: labels for name, labels, _ in table_below(DEPLOY_README, "### Metrics")}
    assert exported == in_code
    assert documented.keys() == exported
    for counter in (one for one in vars(metrics).values() if isinstance(one, MetricWrapperBase)):
        (family,) = counter.describe()
        name = family.name + ("_total" if family.type == "counter" else "")
        assert documented[name] == ", ".join(counter._labelnames), name


def test_every_check_of_the_doctor_is_documented():
    sources = "".join(path.read_text() for path in Path(doctor.__path__[0]).glob("*.py"))
    checks = set(re.findall(r'Finding\(\s*"([a-z ]+)"', sources))
    documented = [name for names, _ in table_below(DEPLOY_README, "### Doctor") for name in names.split("`, `")]
    assert sorted(checks) == sorted(documented)


def test_every_repair_is_documented():
    documented = [word for word, _ in table_below(DEPLOY_README, "### What is repaired")]
    assert documented == [repair.value for repair in Repair]
    caps = (
        xml_bodies.MAX_DEPTH,
        xml_bodies.MAX_ELEMENTS,
        xml_bodies.MAX_ATTRIBUTES,
        json_bodies.MAX_VALUES,
        forms.MAX_FIELDS,
    )
    (told,) = (text for code, _, text in table_below(DEPLOY_README, "## Error codes") if code == "too_complex")
    assert re.findall(r"[0-9,]*[0-9]", told) == [f"{cap:,}" for cap in (*caps, forms._MOST_PERCENT_SIGNS)]


# --- all documents --------------------------------------------------------------------------------------------------


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def anchors(text: str) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", MARKDOWN, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(path):
    text = re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if urlsplit(link).scheme:
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target.read_text()), link


def command_lines(text: str) -> list[list[str]]:
    """The words after each ``faxhook`` in code."""
    lines = re.findall(r"`([^`\n]+)`", text)
    lines += "\n".join(re.findall(r"^```.*?^```$", text, re.MULTILINE | re.DOTALL)).splitlines()
    found = (re.search(r"(?:^|[/ ])faxhook( [^|#]+)", line) for line in lines)
    return [one[1].split() for one in found if one]


@pytest.mark.parametrize("path", MARKDOWN, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_and_option_a_document_names_is_there(path):
    for words in command_lines(path.read_text()):
        command = main
        for word in words:
            if isinstance(command, click.Group):
                _, command, _ = command.resolve_command(click.Context(command), [word])
                assert command is not None, words
        options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
        assert {word for word in words if word.startswith("--")} <= options, words


def test_the_readme_names_every_provider():
    """With the command that sends its callback, and the one that reads its reports, where it has them."""
    rows = table_below((ROOT / "README.md").read_text(), "## Providers")
    named = {
        (row[0], *re.findall(r"faxhook (simulate|reconcile --endpoint) (\w[\w-]*)", " ".join(row))) for row in rows
    }
    known = providers.load().values()
    simulated = {one.name: ("simulate", one.name) for one in known if one.callback}
    reconciled = {one.name: ("reconcile --endpoint", one.name) for one in known if one.reports}
    assert named == {
        (one.title, *(commands[one.name] for commands in (simulated, reconciled) if one.name in commands))
        for one in known
    }


def test_versions_are_pinned_and_cover_what_the_project_needs():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    files = (ROOT / "requirements.txt", ROOT / "tests" / "requirements.txt")
    lines = [line for file in files for line in file.read_text().splitlines() if not line.startswith(("#", "-r "))]
    pinned = {plain(re.fullmatch(r"([\w.-]+)==[\w.]+(; .+)?", line)[1]) for line in lines}
    assert len(pinned) == len(lines)
    needed = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    assert {plain(re.match(r"[\w.-]+", one)[0]) for one in needed} - {"faxhook"} <= pinned


def test_the_lock_has_the_same_pins_with_hashes_and_names_no_index():
    """Also for the machines that a marker names."""
    lock = (ROOT / "deploy" / "requirements.lock").read_text()
    locked = [line for line in lock.replace("\\\n", "").splitlines() if line and not line.startswith("#")]
    assert all(re.search(r"( +--hash=sha256:[0-9a-f]{64})+$", line) for line in locked)
    pins = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if not line.startswith("#")]
    assert sorted(pin(line.partition("--hash")[0]) for line in locked) == sorted(map(pin, pins))
    assert "://" not in lock


def pin(requirement: str) -> tuple[str, str, str]:
    """Name, version and marker."""
    versioned, _, marker = requirement.partition(";")
    name, _, version = versioned.partition("==")
    return plain(name), version.strip(), marker.strip()


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
