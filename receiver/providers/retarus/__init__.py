"""Retarus: one push for a whole job, and its reports by REST or SOAP."""

from receiver.providers.retarus.callback import SETUP, key, normalise, redact, sent, shape, simulate
from receiver.providers.retarus.codes import CODES
from receiver.providers.retarus.reports import REPORTS
from receiver.providers.shared.contract import BodyKind, Callback, Provider
from schemas.retarus import STATUS_PUSH

PROVIDER = Provider(
    name="retarus",
    title="Retarus",
    callback=Callback(
        kinds=frozenset({BodyKind.XML, BodyKind.JSON}),
        schema=STATUS_PUSH,
        normalise=normalise,
        simulate=simulate,
        setup=SETUP,
        auth_modes=("none", "basic", "digest", "oauth2"),
        shape=shape,
        sent=sent,
        redact=redact,
        batch="faxJobReport",
    ),
    codes=CODES,
    reports=REPORTS,
    key=key,
    notes="One push names all recipients of a job; pages are counted per job. Documents no retry for fax.",
    sources=(
        "https://developers.retarus.com/fax/status-push-api/status-push",
        "https://docs.retarus.com/fax/http-status-push",
        "https://developers.retarus.com/fax/fax4a-api/fax-reports",
        "https://docs.retarus.com/fax/method-getfaxreports",
        "https://docs.retarus.com/fax/transmission-status-codes-outbound-fax",
    ),
)
