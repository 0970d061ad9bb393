"""Which situation is answered how: for ``faxhook providers show`` and for OpenAPI."""

from receiver import errors

# Situation -> the refusals it is answered with. deploy/README.md has the same by code.
REFUSALS: tuple[tuple[str, tuple[type[errors.Refusal], ...]], ...] = (
    ("cut off, announced wrongly, or too slow", (errors.BadFraming,)),
    ("undecodable, empty, DOCTYPE, duplicate keys", (errors.Undecodable,)),
    ("an Authorization header that cannot be read", (errors.MalformedCredentials,)),
    ("no or wrong credentials", (errors.Unauthorized,)),
    ("address not allowed", (errors.Forbidden,)),
    ("unknown endpoint or token", (errors.NotFound,)),
    ("another method", (errors.MethodNotAllowed,)),
    ("too large, too complex", (errors.TooLarge, errors.TooComplex)),
    ("Content-Encoding, or a kind of body never sent", (errors.UnsupportedEncoding, errors.UnsupportedBody)),
    ("no identity, no recipient, malformed status", (errors.Unprocessable,)),
    ("account of another endpoint", (errors.AccountMismatch,)),
    ("faxhook's own bug; the body is kept", (errors.InternalError,)),
    ("store unavailable, or shutting down; with Retry-After", (errors.Unavailable,)),
)

OF_CALLBACKS = tuple(refusal for _, refusals in REFUSALS for refusal in refusals)
_OF_ANY_POST = (
    errors.BadFraming,
    errors.NotFound,
    errors.MethodNotAllowed,
    errors.TooLarge,
    errors.UnsupportedEncoding,
    errors.InternalError,
    errors.Unavailable,
)
OF_REFERENCES = (
    errors.Unauthorized,
    errors.NotFound,
    errors.MethodNotAllowed,
    errors.InternalError,
    errors.Unavailable,
)
OF_TOKENS = _OF_ANY_POST  # beside those of RFC 6749
OF_JOBS = (
    *_OF_ANY_POST,
    errors.Undecodable,
    errors.Unauthorized,
    errors.TooComplex,
    errors.UnsupportedBody,
    errors.Unprocessable,
)
