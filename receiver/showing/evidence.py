"""Evidence of one fax, as ``faxhook evidence`` prints it."""

from receiver import evidence
from receiver.evidence import Signer
from receiver.settings import Settings
from receiver.showing.masking import masked_facts
from receiver.store import Store, history


def signed(store: Store, settings: Settings, fax_id: str, *, reveal: bool) -> bytes | None:
    """The whole file; None where there is no such fax. Raises ConfigurationError where the key cannot be used."""
    signer = Signer(settings)
    with store.reading() as connection:
        found = history.of_fax(connection, store.tables, fax_id)
        if found is None:
            return None
        facts = found.facts if reveal else masked_facts(found.facts)
        document = evidence.document(connection, store.tables, found, facts, settings)
    return signer.signed(document)
