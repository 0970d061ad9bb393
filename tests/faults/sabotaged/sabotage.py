"""
faxhook broken on purpose, each time at one point that a promise rests on.

``test_sabotage.py`` in the folder above says which check of ours finds each of them.
"""

import os
import secrets
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path

import sqlalchemy as sa

from receiver import body
from receiver.outgoing import delivery
from receiver.store import clock, contributions, outbox, projection, retention, sqlite, sqlite_rows, writer
from receiver.store.recording import record
from receiver.store.submissions import Announcement


def apply(name):
    """Break it so in this process and in those that it starts."""
    SABOTAGES[name]()
    start = subprocess.Popen.__init__

    def broken_as_well(self, *arguments, env=None, **options):
        env = dict(os.environ if env is None else env)
        paths = [str(Path(__file__).parent), env.get("PYTHONPATH", "")]
        env |= {"SABOTAGE": name, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
        start(self, *arguments, env=env, **options)

    subprocess.Popen.__init__ = broken_as_well


def answer_before_commit():
    transact = writer.Writer._transact

    class Enough(Exception):  # noqa: N818 - no error
        pass

    def answered_at_once(self, group, deadline, others_may_join):
        results = []
        with suppress(Enough), self._store.recording(deadline) as cursor:
            if others_may_join:
                self._join(group)
            results += record(cursor, self._store.engine.dialect, [one.submission for one in group], self._advisor)
            raise Enough
        self._syncs.append(0.0)
        threading.Timer(0.02, transact, [self, group, time.monotonic() + 4, False]).start()
        return results

    writer.Writer._transact = answered_at_once


def synchronous_off():
    engine_of = sqlite._engine

    def weak(url, file, limits):
        engine = engine_of(url, file, limits)
        sa.event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF"))
        return engine

    sqlite._engine = weak


def relay_marks_before_confirm():
    send = delivery.Delivery._send

    def marked_first(self, rows):
        self._confirmed += rows
        self._mark()
        trouble = send(self, rows)
        self._confirmed = []
        return trouble

    delivery.Delivery._send = marked_first


def consumer_takes_before_it_has_written():
    lease = outbox.lease

    def taken_at_once(connection, tables, holder, limit, now):
        whole, damaged = lease(connection, tables, holder, limit, now)
        outbox.acknowledge(connection, tables, holder, whole, now)
        return whole, damaged

    outbox.lease = taken_at_once


def no_dedup():
    def never_the_same(self):
        object.__setattr__(self, "subject", str(self.fax_id))
        object.__setattr__(self, "digest", secrets.token_hex(32))

    Announcement.__post_init__ = never_the_same


def no_length_check():
    def whatever_comes(stream, _announced, _max_body, _deadline, _is_wanted):
        return b"".join(iter(lambda: stream.read(65536), b""))

    body._read_to_end = whatever_comes
    body.Arrived.whole = lambda self, _announced, _max_body, _is_wanted: self.getvalue()


def nothing_waits():
    run = sqlite_rows.SqliteRows._run

    def but_waiting(self, statement, rows):
        if statement != sqlite_rows._WAIT:
            run(self, statement, rows)

    sqlite_rows.SqliteRows._run = but_waiting


def any_holder_acknowledges():
    def whoever_holds_them(connection, tables, _holder, rows, now):
        return outbox._take(connection, tables, rows, now, sa.true(), outbox.QUEUE)

    outbox.acknowledge = whoever_holds_them


def relay_never_goes_back():
    def onwards(self, after, held):
        turns = self._place._turns
        rows = self._read(max(after, turns[-1][1]), held)
        if rows:
            turns.append((0.0, rows[0].turn - 1))
        return rows

    delivery._Waiting.read = onwards


def retention_believes_any_clock():
    clock.RetentionClock.look = lambda self, _connection: self._wall_ms()


def retention_forgets_what_waits():
    retention._Purge._delivered = lambda _self, seqs: list(seqs)


def order_of_a_fax_is_not_kept():
    def whatever_is_free(connection, tables, after, held):
        rows = outbox._read(connection, tables, after, 10_000)
        yield [row for row in rows if row.fax_id not in held and row.holder is None]

    outbox._free = whatever_is_free


def projector_skips():
    add = projection._add

    def but_some(connection, tables, found):
        add(connection, tables, [(key, seq) for key, seq in found if seq % 50])

    projection._add = but_some


def an_amendment_counts_as_another_fax():
    contributions._counted = lambda _connection, _tables, _seqs: {}


def checksums_are_not_looked_at():
    outbox.checksum = lambda _event_id, _body: ANYTHING


class _Anything(str):
    """Equal to all."""

    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other):
        return True

    def __ne__(self, other):
        return False


ANYTHING = _Anything()
SABOTAGES = {
    one.__name__: one
    for one in (
        answer_before_commit,
        synchronous_off,
        relay_marks_before_confirm,
        consumer_takes_before_it_has_written,
        no_dedup,
        no_length_check,
        nothing_waits,
        any_holder_acknowledges,
        relay_never_goes_back,
        retention_believes_any_clock,
        retention_forgets_what_waits,
        order_of_a_fax_is_not_kept,
        checksums_are_not_looked_at,
        projector_skips,
        an_amendment_counts_as_another_fax,
    )
}
