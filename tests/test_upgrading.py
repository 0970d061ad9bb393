"""
From one version to the next and back, with callbacks all the while: nothing that was acknowledged is lost.

The next version is this tree with one more migration, which adds: what a release may bring without a word.
"""

import json
import shutil
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPException
from pathlib import Path

import migrated
import pytest
from brokers import Received
from house import CONFIGURATION, ask
from moving import SERVICE, StoreOf
from ports import free_port
from served import Load, in_order
from stock import FAXHOOK, environment, stock
from waiting import until

import receiver
from receiver.store import Store, migrating
from receiver.store.migrating import migrate, newest_revision

CALLBACKS = 30  # that are answered at each stage
ADDED = """
import sqlalchemy as sa
from alembic import op

revision, down_revision = "9999", "{before}"


def upgrade():
    sqlite = op.get_bind().dialect.name == "sqlite"
    prefix, schema = ("faxhook_", None) if sqlite else ("", "faxhook")
    op.create_table(prefix + "more", sa.Column("name", sa.Text, primary_key=True), schema=schema)
    for table in ("faxes", "events", "receipts", "waiting"):
        op.add_column(prefix + table, sa.Column("more", sa.Text), schema=schema)
    op.create_index(prefix + "events_more", prefix + "events", ["more"], schema=schema)
"""


class Installed:
    """A version in a folder of its own, and how it is configured there: its port, and the store that both share."""

    def __init__(self, folder: Path, code: Path, store: str) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.port = free_port()
        self._environment = environment() | {"PYTHONPATH": str(code), "WEB_CONCURRENCY": "1"}
        text = CONFIGURATION.replace("[server]", '[server]\nsecret_key = "the same one of all machines"')
        (folder / "faxhook.toml").write_text(text.format(port=self.port, store=store))

    def run(self, *arguments: str) -> str:
        command = [*FAXHOOK, *arguments]
        ended = subprocess.run(
            command, check=True, stdout=subprocess.PIPE, cwd=self.folder, env=self._environment, text=True
        )
        return ended.stdout

    @contextmanager
    def serving(self) -> Iterator[None]:
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [*FAXHOOK, "serve"], cwd=self.folder, env=self._environment, stdout=log, stderr=log
            )
        try:
            until(lambda: process.poll() is not None or self._is_ready(), 120)
            assert process.poll() is None, (self.folder / "log").read_text()
            yield
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
        finally:
            process.kill()
            process.wait()

    def _is_ready(self) -> bool:
        try:
            return ask(self.port, "GET", "/healthz").status == 200
        except OSError:
            return False


@contextmanager
def sending(load: Load, answers: Counter[int]) -> Iterator[None]:
    """Callbacks, one after the other, until the block ends. answers: how often each status was given."""
    ended = threading.Event()

    def send() -> None:
        while not ended.is_set():
            try:
                answers[load.post()] += 1
            except (OSError, HTTPException):
                ended.wait(0.05)  # its instance is being stopped or started

    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield
    finally:
        ended.set()
        sender.join()


def some_more(load: Load) -> None:
    count = len(load.accepted)
    until(lambda: len(load.accepted) >= count + CALLBACKS, 120)


@pytest.fixture(scope="module")
def next_version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This tree with a migration more; compiled files come along."""
    folder = tmp_path_factory.mktemp("next")
    for package in ("receiver", "schemas"):
        shutil.copytree(Path(receiver.__path__[0]).parent / package, folder / package)
    versions = folder / Path(migrating.__file__).parent.relative_to(Path(receiver.__path__[0]).parent)
    (versions / "migrations" / "versions" / "9999_more.py").write_text(ADDED.format(before=newest_revision()))
    return folder


@pytest.mark.campaign
@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgresql", marks=SERVICE)])
def test_an_upgrade_and_its_way_back_lose_nothing(
    store_of: StoreOf, next_version: Path, tmp_path: Path, kind: str
) -> None:
    url = store_of(kind, "a")
    before = Installed(tmp_path / "before", Path(receiver.__path__[0]).parent, url)
    after = Installed(tmp_path / "after", next_version, url)
    migrated.make(url)
    old, new = Load(before.port, "7"), Load(after.port, "8")
    answers: Counter[int] = Counter()
    with sending(old, answers), sending(new, answers), ExitStack() as first, ExitStack() as second, ExitStack() as back:
        first.enter_context(before.serving())
        some_more(old)
        assert after.run("migrate") == "the store has been migrated\n"
        some_more(old)
        second.enter_context(after.serving())  # one machine after the other
        some_more(new)
        first.close()
        some_more(new)
        with closing(Store(url)) as store:
            assert migrate(store) is False, "the way back needs nothing"
        back.enter_context(before.serving())
        some_more(old)
        second.close()
        some_more(old)
    with stock(tmp_path / "last", url) as made:
        lines = made.consumed()
        arrived = Counter(
            (fact["provider_job_id"], fact["outcome"]) for fact in (json.loads(line)["data"] for line in lines)
        )
        told = old.accepted | new.accepted
        assert told <= arrived.keys() <= old.tried | new.tried, answers
        assert set(arrived.values()) == {1}
        assert in_order([Received(line, "", {}) for line in lines])
        assert set(made.states()) == {"published"}
