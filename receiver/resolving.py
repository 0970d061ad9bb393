"""Configured endpoints and the providers they name, put together; what does not fit is refused with key and reason."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from receiver import providers
from receiver import settings as configuration
from receiver.auth import Claim, Gate, Surroundings
from receiver.errors import ConfigurationError
from receiver.providers import Provider, Source
from receiver.runtime import Account, Endpoint
from receiver.settings import Settings, is_secure_url

_PLACEHOLDER = "change-me"  # the account that `faxhook init` writes
_AMOUNT = re.compile(r"[0-9]{1,12}(\.[0-9]{1,12})?", re.ASCII)


def resolve(settings: Settings, surroundings: Surroundings | None = None) -> dict[str, Endpoint]:
    """
    The endpoints that take callbacks, with their providers and gates.

    surroundings: None where nobody will call, and only the settings are looked at. Raises ConfigurationError naming
    endpoint and key.
    """
    accounts = resolve_accounts(settings)
    surroundings = surroundings or around(settings, [b"none"], lambda _name, _expires: False)
    return {
        name: _endpoint(endpoint, accounts[name], settings, surroundings)
        for name, endpoint in settings.endpoints.items()
        if endpoint.takes_callbacks
    }


def resolve_accounts(settings: Settings) -> dict[str, Account]:
    """Every endpoint's account, with the options of its reports. Raises ConfigurationError naming endpoint and key."""
    known = providers.load()
    return {name: _account(endpoint, known, settings) for name, endpoint in settings.endpoints.items()}


def around(settings: Settings, keys: Sequence[bytes], claim: Claim) -> Surroundings:
    return Surroundings(
        settings.server.trusted_proxies,
        keys,
        claim,
        client_certificate_header=settings.server.client_certificate_header,
        state_dir=settings.server.state_dir,
        public_url=settings.server.public_url,
        clients=settings.clients,
    )


def is_placeholder(account: str | None) -> bool:
    """Whether it is what ``faxhook init`` writes for a trial."""
    return (account or "").lower().replace("_", "-") == _PLACEHOLDER


@dataclass(frozen=True, slots=True)
class _Case:
    """One endpoint of a configuration, and the provider it names."""

    endpoint: configuration.Endpoint
    provider: Provider
    settings: Settings


# When an endpoint does not fit its provider; the key to look at, and what is expected there: {title} is the provider's.
_Rule = tuple[Callable[[_Case], bool], str, str]

_OF_ACCOUNTS: tuple[_Rule, ...] = (
    (
        lambda one: one.endpoint.account is None and not one.provider.account_from_payload,
        "account",
        "the account at {title}; it is part of each fax's identity for ever",
    ),
    (
        lambda one: is_placeholder(one.endpoint.account) and bool(one.settings.server.public_url),
        "account",
        "your account at {title} instead of {account}, since public_url is set",
    ),
    (
        lambda one: one.endpoint.account is None and bool(one.endpoint.reports or one.endpoint.job_keys),
        "account",
        "the account at {title}, which reports and jobs belong to",
    ),
    (
        lambda one: one.endpoint.timezone is None and one.provider.zoneless,
        "timezone",
        "the time zone of {title}'s times, which come without one",
    ),
    (
        lambda one: one.endpoint.takes_callbacks and one.provider.callback is None,
        "auth",
        "reports and no auth: {title} sends no callbacks",
    ),
    (
        lambda one: bool(one.endpoint.job_keys) and one.provider.key is None,
        "job_keys",
        "no key: jobs of {title} cannot be registered, as a fax has no id before its report",
    ),
    (
        lambda one: one.endpoint.reports is not None and one.provider.reports is None,
        "reports",
        "no such table: {title} has no reports",
    ),
)
_OF_CALLBACKS: tuple[_Rule, ...] = (
    (
        lambda one: one.endpoint.auth.mode == "payload" and one.provider.push.credentials is None,
        "auth.mode",
        "another mode: {title} sends no credentials inside the payload",
    ),
    (
        lambda one: one.provider.push.success is not None and one.endpoint.answer != 200,
        "answer",
        "200, the only answer {title} understands",
    ),
)


def _check(rules: Iterable[_Rule], one: _Case) -> None:
    for is_broken, key, expected in rules:
        if is_broken(one):
            words = expected.format(title=one.provider.title, account=one.endpoint.account)
            raise _wrong(one.settings, one.endpoint, key, words)


def _account(endpoint: configuration.Endpoint, known: dict[str, Provider], settings: Settings) -> Account:
    provider = known.get(endpoint.provider)
    if provider is None:
        raise _wrong(settings, endpoint, "provider", "one of " + ", ".join(sorted(known)))
    _check(_OF_ACCOUNTS, _Case(endpoint, provider, settings))
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
    if given is None or provider.reports is None:
        return None
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


def _endpoint(
    endpoint: configuration.Endpoint, account: Account, settings: Settings, surroundings: Surroundings
) -> Endpoint:
    _check(_OF_CALLBACKS, _Case(endpoint, account.provider, settings))
    return Endpoint(
        name=endpoint.name,
        provider=account.provider,
        source=account.source,
        gate=Gate(endpoint, surroundings),
        auth=endpoint.auth.mode,
        answer=endpoint.answer,
    )


def _wrong(settings: Settings, endpoint: configuration.Endpoint, key: str, expected: str) -> ConfigurationError:
    where = f" ({settings.path})" if settings.path else ""
    return ConfigurationError(f"endpoints.{endpoint.name}.{key}: expected {expected}{where}")
