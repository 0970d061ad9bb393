"""The store that the configuration names."""

import sqlalchemy as sa

from receiver.errors import ConfigurationError
from receiver.settings import Settings
from receiver.store import Store
from receiver.store.trouble import LIMITS, Limits


def open_store(settings: Settings, limits: Limits = LIMITS) -> Store:
    """The configured store, not yet opened. Raises ConfigurationError for a database we do not know."""
    try:
        return Store(settings.store.url, limits)
    except (sa.exc.ArgumentError, sa.exc.NoSuchModuleError, ValueError):
        expected = "sqlite:///path/to/file.db or postgresql+psycopg://user@host/database"
        raise ConfigurationError(f"store.url: expected {expected}") from None
