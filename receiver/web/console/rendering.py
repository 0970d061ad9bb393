"""Pages as HTML: whatever a provider has sent is text in them, and never markup."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any

import jinja2

from receiver import __version__
from receiver.web.console.visiting import Shown, Visit, link

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")
_DAY = len("2026-11-21")
_FORMULA = re.compile(r"(^|[;\t\r\n])\s*[=+\-@]|^[\t\r]")  # spreadsheets run what begins so, or a cell in it
# What an action has come to, and whether that is bad.
_NOTICES = {
    "republished": ("In the queue again.", False),
    "revived": ("It waits to be sent again.", False),
    "closed": ("It is closed.", False),
    "group": ("They were processed again; those that are still here were refused again.", False),
    "nothing": ("There was nothing to do any more.", True),
    "refused": ("It was processed again, and refused again.", True),
    "replayed-accepted": ("It was processed again, and has made a new event.", False),
    "replayed-partial": ("It was processed again; some of it still cannot be used.", True),
    "replayed-duplicate": ("It was processed again, and says nothing new.", False),
    "replayed-ignored": ("It was processed again, and is about no fax that has ended.", False),
    "replayed-rejected": ("It was processed again, and refused again.", True),
}
# What stands at the top of each page: path and words.
_PLACES = (
    ("/console/", "Overview"),
    ("/console/faxes", "Faxes"),
    ("/console/receipts", "Receipts"),
    ("/console/problems", "Problems"),
    ("/console/events", "Events"),
    ("/console/queue", "Queue"),
    ("/console/discrepancies", "Discrepancies"),
    ("/console/expected", "Expected"),
    ("/console/reports", "Reports"),
    ("/console/endpoints", "Endpoints"),
    ("/console/audit", "Audit"),
    ("/console/system", "System"),
)


def prepare() -> None:
    """Read every template now: nobody's callback has to wait beside that."""
    for name in _environment().list_templates():
        _environment().get_template(name)


def page(template: str, visit: Visit | None, **values: Any) -> str:
    """visit: None before somebody has signed in."""
    notice, is_bad = _NOTICES.get((visit and visit.arg("done")) or "", ("", False))
    common = {
        "visit": visit,
        "person": visit.person if visit else None,
        "places": _PLACES,
        "version": __version__,
        "notice": notice,
        "notice_is_bad": is_bad,
    }
    return _environment().get_template(template).render(common | values)


def shown(found: Shown, visit: Visit) -> str:
    return page(found.template, visit, title=found.title, document=found.document, **found.values)


def as_csv(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> bytes:
    """With a mark for spreadsheets that it is UTF-8; none of its cells is a formula."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows([_cell(row[column]) for column in columns] for row in rows)
    return ("\ufeff" + text.getvalue()).encode("utf-8", "backslashreplace")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    text = " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return f"'{text}" if _FORMULA.search(text) and not text.lstrip("-").replace(".", "", 1).isdigit() else text


@cache
def _environment() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.PackageLoader(__package__),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        finalize=_readable,
    )
    made.filters |= {"moment": moment, "short": short, "words": words, "span": span, "percent": percent}
    made.globals["link"] = link
    return made


def _readable(value: Any) -> Any:
    """What is absent as a dash; what has no shape, or turns the line around, as its code."""
    if value is None:
        return "–"
    if isinstance(value, str) and type(value) is str:
        return _CONTROLS.sub(
            lambda found: f"\\u{ord(found[0]):04x}", value.encode("utf-8", "backslashreplace").decode()
        )
    return value


def moment(time: str | None) -> str | None:
    """``2026-11-21T01:12:00.123Z`` as people read it; all times here are in UTC."""
    if time is None:
        return None
    try:
        return time if len(time) == _DAY else f"{datetime.fromisoformat(time):%Y-%m-%d %H:%M:%S}"
    except ValueError:
        return time


def short(its_id: str | None) -> str | None:
    """The beginning of an id, enough to tell it from others on a page."""
    return its_id and f"{its_id[:8]}…"


def words(name: str | None) -> str | None:
    """``bad_number`` as people say it."""
    return name and name.replace("_", " ")


def percent(share: float | None) -> str | None:
    return None if share is None else f"{share * 100:.1f} %"


def span(seconds: float | None) -> str | None:
    """So many seconds as people say it."""
    if seconds is None:
        return None
    for size, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            whole, rest = divmod(int(seconds), size)
            below = {"d": (3600, "h"), "h": (60, "min"), "min": (1, "s")}[name]
            return f"{whole} {name}" + (f" {rest // below[0]} {below[1]}" if rest // below[0] else "")
    return f"{seconds:g} s" if seconds == int(seconds) else f"{seconds:.1f} s"
