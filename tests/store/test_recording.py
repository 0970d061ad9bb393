"""Station 7 on both databases: what becomes of a request's announcements."""

import json
import time
from dataclasses import replace

import pytest
from announcing import (
    MORNING,
    NOON,
    NUMBER,
    blank_payloads,
    facts_known,
    failed,
    fax,
    identity,
    published,
    rows,
    submission,
    tell,
    tell_all,
)

from receiver import facts
from receiver.store import Store, first_id, kept_receipts
from receiver.store.kept_receipts import Chosen
from receiver.store.migrating import migrate
from receiver.store.recording import record
from receiver.store.submissions import checksum
from schemas.event import FailureReason, Outcome, Pages, Recipient, Reference
from schemas.identity import amended_id, completed_id


def test_a_first_announcement_is_a_completed_event(store):
    recorded = tell(store, fax(completed_at=NOON))
    assert recorded.state == "accepted"
    assert recorded.events == [str(completed_id(identity(), "delivered"))]
    event = published(store, recorded.events[0])
    assert event["type"] == "fax.completed.v1"
    assert event["subject"] == str(identity())
    assert event["time"] == "2026-07-01T12:00:00Z"
    data = event["data"]
    assert (data["revision"], data["supersedes"], data["changed"], data["conflict"]) == (1, None, [], False)
    assert data["endpoint"] == "fax-age"
    assert data["observed_at"] == "2026-07-01T13:00:00.000Z"


def test_a_fax_without_a_time_is_dated_by_its_observation(store):
    event = published(store, tell(store, fax()).events[0])
    assert event["time"] == "2026-07-01T13:00:00.000Z"
    assert event["data"]["completed_at"] is None


def test_a_repeated_announcement_is_a_duplicate_and_names_the_known_event(store):
    first = tell(store, fax())
    again = tell(store, fax())
    assert (again.state, again.events, again.told) == ("duplicate", first.events, [])
    assert len(rows(store, "events")) == 1
    assert rows(store, "receipts", "state").count("duplicate") == 1


def test_an_announcement_heard_before_is_a_duplicate_for_ever_whatever_is_current(store):
    tell(store, fax())
    amended = tell(store, failed())
    assert amended.state == "accepted"
    again = tell(store, fax())
    assert (again.state, again.events) == ("duplicate", amended.events)
    assert len(rows(store, "events")) == 2


def test_amendments_are_a_chain(store):
    first = tell(store, fax())
    second = tell(store, fax(completed_at=NOON))
    third = tell(store, fax(recipient=NUMBER, completed_at=NOON))
    assert [len(one.told) for one in (first, second, third)] == [1, 1, 1]
    two, three = published(store, second.events[0]), published(store, third.events[0])
    assert two["type"] == three["type"] == "fax.amended.v1"
    assert (two["data"]["revision"], three["data"]["revision"]) == (2, 3)
    assert (two["data"]["supersedes"], three["data"]["supersedes"]) == (first.events[0], second.events[0])
    assert two["data"]["changed"] == ["completed_at"]
    assert three["data"]["changed"] == ["recipient.number"]
    assert three["data"]["completed_at"] == "2026-07-01T12:00:00Z"
    assert rows(store, "faxes", "revision", "event_id") == [(3, third.events[0])]


def test_the_id_of_an_amendment_is_made_of_the_merged_facts(store):
    tell(store, fax(completed_at=NOON))
    recorded = tell(store, fax(recipient=NUMBER))
    merged = facts.of(fax(recipient=NUMBER, completed_at=NOON))
    assert recorded.events == [str(amended_id(identity(), facts.digest(merged)))]


def test_a_contradicted_outcome_is_a_conflict_and_counted(store):
    tell(store, fax(completed_at=MORNING))
    recorded = tell(store, failed(completed_at=NOON))
    assert (recorded.conflicts, recorded.flips) == (1, 1)
    data = published(store, recorded.events[0])["data"]
    assert data["conflict"] is True
    assert data["outcome"] == "failed"
    assert data["changed"] == ["outcome", "failure.reason", "completed_at"]
    assert rows(store, "events", "outcome") == ["delivered", "failed"]


def test_a_conflict_with_an_unconfirmed_one_is_no_flip(store):
    tell(store, fax(outcome=Outcome.UNCONFIRMED))
    recorded = tell(store, fax())
    assert (recorded.conflicts, recorded.flips) == (1, 0)


def test_a_conflict_with_an_earlier_call_is_told_though_no_fact_changes(store):
    tell(store, fax(completed_at=NOON))
    recorded = tell(store, failed(completed_at=MORNING))
    data = published(store, recorded.events[0])["data"]
    assert (data["outcome"], data["conflict"], data["changed"], data["revision"]) == ("delivered", True, [], 2)


def test_the_same_conflict_is_told_once(store):
    tell(store, fax(completed_at=NOON))
    first = tell(store, failed(completed_at=MORNING))
    for other in (failed(completed_at=MORNING, attempts=2), failed(completed_at=MORNING, attempts=3)):
        again = tell(store, other)
        assert (again.state, again.events) == ("duplicate", first.events)


def test_a_told_conflict_is_not_told_again_for_what_is_learned_quietly(store):
    tell(store, fax(completed_at=NOON))
    tell(store, failed(completed_at=MORNING))
    again = tell(store, failed(completed_at=MORNING, reference=Reference(id="order-1")))
    assert again.state == "duplicate"


def test_a_conflict_is_told_even_where_an_amendment_told_the_same_facts(store):
    tell(store, fax())
    tell(store, fax(completed_at=NOON))
    recorded = tell(store, failed(completed_at=MORNING))
    assert len(recorded.told) == 1
    assert published(store, recorded.events[0])["data"]["conflict"] is True
    another = tell(store, fax(outcome=Outcome.CANCELED, completed_at=MORNING))
    assert len(another.told) == 1, "another outcome is another conflict"
    assert len(set(rows(store, "events", "id"))) == 4


def test_facts_that_return_to_an_earlier_amendment_get_an_id_of_their_own(store):
    tell(store, fax(recipient=replace(NUMBER, number="+11")))
    ids = [
        tell(store, fax(recipient=replace(NUMBER, number=number), attempts=attempt)).events[0]
        for attempt, number in enumerate(["+12", "+13", "+12", "+13"], 1)
    ]
    assert len(set(ids)) == 4
    assert published(store, ids[-1])["data"]["revision"] == 5


def test_what_is_learned_quietly_is_in_the_next_amendment(store):
    tell(store, fax())
    quiet = tell(
        store, fax(attempts=2, reference=Reference(id="order-1"), recipient=Recipient(name="Anna", station_id="+49"))
    )
    assert (quiet.state, quiet.told) == ("duplicate", [])
    data = published(store, tell(store, fax(completed_at=NOON)).events[0])["data"]
    assert data["changed"] == ["completed_at"]
    assert (data["attempts"], data["reference"]["id"], data["recipient"]["name"]) == (2, "order-1", "Anna")


def test_differing_facts_are_named(store):
    tell(store, fax(pages=Pages(total=3)))
    recorded = tell(store, fax(pages=Pages(total=4)))
    assert (recorded.state, recorded.differing) == ("duplicate", ["pages.total"])


@pytest.mark.service("postgresql")
def test_two_stores_give_the_same_ids_and_the_same_bytes(sqlite_url, postgresql_url):
    told = []
    for url in (sqlite_url, postgresql_url):
        store = Store(url)
        migrate(store)
        for at, one in enumerate((fax(), failed(completed_at=NOON, recipient=Recipient(name="Zoë")), fax("2")), 1):
            tell(store, one, received_at_ms=at, receipt=first_id(at))
        told.append([(row.body, row.checksum) for row in sorted(rows(store, "events"), key=lambda row: row.body)])
        store.close()
    assert told[0] == told[1]
    assert len(told[0]) == 3


def test_a_payload_carries_the_checksum_of_its_bytes(store):
    (event,) = tell(store, fax(recipient=Recipient(name="Zoë\u2028"))).events
    (row,) = rows(store, "events")
    assert row.checksum == checksum(event, row.body)
    assert row.checksum != checksum(event, row.body + b" ")
    assert json.loads(row.body)["data"]["recipient"]["name"] == "Zoë\u2028"


def test_faxes_of_one_request_are_answered_in_its_order(store):
    keys = ["9", "1", "5"]
    recorded = tell(store, *[fax(key) for key in keys])
    assert recorded.events == [str(completed_id(identity(key), "delivered")) for key in keys]
    assert rows(store, "events", "id") == recorded.events


def test_a_request_that_names_a_fax_twice_is_answered_with_its_current_event_once(store):
    recorded = tell(store, fax(), fax("2"), fax(completed_at=NOON))
    assert len(recorded.told) == 3
    assert recorded.events == [recorded.told[2].event_id, recorded.told[1].event_id]


def test_requests_of_one_group_see_each_other_in_their_order(store):
    group = [submission(fax()), submission(fax()), submission(failed()), submission(fax())]
    recorded = tell_all(store, *group)
    assert [one.state for one in recorded] == ["accepted", "duplicate", "accepted", "duplicate"]
    assert recorded[2].events == recorded[3].events != recorded[0].events
    assert [row.receipt for row in rows(store, "events")] == [group[0].receipt, group[2].receipt]
    assert rows(store, "faxes", "outcome", "revision") == [("failed", 2)]


def test_one_known_and_one_new_fax_are_accepted(store):
    tell(store, fax("1"))
    assert tell(store, fax("1"), fax("2")).state == "accepted"


def test_without_a_fax_the_request_is_ignored(store):
    recorded = tell(store)
    assert (recorded.state, recorded.events) == ("ignored", [])


def test_invalid_recipients_make_it_partial_and_the_valid_ones_are_told(store):
    recorded = tell(store, fax(), invalid=2, detail={"invalid_count": 2})
    assert (recorded.state, len(recorded.told)) == ("partial", 1)
    (receipt,) = rows(store, "rejected_receipts")
    assert (receipt.state, receipt.reason, json.loads(receipt.detail)) == ("partial", None, {"invalid_count": 2})
    assert receipt.faxes == [(str(identity()), recorded.events[0])]
    assert receipt.body.startswith(b"body ")
    assert rows(store, "receipts") == []


def test_a_refused_request_is_kept_with_its_code(store):
    assert tell(store, refused="unprocessable").state == "rejected"
    (receipt,) = rows(store, "rejected_receipts")
    assert (receipt.state, receipt.reason, receipt.endpoint, receipt.provider) == (
        "rejected",
        "unprocessable",
        "fax-age",
        "faxage",
    )
    assert receipt.body.startswith(b"body ")
    assert rows(store, "receipts") == []


def test_each_receipt_has_a_body_of_its_own_and_names_its_faxes(store):
    (event_id,) = tell(store, fax(), body=b"same", received_at_ms=1).events
    one = submission(fax(), fax("2"), body=b"same", received_at_ms=2)
    tell_all(store, one, submission(fax(), body=b"same", received_at_ms=3))
    assert rows(store, "receipts", "body") == [b"same"] * 3
    named = rows(store, "receipts", "faxes")
    assert named[0] == [(str(identity()), event_id)]
    assert named[1][0] == (str(identity()), None)
    assert named[1][1][0] == str(identity("2"))
    assert named[2] == [(str(identity()), None)]


def test_a_receipt_says_how_its_caller_was_authenticated_and_answered(store):
    tell(store, fax(), auth="basic", answer=204)
    (receipt,) = rows(store, "receipts")
    assert (receipt.auth, receipt.answer) == ("basic", 204)


def test_a_replay_is_added_to_its_receipt(store):
    first = tell(store, refused="unprocessable", detail={"fields": {"jobid": "expected"}})
    replayed = replace(submission(fax()), receipt=first.receipt, body=None, replay=True)
    (recorded,) = tell_all(store, replayed)
    assert recorded.state == "accepted"
    assert len(rows(store, "rejected_receipts")) == 1
    assert rows(store, "events", "receipt") == [first.receipt]
    for again in (replayed, replace(replayed, refused="unprocessable", announcements=())):
        with store.reading() as connection:
            (shown,) = kept_receipts.listing(connection, store.tables, limit=10)
            found = kept_receipts.one(connection, store.tables, first.receipt)
            assert kept_receipts.listing(connection, store.tables, limit=10, chosen=Chosen(state="accepted")) == [shown]
            assert kept_receipts.listing(connection, store.tables, limit=10, chosen=Chosen(state="rejected")) == []
        assert (shown["id"], shown["state"], shown["reason"], found.detail) == (first.receipt, "accepted", None, {})
        assert shown["events"] == list(found.events) == recorded.events
        tell_all(store, again)


def test_a_receipt_names_the_events_of_all_its_replays(store):
    first = tell(store, fax("1"), invalid=2)
    told = list(first.events)
    for key, invalid in (("2", 1), ("3", 0)):
        again = replace(submission(fax("1"), fax(key), invalid=invalid), receipt=first.receipt, body=None, replay=True)
        told += [event.event_id for event in tell_all(store, again)[0].told]
    with store.reading() as connection:
        (shown,) = kept_receipts.listing(connection, store.tables, limit=10)
        found = kept_receipts.one(connection, store.tables, first.receipt.upper())
    assert (shown["state"], shown["events"], list(found.events)) == ("accepted", told, told)


def test_what_is_refused_again_has_the_newest_reason(store):
    first = tell(store, refused="unprocessable")
    for code in ("undecodable", "unprocessable", "internal"):
        tell_all(store, replace(submission(refused=code), receipt=first.receipt, body=None, replay=True))
    with store.reading() as connection:
        (shown,) = kept_receipts.listing(connection, store.tables, limit=10)
    assert (shown["state"], shown["reason"], shown["events"]) == ("rejected", "internal", [])


def test_after_a_purge_of_the_facts_only_the_outcome_is_compared(store):
    first = tell(store, fax(recipient=NUMBER))
    blank_payloads(store)
    assert tell(store, fax(completed_at=NOON)).state == "duplicate"
    assert facts_known(store) is None
    recorded = tell(store, failed(completed_at=NOON))
    data = published(store, recorded.events[0])["data"]
    assert (data["revision"], data["supersedes"], data["changed"]) == (2, first.events[0], ["outcome"])
    assert (data["conflict"], data["outcome"], data["completed_at"]) == (True, "failed", "2026-07-01T12:00:00Z")


def test_a_request_with_thousands_of_recipients_is_recorded_and_amended(store):
    keys = [str(number) for number in range(1_200)]
    first = tell(store, *[fax(key) for key in keys])
    second = tell(store, *[failed(key, reason=FailureReason.NO_ANSWER) for key in keys])
    again = tell(store, *[fax(key, attempts=1) for key in reversed(keys)])
    assert len(set(first.events)) == len(set(second.events)) == 1_200
    assert again.state == "accepted"
    assert tell(store, *[fax(key) for key in keys]).state == "duplicate"


def test_facts_come_back_as_they_were_stated(store):
    stated = fax(recipient=Recipient(name='"\\ Zoë \U0001f600', number_raw="0"), pages=Pages(total=0, sent=0))
    tell(store, stated)
    assert facts_known(store) == facts.of(stated)
    tell(store, replace(stated, attempts=2))
    assert facts_known(store) == facts.of(replace(stated, attempts=2))


def test_a_damaged_payload_is_as_one_that_was_purged(store):
    tell(store, fax(recipient=NUMBER))
    with store.writing() as connection:
        connection.execute(store.tables.events.update().values(body=b'{"data": {}}'))
    assert tell(store, fax(completed_at=NOON)).state == "duplicate"
    assert len(tell(store, failed()).told) == 1


def test_nothing_of_a_request_stays_when_its_transaction_fails(store):
    def transaction():
        with store.recording(time.monotonic() + 4) as cursor:
            record(cursor, store.engine.dialect, [submission(fax())])
            raise KeyError

    with pytest.raises(KeyError):
        transaction()
    for table in ("receipts", "faxes", "announcements", "events", "waiting"):
        assert rows(store, table) == []
