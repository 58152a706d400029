"""Where PostgreSQL is, who logs in there, and how the connection is protected. Pure, but for reading
certificates."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from mesh.addresses import is_loopback_host, split_address
from mesh.problems import Invalid
from mesh.url_options import OptionForm, one_of, read_options, text

FORM = "postgresql://user:password@host:port/name[?sslmode=verify-full]"
PORT = 5432
SCHEMES = ("postgresql", "postgres", "postgresql+asyncpg")
# As libpq and asyncpg mean them. The first three may use no TLS at all.
UNSAFE_MODES = ("disable", "allow", "prefer")
MODES = (*UNSAFE_MODES, "require", "verify-ca", "verify-full")
OPTIONS: Mapping[str, OptionForm] = {
    "host": text,
    "sslmode": one_of(*MODES),
    "ssl": one_of(*MODES),  # asyncpg's own name of it
    "sslrootcert": text,
    "sslcert": text,
    "sslkey": text,
    "target_session_attrs": one_of("any", "primary", "standby", "read-write"),
}


@dataclass(frozen=True)
class DatabaseAddress:
    """The parts of LARES_DATABASE_URL. A host that begins with / is the folder of a socket."""

    hosts: tuple[tuple[str, int], ...]
    user: str | None
    password: str | None = field(repr=False)
    database: str | None
    mode: str
    authority: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    session: str | None = None

    @classmethod
    def parse(cls, url: str, authority: Path | None = None) -> "DatabaseAddress":
        """`authority` is LARES_DATABASE_CA. Without `sslmode` the server is verified if there is one;
        otherwise TLS is used if the server has it. Raises Invalid BAD_SETTING, without repeating the URL."""
        scheme, separator, rest = url.partition("://")
        try:
            parts = urlsplit(f"//{rest}")
            login, _, host = parts.netloc.rpartition("@")
            hosts = [_host(part) for part in host.split(",") if part]
        except ValueError:  # whose text may be a part of the password
            raise _bad_setting(f"the form is {FORM}") from None
        if scheme not in SCHEMES or not separator:
            raise _bad_setting(f"the form is {FORM}")
        try:
            options = read_options(parts.query, OPTIONS, quote=False)
            hosts += [_host(part) for part in options.get("host", "").split(",") if part]
        except ValueError as error:
            raise _bad_setting(f"{error}; the form is {FORM}") from None
        user, _, password = login.partition(":")
        authority = Path(options["sslrootcert"]) if "sslrootcert" in options else authority
        mode = options.get("sslmode") or options.get("ssl") or ("verify-full" if authority else "prefer")
        certificate, key = (
            Path(options[name]) if name in options else None for name in ("sslcert", "sslkey")
        )
        return cls(
            tuple(hosts),
            unquote(user) or None,
            unquote(password) or None,
            unquote(parts.path.lstrip("/")) or None,
            mode,
            authority,
            certificate,
            key,
            options.get("target_session_attrs"),
        )

    @property
    def is_exposed(self) -> bool:
        """Whether what is sent could be read in a network: it leaves this machine, perhaps without TLS."""
        return self.mode in UNSAFE_MODES and not all(
            host.startswith("/") or is_loopback_host(host) for host, _ in self.hosts
        )

    def options(self) -> dict[str, Any]:
        """The arguments of asyncpg.connect. Certificates are read now, because they may have been replaced
        since. Raises OSError, which ssl.SSLError is, if they cannot be used."""
        options: dict[str, Any] = {
            "user": self.user,
            "password": self.password,
            "database": self.database,
            "target_session_attrs": self.session,
            "ssl": self._tls(),
        }
        if self.hosts:
            options["host"] = [host for host, _ in self.hosts]
            options["port"] = [port for _, port in self.hosts]
        return options

    def _tls(self) -> "ssl.SSLContext | str | bool":
        if self.mode in UNSAFE_MODES:
            return self.mode
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.check_hostname = self.mode == "verify-full"
        if self.authority:
            context.load_verify_locations(self.authority)
        elif self.mode == "require":
            context.verify_mode = ssl.CERT_NONE
        else:
            context.load_default_certs()
        if self.certificate:
            # The wrong password makes an encrypted key fail; without any, OpenSSL would prompt on the
            # terminal.
            context.load_cert_chain(self.certificate, self.key, password="-")  # noqa: S106
        return context


def _host(text: str) -> tuple[str, int]:
    if text.startswith("/"):
        return text, PORT
    bare = text.startswith("[") and text.endswith("]")
    return split_address(f"{text}:{PORT}" if bare or ":" not in text else text)


def _bad_setting(reason: str) -> Invalid:
    return Invalid(f"LARES_DATABASE_URL: {reason}", "BAD_SETTING")
