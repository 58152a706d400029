"""A CA of Lares's own, in a folder, and the certificates that it issues."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mesh.durable_files import write_private, write_whole
from mesh.file_lock import lock_within
from mesh.host_names import address_of
from mesh.problems import Invalid, Unavailable
from mesh.tls.files import AUTHORITY, AUTHORITY_KEY

log = structlog.get_logger(__name__)

LOCK = "lock"
# How long it is waited for; who has it needs a moment for its certificates.
LOCK_SECONDS = 30.0
AUTHORITY_DAYS = 3650
# Browsers accept up to 825 of a CA that their user has added.
DAYS = 365
# Clocks of cameras and siblings may be slow; a clock that was never set shows a time before this.
CLOCKS_DIFFER = timedelta(days=1)
EARLIEST = datetime(2026, 11, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Pair:
    """The files of a certificate and its key."""

    certificate: Path
    key: Path


class Authority:
    """The CA in a folder; `certificates` is its file in PEM, which may hold more of them for siblings to
    trust. Made by `open_authority`."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, certificates: bytes, now: datetime) -> None:
        """Raises Invalid BAD_AUTHORITY if none of the certificates is that of the key."""
        self.certificates, self._key, self._now = certificates, key, now
        for found in x509.load_pem_x509_certificates(certificates):
            if found.public_key() == key.public_key():
                self.certificate = found
                return
        raise Invalid("its certificate and its key do not belong together", "BAD_AUTHORITY")

    @property
    def expired(self) -> bool:
        return self.certificate.not_valid_after_utc <= self._now

    def issue(self, pair: Pair, names: Iterable[str], days: int = DAYS) -> bool:
        """Writes a certificate for `names` and its key, unless what is there is good for long enough. Returns
        whether it did. Blocks."""
        wanted = list(dict.fromkeys(map(_general_name, names)))
        if self._is_good(pair, wanted):
            return False
        key = ec.generate_private_key(ec.SECP256R1())
        last = min(self._now + timedelta(days=days), self.certificate.not_valid_after_utc)
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name("Lares"))
            .issuer_name(self.certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(max(self._now - CLOCKS_DIFFER, self.certificate.not_valid_before_utc))
            .not_valid_after(last)
            .add_extension(x509.SubjectAlternativeName(wanted), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signature=True), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                critical=False,
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
        )
        pair.key.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Who reads them in between waits until they belong together.
        write_private(pair.key, _private(key))
        write_whole(pair.certificate, _public(builder.sign(self._key, SHA256())))
        log.info("certificate made", file=str(pair.certificate), names=[str(one.value) for one in wanted])
        return True

    def _is_good(self, pair: Pair, wanted: list[x509.GeneralName]) -> bool:
        try:
            found = x509.load_pem_x509_certificate(pair.certificate.read_bytes())
            key = load_pem_private_key(pair.key.read_bytes(), None)
            found.verify_directly_issued_by(self.certificate)
            names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except (OSError, ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
            return False
        begins, ends = found.not_valid_before_utc, found.not_valid_after_utc
        in_time = begins <= self._now < ends - (ends - begins) / 3
        # One that ends with its CA cannot be made longer.
        in_time |= begins <= self._now < ends == self.certificate.not_valid_after_utc
        return in_time and key.public_key() == found.public_key() and set(wanted) <= set(names)


@contextmanager
def open_authority(folder: Path, now: datetime) -> Iterator[Authority]:
    """Yields the CA in a folder, and makes it if there is none, or if it has expired. Others wait meanwhile.
    Blocks.

    Raises Invalid BAD_AUTHORITY if it cannot be read, or has lost its key: a new one would be one that no
    client trusts. Raises Unavailable AUTHORITY_IN_USE if another process has the folder for LOCK_SECONDS, and
    OSError if the folder cannot be written to.
    """
    now = max(now, EARLIEST)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    certificate, key = folder / AUTHORITY, folder / AUTHORITY_KEY
    with (folder / LOCK).open("a") as file:
        if not lock_within(file, LOCK_SECONDS):
            raise Unavailable(
                f"another process has had {folder / LOCK} locked for {LOCK_SECONDS:g} s: it uses the CA of"
                " Lares there, or stands still",
                "AUTHORITY_IN_USE",
            )
        if not certificate.exists():
            # A key without a certificate is one that was made a moment before the power failed.
            _make(certificate, key, now)
        authority = _read(certificate, key, now)
        if authority.expired:
            log.warning("the CA has expired: clients must trust the new one", file=str(certificate))
            _make(certificate, key, now)
            authority = _read(certificate, key, now)
        yield authority


def _read(certificate: Path, key: Path, now: datetime) -> Authority:
    try:
        private = load_pem_private_key(key.read_bytes(), None)
        if not isinstance(private, ec.EllipticCurvePrivateKey):
            raise Invalid("the key is not one on an elliptic curve", "BAD_AUTHORITY")
        return Authority(private, certificate.read_bytes(), now)
    except (OSError, ValueError, TypeError, Invalid) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise Invalid(
            f"the CA of Lares, {certificate} and {key.name}: {why}; put back what is missing, or remove both"
            " files to make a new CA, which clients must then trust",
            "BAD_AUTHORITY",
        ) from None


def _make(certificate: Path, key: Path, now: datetime) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    serial = x509.random_serial_number()
    # The name differs from that of every other Lares: a client may trust several.
    name = _name(f"Lares CA {serial:x}"[:24])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(serial)
        .not_valid_before(EARLIEST - CLOCKS_DIFFER)
        .not_valid_after(now + timedelta(days=AUTHORITY_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signature=False), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(private.public_key()), critical=False)
    )
    write_private(key, _private(private))
    write_whole(certificate, _public(builder.sign(private, SHA256())))
    log.info("CA made", file=str(certificate))


def _general_name(host: str) -> x509.GeneralName:
    address = address_of(host)
    return x509.IPAddress(address) if address else x509.DNSName(host.lower())


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _usage(*, signature: bool) -> x509.KeyUsage:
    """Of a certificate that signs handshakes, or of one that signs certificates."""
    return x509.KeyUsage(
        digital_signature=signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=not signature,
        crl_sign=not signature,
        encipher_only=False,
        decipher_only=False,
    )


def _private(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def _public(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()
