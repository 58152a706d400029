"""Opens the certificates of a process, and makes them where Lares is to do that."""

from collections.abc import Collection
from datetime import UTC, datetime
from functools import partial

from mesh.config import Config
from mesh.problems import Invalid
from mesh.tls.authority import Pair, open_authority
from mesh.tls.files import CERTIFICATE, KEY, files_of, own_folders
from mesh.tls.own_names import own_names
from mesh.tls.parsing import check
from mesh.tls.tls import Tls


def open_tls(config: Config, targets: Collection[str]) -> Tls:
    """For a configuration with TLS. Blocks. Raises Invalid BAD_CERTIFICATE or BAD_AUTHORITY, and Unavailable
    AUTHORITY_IN_USE."""
    files = files_of(config)
    if config.tls_mode_used != "self_signed":
        return Tls(files.read, partial(check, files))
    renew = partial(make_own, config, targets)
    try:
        renew()
    except OSError as error:
        raise Invalid(f"cannot make a certificate: {error}", "BAD_CERTIFICATE") from None
    return Tls(files.read, partial(check, files), renew)


def make_own(config: Config, targets: Collection[str]) -> None:
    """Makes the CA and the certificate of LARES_TLS_MODE=self_signed, unless they are there and good for long
    enough. Raises Invalid BAD_AUTHORITY, Unavailable AUTHORITY_IN_USE, OSError."""
    names = own_names(config, targets)
    authority_folder, own = own_folders(config)
    with open_authority(authority_folder, datetime.now(UTC)) as authority:
        authority.issue(Pair(own / CERTIFICATE, own / KEY), names)
