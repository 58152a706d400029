"""How clients get into the cluster: certificates, logins and tokens as they are when a connection is made,
and why there is no connection."""

import ssl
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from aiokafka.errors import (
    IllegalSaslStateError,
    KafkaConnectionError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)

from mesh.addresses import is_loopback_host
from mesh.bus.address import KafkaAddress, TokenSource
from mesh.bus.aiokafka_internals import ConnectionMaker, open_connection
from mesh.bus.settings import DEFAULT, BusSettings
from mesh.bus.tls_context import TlsContext
from mesh.bus.tokens import TokenEndpoint, TokenFile, Tokens
from mesh.problems import Denied, Invalid, Problem, Unavailable
from mesh.secret import Secret

REFUSED_SECONDS = 5.0
LOGIN_REFUSED = ("BUS_LOGIN_DENIED", "BUS_TOKEN_DENIED")


class KafkaAccess(ConnectionMaker):
    """What all clients of one bus connect with: LARES_BUS_URL, which is read again when Kafka, or the
    endpoint of its tokens, refuses the login.

    `failure` says why the last attempt to connect failed, and `refusal` is the last failure that nothing but
    another setting, or another permission, ends. Both are None after a connection was made.
    """

    def __init__(self, url: str | Secret, settings: BusSettings = DEFAULT) -> None:
        """Raises Invalid."""
        self.settings = settings
        self._address = Secret.of(url).parsed(KafkaAddress.parse)
        self._tls: TlsContext | None = None
        self._tokens: tuple[TokenSource, Tokens] | None = None
        # The login that was refused last, why, and until when it is not tried again.
        self._refused: tuple[KafkaAddress, Problem, float] | None = None
        self.failure: Problem | None = None
        self.refusal: Problem | None = None
        for host in self.address.hosts:
            self._require_privacy(self.address, host)
        self._tls_options(self.address)

    @property
    def address(self) -> KafkaAddress:
        return self._address.value

    def options(self, client_id: str) -> dict[str, Any]:
        """The arguments that every aiokafka client takes."""
        address = self.address
        return {
            **address.options(client_id),
            **self._tls_options(address),
            "sasl_oauth_token_provider": self,
        }

    def explained(self, error: Exception) -> Exception:
        """An error of a client, or in its place why there is no connection."""
        return KafkaConnectionError(self.failure.message) if self.failure else error

    async def connect(self, host: str, port: int, **options: Any) -> Any:
        """Called by clients for every connection."""
        while True:
            if (problem := self._just_refused()) is not None:
                self.failure = self.refusal = problem
                raise KafkaConnectionError(problem.message)
            address = self.address
            try:
                self._require_privacy(address, host)
                login = {"security_protocol": "PLAINTEXT", **address.login_options()}
                login |= self._tls_options(address)
                connection = await open_connection(host, port, **options | login)
            except Exception as error:
                if isinstance(error, SaslAuthenticationFailed) and self._tokens:
                    self._tokens[1].refused()
                self.failure = _explain(error, f"{host}:{port}", address)
                if isinstance(self.failure, Denied) and self._address.renewed(address):
                    continue
                if self.failure.reason in LOGIN_REFUSED:
                    self._refused = address, self.failure, time.monotonic() + REFUSED_SECONDS
                if not self.failure.retryable:
                    self.refusal = self.failure
                # A client expects no other errors, and one of them must not end its tasks.
                raise KafkaConnectionError(self.failure.message) from error
            self.failure = self.refusal = None
            return connection

    def _just_refused(self) -> Problem | None:
        """Why the login was refused within the last seconds, if it has not changed since. Each client would
        otherwise try it several times a second, until its user is locked out."""
        if self._refused is None:
            return None
        address, problem, until = self._refused
        return None if time.monotonic() > until or self._address.renewed(address) else problem

    async def token(self) -> str:
        """Called by aiokafka while it logs in by OAUTHBEARER."""
        source = self._token_source()
        if self._tokens is None or self._tokens[0] != source:
            self._tokens = source, self._open(source)
        return await self._tokens[1].token()

    def extensions(self) -> dict[str, str]:
        """Called by aiokafka beside `token`."""
        return dict(self._token_source().extensions)

    def _token_source(self) -> TokenSource:
        source = self.address.tokens
        if source is None:  # the setting has changed since aiokafka was told the mechanism
            raise Unavailable("the login of LARES_BUS_URL has changed", "BUS_UNAVAILABLE")
        return source

    def _open(self, source: TokenSource) -> Tokens:
        if source.file:
            return TokenFile(Path(source.file))
        tls = TlsContext(self.settings.ca, None, None)
        return TokenEndpoint(source, tls.with_system_authorities)

    def _tls_options(self, address: KafkaAddress) -> dict[str, Any]:
        if not address.tls:
            return {}
        if self._tls is None:
            self._tls = TlsContext(self.settings.ca, self.settings.cert, self.settings.key)
        return {"ssl_context": self._tls.current()}

    def _require_privacy(self, address: KafkaAddress, host: str) -> None:
        """Raises Invalid if a password or a token would be sent to another machine as plain text."""
        if self.settings.allow_plaintext:
            return
        if address.mechanism and not address.tls and not is_loopback_host(host):
            raise _unprotected(f"would be sent unencrypted to {host}: add security=tls")
        endpoint = address.tokens.endpoint if address.tokens else ""
        if endpoint.startswith("http://") and not is_loopback_host(urlsplit(endpoint).hostname or ""):
            raise _unprotected(f"would be sent unencrypted to {endpoint}: use https")


def _login(address: KafkaAddress) -> str:
    """Who logs in, in words."""
    if address.tokens:
        return address.tokens.client_id or f"the bearer of {address.tokens.file}"
    return address.user or ""


def _unprotected(reason: str) -> Invalid:
    return Invalid(f"LARES_BUS_URL: the password {reason}, or set LARES_ALLOW_PLAINTEXT=true", "BAD_BUS_URL")


def _explain(error: Exception, server: str, address: KafkaAddress) -> Problem:
    """Why there is no connection to `server`, for whoever runs Lares."""
    if isinstance(error, Problem):
        return error
    cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return Denied(
            f"the certificate of Kafka at {server} is not trusted: {cause.verify_message}. LARES_BUS_CA must"
            " hold the CA that signs it",
            "BUS_UNTRUSTED",
        )
    if isinstance(cause, ssl.SSLError) and "ALERT" in str(cause).upper():
        return Denied(
            f"Kafka at {server} refuses the TLS connection: {cause.reason}. It may want a certificate of this"
            " client: LARES_BUS_CERT and LARES_BUS_KEY",
            "BUS_DENIED",
        )
    if isinstance(cause, ssl.SSLError):
        return Unavailable(
            f"no TLS connection to Kafka at {server}: {cause.reason or cause}", "BUS_UNAVAILABLE"
        )
    if isinstance(error, SaslAuthenticationFailed):
        reason = f": {error.args[0]}" if error.args and error.args[0] else ""
        return Denied(f"Kafka at {server} refuses the login of {_login(address)}{reason}", "BUS_LOGIN_DENIED")
    if isinstance(error, UnsupportedSaslMechanismError):
        return Denied(f"Kafka at {server} does not take logins by {address.mechanism}", "BUS_DENIED")
    if isinstance(error, IllegalSaslStateError):
        return Denied(f"Kafka at {server} takes no login: LARES_BUS_URL has one", "BUS_DENIED")
    if isinstance(error, KafkaConnectionError | ConnectionResetError):
        doubt = "Is this port one with TLS?" if address.tls else "Does it want TLS (security=tls)?"
        return Unavailable(f"Kafka at {server} closed the connection. {doubt}", "BUS_UNAVAILABLE")
    if isinstance(error, KafkaError | OSError):
        return Unavailable(
            f"no connection to Kafka at {server}: {_text(error) or 'no response in time'}", "BUS_UNAVAILABLE"
        )
    # What a server says that does not follow the protocol, such as a wrong SCRAM signature.
    return Unavailable(
        f"no connection to Kafka at {server}: {type(error).__name__}: {error}", "BUS_UNAVAILABLE"
    )


def _text(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
