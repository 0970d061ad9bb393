"""Every sample of ``manifest.csv`` that can arrive as a callback comes to what the manifest says."""

from datetime import UTC, datetime

import pytest
from marshmallow import ValidationError
from samples import callers, events, manifest, sample, source

from receiver.errors import Refusal
from receiver.providers import RawCallback
from receiver.providers.shared.contract import SimulatedFax, SimulatedJob

ROWS = {f"{row['provider']}/{row['file']}": row for row in manifest()}
# Its credentials are wrong, its data are not: authentication refuses it.
ONLY_AUTHENTICATION_REFUSES = "efax/40_negative_wrong_password.form"


def paths(kind, *expected):
    return [
        path
        for path, row in ROWS.items()
        if row["kind"] == kind and (not expected or row["expect_outcome"] in expected)
    ]


@pytest.mark.parametrize("path", paths("push", "delivered", "failed", "unconfirmed"))
def test_a_final_callback_of_one_fax_has_the_outcome_and_reason_of_the_manifest(path):
    row = ROWS[path]
    (event,) = events(row["provider"], sample(path))
    assert event.outcome == row["expect_outcome"]
    # "x (with hints) or unknown": texts are never read, so it is the latter
    reason = row["expect_class"].rpartition(" or ")[2] if row["expect_outcome"] == "failed" else None
    assert (event.failure and event.failure.reason) == reason


@pytest.mark.parametrize("path", paths("push", "pending"))
def test_a_callback_that_is_not_final_announces_nothing(path):
    assert events(ROWS[path]["provider"], sample(path)) == []


@pytest.mark.parametrize("path", paths("push", "mixed"))
def test_a_callback_of_many_faxes_has_an_event_for_each(path):
    assert len(events(ROWS[path]["provider"], sample(path))) > 1


@pytest.mark.parametrize("path", paths("other"))
def test_a_genuine_message_about_something_else_is_ignored(path):
    assert events(ROWS[path]["provider"], sample(path)) == []


@pytest.mark.parametrize("path", [path for path in paths("negative") if path != ONLY_AUTHENTICATION_REFUSES])
def test_a_callback_that_cannot_be_trusted_is_refused(path):
    with pytest.raises((Refusal, ValidationError)):
        events(ROWS[path]["provider"], sample(path))


@pytest.mark.parametrize("path", paths("push"))
def test_a_cut_sample_is_refused_or_names_the_same_faxes(path):
    """A cut form may still be a form; it must not become another fax."""
    row, raw = ROWS[path], sample(path)
    whole = {event.key[0] for event in events(row["provider"], raw)}
    for cut in range(0, len(raw.body), 7):
        try:
            found = events(row["provider"], RawCallback(raw.body[:cut], raw.content_type))
        except (Refusal, ValidationError):
            continue
        assert {event.key[0] for event in found} <= whole


@pytest.mark.parametrize("provider", callers().values(), ids=lambda provider: provider.name)
def test_every_code_can_be_simulated_and_comes_back_as_the_table_has_it(provider):
    where = source(provider, account="123456789")
    for code, verdict in provider.codes.verdicts.items():
        job = SimulatedJob(
            job_id="4711001",
            account="123456789",
            faxes=(SimulatedFax("+12085550139", code, "a"), SimulatedFax("+12085550140", code, "b")),
            submitted_at=datetime(2026, 7, 1, 12, 0, tzinfo=UTC),
            completed_at=datetime(2026, 7, 1, 12, 3, tzinfo=UTC),
            timezone=where.timezone,
            user="me",
            password='p"<&>ä',
        )
        raws = provider.push.simulate(job)
        found = [
            event
            for raw in raws
            for event in events(provider.name, raw, account=where.account, timezone=where.timezone)
        ]
        assert [event.outcome for event in found] == ([] if verdict is None else [verdict.outcome] * 2)
        assert len({event.key for event in found}) == len(found)
        assert all(event.failure == verdict.failure for event in found)
        assert all(event.completed_at in (None, job.completed_at) for event in found)
        assert all(event.recipient.number in (None, fax.number) for event, fax in zip(found, job.faxes, strict=False))
