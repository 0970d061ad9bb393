"""
Our checks find what they are for: faxhook is broken at one point after the other, and a named test of ours must fail.

``sabotaged/sabotage.py`` breaks it. Each check runs in a pytest of its own; all of them pass where nothing is broken.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
SABOTAGED = Path(__file__).with_name("sabotaged")

CUTS = "store/test_power_cuts.py::test_a_power_cut_loses_nothing_that_was_acknowledged"
LOST = "rows are not as one of two commits left them|that was acknowledged as"
LATE = "store/test_late_commits.py::"
pytestmark = pytest.mark.campaign

# What is broken, the check that finds it, and what that one says.
CHECKS = [
    ("answer_before_commit", f"{CUTS}[wal-short]", LOST),
    ("answer_before_commit", f"{CUTS}[delete-short]", LOST),
    ("synchronous_off", f"{CUTS}[wal-short]", f"{LOST}|StoreUnavailable|MultipleResultsFound|== 'ok'"),
    ("synchronous_off", f"{CUTS}[delete-short]", f"{LOST}|StoreUnavailable|MultipleResultsFound|== 'ok'"),
    (
        "relay_marks_before_confirm",
        "test_delivery.py::test_a_full_queue_says_no_and_takes_the_rest_when_there_is_room",
        r"assert \d+ < \d+",
    ),
    (
        "consumer_takes_before_it_has_written",
        "test_consumer.py::test_a_full_disk_behind_standard_output_is_trouble_and_nothing_is_lost",
        "'published': 1",
    ),
    (
        "no_dedup",
        "store/test_recording.py::test_an_announcement_heard_before_is_a_duplicate_for_ever_whatever_is_current[sqlite]",
        "'accepted' != 'duplicate'",
    ),
    (
        "no_length_check",
        "test_body.py::test_a_body_that_does_not_add_up_is_400_and_ends_the_connection[shorter than announced]",
        "assert 200 == 400",
    ),
    (
        "nothing_waits",
        "store/test_outbox.py::test_rows_are_leased_in_order_with_the_published_bytes[sqlite]",
        r"\[\] ==",
    ),
    (
        "any_holder_acknowledges",
        "store/test_outbox.py::test_only_its_holder_acknowledges_a_row[sqlite]",
        "assert 1 == 0",
    ),
    (
        "relay_never_goes_back",
        f"{LATE}test_no_later_event_of_a_fax_goes_out_before_one_that_committed_late",
        r"assert \[\d+\] == \[\d+\]",
    ),
    (
        "relay_never_goes_back",
        f"{LATE}test_what_commits_very_late_is_found_from_the_start",
        "assert time.monotonic",
    ),
    (
        "retention_believes_any_clock",
        "test_relay.py::test_a_round_forgets_nothing_while_the_clock_is_ahead[sqlite]",
        r"\[0, 0\] == \[3, 3\]",
    ),
    (
        "retention_forgets_what_waits",
        "test_relay.py::test_a_round_never_forgets_what_is_not_published[sqlite]",
        "assert 0 == 1",
    ),
    (
        "order_of_a_fax_is_not_kept",
        "store/test_outbox.py::test_no_row_of_a_fax_leaves_while_an_earlier_one_is_not_acknowledged[sqlite]",
        "one of each fax",
    ),
    (
        "projector_skips",
        "store/test_projection.py::test_all_that_is_recorded_is_found_whatever_the_chunks[sqlite]",
        r"assert \{",
    ),
    (
        "an_amendment_counts_as_another_fax",
        "store/test_stats.py::test_counters_are_what_a_recount_gives[sqlite-150]",
        "'faxes'",
    ),
    (
        "checksums_are_not_looked_at",
        "store/test_outbox.py::test_a_damaged_payload_is_parked_and_the_others_go_on[sqlite-damage0]",
        r"assert \[",
    ),
]


def outcomes(*checks, **environment):
    """Run these tests in a process of their own; what became of each, and what they said."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", "-n", "0", "-vv", "--tb=short", "-p", "no:cacheprovider", "-m", ""]
    done = subprocess.run(
        [*command, *checks], cwd=TESTS, env=kept | environment, capture_output=True, text=True, timeout=300
    )
    print(done.stdout[-6000:], done.stderr[-2000:])
    became = re.findall(r"^(\S+\.py::.*?) (PASSED|FAILED|ERROR|SKIPPED)", done.stdout, re.MULTILINE)
    return dict(became), done.stdout


def name_of(value):
    """Of a parameter, where it is the check."""
    return value.rpartition("::test_")[2] if "::" in value else value if value.isidentifier() else ""


@pytest.mark.parametrize(("sabotage", "check", "words"), CHECKS, ids=name_of)
def test_what_is_broken_is_found(sabotage, check, words):
    found, said = outcomes(check, SABOTAGE=sabotage, PYTHONPATH=str(SABOTAGED))
    assert found == {check: "FAILED"}
    assert any(re.search(words, line) for line in said.splitlines() if line.startswith("E ") or "assert time" in line)


def test_the_same_checks_pass_where_nothing_is_broken():
    checks = sorted({check for _, check, _ in CHECKS})
    found, _ = outcomes(*checks)
    assert found == dict.fromkeys(checks, "PASSED")
