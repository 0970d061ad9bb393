"""A SQLite file with bad pages: its healthy rows go out, the others are set aside, and the store is no longer ready."""

from collections.abc import Sequence

import sqlalchemy as sa

from receiver.logs import log
from receiver.store import Store, now_ms
from receiver.store.tables import insert_or_replace
from receiver.store.trouble import StoreUnavailable

DAMAGED = "damaged"  # the row in ``meta`` that keeps /readyz red until the store was restored or salvaged

_CHUNK = 200


def is_damage(error: StoreUnavailable) -> bool:
    return error.error.startswith("SQLITE_CORRUPT")


def set_aside(store: Store) -> int:
    """
    Make dead letters of the pending events whose payload SQLite cannot read, and note the damage; how many.

    The statements that read many rows at once fail for all of them when one page is bad; afterwards they work again.
    """
    events = store.tables.events
    with store.reading() as connection:  # the index holds both: the rows themselves may be the bad ones
        pending = connection.scalars(sa.select(events.c.seq).where(events.c.state == "pending")).all()
    bad = [
        seq
        for start in range(0, len(pending), _CHUNK)
        if not _can_be_read(store, pending[start : start + _CHUNK])
        for seq in pending[start : start + _CHUNK]
        if not _can_be_read(store, [seq])
    ]
    with store.writing() as connection:
        meta = store.tables.meta
        connection.execute(insert_or_replace(meta, store.dialect).values(name=DAMAGED, value=str(now_ms())))
        parked = events.update().where(events.c.seq.in_(bad), events.c.state == "pending").values(state="dead")
        connection.execute(parked)
    log.error("store_damaged", dead=len(bad))
    return len(bad)


def _can_be_read(store: Store, seqs: Sequence[int]) -> bool:
    payloads = store.tables.payloads
    try:
        with store.reading() as connection:
            connection.execute(sa.select(payloads).where(payloads.c.seq.in_(seqs))).all()
    except StoreUnavailable as error:
        if not is_damage(error):
            raise
        return False
    return True
