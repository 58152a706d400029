"""Reads certificates, keys and CA files from PEM, and checks that they can be used."""

import re
import ssl
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding

from mesh.problems import Invalid
from mesh.tls.certificates import Certificates, CertifiedKey, server_context
from mesh.tls.files import Contents, TlsFiles

CERTIFICATE = re.compile("-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


def check(files: TlsFiles, contents: Contents) -> Certificates:
    """Blocks. Raises Invalid BAD_CERTIFICATE if something does not fit."""
    of_clients, of_siblings, of_authorities = files.labels
    clients, siblings = (
        certified_key(contents[key], contents[chain], label)
        for (chain, key), label in ((files.clients, of_clients), (files.siblings, of_siblings))
    )
    if files.authorities is None:
        return Certificates(clients, siblings, b"", None)
    authorities = contents[files.authorities]
    return Certificates(clients, siblings, authorities, last_expiry(authorities, of_authorities))


def certified_key(key: bytes, chain: bytes, label: str) -> CertifiedKey:
    """Raises Invalid BAD_CERTIFICATE, beginning with `label`, if they are not PEM, do not belong together, or
    the key has a password. An expired certificate is fine here."""
    try:
        context = server_context(key, chain)
        certificate = x509.load_pem_x509_certificates(chain)[0]
    except Exception as error:  # what cryptography raises has no common base
        raise Invalid(f"{label}: {error}", "BAD_CERTIFICATE") from None
    return CertifiedKey(key, chain, certificate.not_valid_after_utc, context)


def last_expiry(authorities: bytes, label: str) -> datetime:
    """When the last of the CA certificates in a file (PEM) expires.

    Raises Invalid BAD_CERTIFICATE, beginning with `label`, if it holds none, or one that people in general
    trust: whoever has a certificate of a CA in this file is a sibling.
    """
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=authorities.decode("ascii"))
        found = x509.load_pem_x509_certificates(authorities)
    except Exception as error:
        raise Invalid(f"{label}: {error}", "BAD_CERTIFICATE") from None
    public = _public_authorities()
    for certificate in found:
        if any(_is_or_issued(one, certificate) for one in public):
            name = certificate.subject.rfc4514_string()
            raise Invalid(
                f"{label}: this machine trusts {name} for every site, so anybody with a certificate of it"
                " would be a sibling; use a CA for the siblings alone, such as that of `lares certificates`",
                "BAD_CERTIFICATE",
            )
    return max(certificate.not_valid_after_utc for certificate in found)


def _is_or_issued(authority: bytes, certificate: x509.Certificate) -> bool:
    """`authority` is in DER. Parsing all of them would take long, and the library refuses some."""
    if certificate.public_bytes(Encoding.DER) == authority:
        return True
    if certificate.issuer.public_bytes() not in authority:
        return False
    try:
        certificate.verify_directly_issued_by(x509.load_der_x509_certificate(authority))
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _public_authorities() -> set[bytes]:
    """The CAs (DER) that the operating system trusts. Files that cannot be read are not looked at."""
    paths = ssl.get_default_verify_paths()
    folder = Path(paths.openssl_capath)
    found = set[bytes]()
    for file in {Path(paths.openssl_cafile), *(folder.iterdir() if folder.is_dir() else ())}:
        with suppress(OSError, ValueError):
            found.update(map(ssl.PEM_cert_to_DER_cert, CERTIFICATE.findall(file.read_text())))
    return found
