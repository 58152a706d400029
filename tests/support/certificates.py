"""TLS certificates."""

from pathlib import Path

import trustme

from mesh.config import SIBLINGS


def write_certificate(folder: Path) -> dict[str, Path]:
    """Writes a certificate for this machine, its key and the certificate of the CA that issued it.

    Returns the paths of the files by the names of the settings: tls_cert, tls_key and tls_ca.
    """
    ca = trustme.CA()
    issued = ca.issue_cert("127.0.0.1", "localhost", *(f"lares-{service}" for service in SIBLINGS))
    files = {f"tls_{name}": folder / f"{name}.pem" for name in ("cert", "key", "ca")}
    issued.cert_chain_pems[0].write_to_path(files["tls_cert"])
    issued.private_key_pem.write_to_path(files["tls_key"])
    ca.cert_pem.write_to_path(files["tls_ca"])
    return files
