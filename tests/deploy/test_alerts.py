"""deploy/alerts.yml under promtool: for each alert a series with which it fires, and one with which it does not."""

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import rules
import yaml
from documents import DEPLOY_README
from machine import ROOT

RUNBOOK = (ROOT / "deploy" / "runbook.md").read_text()
STEP = 30  # minutes from one sample to the next of what takes days; else one
HOUR = 60 // STEP  # samples
WEEK = 7 * 24 * HOUR

WEB = 'instance="faxhook:8000",job="faxhook"'
OPENFAX = '{endpoint="openfax"}'
BUSY = 'faxhook_requests_total{endpoint="openfax",code="200"}'
FAILING = 'faxhook_requests_total{endpoint="openfax",code="503"}'
RECEIPTS = 'faxhook_receipts_total{endpoint="openfax",state="accepted",reason=""}'
REJECTED = 'faxhook_receipts_total{endpoint="openfax",state="rejected",reason="unprocessable"}'
WRONG = 'faxhook_refusals_total{endpoint="openfax",reason="wrong_token"}'
BUCKET = "faxhook_request_seconds_bucket"
SLOW = {f'{BUCKET}{{le="2.5"}}': "0+100x12", f'{BUCKET}{{le="+Inf"}}': "0+100x12"}
Series = Mapping[str, str]  # in promtool's notation, a value a minute, or a STEP

# Alert -> the labels it fires with, after how many samples, the series that make it fire, and those that must not.
CASES: dict[str, tuple[dict[str, str], int, list[Series], list[Series]]] = {
    "FaxhookErrorBudgetBurning": (
        {},
        90,
        [{BUSY: "0+100x90", FAILING: "0+2x90"}],
        # Too few; and many, but over: the short window ends the alert.
        [{BUSY: "0+1000x90", FAILING: "0+1x90"}, {BUSY: "0+100x90", FAILING: "0+20x50 1000x40"}],
    ),
    "FaxhookErrorBudgetLeaking": (
        {},
        27 * HOUR,
        [{BUSY: f"0+1000x{27 * HOUR}", FAILING: f"0+4x{27 * HOUR}"}],
        [{BUSY: f"0+10000x{27 * HOUR}", FAILING: f"0+4x{27 * HOUR}"}],
    ),
    "FaxhookDown": (
        {"instance": "faxhook:8000", "job": "faxhook"},
        3,
        [{f"up{{{WEB}}}": "1 0 0 0"}],
        [{f"up{{{WEB}}}": "1 0 1 1"}, {'up{instance="x",job="other"}': "0 0 0 0"}],
    ),
    "FaxhookNotReady": (
        {"instance": "faxhook:8000", "job": "faxhook"},
        3,
        [{f"faxhook_ready{{{WEB}}}": "1 0 0 0"}],
        [{f"faxhook_ready{{{WEB}}}": "1 1 0 1"}],
    ),
    "FaxhookUnanswered": (
        {"endpoint": "openfax"},
        20,
        # The first of all, which is there at once; and one more.
        [{BUSY: "0+1x20", FAILING: "_x15 1x5"}, {FAILING: "5x12 6x8"}],
        [{BUSY: "0+1x20", FAILING: "5x20"}, {'faxhook_requests_total{endpoint="-",code="501"}': "_x15 1x5"}],
    ),
    "FaxhookSlow": (
        {},
        12,
        [{**SLOW, f'{BUCKET}{{le="1"}}': "0+98x12"}],
        [{**SLOW, f'{BUCKET}{{le="1"}}': "0+100x12"}],
    ),
    "FaxhookLogLinesLost": (
        {"instance": "faxhook:8000", "job": "faxhook"},
        20,
        [{f"faxhook_log_lines_dropped_total{{{WEB}}}": "0x10 3x10"}],
        [{f"faxhook_log_lines_dropped_total{{{WEB}}}": "3x20"}],
    ),
    "FaxhookRejected": (
        {"endpoint": "openfax", "reason": "unprocessable"},
        20,
        [{REJECTED: "_x15 1x5"}, {REJECTED: "1x10 2x10"}],
        [{REJECTED: "4x20"}, {RECEIPTS: "0+9x20"}],
    ),
    "FaxhookPartial": (
        {"endpoint": "openfax"},
        20,
        [{f"faxhook_partial_receipts_total{OPENFAX}": "0x10 1x10"}],
        [{f"faxhook_partial_receipts_total{OPENFAX}": "1x20"}],
    ),
    "FaxhookRefused": (
        {"endpoint": "openfax", "reason": "wrong_token"},
        20,
        [{WRONG: "0+1x20"}, {WRONG: "_x15 40x5"}],
        [{WRONG: "0 5x19"}],
    ),
    "FaxhookSilent": (
        {"endpoint": "openfax"},
        WEEK + 3 * HOUR,
        [
            {RECEIPTS: f"0+30x{2 * HOUR} 120x{WEEK + HOUR}"},
            {RECEIPTS: f"0+30x{2 * HOUR} _x{WEEK + HOUR}"},  # restarted since: its counter is not there
        ],
        [
            {RECEIPTS: f"0+30x{WEEK + 3 * HOUR}"},
            {RECEIPTS: f"0x{WEEK + 3 * HOUR}"},
            {RECEIPTS: f"0+30x{2 * HOUR} _x{WEEK} 7x{HOUR}"},  # restarted, and called since
        ],
    ),
    "FaxhookUnknownCodes": (
        {"provider": "retarus"},
        70,
        [{'faxhook_unknown_codes_total{provider="retarus"}': "0x30 1x40"}],
        [{'faxhook_unknown_codes_total{provider="retarus"}': "1x70"}],
    ),
    "FaxhookFlips": (
        {"endpoint": "openfax"},
        70,
        [{f"faxhook_outcome_flips_total{OPENFAX}": "0x30 1x40"}],
        [{f"faxhook_outcome_flips_total{OPENFAX}": "1x70"}],
    ),
    "FaxhookDiscrepancies": (
        {"kind": "missing"},
        2,
        [{'faxhook_discrepancies{kind="missing"}': "0 1 1"}],
        [{'faxhook_discrepancies{kind="missing"}': "1 0 0"}, {'faxhook_discrepancies{kind="degraded"}': "1 1 1"}],
    ),
    "FaxhookDegraded": (
        {"endpoint": "openfax"},
        2,
        [{f"faxhook_degraded{OPENFAX}": "0 1 1"}],
        [{f"faxhook_degraded{OPENFAX}": "1 0 0"}],
    ),
    "FaxhookBacklog": (
        {},
        2,
        [{"faxhook_backlog_oldest_seconds": "0 301 361"}],
        [{"faxhook_backlog_oldest_seconds": "400 240 300"}],
    ),
    "FaxhookRelay": (
        {},
        9,
        [{"faxhook_relay_last_seen_timestamp_seconds": "0 60 120 120x7"}],
        [{"faxhook_relay_last_seen_timestamp_seconds": "0+60x10"}],
    ),
    "FaxhookBroker": (
        {},
        9,
        [{"faxhook_relay_trouble": "0 1x9"}],
        [{"faxhook_relay_trouble": "0 1 1 1 1 0 1 1 1 1"}],
    ),
    "FaxhookDeadLetters": (
        {},
        2,
        [{"faxhook_dead_letters": "0 1 1"}],
        [{"faxhook_dead_letters": "1 0 0"}],
    ),
    "FaxhookSinkStopped": (
        {"sink": "partner"},
        2,
        [{'faxhook_sink_stopped{sink="partner"}': "0 1 1"}],
        [{'faxhook_sink_stopped{sink="partner"}': "1 0 0"}],
    ),
    "FaxhookSinkBehind": (
        {"sink": "partner"},
        2,
        [{'faxhook_sink_backlog_oldest_seconds{sink="partner"}': "0 3601 3661"}],
        [{'faxhook_sink_backlog_oldest_seconds{sink="partner"}': "4000 3540 3600"}],
    ),
    "FaxhookSinkDeadLetters": (
        {"sink": "partner"},
        2,
        [{'faxhook_sink_dead_letters{sink="partner"}': "0 1 1"}],
        [{'faxhook_sink_dead_letters{sink="partner"}': "1 0 0"}],
    ),
}


LONG = ("FaxhookErrorBudgetLeaking", "FaxhookSilent")


def case(alert: rules.Alert, series: Series, samples: int, expected: dict[str, str] | None) -> dict[str, Any]:
    """One unit test of promtool. expected: the labels of what fires; None where nothing may."""
    fires = [] if expected is None else [alert.expected(expected)]
    step = STEP if alert.name in LONG else 1
    return {
        "interval": f"{step}m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "alert_rule_test": [{"eval_time": f"{samples * step}m", "alertname": alert.name, "exp_alerts": fires}],
    }


def cases(alert: rules.Alert) -> list[dict[str, Any]]:
    labels, samples, firing, quiet = CASES[alert.name]
    return [
        *(case(alert, series, samples, labels) for series in firing),
        *(case(alert, series, samples, None) for series in quiet),
    ]


@pytest.mark.tool("promtool")
def test_each_alert_fires_when_it_should_and_only_then(tmp_path: Path) -> None:
    alerts = rules.alerts()
    assert CASES.keys() == alerts.keys()
    command = ["promtool", "test", "rules"]
    for group in rules.groups():  # of each its own rules only, which takes a quarter of the time
        (tmp_path / f"{group['name']}.yml").write_text(yaml.safe_dump({"groups": [group]}))
        for step in (1, STEP):
            chosen = [name for name in alerts if name in str(group) and (name in LONG) == (step == STEP)]
            tests = [one for name in chosen for one in cases(alerts[name])]
            document = {"rule_files": [f"{group['name']}.yml"], "evaluation_interval": f"{step}m", "tests": tests}
            (tmp_path / f"{group['name']}-{step}.yml").write_text(yaml.safe_dump(document))
            command.append(f"{group['name']}-{step}.yml")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_runbook_says_of_each_alert_what_it_means_three_commands_and_what_to_do() -> None:
    sections = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", RUNBOOK, re.MULTILINE | re.DOTALL))
    alerts = rules.alerts()
    assert sections.keys() == alerts.keys()
    for name, text in sections.items():
        meaning, commands, advice = re.fullmatch(r"\n(.+?)```sh\n(.+?)```\n(.+)", text, re.DOTALL).groups()  # type: ignore[union-attr]
        assert f"({alerts[name].severity})" in meaning, name
        assert len(commands.splitlines()) == 3, name
        assert advice.strip(), name
        assert alerts[name].annotations["runbook"] == f"runbook.md#{name.lower()}"


def test_the_rules_are_about_metrics_that_exist() -> None:
    documented = set(re.findall(r"^\| `(faxhook_\w+)`", DEPLOY_README, re.MULTILINE))
    named = {name.removesuffix("_bucket") for name in re.findall(r"\bfaxhook_\w+", rules.TEXT)}
    assert named
    assert named <= documented
