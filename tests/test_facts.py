"""What a further announcement changes of what is known, rule by rule."""

import copy
import itertools
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver import facts
from schemas.event import (
    Confidence,
    Cost,
    Failure,
    FailureReason,
    FaxCompleted,
    Outcome,
    Pages,
    Recipient,
    Reference,
    Retryable,
    Sender,
    TimeQuality,
)

MORNING = datetime(2026, 7, 1, 9, 30, tzinfo=UTC)
NOON = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)


def delivered(**stated):
    return facts.of(
        FaxCompleted(**{"account": "a", "key": ("1",), "outcome": Outcome.DELIVERED, "status_code": "0"} | stated)
    )


def failed(reason=FailureReason.BUSY, **stated):
    failure = Failure(reason, Retryable.YES, Confidence.HIGH)
    return delivered(**{"outcome": Outcome.FAILED, "failure": failure, "status_code": reason.value} | stated)


UNKNOWN = FailureReason.UNKNOWN


# --- nothing new ---------------------------------------------------------------------------------------------------


def test_the_same_again_is_nothing_new():
    known = failed(completed_at=NOON, pages=Pages(3, 1))
    merged = facts.merge(known, copy.deepcopy(known))
    assert merged == facts.Merged(known, changed=(), news=False, conflict=False, differing=())


def test_a_null_never_erases_a_fact():
    known = delivered(
        recipient=Recipient("+1", "1", "Anna", "CSID"),
        sender=Sender("Ben", "+2"),
        pages=Pages(3, 3),
        duration_seconds=0,
        attempts=1,
        cost=Cost(Decimal("0.0294")),
        submitted_at=MORNING,
        completed_at=NOON,
        time_quality=TimeQuality.PROVIDER,
        provider_fax_id="F",
        reference=Reference("r", "b", "i"),
    )
    merged = facts.merge(known, delivered())
    assert (merged.facts, merged.changed, merged.differing) == (known, (), ())


def test_neither_side_is_changed_by_merging():
    known, announced = delivered(), failed(completed_at=NOON, pages=Pages(3, 1))
    before = copy.deepcopy((known, announced))
    merged = facts.merge(known, announced)
    merged.facts["recipient"]["name"] = merged.facts["failure"]["reason"] = "changed afterwards"
    assert (known, announced) == before


# --- learning ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stated", "learned"),
    [
        ({"attempts": 0}, "attempts"),
        ({"recipient": Recipient(station_id="CSID")}, "recipient.station_id"),
        ({"recipient": Recipient(name="Anna")}, "recipient.name"),
        ({"sender": Sender(name="Ben")}, "sender.name"),
        ({"sender": Sender(number="+2")}, "sender.number"),
        ({"reference": Reference(id="r")}, "reference.id"),
        ({"reference": Reference(billing_code="b")}, "reference.billing_code"),
        ({"reference": Reference(billing_info="i")}, "reference.billing_info"),
        ({"submitted_at": MORNING}, "submitted_at"),
        ({"provider_fax_id": "F"}, "provider_fax_id"),
    ],
)
def test_attempts_names_and_references_are_learned_quietly(stated, learned):
    merged = facts.merge(delivered(), delivered(**stated))
    assert merged == facts.Merged(delivered(**stated), changed=(learned,), news=False, conflict=False, differing=())


@pytest.mark.parametrize(
    ("stated", "learned"),
    [
        ({"recipient": Recipient(number="+1", number_raw="1")}, "recipient.number"),
        ({"completed_at": NOON, "time_quality": TimeQuality.ASSUMED_ZONE}, "completed_at"),
        ({"pages": Pages(total=0)}, "pages.total"),
        ({"pages": Pages(sent=0)}, "pages.sent"),
        ({"duration_seconds": 0}, "duration_seconds"),
        ({"cost": Cost(Decimal(0))}, "cost"),
    ],
)
def test_number_time_pages_duration_and_cost_are_news(stated, learned):
    merged = facts.merge(delivered(), delivered(**stated))
    assert merged == facts.Merged(delivered(**stated), changed=(learned,), news=True, conflict=False, differing=())


def test_the_raw_number_is_learned_without_a_word():
    merged = facts.merge(delivered(), delivered(recipient=Recipient(number_raw="ext. 5")))
    assert merged.facts["recipient"]["number_raw"] == "ext. 5"
    assert (merged.changed, merged.news) == ((), False)


# --- the reason ----------------------------------------------------------------------------------------------------


def test_another_reason_contradicts_and_brings_its_whole_unit():
    merged = facts.merge(failed(FailureReason.BUSY), failed(FailureReason.NO_ANSWER))
    assert merged.facts == failed(FailureReason.NO_ANSWER)
    assert (merged.changed, merged.news, merged.conflict) == (("failure.reason",), True, False)


def test_the_reason_of_an_earlier_call_is_reported_and_not_taken():
    known = failed(FailureReason.BUSY, completed_at=NOON)
    merged = facts.merge(known, failed(FailureReason.NO_ANSWER, completed_at=MORNING))
    assert (merged.facts, merged.news, merged.differing) == (known, False, ("failure.reason",))


def test_an_unknown_reason_contradicts_no_other():
    known = failed(FailureReason.BUSY)
    assert facts.merge(known, failed(UNKNOWN)) == facts.Merged(known, (), news=False, conflict=False, differing=())


@pytest.mark.parametrize("completed_at", [None, MORNING])
def test_a_reason_learned_after_an_unknown_one_is_news(completed_at):
    known = failed(UNKNOWN, completed_at=completed_at and NOON)
    merged = facts.merge(known, failed(FailureReason.BUSY, completed_at=completed_at))
    assert merged.facts["failure"]["reason"] == "busy"
    assert merged.facts["provider_status"]["code"] == "busy"
    assert (merged.changed, merged.news, merged.conflict) == (("failure.reason",), True, False)


# --- the number ----------------------------------------------------------------------------------------------------


def test_another_number_is_news_and_the_later_one_holds():
    one, two = Recipient("+1", "1"), Recipient("+2", "2")
    merged = facts.merge(delivered(recipient=one), delivered(recipient=two))
    assert merged.facts == delivered(recipient=two)
    assert (merged.changed, merged.news, merged.conflict) == (("recipient.number",), True, False)
    earlier = facts.merge(delivered(recipient=one, completed_at=NOON), delivered(recipient=two, completed_at=MORNING))
    assert earlier.facts == delivered(recipient=one, completed_at=NOON)
    assert set(earlier.differing) == {"recipient.number", "completed_at"}


# --- the outcome ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("known_at", "announced_at"), [(MORNING, NOON), (NOON, NOON), (None, MORNING)])
def test_of_two_outcomes_the_later_one_holds_with_its_call(known_at, announced_at):
    known = delivered(completed_at=known_at, pages=Pages(3, 3), duration_seconds=60)
    announced = failed(completed_at=announced_at, pages=Pages(3, 1), duration_seconds=20)
    merged = facts.merge(known, announced)
    assert merged.facts == announced
    assert merged.facts["partial"] is True
    assert merged.conflict
    assert merged.news
    assert {"outcome", "failure.reason", "pages.sent", "duration_seconds"} <= set(merged.changed)
    assert merged.differing == ()


def test_where_the_announced_time_is_unknown_the_later_arrival_holds():
    merged = facts.merge(delivered(completed_at=NOON), failed())
    assert merged.facts["outcome"] == "failed"
    assert merged.facts["completed_at"] == "2026-07-01T12:00:00Z", "a null erases nothing"


def test_an_outcome_of_an_earlier_call_changes_nothing_but_is_a_conflict():
    known = delivered(completed_at=NOON)
    earlier = failed(completed_at=MORNING, pages=Pages(None, 1), duration_seconds=9, attempts=1, provider_fax_id="F")
    merged = facts.merge(known, earlier)
    assert merged == facts.Merged(known, changed=(), news=False, conflict=True, differing=())


def test_facts_of_the_job_are_learned_from_an_earlier_call_too():
    merged = facts.merge(delivered(completed_at=NOON), failed(completed_at=MORNING, pages=Pages(total=3, sent=1)))
    assert merged.facts == delivered(completed_at=NOON, pages=Pages(total=3))
    assert (merged.changed, merged.news, merged.conflict) == (("pages.total",), True, True)


def test_a_job_fact_stated_otherwise_is_reported_in_a_conflict_too():
    merged = facts.merge(delivered(sender=Sender("Ben")), failed(sender=Sender("Bea")))
    assert merged.facts["sender"]["name"] == "Ben"
    assert merged.differing == ("sender.name",)


def test_a_recovered_delivery_has_no_failure_left():
    merged = facts.merge(failed(completed_at=MORNING), delivered(completed_at=NOON))
    assert merged.facts == delivered(completed_at=NOON)
    assert merged.changed == ("outcome", "failure.reason", "completed_at")


# --- what differs otherwise ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other", "name"),
    [
        ({"pages": Pages(total=3)}, {"pages": Pages(total=4)}, "pages.total"),
        ({"duration_seconds": 0}, {"duration_seconds": 1}, "duration_seconds"),
        ({"completed_at": MORNING}, {"completed_at": NOON}, "completed_at"),
        ({"sender": Sender("Ben")}, {"sender": Sender("Bea")}, "sender.name"),
        ({"reference": Reference("r")}, {"reference": Reference("s")}, "reference.id"),
        ({"cost": Cost(Decimal("0.02"))}, {"cost": Cost(Decimal("0.03"))}, "cost"),
        ({"attempts": 1}, {"attempts": 2}, "attempts"),
    ],
)
def test_of_differing_values_the_first_is_kept_and_reported(one, other, name):
    merged = facts.merge(delivered(**one), delivered(**other))
    assert merged == facts.Merged(delivered(**one), changed=(), news=False, conflict=False, differing=(name,))


@pytest.mark.parametrize(("one", "other"), [("0.0294", "0.02940"), ("100", "1E+2"), ("0", "0.00")])
def test_money_is_compared_by_its_amount(one, other):
    known, announced = delivered(cost=Cost(Decimal(one))), delivered(cost=Cost(Decimal(other)))
    assert facts.digest(known) == facts.digest(announced)
    assert facts.merge(known, announced).differing == ()


def test_partial_is_reckoned_from_what_both_said():
    merged = facts.merge(failed(pages=Pages(total=3)), failed(pages=Pages(sent=1)))
    assert merged.facts["partial"] is True
    assert facts.merge(failed(pages=Pages(total=3)), failed(pages=Pages(sent=0))).facts["partial"] is False
    assert facts.merge(failed(pages=Pages(total=3)), failed(pages=Pages(sent=3))).facts["partial"] is False


# --- digests -------------------------------------------------------------------------------------------------------


def test_a_digest_tells_every_compared_fact_apart():
    each = [
        delivered(),
        failed(),
        failed(FailureReason.NO_ANSWER),
        delivered(provider_fax_id="x"),
        delivered(recipient=Recipient(number="x")),
        delivered(recipient=Recipient(name="x")),
        delivered(recipient=Recipient(station_id="x")),
        delivered(sender=Sender(name="x")),
        delivered(sender=Sender(number="x")),
        delivered(pages=Pages(total=0)),
        delivered(pages=Pages(sent=0)),
        delivered(duration_seconds=0),
        delivered(attempts=0),
        delivered(cost=Cost(Decimal(0))),
        delivered(submitted_at=NOON),
        delivered(completed_at=NOON),
        delivered(reference=Reference(id="x")),
        delivered(reference=Reference(billing_code="x")),
        delivered(reference=Reference(billing_info="x")),
    ]
    assert len({facts.digest(one) for one in each}) == len(each)


def test_an_unknown_reason_is_no_reason_in_a_digest():
    assert facts.digest(failed(UNKNOWN)) != facts.digest(failed())
    assert facts.digest(failed(UNKNOWN)) == facts.digest(delivered(outcome=Outcome.FAILED))


def test_a_time_is_written_in_utc_to_the_millisecond():
    assert facts.timestamp(NOON) == "2026-07-01T12:00:00Z"
    assert facts.timestamp(NOON.replace(microsecond=123_456)) == "2026-07-01T12:00:00.123Z"
    assert facts.timestamp(NOON.replace(microsecond=456)) == "2026-07-01T12:00:00Z"
    assert facts.timestamp(None) is None


# --- in any order --------------------------------------------------------------------------------------------------

TEXTS = st.none() | st.sampled_from(["a", "b"])
COUNTS = st.none() | st.integers(0, 3)
TIMES = st.none() | st.sampled_from([MORNING, NOON])


@st.composite
def announced(draw):
    outcome = draw(st.sampled_from(Outcome))
    reason = draw(st.sampled_from([FailureReason.BUSY, FailureReason.NO_ANSWER, UNKNOWN]))
    failure = Failure(reason, Retryable.UNKNOWN, Confidence.LOW) if outcome is Outcome.FAILED else None
    return delivered(
        outcome=outcome,
        failure=failure,
        provider_fax_id=draw(TEXTS),
        recipient=Recipient(draw(TEXTS), draw(TEXTS), draw(TEXTS), draw(TEXTS)),
        sender=Sender(draw(TEXTS), draw(TEXTS)),
        pages=Pages(draw(COUNTS), draw(COUNTS)),
        duration_seconds=draw(COUNTS),
        attempts=draw(COUNTS),
        cost=draw(st.none() | st.builds(Cost, st.decimals(0, 1, places=2))),
        submitted_at=draw(TIMES),
        completed_at=draw(TIMES),
        reference=Reference(draw(TEXTS), draw(TEXTS), draw(TEXTS)),
    )


OF_THE_JOB = [
    ("recipient", "number"),
    ("recipient", "name"),
    ("sender", "name"),
    ("sender", "number"),
    ("pages", "total"),
    ("reference", "id"),
    ("reference", "billing_code"),
    ("reference", "billing_info"),
]


@given(st.lists(announced(), min_size=2, max_size=3))
def test_in_any_order_no_fact_of_the_job_is_lost(announcements):
    for order in itertools.permutations(announcements):
        known = order[0]
        for further in order[1:]:
            known = facts.merge(known, further).facts
        for group, name in OF_THE_JOB:
            stated = {one[group][name] for one in announcements} - {None}
            assert known[group][name] in (stated or {None})
        assert (known["submitted_at"] is None) == all(one["submitted_at"] is None for one in announcements)


@given(announced(), announced())
def test_hearing_it_again_changes_nothing_more(known, further):
    once = facts.merge(known, further)
    twice = facts.merge(once.facts, further)
    assert twice.facts == once.facts
    assert not twice.news


@given(announced(), announced())
def test_changed_names_exactly_what_makes_another_digest(known, further):
    merged = facts.merge(known, further)
    assert bool(merged.changed) == (facts.digest(merged.facts) != facts.digest(known))


@given(announced(), st.text(), st.text() | st.none())
def test_what_is_never_compared_is_not_in_the_digest(stated, text, raw):
    other = copy.deepcopy(stated)
    other["provider_status"] = {"code": text, "text": raw}
    other["recipient"]["number_raw"] = raw
    other["time_quality"] = text
    if other["failure"]:
        other["failure"] |= {"retryable": text, "confidence": text}
    assert facts.digest(other) == facts.digest(stated)
