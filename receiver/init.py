"""``faxhook init``: a first configuration that serves as it is, with an endpoint and a new token for each provider."""

import os
import secrets
from collections.abc import Iterable
from pathlib import Path

from receiver import providers
from receiver.errors import ConfigurationError
from receiver.providers import Provider
from receiver.settings import AUTH_MODES

_HEAD = """\
# faxhook's configuration. Any string may hold ${NAME} or ${NAME:-default} from the environment;
# { file = "/run/secrets/x" } reads a file. Relative paths begin at this file's folder.
# `faxhook check` tells what is wrong or doubtful here.

[server]
bind = "127.0.0.1:8000"                     # where to listen; behind a TLS proxy, or with PORT set: 0.0.0.0
# public_url = "https://hooks.example.com"  # how the providers reach you; only printed in callback URLs
# trusted_proxies = ["10.0.0.0/8"]          # proxies whose X-Forwarded-For is believed
max_body = "8MiB"                           # a longer callback is answered 413
state_dir = "var"                           # the secret key made at the first start, and counters
# secret_key = "${FAXHOOK_SECRET_KEY}"      # set it where state_dir does not outlive the process, or is not shared
# ops_token = "${FAXHOOK_OPS_TOKEN}"        # bearer token for /metrics and details of /readyz from elsewhere

[store]
url = "sqlite:///var/faxhook.db"            # or postgresql+psycopg://user:password@host/database

[queue]
url = "embedded:"                           # the store is the queue; read it with `faxhook consume --follow`. Or
                                            # RabbitMQ: "amqps://user:password@rabbitmq.example.com/vhost"; the relay
                                            # then makes the queue there, and sends what waits
# queue = "fax.completed"                   # its name

[retention]
bodies = "7d"                               # raw callbacks and published payloads
rejected = "30d"                            # raw callbacks that were refused
ids = "90d"                                 # what a repeated callback is recognised by
"""

_FIRST = """\

[endpoints.{name}]
provider = "{name}"
"""
_ACCOUNT = """\
account = "change-me"                       # your account at {title}: change me BEFORE real traffic. It is part of
                                            # a fax's identity for ever: the store refuses to see it changed later,
                                            # so remove a store of mere trials, or give the endpoint another name
"""
_ACCOUNT_FROM_PAYLOAD = """\
# account = "123456789"                     # every callback names its account; set it to refuse those of others
"""
_TIMEZONE = """\
timezone = {timezone:33}# {title} sends times without a zone. This is the likely one: compare the first
                                            # real callback with your clock; see `faxhook providers show {name}`
"""
_REGION = """\
region = "{region}"                               # how numbers without a country code are read
"""
_PAYLOAD = """\
# auth = {{ mode = "payload", credentials = [ {{ user = "...", password = "..." }} ] }}   # better, once you have them
"""
_PROOF = """\
auth = {{ mode = "none" }}                    # the token is the proof of origin; {title} can: {modes}
tokens = ["{token}"] # in the callback URL: keep it secret; several while rotating
# allow = ["203.0.113.0/24"]                # addresses callbacks may come from, besides the token
"""


def write(path: Path) -> None:
    """Make the configuration file, readable for its owner only. ConfigurationError where the path is taken."""
    text = configuration(providers.load().values())
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise ConfigurationError(f"{path}: exists, and is never overwritten") from None
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be written: {error.strerror}") from None
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def configuration(known: Iterable[Provider]) -> str:
    """The text, with a new token for each provider."""
    return _HEAD + "".join(_endpoint(provider) for provider in known if provider.callback)


def _endpoint(provider: Provider) -> str:
    parts = [
        _FIRST,
        _ACCOUNT_FROM_PAYLOAD if provider.account_from_payload else _ACCOUNT,
        _TIMEZONE if provider.zoneless else "",
        _REGION if provider.region else "",
        _PROOF,
        _PAYLOAD if "payload" in provider.push.auth_modes else "",
    ]
    return "".join(parts).format(
        name=provider.name,
        title=provider.title,
        region=provider.region,
        timezone=f'"{provider.timezone or "UTC"}"',
        modes=", ".join(mode for mode in provider.push.auth_modes if mode in AUTH_MODES),
        token=secrets.token_urlsafe(24),
    )
