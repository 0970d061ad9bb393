"""
Openfax report APIs: ``outboundDetailsbyDate.php`` and ``getAvailableCredit.php``.

Sources: Openfax Cloud Fax API, "Single Fax Outbound By Date" and "Account Balance" (sections 2.2, 2.4 and 2.5 of the
collected facts on the providers): the parameters of its table and of its PHP sample, the columns of its table and no
more. There is no sample of a reply, of an error, or of a page.
"""

import json
import threading
from datetime import date, datetime, timedelta
from typing import Any

from flask import Response

from standins.world import SentFax, Service, World, text

REDIAL = timedelta(minutes=4)  # between two tries
DEFAULT_LIMIT, HIGHEST_LIMIT = 1_000, 10_000  # the comment in the sample reads "max 1,0000"; no default is stated
FIRST_HISTORY_ID = 921363
DIALING, WAITING_FOR_REDIAL, SUCCESSFUL, FAILED, NOT_CONVERTED = 5, 7, 8, 9, 10


def application(
    world: World,
    *,
    api_key: str = "IEYRtw2cd8aGa54",
    credit: str = "8956.6637749994",
    credit_name: str = "AvailableCredit",
    has_last_status: bool = False,
) -> Service:
    """
    Account number and key are the credentials.

    credit_name: the reply's sample says AvailableCredit, its table AccountBalance. has_last_status: the rows say why a
    fax failed, as the text on LastStatus hints and the table does not.
    """
    app = Service(world)
    history = _History(world)

    # The heading says "HTTPS GET", the sample posts: a GET, which would put the key into the URL, is 405 here.
    @app.operation("/outboundDetailsbyDate.php", "outboundDetailsbyDate", "POST")
    def outbound_details() -> Response:
        if not _is_known(world, api_key):
            return _refusal("InvalidAuthentication")
        try:
            start, end = date.fromisoformat(text("FromDate")), date.fromisoformat(text("ToDate"))
            is_detail = {"": False, "0": False, "1": True}[text("DetailType")]
            after, limit = int(text("LastHistoryID") or 0), int(text("Limit") or DEFAULT_LIMIT)
        except (ValueError, KeyError):
            return _refusal("Failed")  # what bad parameters get is not documented
        rows = []
        for history_id, fax, attempt, at in history.calls():
            is_last = attempt == max(fax.attempts, 1)
            if not is_detail and (fax.is_pending or not is_last):
                continue
            # Which day a record belongs to is not documented: that of its call, first and last day included.
            if start <= world.local(at).date() <= end and history_id > after:
                row = _row(world, fax, attempt if fax.attempts else 0, is_last)
                last = {"LastStatus": int(fax.status)} if has_last_status and is_last and not fax.is_pending else {}
                rows.append({"HistoryOutboundFaxID": history_id} | row | last)
        rows.sort(key=lambda row: int(row["HistoryOutboundFaxID"]))
        return _json(json.dumps(rows[: max(0, min(limit, HIGHEST_LIMIT))]))

    @app.operation("/getAvailableCredit.php", "getAvailableCredit", "POST")
    def available_credit() -> Response:
        if not _is_known(world, api_key):
            return _refusal("InvalidAuthentication")
        return _json(f'[{{"{credit_name}":{credit}}}]')  # as text: the number has more digits than a float keeps

    return app


class _History:
    """The call records of the faxes: each keeps the id it got when its call was first seen, whatever becomes of it."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._ids: dict[tuple[str, int], int] = {}
        self._lock = threading.Lock()

    def calls(self) -> list[tuple[int, SentFax, int, datetime]]:
        """(HistoryOutboundFaxID, fax, number of the try, time) of every try."""
        found = []
        with self._lock:
            for fax in self._world.faxes():
                tries = max(fax.attempts, 1)  # a fax that was never dialed has a record too
                for attempt in range(1, tries + 1):
                    key = (fax.job_id, attempt)
                    history_id = self._ids.setdefault(key, FIRST_HISTORY_ID + len(self._ids))
                    last = fax.completed_at or fax.submitted_at
                    at = max(fax.submitted_at, last - (tries - attempt) * REDIAL)
                    found.append((history_id, fax, attempt, at))
        return found


def _row(world: World, fax: SentFax, attempt: int, is_last: bool) -> dict[str, Any]:
    state = _state(fax) if is_last else WAITING_FOR_REDIAL
    is_converted = state != NOT_CONVERTED
    return {
        "OutTransID": int(fax.job_id),
        "AccountID": int(world.account),
        "FaxNumber": int(fax.digits),
        "CurrentState": state,
        "CallerID": int(fax.sender_number.removeprefix("+")),
        "MaxAttempts": 3,
        "RetryCount": attempt if is_converted else 0,
        "ToHeader": fax.recipient_name[:15],
        "FromHeader": fax.sender_name[:15],
        "FaxResolution": int(fax.is_fine),
        "RenderStatus": 1 if is_converted else 2,
        "FaxDocURL": "file.tif",
        "PageCount": fax.pages if is_converted else 0,
        "PaperSize": 0,
    }


def _state(fax: SentFax) -> int:
    """CurrentState: the fax's stage where it has one (13 canceled, 11 credit hold ...), else from its LastStatus."""
    if fax.stage:
        return int(fax.stage)
    if fax.is_pending:
        return DIALING
    return {"0": SUCCESSFUL, "8": NOT_CONVERTED}.get(fax.status, FAILED)


def _is_known(world: World, api_key: str) -> bool:
    return (text("AccountID"), text("APIKey")) == (world.account, api_key)


def _refusal(response: str) -> Response:
    """As a submission is refused; what the report APIs say is not documented."""
    return _json(json.dumps({"Response": response}, separators=(",", ":")))


def _json(body: str) -> Response:
    return Response(body, content_type="application/json")
