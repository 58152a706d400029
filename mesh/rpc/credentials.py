"""TLS of gRPC, with certificates that are renewed while the process runs."""

from collections.abc import Callable

import grpc

from mesh.security import Door
from mesh.tls.certificates import Certificates
from mesh.tls.tls import Tls


def server_credentials(tls: Tls, door: Door) -> grpc.ServerCredentials:
    """Of the clients' or the siblings' door. Who connects to the latter needs a certificate of the siblings'
    CA. gRPC refuses versions of TLS before 1.2 by itself."""
    used = tls.now

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        """Called for each new connection, by gRPC's threads one after the other; None: as before."""
        nonlocal used
        if tls.now is used:
            return None
        used = tls.now
        return _configuration(used, door)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(used, door),
        fetch,  # type: ignore[arg-type]  # which may return None
        require_client_authentication=door is Door.SIBLINGS,
    )


def _configuration(certificates: Certificates, door: Door) -> grpc.ServerCertificateConfiguration:
    shown = certificates.siblings if door is Door.SIBLINGS else certificates.clients
    authorities = certificates.authorities if door is Door.SIBLINGS else None
    return grpc.ssl_server_certificate_configuration([(shown.key, shown.chain)], authorities)


def sibling_credentials(tls: Tls) -> Callable[[], grpc.ChannelCredentials]:
    """Returns a function that returns what this process shows its siblings, and how it knows them: the same
    object, until the certificates are renewed."""

    def made(certificates: Certificates) -> grpc.ChannelCredentials:
        own = certificates.siblings
        return grpc.ssl_channel_credentials(certificates.authorities, own.key, own.chain)

    used = tls.now
    credentials = made(used)

    def newest() -> grpc.ChannelCredentials:
        nonlocal used, credentials
        if tls.now is not used:
            used = tls.now
            credentials = made(used)
        return credentials

    return newest
