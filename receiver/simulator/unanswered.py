"""Why no answer came, in words for people."""

import http.client
import socket
import ssl


def why(error: Exception, host: str, port: int) -> str:
    """A sentence that names the host and the port, and says what to do where that is known."""
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if isinstance(error, ConnectionRefusedError):
        return f"nothing listens at {place}"
    if isinstance(error, socket.gaierror):
        return f"there is no host {host}; check its name"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate of {place} is not accepted ({error.verify_message})"
    if isinstance(error, ssl.SSLError):
        return f"{place} does not speak TLS as it should; is it http:// there?"
    if isinstance(error, TimeoutError):
        return f"{place} did not answer in time"
    if isinstance(error, ConnectionError | http.client.IncompleteRead):  # RemoteDisconnected is one as well
        return f"{place} closed the connection before it had answered"
    if isinstance(error, http.client.HTTPException):
        return f"{place} answered something that is not HTTP; is it https:// there?"
    return f"{place} cannot be reached ({getattr(error, 'strerror', None) or type(error).__name__})"
