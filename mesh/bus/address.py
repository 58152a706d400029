"""The brokers, the login and the options that LARES_BUS_URL names."""

import re
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from mesh.problems import Invalid
from mesh.url_options import one_of, read_options, text

Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"]
PLAIN, OAUTH = "PLAIN", "OAUTHBEARER"
FORM = (
    "kafka://[user:password@]host:port[,host:port][?option=value&...], with @ and ? in values as %40 and %3F"
)
# RFC 7628: names of letters, and values of printable characters.
_EXTENSION = re.compile(r"([A-Za-z]+)=([\x21-\x2b\x2d-\x7e]+)")


@dataclass(frozen=True)
class TokenSource:
    """Where bearer tokens are from: a file, or an endpoint that issues them to a client with a secret."""

    file: str = ""
    endpoint: str = ""
    client_id: str = ""
    client_secret: str = field(default="", repr=False)
    scope: str = ""
    # What a service may want beside each token, by name.
    extensions: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class KafkaAddress:
    """`kafka://[user:password@]host:port[,host:port][?options]`, with user and password percent-encoded.

    Without a mechanism there is no login. With tokens, user and password are those of the token endpoint.
    """

    servers: tuple[str, ...]
    user: str | None = None
    password: str = field(default="", repr=False)
    tls: bool = False
    mechanism: Mechanism | None = None
    tokens: TokenSource | None = None

    @classmethod
    def parse(cls, url: str) -> "KafkaAddress":
        """Raises Invalid, without repeating the URL: it may contain a password."""
        scheme, separator, rest = url.partition("://")
        login, at, place = rest.rpartition("@")
        hosts, _, query = place.partition("?")
        servers = tuple(hosts.rstrip("/").split(","))
        if scheme != "kafka" or not separator or not all(_is_server(server) for server in servers):
            raise _invalid(f"the form is {FORM}")
        try:
            options = read_options(query, _FORMS, quote=False)
        except ValueError as error:
            raise _invalid(str(error)) from None
        user, colon, password = login.partition(":")
        if at and not (user and colon):
            raise _invalid("a user needs a password: kafka://user:password@host:port")
        mechanism = options.get("mechanism", PLAIN if at else None)
        found = (unquote(user), unquote(password)) if at else None
        tokens = _token_source(mechanism, found, options)
        if mechanism and tokens is None and found is None:
            raise _invalid(f"{mechanism} needs a user and a password: kafka://user:password@host:port")
        tls = options.get("security") == "tls"
        name, secret = found or (None, "")
        return cls(servers, name, secret, tls, mechanism, tokens)

    @property
    def hosts(self) -> list[str]:
        return [server.rpartition(":")[0].strip("[]") for server in self.servers]

    def options(self, client_id: str) -> dict[str, Any]:
        """The arguments that every aiokafka client takes."""
        return {
            "bootstrap_servers": list(self.servers),
            "client_id": client_id,
            "request_timeout_ms": 10_000,
            "retry_backoff_ms": 100,
            **self.login_options(),
        }

    def login_options(self) -> dict[str, Any]:
        """Those arguments of an aiokafka client that may be others for its next connection."""
        transport = "SSL" if self.tls else "PLAINTEXT"
        if self.mechanism is None:
            return {"security_protocol": transport} if self.tls else {}
        options = {"security_protocol": f"SASL_{transport}", "sasl_mechanism": self.mechanism}
        if self.tokens is None:
            options |= {"sasl_plain_username": self.user or "", "sasl_plain_password": self.password}
        return options


_FORMS = {
    "security": one_of("plaintext", "tls"),
    "mechanism": one_of(PLAIN, "SCRAM-SHA-256", "SCRAM-SHA-512", OAUTH),
    "token_endpoint": text,
    "token_file": text,
    "scope": text,
    "extensions": text,
}


def _token_source(
    mechanism: str | None, login: tuple[str, str] | None, options: dict[str, Any]
) -> TokenSource | None:
    """None if the mechanism is another. Raises Invalid if the options do not fit together."""
    only = [name for name in ("token_endpoint", "token_file", "scope", "extensions") if name in options]
    if mechanism != OAUTH:
        if only:
            raise _invalid(f"{only[0]} needs mechanism={OAUTH}")
        return None
    endpoint, file, scope = (options.get(name, "") for name in ("token_endpoint", "token_file", "scope"))
    extensions = _extensions(options.get("extensions", ""))
    if bool(endpoint) == bool(file):
        raise _invalid(f"{OAUTH} needs either token_endpoint or token_file")
    if file:
        if login or scope:
            raise _invalid(
                "with token_file there is neither a user nor a scope: the file has the whole token"
            )
        return TokenSource(file=file, extensions=extensions)
    if login is None:
        raise _invalid("token_endpoint needs a client: kafka://client-id:client-secret@host:port")
    if not _is_endpoint(endpoint):
        raise _invalid("token_endpoint must be https://host/path, without a user")
    return TokenSource("", endpoint, *login, scope, extensions)


def _is_endpoint(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("https", "http") and bool(parts.hostname) and "@" not in parts.netloc
    except ValueError:
        return False


def _extensions(written: str) -> tuple[tuple[str, str], ...]:
    """Reads `name=value,name=value`."""
    pairs = [_EXTENSION.fullmatch(part) for part in written.split(",") if written]
    if not all(pairs) or any(pair and pair[1].lower() == "auth" for pair in pairs):
        raise _invalid("extensions must be name=value,name=value, with names of letters")
    return tuple((pair[1], pair[2]) for pair in pairs if pair)


def _is_server(server: str) -> bool:
    host, colon, port = server.rpartition(":")
    return bool(host and colon) and port.isdigit() and 0 < int(port) < 65536


def _invalid(reason: str) -> Invalid:
    return Invalid(f"LARES_BUS_URL: {reason}", "BAD_BUS_URL")
