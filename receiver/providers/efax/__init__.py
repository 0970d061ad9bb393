"""eFax Developer."""

from receiver.providers.efax.callback import PROVIDER

__all__ = ["PROVIDER"]
