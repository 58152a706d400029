"""TLS for FTP sessions, with a certificate that is renewed meanwhile."""

from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificates
from OpenSSL import SSL

from mesh.tls.certificates import CertifiedKey
from mesh.tls.tls import Tls


class Encryption:
    def __init__(self, tls: Tls) -> None:
        self._tls = tls
        self._made = tls.now.clients, _context(tls.now.clients)

    def context(self) -> SSL.Context:
        """Of a session that begins now. A thread that makes it a second time does no harm."""
        now = self._tls.now.clients
        made_of, context = self._made
        if now is not made_of:
            context = _context(now)
            self._made = now, context
        return context


def _context(shown: CertifiedKey) -> SSL.Context:
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
    context.set_session_id(b"lares")
    certificate, *chain = load_pem_x509_certificates(shown.chain)
    context.use_certificate(certificate)
    for one in chain:
        context.add_extra_chain_cert(one)
    context.use_privatekey(load_pem_private_key(shown.key, None))  # type: ignore[arg-type]
    return context
