"""`lares certificates`: a CA for siblings, and a certificate of it for each service, as files for secrets."""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from pathlib import Path

from deploy.targets import chosen
from mesh.config import Config
from mesh.durable_files import write_whole
from mesh.host_names import is_host_name
from mesh.problems import Denied, Invalid
from mesh.tls.authority import Pair, open_authority
from mesh.tls.own_names import LOCAL

# As in a Kubernetes secret of the type `kubernetes.io/tls`.
CERTIFICATE, KEY, AUTHORITY = "tls.crt", "tls.key", "ca.crt"


def issue_certificates(
    config: Config, folder: Path, targets: Collection[str], names: Sequence[str], namespace: str, days: int
) -> None:
    """Writes `<folder>/lares-<target>/` for each target, and prints what was made. What is good for long
    enough stays as it is.

    Raises Invalid BAD_TARGET, BAD_NAME or BAD_AUTHORITY, Unavailable AUTHORITY_IN_USE, and Denied if the
    folder cannot be written to.
    """
    for name in (*names, *([namespace] if namespace else ())):
        if not is_host_name(name):
            raise Invalid(f"{name!r} is neither a host's name nor an IP address", "BAD_NAME")
    folder = folder.absolute()
    try:
        with open_authority(folder, datetime.now(UTC)) as authority:
            for target in chosen(targets):
                own = folder / f"lares-{target}"
                wanted = [*service_names(target, namespace), *LOCAL, *config.tls_names, *names]
                made = authority.issue(Pair(own / CERTIFICATE, own / KEY), wanted, days)
                if not _holds(own / AUTHORITY, authority.certificates):
                    write_whole(own / AUTHORITY, authority.certificates.decode())
                print(f"{own}  {'made' if made else 'kept'}")
    except OSError as error:
        raise Denied(f"cannot write to {folder}: {error.strerror}", "FOLDER_NOT_WRITABLE") from None
    print(f"CA: {folder / 'ca.pem'}; keep {folder / 'ca-key.pem'} where no service can read it.")


def service_names(target: str, namespace: str) -> list[str]:
    """The names of a service in Compose, and in a namespace of Kubernetes."""
    name = f"lares-{target}"
    if not namespace:
        return [name]
    inside = f"{name}.{namespace}"
    return [name, inside, f"{inside}.svc", f"{inside}.svc.cluster.local"]


def _holds(file: Path, content: bytes) -> bool:
    return file.is_file() and file.read_bytes() == content
