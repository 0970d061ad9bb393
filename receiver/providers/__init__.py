"""The providers: every module here that does not begin with an underscore is one."""

import importlib
import pkgutil
from functools import cache

from receiver.errors import ConfigurationError
from receiver.providers._client import Client
from receiver.providers._contract import (
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
from receiver.providers._decoding import decode, read

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
    "decode",
    "load",
    "read",
]


@cache
def load() -> dict[str, Provider]:
    """All providers by name. A module without a ``PROVIDER`` of its own name stops start-up, naming the module."""
    providers = {}
    for module in pkgutil.iter_modules(__path__):
        if module.name.startswith("_"):
            continue
        found = getattr(importlib.import_module(f"{__name__}.{module.name}"), "PROVIDER", None)
        if not isinstance(found, Provider):
            raise ConfigurationError(f"receiver/providers/{module.name}.py has no PROVIDER")
        providers[found.name] = found
    return providers
