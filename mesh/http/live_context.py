"""TLS for an HTTP server whose certificate is renewed while it runs."""

import ssl

from mesh.tls.certificates import server_context
from mesh.tls.tls import Tls


def live_context(tls: Tls) -> ssl.SSLContext:
    """A context that shows each new connection the certificate of now.

    Loading it into the context of a running server would not do: OpenSSL keeps one certificate for each kind
    of key, so it would go on showing an old one with an RSA key after a new one with an elliptic curve.
    """
    clients = tls.now.clients
    context = server_context(clients.key, clients.chain)

    def use_newest(
        connection: ssl.SSLSocket | ssl.SSLObject, _name: str | None, _first: ssl.SSLContext
    ) -> None:
        connection.context = tls.now.clients.context

    context.sni_callback = use_newest  # called without a server name, too
    return context
