"""
The configuration: one TOML file and a few variables in, frozen ``Settings`` out; whatever is not understood is refused.

Every refusal is a ConfigurationError "<file>: <key>: <what was expected>" and never repeats a value, which might be a
secret. Whether a provider exists, and what it requires of an endpoint, is checked where providers are known.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from receiver.errors import ConfigurationError
from receiver.settings import sections
from receiver.settings.authentication import AUTH_MODES, SELF, check_own_tokens, clients
from receiver.settings.console import console
from receiver.settings.document import SEALED, Document, parsed, unsealed
from receiver.settings.doubting import doubts
from receiver.settings.endpoints import ANSWERS, endpoints
from receiver.settings.folders import state_dir_trouble
from receiver.settings.forms import is_secure_url
from receiver.settings.keys import kept, secret_keys
from receiver.settings.model import (
    CLIENT_CERTIFICATE,
    EVERYTHING,
    ROLES,
    Auth,
    Client,
    Console,
    ConsoleUser,
    Credential,
    Digest,
    Endpoint,
    Filter,
    Introspection,
    Network,
    OAuth2,
    Queue,
    Reports,
    Retention,
    Server,
    Settings,
    Signature,
    Sink,
    StoreSettings,
    Token,
)
from receiver.settings.sinks import check_filters, sinks
from receiver.settings.tables import Source, Table

__all__ = [
    "ANSWERS",
    "AUTH_MODES",
    "CLIENT_CERTIFICATE",
    "DEFAULT_FILE",
    "EVERYTHING",
    "ROLES",
    "SEALED",
    "SELF",
    "Auth",
    "Client",
    "Console",
    "ConsoleUser",
    "Credential",
    "Digest",
    "Document",
    "Endpoint",
    "Filter",
    "Introspection",
    "Network",
    "NoConfiguration",
    "OAuth2",
    "Queue",
    "Reports",
    "Retention",
    "Server",
    "Settings",
    "Signature",
    "Sink",
    "StoreSettings",
    "Token",
    "doubts",
    "is_secure_url",
    "kept",
    "load",
    "secret_keys",
    "state_dir_trouble",
]

DEFAULT_FILE = Path("faxhook.toml")


class NoConfiguration(ConfigurationError):  # noqa: N818 - the usual first run, hardly an error
    """No configuration was given, and there is no ./faxhook.toml."""


def load(config_path: Path | None, environ: Mapping[str, str]) -> Settings:
    """
    The settings from config_path, else FAXHOOK_CONFIG, else the text in FAXHOOK_CONFIG_TOML, else ./faxhook.toml.

    Before all but config_path goes the sealed copy that ``faxhook serve`` gives to its children. A variable that is set
    but empty counts as not set. Raises NoConfiguration where there is none of them, and ConfigurationError naming key
    and file where it cannot be used.
    """
    document = _found(config_path, environ)
    values = parsed(document)
    source = Source(document, environ)
    known = ("server", "store", "queue", "sinks", "retention", "endpoints", "oauth2", "advice", "console")
    root = Table(source, "", values, known)
    settings = Settings(
        document=document,
        server=sections.server(root),
        store=sections.store(root),
        queue=sections.queue(root),
        retention=sections.retention(root),
        advice=MappingProxyType(sections.advice(root)),
        console=console(root),
        endpoints=MappingProxyType(dict(endpoints(root))),
        clients=MappingProxyType(clients(root)),
        sinks=MappingProxyType(dict(sinks(root))),
    )
    check_filters(root, settings.sinks, settings.endpoints)
    check_own_tokens(root, settings.endpoints, settings.clients)
    return settings


def _found(config_path: Path | None, environ: Mapping[str, str]) -> Document:
    named = config_path
    if named is None and environ.get(SEALED):
        return unsealed(environ)
    if named is None and environ.get("FAXHOOK_CONFIG"):
        named = Path(environ["FAXHOOK_CONFIG"])
    if named is None and environ.get("FAXHOOK_CONFIG_TOML"):
        return Document("FAXHOOK_CONFIG_TOML", None, Path.cwd(), environ["FAXHOOK_CONFIG_TOML"])
    path = (named or DEFAULT_FILE).absolute()
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        if named is None:
            raise NoConfiguration(
                f"{path}: no such file, and neither --config, FAXHOOK_CONFIG nor FAXHOOK_CONFIG_TOML is given"
            ) from None
        raise ConfigurationError(f"{path}: no such file") from None
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigurationError(f"{path}: expected UTF-8, and line {line} is not; save it in this encoding") from None
    return Document(str(path), path, path.parent, text)
