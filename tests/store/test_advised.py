"""Where the advice of an event stands: made with it, stored with it, and made anew for each amendment."""

from typing import Any

import pytest
from announcing import MORNING, NOON, PAGES, failed, fax, published, tell

from schemas.advice import Action
from schemas.event import FailureReason


def advised(store: Any, event_id: str) -> Any:
    return published(store, event_id)["data"]["advice"]


def test_the_advice_is_made_with_the_event_and_again_with_each_amendment(store: Any) -> None:
    (first,) = tell(store, failed("1", completed_at=MORNING)).events
    assert advised(store, first)["action"] == Action.RETRY
    (second,) = tell(store, failed("1", FailureReason.NO_ANSWER, completed_at=NOON)).events
    assert published(store, second)["data"]["changed"] == ["failure.reason", "completed_at"]
    assert advised(store, second)["action"] == Action.RETRY_LATER
    (third,) = tell(store, fax("1", completed_at=NOON)).events
    assert published(store, third)["data"]["outcome"] == "delivered"
    assert advised(store, third) is None
    assert advised(store, first)["action"] == Action.RETRY  # as it was


def test_news_that_leave_the_result_leave_the_advice(store: Any) -> None:
    (first,) = tell(store, failed("1")).events
    (second,) = tell(store, failed("1", pages=PAGES)).events
    assert published(store, second)["type"] == "fax.amended.v1"
    assert advised(store, second) == advised(store, first)


@pytest.mark.parametrize("is_delivered_first", [True, False])
def test_a_fax_that_was_announced_as_delivered_is_never_sent_again(store: Any, is_delivered_first: bool) -> None:
    """Whichever of the two holds: the failure is the later one, so it does here."""
    announcements = [fax("1", completed_at=MORNING), failed("1", completed_at=NOON)]
    for one in announcements if is_delivered_first else reversed(announcements):
        (event_id,) = tell(store, one).events
    assert published(store, event_id)["data"]["outcome"] == "failed"
    assert advised(store, event_id)["action"] == Action.CALL_RECIPIENT
    (event_id,) = tell(store, failed("1", completed_at=NOON, pages=PAGES)).events
    assert published(store, event_id)["data"]["revision"] == 3
    assert advised(store, event_id)["action"] == Action.CALL_RECIPIENT
