"""The contracts: the canonical event, its identity, and what each provider sends."""

from schemas.event import FaxCompleted

__all__ = ["FaxCompleted"]
