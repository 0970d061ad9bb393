import pytest
from desk import console


@pytest.fixture
def desk(tmp_path, sqlite_url):
    """A console with passwords, on a fresh SQLite store."""
    with console(tmp_path, sqlite_url) as at:
        yield at


@pytest.fixture
def desk_anywhere(tmp_path, store_url):
    """The same on each kind of store."""
    with console(tmp_path, store_url) as at:
        yield at
