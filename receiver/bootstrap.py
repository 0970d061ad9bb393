"""The only place that builds what lives long: endpoints with their providers, the store, the writer."""

import os
import time
from collections.abc import Iterable
from contextlib import closing

from sqlalchemy.engine import URL, make_url

from receiver import hosting, metrics, providers
from receiver import settings as configuration
from receiver.advice import Advisor
from receiver.auth import issuer_trouble, own_token_endpoint
from receiver.errors import ConfigurationError, StoreError
from receiver.logs import log
from receiver.outgoing.sinks import publisher
from receiver.providers import Provider
from receiver.refusals import Refusals
from receiver.resolving import around, is_placeholder, resolve, resolve_accounts
from receiver.runtime import Runtime
from receiver.settings import Settings
from receiver.store import Store, outbox, remembered, sinks
from receiver.store.identity import remember, verify
from receiver.store.migrating import MigrationDue, check_version, is_there
from receiver.store.nonces import Nonces
from receiver.store.projection import Keys
from receiver.store.trouble import Limits, StoreUnavailable
from receiver.store.writer import Writer
from receiver.stores import open_store
from receiver.system import listening
from schemas.advice import RETRIES
from schemas.event import Retryable

_OF_THE_CONSOLE = Limits(seconds=2.0, connections=2)  # in each process
_BUSY_SECONDS = 2.0  # longer than any transaction of ours, and shorter than callbacks wait
_UTC = frozenset({"UTC", "Etc/UTC", "GMT", "Etc/GMT", "Zulu"})


def build(settings: Settings) -> Runtime:
    """
    Everything a process needs to serve. The store must have been migrated.

    Raises ConfigurationError and StoreError, which say what to do, and Unavailable while the store is away.
    """
    store = open_store(settings)
    nonces = Nonces(store)
    keys = configuration.secret_keys(settings)
    surroundings = around(settings, keys, nonces.claim)
    endpoints, accounts = resolve(settings, surroundings), resolve_accounts(settings)
    salt = settings.store.identity_salt
    rules = advisor(settings)
    try:
        prepare(settings, store)
    except BaseException:
        store.close()
        raise
    metrics.start_at_zero(accounts, (account.provider.name for account in accounts.values()))
    return Runtime(
        settings=settings,
        endpoints=endpoints,
        accounts=accounts,
        store=store,
        reader=open_store(settings, _OF_THE_CONSOLE) if settings.console is not None else None,
        writer=Writer(store, rules, settings.filters),
        advisor=rules,
        fingerprint_key=keys[0],
        find_keys=Keys(keys),
        identity_salt=salt.encode() if salt else None,
        nonces=nonces,
        refusals=Refusals(store),
        token_endpoint=own_token_endpoint(settings.endpoints.values(), surroundings),
    )


def advisor(settings: Settings) -> Advisor:
    """Advises by the rules of all providers and by what the configuration says instead of them."""
    of_providers = {name: provider.advice for name, provider in providers.load().items()}
    return Advisor(of_providers, settings.advice)


def prepare(settings: Settings, store: Store) -> None:
    """Make sure that the store is this version's, and that identities in it stay what they are."""
    check_version(store)
    with store.writing() as connection:
        remember(connection, store.tables, settings.endpoints.values(), settings.store.identity_salt)
        dropped = sinks.register(connection, store.tables, settings.every_sink)
    for name in dropped:
        log.warning("sink_dropped", sink=name)
    remembered.note(settings.server.state_dir, store.url)


def obstacles(settings: Settings) -> list[str]:
    """What `faxhook serve` could not begin with on this machine, a sentence each."""
    found = configuration.state_dir_trouble(settings), listening.obstacle(settings.server.bind)
    return [obstacle for obstacle in found if obstacle]


def check_obstacles(settings: Settings) -> None:
    """Raise ConfigurationError for the first of them, and for a sink that cannot be as it is configured."""
    for sink in settings.sinks.values():
        publisher(sink, settings.server.state_dir)
    for obstacle in obstacles(settings):
        raise ConfigurationError(f"{settings.path}: {obstacle}" if settings.path else obstacle)


def refuse_vanished(settings: Settings, store: Store) -> None:
    """
    Raise ConfigurationError where the store was used with this state_dir before, and is not there now or is empty.

    A volume that is not mounted looks like a first run: begun anew, every fax would be announced a second time.
    """
    known = remembered.find(settings.server.state_dir, store.url)
    if known is None or settings.store.ephemeral_ok or is_there(store):
        return
    raise ConfigurationError(
        f"store.url: {known.url} has been used since {known.since}, and now there is no store"
        f" ({remembered.record(settings.server.state_dir)} remembers it). Mount its volume or restore it from a backup"
        " (faxhook store restore); or, if it is gone on purpose, begin a new one: faxhook migrate --new"
    )


def former_stores(settings: Settings) -> list[str]:
    """A sentence for each store that was used before the configured one and is not known to be empty."""
    here = make_url(settings.store.url)
    return [
        f"store.url: the store that was used before, {former.url}, {left}. Nothing takes them from there: until it is"
        f" empty, run `faxhook consume` or `faxhook relay` with that store.url; or take it out of"
        f" {remembered.record(settings.server.state_dir)}"
        for former in remembered.remembered(settings.server.state_dir)
        if former.url != remembered.place(here) and (left := _left_in(former.url, here))
    ]


def _left_in(former: str, here: URL) -> str | None:
    """What a store still has for consumers, in words; None where there is nothing."""
    url = make_url(former)
    if (url.host, url.username) == (here.host, here.username):
        url = url.set(password=here.password, query=here.query)
    with closing(Store(url.render_as_string(hide_password=False))) as store:
        if store.file is not None and not store.file.exists():
            return None  # moved, or removed on purpose
        try:
            with store.reading() as connection:
                count = sum(
                    outbox.undelivered(connection, store.tables, one)
                    for one in sinks.waited_for(connection, store.tables)
                )
        except StoreUnavailable as error:
            return f"cannot be read and may have undelivered events ({error.trouble})"
    return f"has {count} undelivered event{'s' if count > 1 else ''}" if count else None


def check_store(settings: Settings, *, will_migrate: bool = True) -> str | None:
    """
    Hold the settings against the store, if there is one yet, and change nothing; a sentence where it cannot be used.

    will_migrate: whether a SQLite store that is missing, or of an older version, is brought up to date, as at a start.
    Raises ConfigurationError where the two contradict each other.
    """
    with closing(open_store(settings)) as store:
        try:
            refuse_vanished(settings, store)
            if will_migrate and store.file is not None and not store.file.exists():
                return None
            check_version(store)
            with store.reading() as connection:
                verify(connection, store.tables, settings.endpoints.values(), settings.store.identity_salt)
                sinks.verify(connection, store.tables, settings.every_sink)
        except StoreUnavailable as error:
            return f"store.url: {error.trouble}"
        except MigrationDue as error:
            return None if will_migrate and store.file is not None else f"store.url: {error}"
        except StoreError as error:
            return f"store.url: {error}"
    return None


def busy_store(settings: Settings) -> str | None:
    """
    A sentence where another process keeps the SQLite store from being written for too long. Nothing is written.

    Readers do not notice: everything looks well while callbacks are refused.
    """
    with closing(open_store(settings)) as store:
        # A lock file made by another user would keep the service out.
        if store.file is None or store.file.owner() != os.geteuid():
            return None
        try:
            with store.writing(time.monotonic() + _BUSY_SECONDS):
                return None
        except StoreUnavailable as error:
            return f"store.url: {error.trouble}. While it lasts, callbacks are answered with 503"


def check_issuers(settings: Settings) -> list[str]:
    """Ask the identity providers of the endpoints; a sentence for each that does not answer as it must."""
    found = ((endpoint.name, issuer_trouble(endpoint)) for endpoint in settings.endpoints.values())
    return [
        f"endpoints.{name}.auth: its identity provider cannot be used now ({trouble}); until it can, callbacks are 503"
        for name, trouble in found
        if trouble
    ]


def doubts(settings: Settings) -> list[str]:
    """What was never filled in or does not fit its provider, a sentence each. ``resolve`` must have passed."""
    known = providers.load()
    unfilled = [
        f'endpoints.{endpoint.name}.account: "{endpoint.account}" stands for your account at'
        f" {known[endpoint.provider].title}; it is part of each fax's identity and cannot change later in this store"
        for endpoint in settings.endpoints.values()
        if is_placeholder(endpoint.account)
    ]
    unlikely = [
        f"endpoints.{endpoint.name}.timezone: {endpoint.timezone}, but {provider.title}'s times are likely those of"
        f" {provider.timezone}; a wrong zone moves every time by hours"
        for endpoint in settings.endpoints.values()
        if str(endpoint.timezone) in _UTC and (provider := known[endpoint.provider]).timezone
    ]
    configured = [known[endpoint.provider] for endpoint in settings.endpoints.values()]
    useless = [
        f"advice.{reason}.action: {override.action} is never advised, since no code of your providers with this reason"
        " is retryable"
        for reason, override in settings.advice.items()
        if override.action in RETRIES and _never_retryable(reason, configured)
    ]
    return (
        unfilled
        + unlikely
        + useless
        + [
            f'endpoints.{endpoint.name}.auth.mode: "{endpoint.auth.mode}" cannot work, as far as {provider.title}'
            f" documents; what can: {', '.join(provider.push.auth_modes)}, and tokens with each of them"
            for endpoint in settings.endpoints.values()
            if endpoint.takes_callbacks
            and endpoint.auth.mode not in (provider := known[endpoint.provider]).push.auth_modes
        ]
    )


def _never_retryable(reason: str, of: Iterable[Provider]) -> bool:
    failures = [verdict.failure for one in of for verdict in one.codes.verdicts.values() if verdict]
    found = {failure.retryable for failure in failures if failure and failure.reason == reason}
    return found == {Retryable.NO}


def all_doubts(settings: Settings) -> list[str]:
    """All that the configuration alone gives reason to doubt, a sentence each. ``resolve`` must have passed."""
    return [
        *configuration.doubts(settings),
        *doubts(settings),
        *hosting.doubts(settings),
        *former_stores(settings),
    ]
