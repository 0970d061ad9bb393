"""Every page and action: where it is, and who may."""

from collections.abc import Callable
from dataclasses import dataclass

from receiver.web.console import actions, events, faxes, others, overview, problems, receipts, replaying, reports
from receiver.web.console.visiting import OPERATOR, PRIVACY, VIEWER, Download, Elsewhere, Shown


@dataclass(frozen=True, slots=True)
class Page:
    """show: takes the visit and what the rule has in it. is_slow: it is shown to one at a time."""

    rule: str
    name: str
    show: Callable[..., Shown | Elsewhere]
    role: str = VIEWER
    is_slow: bool = False


@dataclass(frozen=True, slots=True)
class Action:
    """
    Something that changes the store, or shows what is personal. role: who may.

    confirm: the page that says what would happen, with the exact count. perform: does it, once that page has been sent.
    """

    rule: str
    name: str
    role: str
    confirm: Callable[..., Shown | Elsewhere]
    perform: Callable[..., Shown | Elsewhere | Download]


PAGES = (
    Page("/console/", "overview", overview.overview),
    Page("/console/faxes", "faxes", faxes.listing),
    Page("/console/faxes/<fax_id>", "fax", faxes.one),
    Page("/console/receipts", "receipts", receipts.listing),
    Page("/console/receipts/<receipt_id>", "receipt", receipts.one),
    Page("/console/problems", "problems", problems.page),
    Page("/console/reports", "reports", reports.page),
    Page("/console/events", "events", events.listing),
    Page("/console/events/<event_id>", "event", events.one),
    Page("/console/queue", "queue", events.queue),
    Page("/console/discrepancies", "discrepancies", others.open_discrepancies),
    Page("/console/discrepancies/<int:seq>", "discrepancy", others.one_discrepancy),
    Page("/console/expected", "expected", others.expected),
    Page("/console/endpoints", "endpoints", others.endpoints),
    Page("/console/audit", "audit", others.audit),
    Page("/console/system", "system", overview.system),
    Page("/console/system/doctor", "doctor", overview.doctor, OPERATOR, is_slow=True),
)
ACTIONS = (
    Action("/console/faxes/<fax_id>/reveal", "reveal_fax", PRIVACY, actions.ask_reveal, actions.reveal_fax),
    Action("/console/faxes/<fax_id>/evidence", "evidence", OPERATOR, actions.ask_evidence, actions.evidence),
    Action("/console/receipts/<receipt_id>/replay", "replay", OPERATOR, replaying.ask, replaying.perform),
    Action(
        "/console/receipts/<receipt_id>/reveal", "reveal_receipt", PRIVACY, actions.ask_reveal, actions.reveal_receipt
    ),
    Action("/console/problems/replay", "replay_group", OPERATOR, problems.ask_replay, problems.perform_replay),
    Action("/console/events/republish", "republish_some", OPERATOR, actions.ask_republish_some, actions.republish_some),
    Action("/console/events/<event_id>/republish", "republish", OPERATOR, actions.ask_republish, actions.republish),
    Action("/console/events/<event_id>/reveal", "reveal_event", PRIVACY, actions.ask_reveal, actions.reveal_event),
    Action("/console/dead-letters/<event_id>/replay", "revive", OPERATOR, actions.ask_revive, actions.revive),
    Action("/console/dead-letters/replay", "revive_all", OPERATOR, actions.ask_revive_all, actions.revive_all),
    Action("/console/discrepancies/<int:seq>/close", "close", OPERATOR, actions.ask_close, actions.close),
    Action(
        "/console/discrepancies/<int:seq>/reveal",
        "reveal_discrepancy",
        PRIVACY,
        actions.ask_reveal,
        actions.reveal_discrepancy,
    ),
)
