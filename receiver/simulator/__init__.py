"""
Callbacks as the providers would send them, over real HTTP, at a server that runs.

A plan of jobs is made from the configured endpoints, each provider's ``simulate`` and its code table; no provider is
known here by name. The callbacks carry the endpoint's own credentials, so that they take the whole way.
"""

from receiver.simulator.faults import FAULTS
from receiver.simulator.identity import CLIENT_SECRET, TOKEN, Tokens
from receiver.simulator.plan import MIXED, SUCCESS, Plan, cases, every_kind
from receiver.simulator.sending import Reply, Report, send
from receiver.simulator.targets import Target, targets

__all__ = [
    "CLIENT_SECRET",
    "FAULTS",
    "MIXED",
    "SUCCESS",
    "TOKEN",
    "Plan",
    "Reply",
    "Report",
    "Target",
    "Tokens",
    "cases",
    "every_kind",
    "send",
    "targets",
]
