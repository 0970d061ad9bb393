"""Openfax: a form post for every finished fax, and a report of all calls by their day."""

from receiver.providers.openfax.callback import SETUP, key, normalise, shape, simulate
from receiver.providers.openfax.codes import ADVICE, CODES
from receiver.providers.openfax.reports import REPORTS
from receiver.providers.shared.contract import BodyKind, Callback, Provider
from schemas.openfax import POSTBACK

PROVIDER = Provider(
    name="openfax",
    title="Openfax",
    callback=Callback(
        kinds=frozenset({BodyKind.FORM}),
        schema=POSTBACK,
        normalise=normalise,
        simulate=simulate,
        setup=SETUP,
        shape=shape,
        once=frozenset({"OutTransID", "AccountID", "LastStatus"}),
        query=True,
    ),
    codes=CODES,
    reports=REPORTS,
    key=key,
    account_from_payload=True,
    advice=ADVICE,
    region="US",
    notes="Sends no destination number and no time; documents no retry, so a missed postback must be fetched.",
    sources=("https://apidocs.openfax.com",),
)
