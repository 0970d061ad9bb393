"""The sinks beside the queue, one file each; ``receiver.destinations`` has a line for each of them."""

import importlib
from pathlib import Path

from receiver.destinations import KINDS, scheme
from receiver.errors import BadValue, ConfigurationError
from receiver.outgoing.contract import Publisher
from receiver.settings import Settings, Sink


def publisher(sink: Sink, state_dir: Path) -> Publisher:
    """What delivers to it; nothing is connected yet. Raises ConfigurationError where its file does not take the URL."""
    module = importlib.import_module(KINDS[scheme(sink.url)].module)
    try:
        made: Publisher = module.make(sink, state_dir)
    except BadValue as error:
        raise ConfigurationError(f"sinks.{sink.name}.url: {error}") from None
    except ValueError:  # of the standard library, with parts of the URL; a "/" in a password, for one
        like = KINDS[scheme(sink.url)].url
        said = f"expected a URL such as {like}, with each part of it percent-encoded"
        raise ConfigurationError(f"sinks.{sink.name}.url: {said}") from None
    return made


def check(settings: Settings) -> None:
    """Raise ConfigurationError for the first sink that cannot be as it is configured."""
    for sink in settings.sinks.values():
        publisher(sink, settings.server.state_dir)
