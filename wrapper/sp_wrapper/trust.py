"""Whether the daemon is who the order says, where the connection is by TLS."""

from __future__ import annotations

import hmac
import ssl
from hashlib import sha256

import trio

from sp_wrapper.order import Order


class Distrusted(OSError):
    """Whoever answers there is not the daemon that the order names; the text is for the operator."""


async def secured(stream: trio.SocketStream, host: str, order: Order) -> trio.SSLStream[trio.SocketStream]:
    """The connection by TLS, 1.2 at least, to a daemon that has shown who it is. Raises Distrusted."""
    secure = trio.SSLStream(stream, _context(order), server_hostname=host, https_compatible=True)
    try:
        await secure.do_handshake()
    except trio.BrokenResourceError as exc:
        if isinstance(exc.__cause__, ssl.SSLError):
            raise Distrusted(f"no TLS with the daemon at {host}: {exc.__cause__}") from exc
        raise
    if order.tls_fingerprint:
        shown = sha256(secure.getpeercert(binary_form=True) or b"").hexdigest()
        if not hmac.compare_digest(shown, order.tls_fingerprint):
            raise Distrusted(f"the daemon's certificate at {host} has the fingerprint {shown}, not the order's")
    return secure


def _context(order: Order) -> ssl.SSLContext:
    """Raises Distrusted when the order's CA is none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if order.tls_fingerprint:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # its fingerprint says who it is
    elif order.tls_ca:
        try:
            context.load_verify_locations(cadata=order.tls_ca)
        except (ssl.SSLError, ValueError) as exc:
            raise Distrusted(f"SP_TLS_CA holds no certificates: {exc}") from exc
    else:
        context.load_default_certs()
    return context
