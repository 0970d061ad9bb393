"""``faxhook verify-consumer``: the consumer of deploy/ passes, and broken ones fail by the right rules."""

import json
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from html.parser import HTMLParser
from pathlib import Path

import jsonschema
import pytest
from ports import free_port
from stock import Process, environment

from receiver import verifying
from receiver.cli import main
from receiver.verifying import Finding, asking, report, samples, verify
from receiver.verifying.rules import RULES
from schemas.event import FailureReason, Outcome

ROOT = Path(__file__).parents[1]
SOURCE = (ROOT / "deploy" / "consumers" / "python" / "consumer.py").read_text()
SCHEMA = json.loads((ROOT / "schemas" / "fax_completed.v1.json").read_text())
SECRET = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3"
IDS = {rule.id for rule in RULES}

Start = Callable[..., str]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts the consumer, changed: text -> what stands there instead; its URL."""
    with ExitStack() as stack:

        def started(changed: dict[str, str] | None = None) -> str:
            source = SOURCE
            for text, other in (changed or {}).items():
                assert text in source
                source = source.replace(text, other)
            (tmp_path / "consumer.py").write_text(source)
            port = free_port()
            command = [sys.executable, "consumer.py", f"127.0.0.1:{port}", "faxes.db"]
            variables = {**environment(), "WEBHOOK_SECRET": SECRET}
            devices = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
            process = stack.enter_context(Process(command, cwd=tmp_path, env=variables, **devices))
            stack.callback(process.kill)
            assert process.stderr is not None
            assert b"listening" in process.stderr.readline()
            return f"http://127.0.0.1:{port}/hidden-path"

        yield started


def failing(url: str, *ids: str, seconds: float = 60.0) -> set[str]:
    """The rules that do not hold, of those with these ids or of all."""
    with closing(asking.Consumer(url, SECRET, seconds)) as consumer:
        if not ids:
            return {one.rule.id for one in verify(consumer, lambda _: None) if not one.passed}
        return {rule.id for rule in RULES if rule.id in ids and rule.check(consumer) is not None}


def test_the_consumer_of_deploy_passes_all_25_rules(start: Start) -> None:
    assert len(IDS) == len(RULES) == 25
    assert failing(start()) == set()


def test_the_consumer_of_deploy_does_once_what_an_event_asks_for(start: Start, tmp_path: Path) -> None:
    first = samples.completed()
    second = samples.contradicting(first)
    with closing(asking.Consumer(start(), SECRET, 60)) as consumer:
        once, newer = consumer.request(first), consumer.request(second)
        assert {one.status for one in consumer.ask_at_once([newer, *[once] * 7, newer])} == {204}
        consumer.ask(consumer.request(samples.completed(), key=b"no key of this consumer's"))
    with closing(sqlite3.connect(tmp_path / "faxes.db")) as database:
        assert database.execute("SELECT revision, outcome FROM faxes").fetchall() == [(2, "failed")]
        assert database.execute("SELECT count(*) FROM seen").fetchone() == (2,)


RAISE = "raise sqlite3.OperationalError"
LOWER = f"        if known and data['revision'] < known[0]:\n            {RAISE}\n"
BROKEN = {
    "checks no signature": (
        {"return any(": "return True or any("},
        {"missing-signature", "wrong-signature", "changed-request", "refusal-marks-nothing"},
    ),
    "takes what was signed at any time": (
        {"abs(time.time() - int(at)) > TOLERANCE": "False"},
        {"old-signature"},
    ),
    "answers an error to a repetition": (
        {"return  # a repetition": RAISE},
        {"duplicate", "retry", "duplicates-at-once"},
    ),
    "answers an error to an older revision": (
        {"        if known is None": f"{LOWER}        if known is None"},
        {"reversed-revisions"},
    ),
    "knows some actions, and falls over others": (
        {'advice["action"] if advice': '{"retry": 1, "call_recipient": 2}[advice["action"]] if advice'},
        {"unknown-words"},
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_one_fails_by_the_right_rule(start: Start, name: str) -> None:
    changed, expected = BROKEN[name]
    assert failing(start(changed)) == expected


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({'data.get("advice")': 'data["advice"]'}, "former-fields"),
        ({"    reason = ": '    data["recipient"]["number"].strip()\n    reason = '}, "nulls"),
        ({".split()\n    return any": ".split()[:1]\n    return any"}, "rotated-secret"),
        ({"return  # a later version's": f"{RAISE}  # a later version's"}, "unknown-type"),
        ({"LARGEST = 1024 * 1024": "LARGEST = 100_000"}, "large"),
        ({"json.loads(body)": 'json.loads(body.decode("ascii"))'}, "unicode"),
        (
            {'"fax.completed.v1", "fax.amended.v1"': '"fax.completed.v1"', "return  # a later": f"{RAISE}  # a later"},
            "amendment",
        ),
        ({"answer(401)": "answer(410)"}, "wrong-signature"),
        ({"answer(401)": "answer(500)"}, "missing-signature"),
    ],
)
def test_each_of_these_faults_is_seen(start: Start, changed: dict[str, str], expected: str) -> None:
    assert failing(start(changed), "completion", "duplicate", expected) == {expected}


def test_a_slow_one_is_seen(start: Start) -> None:
    url = start({"return self.answer(204)": "time.sleep(0.3); return self.answer(204)"})
    assert failing(url, "answer-in-time", "burst", "nulls", seconds=0.2) >= {"answer-in-time", "burst"}


def command(*arguments: str) -> int:
    try:
        return int(main.main(["verify-consumer", *arguments], standalone_mode=False) or 0)
    except SystemExit as ended:
        return int(ended.code or 0)


def test_the_command_tells_reports_and_judges(
    start: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAXHOOK_WEBHOOK_SECRET", SECRET)
    page = tmp_path / "report.html"
    url = start({"abs(time.time() - int(at)) > TOLERANCE": "False"})
    assert command(url, "--report", str(page)) == 1
    said = capsys.readouterr().out
    assert "24 of 25 rules hold" in said
    assert "FAILED  old-signature: signed an hour ago: answered 204; expected 401 or another 4xx" in said
    monkeypatch.setattr(verifying, "RULES", [rule for rule in RULES if rule.id in ("completion", "old-signature")])
    assert command(url, "--json") == 1
    rows = json.loads(capsys.readouterr().out)
    assert [row["id"] for row in rows if not row["passed"]] == ["old-signature"]
    assert set(rows[0]) == {"id", "passed", "found", "expected", "why", "source"}
    text = page.read_text()
    assert all(f"<code>{rule_id}</code>" in text for rule_id in IDS)
    assert "hidden-path" not in text


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, _attrs: object) -> None:
        self.seen.add(tag)


def test_the_report_has_no_script_and_escapes_what_it_shows() -> None:
    text = report.page([Finding(RULES[0], "<script>alert(1)</script>")], "<img src=x>", "now")
    tags = Tags()
    tags.feed(text)
    assert not tags.seen & {"script", "img", "link", "iframe"}
    assert "&lt;script&gt;" in text


def test_bad_usage_says_what_was_expected(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, expected in (
        (["amqp://localhost//", "--secret", SECRET], "consumer of a queue answers its broker"),
        (["http://me:pw@localhost/", "--secret", SECRET], "without a user"),
        (["http://localhost/", "--secret", "short"], "whsec_"),
        ([f"http://127.0.0.1:{free_port()}/", "--secret", SECRET], "no answer"),
    ):
        with pytest.raises(Exception, match=re.escape(expected)):
            main.main(["verify-consumer", *arguments], standalone_mode=False)


def test_what_is_sent_is_what_faxhook_publishes() -> None:
    first = samples.completed()
    every = [
        *(samples.completed(one) for one in Outcome),
        *(samples.completed("failed", one) for one in FailureReason),
        *(samples.amended(first), samples.contradicting(first), samples.with_nulls(), samples.of_before()),
        *(
            samples.with_unknown_fields(),
            samples.with_unknown_words(),
            samples.with_texts("🏥"),
            samples.with_texts("é"),
        ),
    ]
    validator = jsonschema.Draft202012Validator(SCHEMA, format_checker=jsonschema.FormatChecker())
    before = {"'advice' is a required property", "'traceparent' is a required property"}
    for event in every:
        assert {error.message for error in validator.iter_errors(event)} <= before
        assert event["data"]["test"] is True


def test_each_rule_is_one_of_the_documents() -> None:
    for rule in RULES:
        file, _, anchor = rule.source.partition("#")
        headings = re.findall(r"^#+ (.+)$", (ROOT / file).read_text(), re.MULTILINE)
        assert anchor in {heading.lower().replace(" ", "-") for heading in headings}, rule.id
        assert rule.expected.endswith(".")
        assert rule.why.endswith(".")
