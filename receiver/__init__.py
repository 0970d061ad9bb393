"""faxhook: one callback URL for several fax providers, one canonical event on the queue."""

__version__ = "0.1.0"
__made__ = "2026-11-01"  # about when this version was; a clock that shows an earlier day is wrong
