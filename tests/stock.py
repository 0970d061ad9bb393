"""A configured folder with a migrated store, filled through the intake without HTTP, and faxhook run in it."""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import migrated
import sqlalchemy as sa
from house import CONFIGURATION, FORM

import receiver
from receiver import bootstrap, intake, settings
from receiver.cli import main
from receiver.errors import Refusal
from receiver.providers import RawCallback
from receiver.runtime import Runtime
from receiver.store import browsing, kept_receipts, new_id, now_ms, outbox, projection

FAXHOOK = [sys.executable, "-m", "receiver"]


def environment() -> dict[str, str]:
    """Of a process that finds the package, and no configuration but the one it is told."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FAXHOOK", "PROMETHEUS"))}
    return kept | {"PYTHONPATH": str(Path(receiver.__path__[0]).parent)}


class Process(subprocess.Popen[bytes]):
    """One that ends with the block it is used in, also where that fails."""

    def __exit__(self, *failure: Any) -> None:
        if failure[0] is not None:
            self.kill()
        super().__exit__(*failure)


@dataclass(frozen=True)
class Stock:
    config: Path
    runtime: Runtime

    def take(
        self, endpoint: str, body: bytes, content_type: str = FORM, *, age_ms: int = 0, reference: str = ""
    ) -> str:
        """The receipt of one callback, whatever became of it."""
        at = now_ms() - age_ms
        raw = RawCallback(body, content_type, b"", reference or None)
        arrival = intake.Arrival(self.runtime.endpoints[endpoint], raw, new_id(at), at)
        with suppress(Refusal):
            intake.process(arrival, self.runtime)
        return arrival.receipt

    def fax(self, number: int, *, status: str = "0", **fields: str) -> str:
        """One Openfax postback."""
        known = {"OutTransID": str(number), "AccountID": "123456789", "LastStatus": status}
        return self.take("openfax", urlencode(known | fields).encode())

    def fill(self, count: int) -> set[str]:
        """So many events; their ids."""
        for number in range(count):
            self.fax(1000 + number, From="Example Sender", RealCost=f"0.0{number}")
        return {event["id"] for event in self.events()}

    def events(self) -> list[dict[str, Any]]:
        with self.runtime.store.reading() as connection:
            return browsing.events(connection, self.runtime.store.tables, limit=1_000_000)

    def states(self) -> dict[str, int]:
        return Counter(event["state"] for event in self.events())

    def payload(self, event_id: str) -> bytes:
        with self.runtime.store.reading() as connection:
            found = browsing.event(connection, self.runtime.store.tables, event_id)
        assert found is not None
        assert found[1] is not None
        return found[1]

    def payloads(self) -> dict[str, bytes]:
        """Of all events, by their ids."""
        events = self.runtime.store.tables.events
        with self.runtime.store.reading() as connection:
            return {row.id: row.body for row in connection.execute(sa.select(events.c.id, events.c.body))}

    def rewrite(self, event_id: str, **values: Any) -> None:
        """Change what is stored as the event's payload, behind everybody's back."""
        events = self.runtime.store.tables.events
        with self.runtime.store.writing() as connection:
            connection.execute(events.update().where(events.c.id == event_id).values(values))

    def project(self) -> None:
        """Let everything be found that waits for it, as the projector does."""
        store = self.runtime.store
        while True:
            with store.reading() as connection:
                rows = projection.prepare(connection, store.tables, self.runtime.find_keys, 0, 500)
            if not rows:
                return
            with store.writing() as connection:
                projection.take(connection, store.tables, rows)

    def park(self, *event_ids: str) -> None:
        """Make dead letters of these, as the relay does with what the broker refuses."""
        store = self.runtime.store
        with store.writing() as connection:
            rows = [row for row in outbox.pending(connection, store.tables, 1000) if row.event_id in event_ids]
            outbox.park(connection, store.tables, rows, "refused", now_ms())

    def receipts(self) -> list[dict[str, Any]]:
        with self.runtime.store.reading() as connection:
            return kept_receipts.listing(connection, self.runtime.store.tables, limit=None)

    def audit(self) -> list[tuple[str, str]]:
        table = self.runtime.store.tables.audit
        with self.runtime.store.reading() as connection:
            return [(row.action, row.subject) for row in connection.execute(sa.select(table).order_by(table.c.seq))]

    def start(self, *arguments: str, **options: Any) -> Process:
        """faxhook with these arguments and this configuration, its output piped."""
        piped = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        command = [*FAXHOOK, *arguments, "--config", str(self.config)]
        return Process(command, env=environment(), **(piped | options))

    def consumed(self, *options: str) -> list[bytes]:
        """
        The lines of ``faxhook consume``, which must succeed. It runs in this process, with a pipe as its output.

        For what it reads; what it is as a process is tested with ``start``.
        """
        reading, writing = os.pipe()
        with open(reading, "rb") as pipe, ThreadPoolExecutor(1) as reader:
            read = reader.submit(pipe.read)
            with open(writing, "w") as output, redirect_stdout(output):
                code = main.main(["consume", *options, "--config", str(self.config)], standalone_mode=False)
            assert not code
            return read.result().splitlines()


@contextmanager
def stock(folder: Path, store_url: str, configuration: str = CONFIGURATION) -> Iterator[Stock]:
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "faxhook.toml"
    config.write_text(configuration.format(port=8000, store=store_url))
    chosen = settings.load(config, {})
    migrated.make(chosen.store.url)
    runtime = bootstrap.build(chosen)
    try:
        yield Stock(config, runtime)
    finally:
        runtime.close()
