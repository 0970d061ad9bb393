"""Names that may be used once, in SQLite's file of their own."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from receiver.store.nonces import _SqliteNames
from receiver.store.trouble import StoreUnavailable


def test_workers_that_open_the_file_in_the_same_moment_wait_for_each_other(tmp_path: Path) -> None:
    """One of them got SQLITE_BUSY at once, and its first caller a 503."""
    together = threading.Barrier(6)

    def first_claim(database: Path) -> bool:
        names = _SqliteNames(database)
        together.wait(60)
        try:
            return names.claim("nonce:00000001", 9e9)
        finally:
            names.close()

    with ThreadPoolExecutor(6) as workers:
        for attempt in range(40):
            database = tmp_path / f"{attempt}.db"
            assert sum(workers.map(first_claim, [database] * 6)) == 1


def test_where_the_file_is_replaced_all_workers_go_on_with_the_new_one(tmp_path: Path) -> None:
    """What is claimed in a deleted file, nobody else sees: the same answer got in once at each worker."""
    workers = [_SqliteNames(tmp_path / "faxhook.db") for _ in range(2)]
    try:
        assert [worker.claim("before", 9e9) for worker in workers] == [True, False]
        for file in tmp_path.glob("faxhook.db.nonces*"):
            file.unlink()
        assert [worker.claim("after", 9e9) for worker in workers] == [True, False]
    finally:
        for worker in workers:
            worker.close()


def test_a_damaged_file_is_begun_anew_and_once_only(tmp_path: Path) -> None:
    workers = [_SqliteNames(tmp_path / "faxhook.db") for _ in range(2)]
    (tmp_path / "faxhook.db.nonces").write_bytes(b"no database" * 1000)
    try:
        with pytest.raises(StoreUnavailable):
            workers[0].claim("nonce", 9e9)
        assert [worker.claim("nonce", 9e9) for worker in workers] == [True, False]
    finally:
        for worker in workers:
            worker.close()
