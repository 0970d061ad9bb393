"""eFax Developer."""

from receiver.providers.efax.callback import SETUP, credentials, key, normalise, redact, shape, simulate
from receiver.providers.efax.codes import CODES
from receiver.providers.efax.reports import REPORTS
from receiver.providers.shared.contract import BodyKind, Callback, Provider, Success
from schemas.efax import DISPOSITION

PROVIDER = Provider(
    name="efax",
    title="eFax Developer",
    callback=Callback(
        kinds=frozenset({BodyKind.FORM}),
        schema=DISPOSITION,
        normalise=normalise,
        simulate=simulate,
        setup=SETUP,
        auth_modes=("none", "payload"),
        shape=shape,
        within="xml",
        once=frozenset({"xml"}),
        success=Success("text/plain; charset=utf-8", b"Post Successful"),
        credentials=credentials,
        redact=redact,
    ),
    codes=CODES,
    reports=REPORTS,
    key=key,
    zoneless=True,
    timezone="America/Los_Angeles",
    region="US",
    notes="Looks for Post Successful in the answer; where it fails, eFax mails the account holder and does not retry.",
    sources=("https://github.com/szimek/efax", "https://github.com/J2Global-Fax/efax-reporting-api"),
)
