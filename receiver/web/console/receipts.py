"""Receipts: the callbacks that were kept, and what became of each."""

from typing import Any

from receiver.errors import NotFound
from receiver.showing import receipts as showing
from receiver.store import kept_receipts
from receiver.store.kept_receipts import Chosen, ReceiptRow
from receiver.store.types import is_id
from receiver.web.console.visiting import Shown, Visit, first_of

PATH = "/console/receipts"
_NARROWING = ("state", "endpoint", "provider", "reason", "since", "until")


def listing(visit: Visit) -> Shown:
    """The newest that are as is asked for."""
    before = visit.arg("before")
    chosen = Chosen(
        state=visit.choice("state", showing.STATES),
        endpoint=visit.arg("endpoint"),
        provider=visit.arg("provider"),
        reason=visit.arg("reason"),
        since_ms=visit.milliseconds("since"),
        until_ms=visit.milliseconds("until"),
        before=before.lower() if before and is_id(before.lower()) else None,
    )
    with visit.store.reading() as connection:
        found = kept_receipts.listing(connection, visit.store.tables, limit=visit.most + 1, chosen=chosen)
    rows, is_more = first_of(found, visit.most)
    values = {
        "rows": rows,
        "older": visit.link(before=rows[-1]["id"]) if is_more else None,
        "choices": choices(visit),
        "chips": visit.chips(*_NARROWING),
    }
    return Shown("receipts.html", "Receipts", rows, values, showing.COLUMNS, rows)


def choices(visit: Visit) -> dict[str, list[str]]:
    accounts = visit.runtime.accounts
    return {
        "state": list(showing.STATES),
        "provider": sorted({account.provider.name for account in accounts.values()}),
        "endpoint": sorted(accounts),
    }


def one(visit: Visit, receipt_id: str) -> Shown:
    """What became of it and why, without its body."""
    return page(visit, receipt_id, reveal=False)


def page(visit: Visit, receipt_id: str, *, reveal: bool) -> Shown:
    """Who reveals has written the audit row before."""
    receipt, faxes = read(visit, receipt_id)
    document = showing.described(receipt, reveal=reveal)
    detail = [(name, value) for name, value in document["detail"].items() if value not in (None, [], {})]
    values: dict[str, Any] = {"receipt": document, "faxes": faxes, "detail": detail, "is_revealed": reveal}
    values["is_of_report"] = "report" in receipt.detail
    return Shown("receipt.html", f"Receipt {receipt.id}", document, values)


def read(visit: Visit, receipt_id: str) -> tuple[ReceiptRow, list[str]]:
    """With the faxes that it names. Raises NotFound."""
    with visit.store.reading() as connection:
        receipt = kept_receipts.one(connection, visit.store.tables, receipt_id)
        if receipt is None:
            raise NotFound("there is no such receipt; [retention] says how long they are kept")
        faxes = kept_receipts.faxes_named(connection, visit.store.tables, receipt.id)
    return receipt, list(dict.fromkeys(faxes))
