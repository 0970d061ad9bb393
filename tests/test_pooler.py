"""
faxhook behind pgbouncer, and on databases with other defaults than PostgreSQL's own.

The load is small here. The long one: ``FAXHOOK_POOLER_CALLBACKS=2000 FAXHOOK_POOLER_CLIENTS=12 pytest
tests/test_pooler.py``.
"""

import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from brokers import Line
from databases import POSTGRESQL
from house import CONFIGURATION
from poolers import pgbouncer
from ports import free_port
from pulled import faxes_of, pulled
from served import Load, check, in_order, running
from sqlalchemy.engine import make_url
from stock import stock
from waiting import until

from receiver.store import Store
from receiver.store.postgresql import POOLED
from receiver.store.trouble import StoreUnavailable
from receiver.store.watching import Changes
from receiver.system.stopping import Stop

pytestmark = [pytest.mark.service("postgresql"), pytest.mark.tool("pgbouncer")]

CALLBACKS = int(os.environ.get("FAXHOOK_POOLER_CALLBACKS", "160"))
CLIENTS = int(os.environ.get("FAXHOOK_POOLER_CLIENTS", "4"))


def alter(store_url: str, setting: str) -> None:
    name = make_url(store_url).database
    with psycopg.connect(f"{POSTGRESQL}/postgres", autocommit=True) as admin:
        admin.execute(f'ALTER DATABASE "{name}" SET {setting}'.encode())


@pytest.fixture
def pooled_url(postgresql_url: str) -> Iterator[str]:
    with pgbouncer(postgresql_url) as url:
        yield url


def send(load: Load) -> list[int]:
    return [load.post() for _ in range(CALLBACKS // CLIENTS)]


def events_in(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]


@pytest.mark.parametrize("isolation", ["read committed", "serializable"])
def test_callbacks_consumer_and_reports_go_through_a_pooler(
    tmp_path: Path, postgresql_url: str, pooled_url: str, isolation: str
) -> None:
    """The store is the queue, so that the consumer goes through the pooler as well."""
    alter(postgresql_url, f"default_transaction_isolation = '{isolation}'")
    port = free_port()
    with stock(tmp_path, pooled_url, CONFIGURATION.replace("{port}", str(port))) as made:
        loads = [Load(port, f"{number}-") for number in range(CLIENTS)]
        with (
            running(made, "serve"),
            running(made, "consume", "--follow"),
            ThreadPoolExecutor(CLIENTS) as clients,
            pulled(tmp_path / "reports", pooled_url, "retarus", *faxes_of("retarus", 5)) as reports,
        ):
            until(loads[0].is_up, 60)
            answers = [clients.submit(send, load) for load in loads]
            summary = reports.reconcile()
            assert [status for answer in answers for status in answer.result() if status != 200] == []
            assert (summary.trouble, summary.filled) == ([], 5)
            until(lambda: set(made.states()) == {"published"}, 60)
            read = {event["id"] for event in events_in(tmp_path / "consume.log") if "specversion" in event}
        assert read == {event["id"] for event in made.events()}
        assert len(read) == sum(len(load.accepted) for load in loads) + 5


@pytest.mark.service("rabbitmq")
@pytest.mark.parametrize("isolation", ["read committed", "serializable"])
def test_the_relay_goes_through_a_pooler(
    tmp_path: Path, postgresql_url: str, pooled_url: str, line: Line, isolation: str
) -> None:
    alter(postgresql_url, f"default_transaction_isolation = '{isolation}'")
    port = free_port()
    with stock(tmp_path, pooled_url, CONFIGURATION.replace("{port}", str(port)) + line.toml()) as made:
        loads = [Load(port, f"{number}-") for number in range(CLIENTS)]
        with running(made, "serve"), ThreadPoolExecutor(CLIENTS) as clients:
            until(loads[0].is_up, 60)
            answers = [clients.submit(send, load) for load in loads]
            assert [status for answer in answers for status in answer.result() if status != 200] == []
            until(lambda: set(made.states()) == {"published"}, 60)
        received = line.take()
        check(made, received, *loads)
        assert in_order(received)


def test_statement_pooling_is_refused_with_a_sentence(postgresql_url: str, tmp_path: Path) -> None:
    with pgbouncer(postgresql_url, "statement") as url:
        store = Store(url)
        with pytest.raises(StoreUnavailable) as refused, store.reading():
            pass
        store.close()
    assert "pool_mode = transaction" in refused.value.trouble
    assert f"127.0.0.1:{make_url(url).port}" in refused.value.trouble


def test_a_database_that_the_pooler_cannot_reach_is_named(postgresql_url: str) -> None:
    with pgbouncer(postgresql_url) as url:
        store = Store(make_url(url).set(database="nobodys").render_as_string(hide_password=False))
        with pytest.raises(StoreUnavailable) as refused, store.reading():
            pass
        store.close()
    assert "there is no such database" in refused.value.trouble
    assert "database nobodys" in refused.value.trouble


def test_statements_are_prepared_and_changes_listened_for_where_nothing_is_in_between(
    postgresql_url: str, pooled_url: str
) -> None:
    for url, is_pooled in ((postgresql_url, False), (pooled_url, True)):
        store = Store(url)
        connection = store.engine.raw_connection()
        assert connection.info[POOLED] is is_pooled
        assert (connection.dbapi_connection.prepare_threshold is None) is is_pooled
        connection.close()
        changes = Changes(store)
        changes.note()
        changes.wait(Stop(), 0.01)
        listening = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'"
        with store.reading() as asking:
            assert asking.exec_driver_sql(listening.replace("%", "%%")).scalar_one() == (0 if is_pooled else 1)
        changes.close()
        store.close()


def test_limits_and_isolation_are_each_transactions_own_and_gone_with_it(postgresql_url: str) -> None:
    store = Store(postgresql_url)
    with store.writing() as connection:
        shown = [
            connection.exec_driver_sql(f"SHOW {name}").scalar_one()
            for name in ("transaction_isolation", "idle_in_transaction_session_timeout", "statement_timeout")
        ]
    assert shown[:2] == ["read committed", "1min"]
    assert shown[2] == "4s" or shown[2].endswith("ms")
    connection_of_ours = store.engine.raw_connection()
    cursor = connection_of_ours.cursor()
    cursor.execute("SHOW statement_timeout")
    assert cursor.fetchone() == ("0",)
    connection_of_ours.close()
    store.close()


@pytest.mark.parametrize(
    "setting",
    [
        "idle_in_transaction_session_timeout = '1ms'",
        "statement_timeout = '100ms'",
        "lock_timeout = '1ms'",
        "idle_session_timeout = '1s'",  # which a busy machine may take between two statements, if it is much shorter
        "client_encoding = 'LATIN1'",
        "search_path = ''",
    ],
)
def test_a_default_of_the_database_changes_nothing(tmp_path: Path, postgresql_url: str, setting: str) -> None:
    alter(postgresql_url, setting)
    for turn in range(3):  # each opens the store anew
        with stock(tmp_path / str(turn), postgresql_url) as made:
            made.fax(turn, To="Grüße, 漢字")
            time.sleep(1.2 if "idle_session" in setting else 0.1)
            made.fax(turn + 10)
            assert sum(made.states().values()) == 2 * turn + 2
            assert "Grüße, 漢字" in str([made.payload(event["id"]).decode() for event in made.events()])
