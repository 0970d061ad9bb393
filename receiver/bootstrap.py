"""The only place that builds what lives long: endpoints with their providers, the store, the writer."""

from contextlib import closing

import sqlalchemy as sa

from receiver import auth, metrics, providers
from receiver import settings as configuration
from receiver.errors import ConfigurationError, StoreError
from receiver.providers import Provider, Source
from receiver.runtime import Endpoint, Runtime
from receiver.settings import Settings
from receiver.store import Store, StoreUnavailable
from receiver.store.identity import remember, verify
from receiver.store.migrating import check_version
from receiver.store.writer import Writer


def build(settings: Settings) -> Runtime:
    """
    Everything a process needs to serve. The store must have been migrated.

    Raises ConfigurationError and StoreError, which say what to do, and Unavailable while the store is away.
    """
    endpoints = resolve(settings)
    store = open_store(settings)
    salt = settings.store.identity_salt
    try:
        prepare(settings, store)
    except BaseException:
        store.close()
        raise
    metrics.start_at_zero(endpoints)
    return Runtime(
        settings=settings,
        endpoints=endpoints,
        store=store,
        writer=Writer(store),
        fingerprint_key=configuration.secret_keys(settings)[0],
        identity_salt=salt.encode() if salt else None,
    )


def prepare(settings: Settings, store: Store) -> None:
    """Make sure that the store is this version's, and that identities in it stay what they are."""
    check_version(store)
    with store.writing() as connection:
        remember(connection, store.tables, settings.endpoints.values(), settings.store.identity_salt)


def check_store(settings: Settings) -> str | None:
    """
    Hold the settings against the store, if there is one yet, and change nothing; a sentence where it cannot be read.

    Raises ConfigurationError where the two contradict each other.
    """
    with closing(open_store(settings)) as store:
        if store.file is not None and not store.file.path.exists():
            return None
        try:
            check_version(store)
            with store.reading() as connection:
                verify(connection, store.tables, settings.endpoints.values(), settings.store.identity_salt)
        except StoreUnavailable as error:
            return f"store.url: the store cannot be read ({error.error})"
        except StoreError as error:
            return f"store.url: {error}"
    return None


def open_store(settings: Settings) -> Store:
    """The configured store, not yet opened. Raises ConfigurationError for a database we do not know."""
    try:
        return Store(settings.store.url)
    except (sa.exc.ArgumentError, sa.exc.NoSuchModuleError, ValueError):
        expected = "sqlite:///path/to/file.db or postgresql+psycopg://user@host/database"
        raise ConfigurationError(f"store.url: expected {expected}") from None


def resolve(settings: Settings) -> dict[str, Endpoint]:
    """The endpoints with their providers and gates. Raises ConfigurationError naming endpoint and key."""
    known = providers.load()
    return {name: _endpoint(endpoint, known, settings) for name, endpoint in settings.endpoints.items()}


def _endpoint(endpoint: configuration.Endpoint, known: dict[str, Provider], settings: Settings) -> Endpoint:
    def wrong(key: str, expected: str) -> ConfigurationError:
        where = f" ({settings.path})" if settings.path else ""
        return ConfigurationError(f"endpoints.{endpoint.name}.{key}: expected {expected}{where}")

    provider = known.get(endpoint.provider)
    if provider is None:
        raise wrong("provider", "one of " + ", ".join(sorted(known)))
    if endpoint.account is None and not provider.account_from_payload:
        raise wrong("account", f"the account at {provider.title}; it is part of each fax's identity for ever")
    if endpoint.timezone is None and provider.zoneless:
        raise wrong("timezone", f"the time zone of {provider.title}'s times, which come without one")
    if endpoint.auth.mode == "payload" and provider.callback.credentials is None:
        raise wrong("auth.mode", f"another mode: {provider.title} sends no credentials inside the payload")
    if provider.callback.success is not None and endpoint.answer != 200:
        raise wrong("answer", f"200, the only answer {provider.title} understands")
    return Endpoint(
        name=endpoint.name,
        provider=provider,
        source=Source(endpoint.account, endpoint.timezone, endpoint.region or provider.region),
        gate=auth.gate(endpoint, settings.server.trusted_proxies),
        answer=endpoint.answer,
    )
