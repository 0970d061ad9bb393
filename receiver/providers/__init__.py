"""The providers: every module here is one, but for ``shared``."""

import importlib
import pkgutil
from functools import cache

from receiver.errors import ConfigurationError
from receiver.providers.shared.client import Client
from receiver.providers.shared.contract import (
    AggregateReport,
    Ask,
    Callback,
    Finding,
    Page,
    Provider,
    RawCallback,
    RecordReport,
    Source,
    Tally,
)
from receiver.providers.shared.decoding import comes_in, decode, names_in, read

__all__ = [
    "AggregateReport",
    "Ask",
    "Callback",
    "Client",
    "Finding",
    "Page",
    "Provider",
    "RawCallback",
    "RecordReport",
    "Source",
    "Tally",
    "comes_in",
    "decode",
    "load",
    "names_in",
    "read",
]


@cache
def load() -> dict[str, Provider]:
    """All providers by name. ConfigurationError names a module without a ``PROVIDER``, and two of one name."""
    providers: dict[str, Provider] = {}
    modules: dict[str, str] = {}
    for module in pkgutil.iter_modules(__path__):
        if module.name == "shared":
            continue
        found = getattr(importlib.import_module(f"{__name__}.{module.name}"), "PROVIDER", None)
        if not isinstance(found, Provider):
            raise ConfigurationError(f"receiver/providers/{module.name}.py has no PROVIDER")
        if found.name in providers:
            first = modules[found.name]
            raise ConfigurationError(
                f'receiver/providers: the modules {first} and {module.name} both have a provider named "{found.name}"'
            )
        providers[found.name] = found
        modules[found.name] = module.name
    return providers
