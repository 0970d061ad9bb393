"""
A consumer of fax events over HTTP: keeps the present state of each fax in a table of your database.

    WEBHOOK_SECRET=whsec_... python3 consumer.py 127.0.0.1:3000 faxes.db

Of one file, and it needs nothing but Python. Put a proxy in front of it that speaks TLS. WEBHOOK_SECRET is what
`secrets` of the sink has; two with a blank between them while they are exchanged. Each event arrives at least once, so
the same one may come twice; and an older state of a fax may come after a newer one. Replace `apply` with what your
company does when a fax has ended. `faxhook verify-consumer http://127.0.0.1:3000/` tries all of it.
"""

import base64
import hmac
import json
import os
import sqlite3
import sys
import time
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOLERANCE = 300  # seconds that a signature may be old, or that our clock may be wrong
LARGEST = 1024 * 1024  # bytes; an event has some kilobytes
SCHEMA = """
CREATE TABLE IF NOT EXISTS seen (event_id TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS faxes (fax_id TEXT PRIMARY KEY, revision INTEGER, outcome TEXT, reason TEXT, reference TEXT);
"""


def is_genuine(keys, headers, body):
    """As Standard Webhooks has it: over the bytes as they came, before anything is read in them."""
    event_id, at = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not event_id or not at.isdecimal() or abs(time.time() - int(at)) > TOLERANCE:
        return False
    signed = f"{event_id}.{at}.".encode() + body
    right = ["v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode() for key in keys]
    given = headers.get("webhook-signature", "").split()
    return any(hmac.compare_digest(one.encode(), ours.encode()) for one in given for ours in right)


def handle(file, event):
    """The event id and the effect in one transaction: after a crash there are both, or neither."""
    if event.get("type") not in ("fax.completed.v1", "fax.amended.v1"):
        return  # a later version's: an error would make it come again for days
    data = event["data"]
    with closing(sqlite3.connect(file, timeout=8, isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")  # whoever has the same event at this moment waits here
        if not database.execute("INSERT OR IGNORE INTO seen VALUES (?)", [event["id"]]).rowcount:
            return  # a repetition
        known = database.execute("SELECT revision FROM faxes WHERE fax_id = ?", [data["fax_id"]]).fetchone()
        if known is None or data["revision"] > known[0]:  # else: older than what we know
            apply(database, event["type"], data)
        database.execute("COMMIT")


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


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # so that connections are used again
    timeout = 60  # seconds that a connection may be silent

    def do_POST(self):
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > LARGEST:
            self.close_connection = True
            return self.answer(413)
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            return None  # its sender is gone
        if not is_genuine(self.server.keys, self.headers, body):
            return self.answer(401)
        try:
            handle(self.server.file, json.loads(body))
        except sqlite3.OperationalError as error:
            print("the database is away:", error, file=sys.stderr, flush=True)
            return self.answer(503)  # the event comes again
        return self.answer(204)  # after the commit: if we die before, the event comes again

    def answer(self, status):
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        """Nothing: the path may be a secret."""


class Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True


def main(address, file):
    host, _, port = address.rpartition(":")
    with closing(sqlite3.connect(file)) as database:
        database.executescript(SCHEMA)
    server = Server((host, int(port)), Handler)
    server.file = file
    server.keys = [base64.b64decode(one.removeprefix("whsec_")) for one in os.environ["WEBHOOK_SECRET"].split()]
    print("listening on", address, file=sys.stderr, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
