"""Every page and action: where it is, and who may."""

from collections.abc import Callable
from dataclasses import dataclass

from receiver.web.console import faxes
from receiver.web.console.visiting import VIEWER, Elsewhere, Shown, Visit


@dataclass(frozen=True, slots=True)
class Page:
    """show: takes the visit and what the rule has in it."""

    rule: str
    name: str
    show: Callable[..., Shown | Elsewhere]
    role: str = VIEWER


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
    perform: Callable[..., Shown | Elsewhere]


def _overview(_visit: Visit) -> Elsewhere:
    return Elsewhere(faxes.PATH)


PAGES = (
    Page("/console/", "overview", _overview),
    Page("/console/faxes", "faxes", faxes.listing),
    Page("/console/faxes/<fax_id>", "fax", faxes.one),
)
ACTIONS: tuple[Action, ...] = ()
