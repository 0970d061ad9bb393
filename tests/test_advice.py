"""What events advise to do: the rules, what the configuration may say instead of them, and where the advice stands."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner
from house import CONFIGURATION, House, house
from hypothesis import given
from hypothesis import strategies as st
from pulled import PROVIDERS, faxes_of, pulled
from standins.world import SentFax

from receiver import bootstrap, facts, providers, settings
from receiver.advice import RULES, RULES_ALONE, Advisor, Override
from receiver.cli import main
from receiver.errors import ConfigurationError
from schemas.advice import RESENDS, RETRIES, Action, Fault
from schemas.event import Confidence, Failure, FailureReason, FaxCompleted, Outcome, Retryable

README = (Path(__file__).parents[1] / "schemas" / "README.md").read_text()
SCHEMA = json.loads((Path(__file__).parents[1] / "schemas" / "fax_completed.v1.json").read_text())
KNOWN = providers.load()
ADVISOR = Advisor({name: provider.advice for name, provider in KNOWN.items()})


def stated(reason: str, retryable: str) -> dict[str, Any]:
    """The facts that advice is made of."""
    if reason in (Outcome.CANCELED, Outcome.UNCONFIRMED):
        return {"outcome": reason, "failure": None}
    return {"outcome": "failed", "failure": {"reason": reason, "retryable": retryable, "confidence": "high"}}


EVERY: list[tuple[str, Retryable]] = [
    *((reason, retryable) for reason in FailureReason for retryable in Retryable),
    (Outcome.CANCELED, Retryable.NO),
    (Outcome.UNCONFIRMED, Retryable.UNKNOWN),
]
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA["properties"]["data"]["properties"]["advice"])


def check(advice: Any, reason: str, retryable: str) -> None:
    """What holds of every advice, whatever rules there are."""
    VALIDATOR.validate(advice)
    assert advice.keys() == {"action", "after_seconds", "max_tries", "fault"}
    assert advice["action"] in set(Action)
    assert advice["fault"] in {None, *Fault}
    is_retry = advice["action"] in RETRIES
    assert (advice["after_seconds"] is not None) is (advice["max_tries"] is not None) is is_retry
    if retryable == Retryable.NO:
        assert not is_retry
    if reason == Outcome.CANCELED:
        assert advice["action"] not in RESENDS


# --- the rules ------------------------------------------------------------------------------------------------------


def test_there_is_a_rule_for_every_reason_and_outcome_but_delivered() -> None:
    assert list(RULES) == [*FailureReason, Outcome.CANCELED, Outcome.UNCONFIRMED]


@pytest.mark.parametrize("provider", [*KNOWN, "one that is not known"])
@pytest.mark.parametrize(("reason", "retryable"), EVERY)
def test_every_advice_can_be_followed(provider: str, reason: str, retryable: str) -> None:
    advice = ADVISOR.advise(provider, stated(reason, retryable))
    check(advice, reason, retryable)
    if reason in (FailureReason.BLOCKED, FailureReason.BAD_NUMBER, FailureReason.INVALID_REQUEST, Outcome.UNCONFIRMED):
        assert advice["action"] not in RESENDS
    again = ADVISOR.advise(provider, stated(reason, retryable), was_delivered=True)
    assert again["action"] == Action.CALL_RECIPIENT


@pytest.mark.parametrize("provider", KNOWN.values(), ids=KNOWN)
def test_every_code_of_a_provider_has_its_advice(provider: Any) -> None:
    verdicts = [*provider.codes.verdicts.values(), provider.codes.unknown]
    for verdict in filter(None, verdicts):
        failure = verdict.failure
        reason, retryable = (failure.reason, failure.retryable) if failure else (verdict.outcome, Retryable.NO)
        if verdict.outcome is Outcome.DELIVERED:
            assert ADVISOR.advise(provider.name, {"outcome": "delivered", "failure": None}) is None
        else:
            check(ADVISOR.advise(provider.name, stated(reason, retryable)), reason, retryable)


def words(advice: Any) -> str:
    """As the tables of the document say it."""
    said = f"`{advice['action']}`"
    if advice["after_seconds"]:
        tries = "1 try" if advice["max_tries"] == 1 else f"{advice['max_tries']} tries"
        said += f" {advice['after_seconds']} s, {tries}"
    return said


def test_the_document_has_the_rules_as_they_are() -> None:
    section = README.partition("### What to do now")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (`.+?) \| (`.+?) \| (`.+?) \| (.+?) \| .+ \|$", section, re.MULTILINE)
    assert [row[0] for row in rows] == list(FailureReason)
    for reason, *said, fault in rows:
        made = [RULES_ALONE.advise("", stated(reason, retryable)) for retryable in ("yes", "unknown", "no")]
        assert said == [words(one) for one in made], reason
        assert {fault.strip("`")} == {one["fault"] or "null" for one in made}, reason
    of_providers = re.findall(r"^\| `([\w-]+)` \| `(\w+)` \| (`[^|]+) \| [^|]+ \|$", section, re.MULTILINE)
    assert {(provider, reason): said for provider, reason, said in of_providers} == {
        (name, reason): words(ADVISOR.advise(name, stated(reason, "yes")))
        for name, provider in KNOWN.items()
        for reason in provider.advice
    }
    for outcome in (Outcome.CANCELED, Outcome.UNCONFIRMED):
        made = RULES_ALONE.advise("", stated(outcome, ""))
        assert (
            f"`{outcome}` is `{made['action']}`, `fault` {'null' if made['fault'] is None else '`sender`'}" in section
        )


# --- the configuration ----------------------------------------------------------------------------------------------

NUMBERS = st.none() | st.integers(1, 10_000)
OVERRIDES = st.builds(
    Override, st.none() | st.sampled_from(Action), NUMBERS, NUMBERS, st.none() | st.sampled_from(Fault)
)


@given(OVERRIDES, st.sampled_from(EVERY), st.sampled_from([*KNOWN]))
def test_no_override_makes_a_retry_of_what_cannot_work(override: Override, case: Any, provider: str) -> None:
    reason, retryable = case
    if reason == Outcome.CANCELED and override.action in RESENDS:
        return  # stops start-up
    overridden = Advisor({name: one.advice for name, one in KNOWN.items()}, {reason: override})
    advice = overridden.advise(provider, stated(reason, retryable))
    check(advice, reason, retryable)
    was_delivered = overridden.advise(provider, stated(reason, retryable), was_delivered=True)
    assert was_delivered["action"] == Action.CALL_RECIPIENT
    if override.action and (override.action not in RETRIES or retryable != Retryable.NO):
        assert advice["action"] == override.action
    if override.fault:
        assert advice["fault"] == override.fault
    assert overridden.advise(provider, {"outcome": "delivered", "failure": None}) is None


@pytest.mark.parametrize(
    ("text", "key", "expected"),
    [
        ("[advice.bussy]\naction = 'none'", "advice.bussy", "did you mean busy?"),
        ("[advice.delivered]\naction = 'retry'", "advice.delivered", "unknown key"),
        ("[advice.busy]\nactoin = 'none'", "advice.busy.actoin", "did you mean action?"),
        ("[advice.busy]\naction = 'call'", "advice.busy.action", "one of none, retry,"),
        ("[advice.busy]\naction = 3", "advice.busy.action", "a string"),
        ("[advice.busy]", "advice.busy", "at least one of action,"),
        ("[advice]\nbusy = 'retry'", "advice.busy", "a table"),
        ("advice = 'retry'", "advice", "a table"),
        ("[advice.busy]\nafter_seconds = '5m'", "advice.busy.after_seconds", "a number of 1 to"),
        ("[advice.busy]\nafter_seconds = 0", "advice.busy.after_seconds", "a number of 1 to"),
        ("[advice.busy]\nafter_seconds = true", "advice.busy.after_seconds", "a number of 1 to"),
        ("[advice.busy]\nmax_tries = 101", "advice.busy.max_tries", "a number of 1 to 100"),
        ("[advice.busy]\nfault = 'nobody'", "advice.busy.fault", "one of recipient, carrier"),
        ("[advice.busy]\naction = 'none'\nmax_tries = 1", "advice.busy.max_tries", "only beside action"),
        ("[advice.bad_number]\nafter_seconds = 60", "advice.bad_number.after_seconds", "only beside action"),
        ("[advice.canceled]\naction = 'retry'", "advice.canceled.action", "does not send again"),
        ("[advice.canceled]\naction = 'other_route'", "advice.canceled.action", "does not send again"),
    ],
)
def test_what_is_not_understood_stops_start_up_with_key_and_file(
    tmp_path: Path, text: str, key: str, expected: str
) -> None:
    path = tmp_path / "faxhook.toml"
    top, tables = (text + "\n", "") if text.startswith("advice =") else ("", text)
    path.write_text(
        f'{top}[endpoints.openfax]\nprovider = "openfax"\nauth = {{ mode = "none" }}\ninsecure = true\n{tables}'
    )
    with pytest.raises(ConfigurationError) as refused:
        settings.load(path, {})
    assert str(refused.value).startswith(f"{path}: {key}: ")
    assert expected in str(refused.value)
    done = CliRunner().invoke(main, ["check", "--config", str(path)])
    assert done.exit_code == 2
    assert key in done.output


@pytest.mark.parametrize(
    ("text", "reason", "retryable", "said"),
    [
        ("after_seconds = 60", "busy", "yes", "`retry` 60 s, 3 tries"),
        ("max_tries = 9", "busy", "unknown", "`retry` 900 s, 9 tries"),
        ("action = 'retry_later'", "busy", "yes", "`retry_later` 3600 s, 1 try"),
        ("action = 'retry'\nafter_seconds = 60", "no_answer", "yes", "`retry` 60 s, 1 try"),
        ("action = 'retry'", "not_a_fax", "unknown", "`retry` 900 s, 1 try"),
        ("action = 'retry'", "not_a_fax", "no", "`call_recipient`"),
        ("action = 'call_recipient'", "busy", "yes", "`call_recipient`"),
        ("action = 'other_route'", "blocked", "no", "`other_route`"),
        ("fault = 'carrier'", "unknown", "no", "`none`"),
    ],
)
def test_an_override_replaces_what_it_names(tmp_path: Path, text: str, reason: str, retryable: str, said: str) -> None:
    path = tmp_path / "faxhook.toml"
    endpoint = '[endpoints.faxage]\nprovider = "faxage"\naccount = "a"\ntimezone = "UTC"\nauth = { mode = "none" }\n'
    path.write_text(f"{endpoint}insecure = true\n[advice.{reason}]\n{text}\n")
    advisor = bootstrap.advisor(settings.load(path, {}))
    advice = advisor.advise("faxage", stated(reason, retryable))
    assert words(advice) == said
    assert advice["fault"] == ("carrier" if "fault" in text else RULES[reason].fault)


@pytest.mark.parametrize(
    ("text", "doubt"),
    [
        ("[advice.blocked]\naction = 'retry'", "advice.blocked.action: retry is never advised"),
        ("[advice.unconfirmed]\naction = 'other_route'", "advice.unconfirmed.action: such a fax has often arrived"),
        ("[advice.busy]\naction = 'retry'", None),
        ("[advice.bad_number]\naction = 'retry_later'", None),  # one code of Retarus may be worth it
        ("[advice.unconfirmed]\naction = 'none'", None),
    ],
)
def test_what_has_no_effect_or_sends_twice_is_doubted(tmp_path: Path, text: str, doubt: str | None) -> None:
    path = tmp_path / "faxhook.toml"
    endpoint = '[endpoints.retarus]\nprovider = "retarus"\naccount = "99999TE"\nauth = { mode = "none" }\n'
    path.write_text(f"{endpoint}insecure = true\n{text}\n")
    found = [one for one in bootstrap.all_doubts(settings.load(path, {})) if one.startswith("advice.")]
    assert [doubt in one for one in found] == ([True] if doubt else [])


# --- in the event ---------------------------------------------------------------------------------------------------


def test_advice_is_no_fact() -> None:
    """Not compared, not in a digest, and nothing that a later announcement could contradict."""
    failure = Failure(FailureReason.BUSY, Retryable.YES, Confidence.HIGH)
    known = facts.of(FaxCompleted(account="a", key=("1",), outcome=Outcome.FAILED, status_code="2", failure=failure))
    data = {**known, "advice": RULES_ALONE.advise("faxage", known)}
    assert facts.of_published(data) == known
    assert facts.digest(data) == facts.digest(known)
    assert not facts.merge(facts.of_published(data), known).news


# --- pushed and pulled ----------------------------------------------------------------------------------------------


def says_the_same(data: Any, advisor: Advisor = ADVISOR) -> Any:
    """The advice of an event's data, which is what the rules say of its result."""
    assert data["advice"] == advisor.advise(data["provider"], data)
    return data["advice"]


def failing(provider: str) -> tuple[SentFax, ...]:
    return tuple(one for one in faxes_of(provider, 40, seed=7) if not one.is_pending)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_report_advises_by_the_same_rules_as_a_callback(tmp_path: Path, sqlite_url: str, provider: str) -> None:
    with pulled(tmp_path, sqlite_url, provider, *failing(provider)) as made:
        if PROVIDERS[provider].by_job:
            made.expect(failing(provider))
        made.reconcile()
        told = made.told()
    assert {one["observed_via"] for one in told} == {"report"}
    advised = [says_the_same(one) for one in told if one["outcome"] != "delivered"]
    assert advised
    assert None not in advised


OPENFAX = "OutTransID=%d&AccountID=123456789&LastStatus=%d"


@pytest.fixture
def overridden() -> str:
    return CONFIGURATION + '\n[advice.busy]\naction = "call_recipient"\n\n[advice.not_a_fax]\naction = "retry"\n'


def test_a_callback_is_advised_as_the_configuration_says(tmp_path: Path, store_url: str, overridden: str) -> None:
    with house(tmp_path, store_url, overridden) as made:
        for number, status in enumerate((0, 1, 2, 3, 4)):
            assert made.post("openfax", OPENFAX % (number, status)).status == 200
            assert made.post("openfax", OPENFAX % (number, status)).json["status"] == "duplicate"
        delivered, *others = [event["data"] for event in made.events()]
        assert delivered["advice"] is None
        assert [words(says_the_same(data, made.runtime.advisor)) for data in others] == [
            "`retry_later` 3600 s, 3 tries",
            "`call_recipient`",  # overridden
            "`call_recipient`",  # a retry that is not applied: Openfax's code is not retryable
            "`other_route`",  # Openfax's own rule
        ]


def test_what_is_published_again_or_replayed_is_as_it_was(tmp_path: Path, sqlite_url: str, overridden: str) -> None:
    """Also after the rules have changed: advice belongs to its event."""
    with house(tmp_path, sqlite_url) as made:
        reply = made.post("openfax", OPENFAX % (1, 2)).json
        line = run(made, "consume", "--max", "1")
    with house(tmp_path, sqlite_url, overridden) as made:
        run(made, "receipts", "replay", reply["receipt"])
        run(made, "events", "republish", "--id", *reply["events"])
        assert run(made, "consume", "--idle-seconds", "0") == line
        made.post("openfax", OPENFAX % (1, 2) + "&CallDuration=20")
        assert [event["data"]["advice"]["action"] for event in made.events()] == ["retry", "call_recipient"]


def run(made: House, *command: str) -> str:
    done = CliRunner().invoke(main, [*command, "--config", str(made.config)])
    assert done.exit_code == 0, done.output
    return done.output


def test_providers_show_says_what_is_advised_for_each_code(tmp_path: Path, sqlite_url: str, overridden: str) -> None:
    with house(tmp_path, sqlite_url, overridden) as made:
        lines = run(made, "providers", "show", "openfax").splitlines()
        assert any(line.startswith("2\tfailed\tbusy\tyes\tretry after 1800 s, at most 2\t") for line in lines)
        lines = run(made, "providers", "show", "openfax", "--endpoint", "openfax").splitlines()
        assert any(line.startswith("2\tfailed\tbusy\tyes\tcall_recipient\t") for line in lines)
