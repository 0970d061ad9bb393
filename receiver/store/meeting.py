"""
A fax and its registered job never pass each other unseen.

On PostgreSQL two transactions that begin together see nothing of each other: the one records the fax and finds no job,
the other registers the job and finds no fax. So recording locks the faxes' buckets, shared, before it looks for jobs,
and registering locks them alone before it looks for faxes. SQLite has one writer at a time.
"""

from collections.abc import Iterable

_SPACE = 0x6661786A  # of advisory locks: "faxj"
_LOCK = "SELECT {function}({space}, bucket) FROM unnest(%(buckets)s::int[]) AS bucket"
SHARED = _LOCK.format(function="pg_advisory_xact_lock_shared", space=_SPACE)
ALONE = _LOCK.format(function="pg_advisory_xact_lock", space=_SPACE)


def buckets(fax_ids: Iterable[str]) -> dict[str, list[int]]:
    """
    The parameters of both statements: one bucket of 256 for each of these faxes.

    In one order, so that two who lock several never wait for each other.
    """
    return {"buckets": sorted({int(fax_id[:2], 16) for fax_id in fax_ids})}
