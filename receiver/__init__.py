"""faxhook: one callback URL for several fax providers, one canonical event on the queue."""

__version__ = "0.1.0"
