"""The brokers and the login that LARES_BUS_URL names."""

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from mesh.problems import Invalid


@dataclass(frozen=True)
class KafkaAddress:
    """`kafka://[user:password@]host:port[,host:port]`, with user and password percent-encoded."""

    servers: tuple[str, ...]
    user: str | None = None
    password: str = field(default="", repr=False)

    @classmethod
    def parse(cls, url: str) -> "KafkaAddress":
        """Raises Invalid, without repeating the URL: it may contain a password."""
        scheme, separator, rest = url.partition("://")
        login, at, hosts = rest.rpartition("@")
        servers = tuple(hosts.rstrip("/").split(","))
        if scheme != "kafka" or not separator or not all(_is_server(server) for server in servers):
            raise _invalid("the form is kafka://[user:password@]host:port[,host:port]")
        if not at:
            return cls(servers)
        user, colon, password = login.partition(":")
        if not user or not colon:
            raise _invalid("a user needs a password: kafka://user:password@host:port")
        return cls(servers, unquote(user), unquote(password))

    def options(self, client_id: str) -> dict[str, Any]:
        """The arguments that every aiokafka client takes."""
        options: dict[str, Any] = {
            "bootstrap_servers": list(self.servers),
            "client_id": client_id,
            "request_timeout_ms": 10_000,
            "retry_backoff_ms": 100,
        }
        if self.user is not None:
            options |= {
                "security_protocol": "SASL_PLAINTEXT",
                "sasl_mechanism": "PLAIN",
                "sasl_plain_username": self.user,
                "sasl_plain_password": self.password,
            }
        return options


def _is_server(server: str) -> bool:
    host, colon, port = server.rpartition(":")
    return bool(host and colon) and port.isdigit() and 0 < int(port) < 65536


def _invalid(reason: str) -> Invalid:
    return Invalid(f"LARES_BUS_URL: {reason}", "BAD_BUS_URL")
