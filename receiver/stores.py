"""The store that the configuration names."""

import sqlalchemy as sa

from receiver.errors import ConfigurationError
from receiver.settings import Settings
from receiver.store import Store


def open_store(settings: Settings) -> Store:
    """The configured store, not yet opened. Raises ConfigurationError for a database we do not know."""
    try:
        return Store(settings.store.url)
    except (sa.exc.ArgumentError, sa.exc.NoSuchModuleError, ValueError):
        expected = "sqlite:///path/to/file.db or postgresql+psycopg://user@host/database"
        raise ConfigurationError(f"store.url: expected {expected}") from None
