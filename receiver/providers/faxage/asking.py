"""How FAXAGE is asked for a report, and how it says that something is wrong."""

import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from receiver.errors import ReportTrouble
from receiver.providers.shared.client import Client
from receiver.providers.shared.contract import Ask
from receiver.providers.shared.decoding import text

# FAXAGE documents no zone, so the endpoint's may be an hour off half of the year.
MARGIN = timedelta(hours=1)

# Errors are HTTP 200 with a text that begins so; what follows may echo the request, password and all.
_ERROR = re.compile(r"\s*(ERR[0-9]{1,3})\b", re.ASCII | re.IGNORECASE)
_NO_JOBS = "ERR06"
_TROUBLE = {
    "ERR01": ("failed", "FAXAGE cannot reach its own database (ERR01); the next run tries again"),
    "ERR02": ("refused", "FAXAGE refused the login, or disabled it (ERR02); check company, user and password"),
    "ERR08": ("unreadable", "FAXAGE did not understand the request (ERR08); check the url of the endpoint's reports"),
}


def lines_of(ask: Ask, client: Client, option: str, fields: Mapping[str, Any]) -> Iterator[str]:
    """The lines of an answer but for blank ones; raises ReportTrouble where one says an error."""
    url = ask.options[option]
    if "debug" in urlsplit(url).path.lower():
        detail = f"the {option} of the endpoint's reports is FAXAGE's debugging page, which sends the password back"
        raise ReportTrouble("refused", f"{detail}; use the one without -debug")
    login = {name: ask.options[name] for name in ("company", "password")} | {"username": ask.options["user"]}
    is_empty = True
    for line in client.lines(url, data={**login, **fields}):
        if not line.strip():
            continue
        is_empty = False
        record = text(line).removeprefix("\ufeff")
        if error := _ERROR.match(record):
            code = error[1].upper()
            if code == _NO_JOBS and option == "url":
                return
            unknown = ("unreadable", f"FAXAGE answered {code}, which it documents for nothing asked here; ask FAXAGE")
            raise ReportTrouble(*_TROUBLE.get(code, unknown))
        yield record
    if is_empty and option == "url":  # where there is no job it says so
        raise ReportTrouble("unreadable", "FAXAGE answered nothing at all; the next run asks again")
