"""Stores with this version's tables: migrated once for a test process, and copied from then on."""

import tempfile
from contextlib import closing
from functools import cache
from pathlib import Path

from receiver.store import Store
from receiver.store.migrating import migrate


@cache
def _sqlite() -> bytes:
    """The file of an empty store."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "faxhook.db"
        with closing(Store(f"sqlite:///{path}")) as store:
            migrate(store)
        assert not path.with_name("faxhook.db-wal").exists()
        return path.read_bytes()


def make(url: str) -> None:
    """What ``faxhook migrate`` would make; nothing where there is a store already."""
    with closing(Store(url)) as store:
        if store.file is None or store.file.exists():
            migrate(store)
        else:
            store.create_file()
            store.file.path.write_bytes(_sqlite())
