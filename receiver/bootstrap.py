"""The only place that builds what lives long: endpoints with their providers, the store, the writer."""

from collections.abc import Sequence
from contextlib import closing

import sqlalchemy as sa

from receiver import metrics, providers
from receiver import settings as configuration
from receiver.auth import Claim, Gate, Surroundings, issuer_trouble, own_token_endpoint
from receiver.errors import ConfigurationError, StoreError
from receiver.providers import Provider, Source
from receiver.runtime import Endpoint, Runtime
from receiver.settings import Settings
from receiver.store import Store, StoreUnavailable
from receiver.store.identity import remember, verify
from receiver.store.migrating import check_version
from receiver.store.nonces import Nonces
from receiver.store.writer import Writer


def build(settings: Settings) -> Runtime:
    """
    Everything a process needs to serve. The store must have been migrated.

    Raises ConfigurationError and StoreError, which say what to do, and Unavailable while the store is away.
    """
    store = open_store(settings)
    nonces = Nonces(store)
    keys = configuration.secret_keys(settings)
    around = _around(settings, keys, nonces.claim)
    endpoints = resolve(settings, around)
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
        fingerprint_key=keys[0],
        identity_salt=salt.encode() if salt else None,
        nonces=nonces,
        token_endpoint=own_token_endpoint(settings.endpoints.values(), around),
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


def check_issuers(settings: Settings) -> list[str]:
    """Ask the identity providers of the endpoints; a sentence for each that does not answer as it must."""
    found = ((endpoint.name, issuer_trouble(endpoint)) for endpoint in settings.endpoints.values())
    return [
        f"endpoints.{name}.auth: its identity provider cannot be used now ({trouble}); until it can, callbacks are 503"
        for name, trouble in found
        if trouble
    ]


def open_store(settings: Settings) -> Store:
    """The configured store, not yet opened. Raises ConfigurationError for a database we do not know."""
    try:
        return Store(settings.store.url)
    except (sa.exc.ArgumentError, sa.exc.NoSuchModuleError, ValueError):
        expected = "sqlite:///path/to/file.db or postgresql+psycopg://user@host/database"
        raise ConfigurationError(f"store.url: expected {expected}") from None


def resolve(settings: Settings, around: Surroundings | None = None) -> dict[str, Endpoint]:
    """
    The endpoints with their providers and gates. Raises ConfigurationError naming endpoint and key.

    around: None where nobody will call, and only the settings are looked at.
    """
    known = providers.load()
    around = around or _around(settings, [b"none"], lambda _name, _expires: False)
    return {name: _endpoint(endpoint, known, settings, around) for name, endpoint in settings.endpoints.items()}


def doubts(settings: Settings) -> list[str]:
    """Where a provider cannot do what its endpoint asks for, a sentence each. ``resolve`` must have passed."""
    known = providers.load()
    return [
        f'endpoints.{endpoint.name}.auth.mode: "{endpoint.auth.mode}" cannot work, as far as {provider.title}'
        f" documents; what can: {', '.join(provider.auth_modes)}, and tokens with each of them"
        for endpoint in settings.endpoints.values()
        if endpoint.auth.mode not in (provider := known[endpoint.provider]).auth_modes
    ]


def _around(settings: Settings, keys: Sequence[bytes], claim: Claim) -> Surroundings:
    return Surroundings(
        settings.server.trusted_proxies,
        keys,
        claim,
        client_certificate_header=settings.server.client_certificate_header,
        state_dir=settings.server.state_dir,
        public_url=settings.server.public_url,
        clients=settings.clients,
    )


def _endpoint(
    endpoint: configuration.Endpoint, known: dict[str, Provider], settings: Settings, around: Surroundings
) -> Endpoint:
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
        gate=Gate(endpoint, around),
        answer=endpoint.answer,
    )
