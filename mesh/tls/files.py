"""Where the certificates of this process are, and what the files hold."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mesh.config import Config, setting
from mesh.problems import Invalid

# CA files hold a few certificates; a file that never ends must not fill the memory.
MOST_BYTES = 4 * 2**20
# Within `tls/` in the home, or in LARES_TLS_CA_FOLDER.
AUTHORITY, AUTHORITY_KEY = "ca.pem", "ca-key.pem"
CERTIFICATE, KEY = "cert.pem", "key.pem"

Contents = Mapping[Path, bytes]


@dataclass(frozen=True)
class TlsFiles:
    """Paths, and what problems call them."""

    clients: tuple[Path, Path]  # certificate chain and key
    siblings: tuple[Path, Path]
    authorities: Path | None
    labels: tuple[str, str, str]

    def read(self) -> Contents:
        """Blocks. Raises Invalid BAD_CERTIFICATE if a file cannot be read."""
        paths = {*self.clients, *self.siblings, *((self.authorities,) if self.authorities else ())}
        return {path: _read(path) for path in sorted(paths)}


def own_folders(config: Config) -> tuple[Path, Path]:
    """The folder of the CA and the folder of the certificate that LARES_TLS_MODE=self_signed makes."""
    own = config.home / "tls"
    return config.tls_ca_folder or own, own


def own_authority(config: Config) -> Path | None:
    """The CA that Lares has made for this configuration, if it does that."""
    return own_folders(config)[0] / AUTHORITY if config.tls_mode_used == "self_signed" else None


def files_of(config: Config) -> TlsFiles:
    """The files of a configuration that has TLS."""
    if config.tls_mode_used == "self_signed":
        authority, own = own_folders(config)
        pair = own / CERTIFICATE, own / KEY
        label = f"{pair[0]}, {pair[1]}"
        return TlsFiles(pair, pair, authority / AUTHORITY, (label, label, str(authority / AUTHORITY)))
    assert config.tls_cert
    assert config.tls_key
    clients = config.tls_cert, config.tls_key
    siblings, label = clients, "LARES_TLS_CERT, LARES_TLS_KEY"
    of_siblings = label
    if config.mesh_cert and config.mesh_key:
        siblings, of_siblings = (config.mesh_cert, config.mesh_key), "LARES_MESH_CERT, LARES_MESH_KEY"
    return TlsFiles(clients, siblings, config.tls_ca, (label, of_siblings, setting("tls_ca")))


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise Invalid(f"cannot read {path}: {error.strerror}", "BAD_CERTIFICATE") from None
    if len(content) > MOST_BYTES:
        raise Invalid(f"{path} is too large for a certificate", "BAD_CERTIFICATE")
    return content
