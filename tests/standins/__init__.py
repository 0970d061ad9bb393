"""
Stand-ins for the providers' report APIs: real HTTP servers that behave as the providers' documents say.

A test makes a ``World`` of faxes, serves a provider's ``application(world, ...)`` with ``standing`` and lets the pull
loose on it; ``world.announce`` sends the callbacks of the same faxes, or loses them. By hand, from the folder tests:
``python -m standins faxage --port 9900``.
"""
