"""The only place that builds what lives long: endpoints with their providers, the store, the writer."""

import os
import re
import time
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import replace

from sqlalchemy.engine import URL, make_url

from receiver import hosting, metrics, providers
from receiver import settings as configuration
from receiver.advice import Advisor
from receiver.auth import Claim, Gate, Surroundings, issuer_trouble, own_token_endpoint
from receiver.errors import ConfigurationError, StoreError
from receiver.providers import Provider, Source
from receiver.refusals import Refusals
from receiver.runtime import Account, Endpoint, Runtime
from receiver.settings import Settings, is_secure_url
from receiver.store import Store, figures, remembered
from receiver.store.identity import remember, verify
from receiver.store.migrating import MigrationDue, check_version, is_there
from receiver.store.nonces import Nonces
from receiver.store.trouble import StoreUnavailable
from receiver.store.writer import Writer
from receiver.stores import open_store
from receiver.system import listening
from schemas.advice import RETRIES
from schemas.event import Retryable

PLACEHOLDER = "change-me"  # the account that `faxhook init` writes
_BUSY_SECONDS = 2.0  # longer than any transaction of ours, and shorter than callbacks wait
_UTC = frozenset({"UTC", "Etc/UTC", "GMT", "Etc/GMT", "Zulu"})
_AMOUNT = re.compile(r"[0-9]{1,12}(\.[0-9]{1,12})?", re.ASCII)


def build(settings: Settings) -> Runtime:
    """
    Everything a process needs to serve. The store must have been migrated.

    Raises ConfigurationError and StoreError, which say what to do, and Unavailable while the store is away.
    """
    store = open_store(settings)
    nonces = Nonces(store)
    keys = configuration.secret_keys(settings)
    around = _around(settings, keys, nonces.claim)
    endpoints, accounts = resolve(settings, around), resolve_accounts(settings)
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
        writer=Writer(store, rules),
        advisor=rules,
        fingerprint_key=keys[0],
        identity_salt=salt.encode() if salt else None,
        nonces=nonces,
        refusals=Refusals(store),
        token_endpoint=own_token_endpoint(settings.endpoints.values(), around),
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
    remembered.note(settings.server.state_dir, store.url)


def obstacles(settings: Settings) -> list[str]:
    """What `faxhook serve` could not begin with on this machine, a sentence each."""
    found = configuration.state_dir_trouble(settings), listening.obstacle(settings.server.bind)
    return [obstacle for obstacle in found if obstacle]


def check_obstacles(settings: Settings) -> None:
    """Raise ConfigurationError for the first of them."""
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
        f" ({remembered.record(settings.server.state_dir)} remembers it). Mount its volume or restore it from a backup;"
        " or, if it is gone on purpose, begin a new one: faxhook migrate --new"
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
                count = figures.undelivered(connection, store.tables)
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


def resolve(settings: Settings, around: Surroundings | None = None) -> dict[str, Endpoint]:
    """
    The endpoints that take callbacks, with their providers and gates.

    around: None where nobody will call, and only the settings are looked at. Raises ConfigurationError naming endpoint
    and key.
    """
    accounts = resolve_accounts(settings)
    around = around or _around(settings, [b"none"], lambda _name, _expires: False)
    return {
        name: _endpoint(endpoint, accounts[name], settings, around)
        for name, endpoint in settings.endpoints.items()
        if endpoint.takes_callbacks
    }


def resolve_accounts(settings: Settings) -> dict[str, Account]:
    """Every endpoint's account, with the options of its reports. Raises ConfigurationError naming endpoint and key."""
    known = providers.load()
    return {name: _account(endpoint, known, settings) for name, endpoint in settings.endpoints.items()}


def doubts(settings: Settings) -> list[str]:
    """What was never filled in or does not fit its provider, a sentence each. ``resolve`` must have passed."""
    known = providers.load()
    unfilled = [
        f'endpoints.{endpoint.name}.account: "{endpoint.account}" stands for your account at'
        f" {known[endpoint.provider].title}; it is part of each fax's identity and cannot change later in this store"
        for endpoint in settings.endpoints.values()
        if _is_placeholder(endpoint.account)
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


def _account(endpoint: configuration.Endpoint, known: dict[str, Provider], settings: Settings) -> Account:
    provider = known.get(endpoint.provider)
    if provider is None:
        raise _wrong(settings, endpoint, "provider", "one of " + ", ".join(sorted(known)))
    if endpoint.account is None and not provider.account_from_payload:
        expected = f"the account at {provider.title}; it is part of each fax's identity for ever"
        raise _wrong(settings, endpoint, "account", expected)
    if _is_placeholder(endpoint.account) and settings.server.public_url:
        expected = f"your account at {provider.title} instead of {endpoint.account}, since public_url is set"
        raise _wrong(settings, endpoint, "account", expected)
    if endpoint.account is None and (endpoint.reports or endpoint.job_keys):
        raise _wrong(
            settings, endpoint, "account", f"the account at {provider.title}, which reports and jobs belong to"
        )
    if endpoint.timezone is None and provider.zoneless:
        expected = f"the time zone of {provider.title}'s times, which come without one"
        raise _wrong(settings, endpoint, "timezone", expected)
    if endpoint.takes_callbacks and provider.callback is None:
        expected = f"reports and no auth: {provider.title} sends no callbacks"
        raise _wrong(settings, endpoint, "auth", expected)
    if endpoint.job_keys and provider.key is None:
        expected = f"no key: jobs of {provider.title} cannot be registered, as a fax has no id before its report"
        raise _wrong(settings, endpoint, "job_keys", expected)
    return Account(
        endpoint=endpoint.name,
        provider=provider,
        source=Source(endpoint.account, endpoint.timezone, endpoint.region or provider.region),
        reports=_reports(endpoint, provider, settings),
        job_keys=endpoint.job_keys,
    )


def _reports(endpoint: configuration.Endpoint, provider: Provider, settings: Settings) -> configuration.Reports | None:
    """What the endpoint says of its reports, with the provider's own for what it leaves out."""
    given = endpoint.reports
    if given is None:
        return None
    if provider.reports is None:
        raise _wrong(settings, endpoint, "reports", f"no such table: {provider.title} has no reports")
    options = {option.name: option for option in provider.reports.options}
    for key in given.options:
        if key not in options:
            names = ", ".join([*options, "every", "requests"])
            raise _wrong(settings, endpoint, f"reports.{key}", f"one of the keys {names}")
    for option in options.values():
        value = given.options.get(option.name)
        if not value and option.default is None:
            raise _wrong(settings, endpoint, f"reports.{option.name}", option.meaning)
        if option.is_url and not all(map(is_secure_url, (value or option.default or "").split())):
            expected = "an https:// URL (http:// only to loopback), without user and password"
            raise _wrong(settings, endpoint, f"reports.{option.name}", expected)
        if option.is_amount and value and not _AMOUNT.fullmatch(value):
            raise _wrong(settings, endpoint, f"reports.{option.name}", 'a number such as "50" or "49.90"')
    complete = {name: given.options.get(name, option.default or "") for name, option in options.items()}
    return replace(given, options=complete)


def _is_placeholder(account: str | None) -> bool:
    """Whether it is what ``faxhook init`` writes for a trial."""
    return (account or "").lower().replace("_", "-") == PLACEHOLDER


def _endpoint(endpoint: configuration.Endpoint, account: Account, settings: Settings, around: Surroundings) -> Endpoint:
    provider = account.provider
    if endpoint.auth.mode == "payload" and provider.push.credentials is None:
        expected = f"another mode: {provider.title} sends no credentials inside the payload"
        raise _wrong(settings, endpoint, "auth.mode", expected)
    if provider.push.success is not None and endpoint.answer != 200:
        raise _wrong(settings, endpoint, "answer", f"200, the only answer {provider.title} understands")
    return Endpoint(
        name=endpoint.name,
        provider=provider,
        source=account.source,
        gate=Gate(endpoint, around),
        auth=endpoint.auth.mode,
        answer=endpoint.answer,
    )


def _wrong(settings: Settings, endpoint: configuration.Endpoint, key: str, expected: str) -> ConfigurationError:
    where = f" ({settings.path})" if settings.path else ""
    return ConfigurationError(f"endpoints.{endpoint.name}.{key}: expected {expected}{where}")
