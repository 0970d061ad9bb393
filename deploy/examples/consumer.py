"""
A consumer of fax events on RabbitMQ: keeps the present state of each fax in a table of your database.

    python consumer.py amqp://user:password@host/vhost faxes.db [queue]

Needs kombu (pip install kombu). Each event arrives at least once, so the same one may come twice; and an older state of
a fax may come after a newer one. Replace `apply` with what your company does when a fax has ended.
"""

import json
import signal
import sqlite3
import sys
import time

from kombu import Connection, Consumer, Queue

SCHEMA = """
CREATE TABLE IF NOT EXISTS seen (event_id TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS faxes (fax_id TEXT PRIMARY KEY, revision INTEGER, outcome TEXT, reason TEXT, reference TEXT);
"""


def handle(database, event):
    """The event id and the effect in one transaction: after a crash there are both, or neither."""
    data = event["data"]
    with database:
        if not database.execute("INSERT OR IGNORE INTO seen VALUES (?)", [event["id"]]).rowcount:
            return  # a repetition
        known = database.execute("SELECT revision FROM faxes WHERE fax_id = ?", [data["fax_id"]]).fetchone()
        if known is None or data["revision"] > known[0]:  # else: older than what we know
            apply(database, event["type"], data)


def apply(database, event_type, data):
    """An event says all that is known of its fax, so an amendment replaces what the completion said."""
    reason = data["failure"]["reason"] if data["failure"] else None
    row = [data["fax_id"], data["revision"], data["outcome"], reason, data["reference"]["id"]]
    database.execute("INSERT OR REPLACE INTO faxes VALUES (?, ?, ?, ?, ?)", row)
    # What may be done now: null where it was delivered, and not in events that were made before it was added. A retry
    # is a fax of its own: send it with the same reference, max_tries times at most, and never once one has arrived.
    advice = data.get("advice")
    to_do = advice["action"] if advice else "nothing"
    print("corrected" if event_type == "fax.amended.v1" else "ended", *row, to_do, flush=True)


def is_ours(event):
    """Fields and types that we do not know are no reason to refuse; something else altogether is."""
    known = ("fax.completed.v1", "fax.amended.v1")
    return isinstance(event, dict) and event.get("type") in known and isinstance(event.get("data"), dict)


def receive(database, message):
    try:
        event = json.loads(message.body)
    except ValueError:
        event = None
    if is_ours(event):
        handle(database, event)
        message.ack()  # after the commit: if we die in between, the event comes again and is known
    else:
        message.reject()  # to the queue fax.completed.dead, for a person to look at


def main(url, file, queue="fax.completed"):
    database = sqlite3.connect(file)
    database.executescript(SCHEMA)
    while True:
        try:
            with Connection(url, heartbeat=10, connect_timeout=5) as connection:
                # The queue is faxhook's: it is not declared here. 50 messages at most are on their way to us.
                consumer = Consumer(
                    connection.channel(),
                    [Queue(queue, no_declare=True)],
                    on_message=lambda message: receive(database, message),
                    prefetch_count=50,
                )
                with consumer:
                    while True:
                        try:
                            connection.drain_events(timeout=1)
                        except TimeoutError:
                            connection.heartbeat_check()
        except (*Connection(url).connection_errors, *Connection(url).channel_errors) as error:
            print("RabbitMQ is away:", type(error).__name__, file=sys.stderr, flush=True)
            time.sleep(2)


if __name__ == "__main__":
    # What is not acknowledged comes again. As the first process of a container it would not end of itself.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    main(*sys.argv[1:])
