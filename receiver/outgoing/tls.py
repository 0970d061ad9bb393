"""The TLS settings of a sink."""

import ssl

from receiver.errors import BadValue
from receiver.settings import Sink


def client_context(sink: Sink) -> ssl.SSLContext:
    """What checks the other side's certificate, and shows ours. Raises BadValue where the files cannot be used."""
    try:
        context = ssl.create_default_context(cafile=sink.ca_file)
        if sink.certificate is not None:
            context.load_cert_chain(sink.certificate, sink.key, password=lambda: "")
    except (OSError, ValueError):  # an ssl.SSLError is an OSError
        raise BadValue(
            "its certificates cannot be used; expected PEM in ssl_ca_certs and ssl_certfile, and in ssl_keyfile the key"
            " without a password"
        ) from None
    return context
