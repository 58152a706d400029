"""A Kafka with the listeners of managed services: SASL over TLS, client certificates, and bearer tokens.

Its tokens are checked by Kafka's *unsecured* validator, which believes any token without a signature: that is
for tests alone. Everything else is as in a real cluster.
"""

import asyncio
import base64
import hashlib
import json
import ssl
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import trustme
from aiohttp import web
from aiokafka.protocol.admin import CreateAclsRequest
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    CompactArray,
    CompactBytes,
    CompactString,
    Int8,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from deploy.embedded.class_archive import class_archive
from deploy.embedded.java import Java, find_java
from deploy.embedded.kafka import JARS
from deploy.embedded.kafka_properties import LOGGING, SETTINGS
from mesh.artifacts import fetch_jars
from mesh.bus.access import KafkaAccess
from mesh.bus.cluster import Cluster, open_cluster
from mesh.bus.config_request import ConfigRequest
from mesh.ports import free_port
from mesh.processes.child_process import run_command
from mesh.processes.supervisor import ChildSpec, open_child
from tests.support.parts import CACHE
from tests.support.waiting import until_async

ADMIN, ADMIN_PASSWORD = "admin", "admin-secret"
LISTENERS = ("admin", "secure", "certificate", "token", "controller")
PLAIN_MODULE = "org.apache.kafka.common.security.plain.PlainLoginModule"
SCRAM_MODULE = "org.apache.kafka.common.security.scram.ScramLoginModule"
TOKEN_MODULE = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule"
UNSECURED = (
    "org.apache.kafka.common.security.oauthbearer.internals.unsecured."
    "OAuthBearerUnsecuredValidatorCallbackHandler"
)
SHA256, SHA512, ITERATIONS = 1, 2, 4096
BROKER = 4  # a resource's kind in ConfigRequest


@dataclass
class SecuredKafka:
    """Everything is on `localhost`. `super_users` may do anything; others need what `allow` gives them."""

    folder: Path
    ports: Mapping[str, int]
    authority: trustme.CA
    cluster: Cluster = field(init=False)

    @property
    def ca(self) -> Path:
        return self.folder / "ca.pem"

    @property
    def admin_url(self) -> str:
        return f"kafka://{ADMIN}:{ADMIN_PASSWORD}@127.0.0.1:{self.ports['admin']}"

    @property
    def pid(self) -> int:
        """Of the broker that was started last."""
        return int((self.folder / "kafka.pid").read_text().split()[0])

    def url(self, listener: str, login: tuple[str, str] | None = None, **options: str) -> str:
        """The LARES_BUS_URL of a listener, over TLS."""
        at = f"{quote(login[0], safe='')}:{quote(login[1], safe='')}@" if login else ""
        return f"kafka://{at}localhost:{self.ports[listener]}?{urlencode({'security': 'tls', **options})}"

    async def set_password(self, user: str, password: str) -> None:
        """Lets the user log in by SCRAM with this password, and no longer with another."""
        for mechanism in (SHA256, SHA512):  # not both in one request
            answer = await self.cluster.command(ScramRequest(user, password, mechanism))
            assert [code for _, code, *_ in answer.results] == [0], answer

    async def allow(self, user: str, *permissions: tuple[int, str, int, int]) -> None:
        """Each is kind, name, pattern and operation, as numbers of the Kafka protocol."""
        for kind, name, pattern, operation in permissions:
            request = CreateAclsRequest(kind, name, pattern, f"User:{user}", "*", operation, 3)
            answer = await self.cluster.command(request)
            assert [code for code, _ in answer.creation_responses] == [0], answer

    def issue(self, name: str, authority: trustme.CA | None = None) -> tuple[Path, Path]:
        """Writes a certificate of a client or a server with this common name. Returns the files of
        certificate and key."""
        return write_issued(self.folder, authority or self.authority, name)

    async def show(self, certificate: tuple[Path, Path]) -> None:
        """Gives the broker another certificate for the listeners with TLS, without a restart, and waits until
        it shows it."""
        store = self.folder / f"{uuid.uuid4().hex}.store.pem"
        store.write_bytes(certificate[1].read_bytes() + certificate[0].read_bytes())
        names = [f"listener.name.{listener}.ssl.keystore.location" for listener in ("secure", "token")]
        answer = await self.cluster.command(ConfigRequest("1", dict.fromkeys(names, str(store)), BROKER))
        assert [code for code, *_ in answer.responses] == [0], answer
        for listener in ("secure", "token"):
            address = ("localhost", self.ports[listener])

            async def shown(address: tuple[str, int] = address) -> bool:
                found = await asyncio.to_thread(ssl.get_server_certificate, address)
                return found.strip() == certificate[0].read_text().strip()

            await until_async(shown)


@asynccontextmanager
async def running_secured_kafka(super_users: Sequence[str] = ()) -> AsyncIterator[SecuredKafka]:
    with tempfile.TemporaryDirectory(prefix="lares-secured-") as scratch:
        folder = Path(scratch)
        kafka = SecuredKafka(folder, {name: free_port("127.0.0.1") for name in LISTENERS}, trustme.CA())
        kafka.authority.cert_pem.write_to_path(kafka.ca)
        certificate, key = kafka.issue("localhost")
        (folder / "broker.store.pem").write_bytes(key.read_bytes() + certificate.read_bytes())
        jars = fetch_jars(CACHE, JARS)
        java = await find_java(jars)
        command = await _formatted(kafka, java, await class_archive(java, CACHE), super_users)

        async def prepare() -> Sequence[str]:
            return command

        async def ready() -> bool:
            async with open_cluster(KafkaAccess(kafka.admin_url), "ready", patience=60.0):
                return True

        async with (
            open_child(ChildSpec("kafka", folder, prepare, ready, ready_seconds=120.0)),
            open_cluster(KafkaAccess(kafka.admin_url), "tests", patience=60.0) as kafka.cluster,
        ):
            yield kafka


async def _formatted(
    kafka: SecuredKafka, java: Java, archive: Sequence[str], super_users: Sequence[str]
) -> Sequence[str]:
    """Formats the storage. Returns the command of the broker."""
    properties, logging = kafka.folder / "server.properties", kafka.folder / "log4j2.yaml"
    logging.write_text(LOGGING)
    lines = (f"{name}={value}\n" for name, value in _properties(kafka, super_users).items())
    properties.write_text("".join(lines))
    log = f"-Dlog4j2.configurationFile={logging}"
    cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    tool = ("kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", "-c", str(properties))
    await run_command(java.command(log, *archive, *tool))
    return java.command(log, *archive, "kafka.Kafka", str(properties))


def _properties(kafka: SecuredKafka, super_users: Sequence[str]) -> dict[str, str]:
    ports = kafka.ports
    open_to = dict.fromkeys(("secure", "certificate", "token"), "localhost") | {"admin": "127.0.0.1"}
    login = f'{PLAIN_MODULE} required username="{ADMIN}" password="{ADMIN_PASSWORD}"'
    logins = f'{login} user_{ADMIN}="{ADMIN_PASSWORD}" user_pat="pat-secret";'
    store = {"type": "PEM", "location": str(kafka.folder / "broker.store.pem")}
    trusted = {"type": "PEM", "location": str(kafka.ca)}
    tls = {
        f"listener.name.{listener}.ssl.{kind}.{name}": value
        for listener in ("secure", "certificate", "token")
        for kind, values in (("keystore", store), ("truststore", trusted))
        for name, value in values.items()
    }
    return {
        **SETTINGS,
        **tls,
        "inter.broker.listener.name": "ADMIN",
        "listener.security.protocol.map": "ADMIN:SASL_PLAINTEXT,CONTROLLER:SASL_PLAINTEXT,"
        "SECURE:SASL_SSL,CERTIFICATE:SSL,TOKEN:SASL_SSL",
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.secure.sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
        "listener.name.token.sasl.enabled.mechanisms": "OAUTHBEARER",
        "listener.name.admin.plain.sasl.jaas.config": logins,
        "listener.name.controller.plain.sasl.jaas.config": logins,
        "listener.name.secure.plain.sasl.jaas.config": logins,
        "listener.name.secure.scram-sha-256.sasl.jaas.config": f"{SCRAM_MODULE} required;",
        "listener.name.secure.scram-sha-512.sasl.jaas.config": f"{SCRAM_MODULE} required;",
        "listener.name.token.oauthbearer.sasl.jaas.config": f"{TOKEN_MODULE} required;",
        "listener.name.token.oauthbearer.sasl.server.callback.handler.class": UNSECURED,
        # As managed services do: a connection ends with the token by which it was made.
        "listener.name.token.oauthbearer.connections.max.reauth.ms": "3600000",
        "listener.name.certificate.ssl.client.auth": "required",
        "listener.name.certificate.ssl.principal.mapping.rules": "RULE:^.*CN=([^,]+).*$/$1/,DEFAULT",
        "ssl.allow.dn.changes": "true",
        "super.users": ";".join(f"User:{user}" for user in (ADMIN, *super_users)),
        "log.dirs": str(kafka.folder / "data"),
        "listeners": ",".join(f"{name.upper()}://127.0.0.1:{port}" for name, port in ports.items()),
        "advertised.listeners": ",".join(
            f"{name.upper()}://{host}:{ports[name]}" for name, host in open_to.items()
        ),
        "controller.quorum.voters": f"1@127.0.0.1:{ports['controller']}",
    }


def write_issued(folder: Path, authority: trustme.CA, name: str) -> tuple[Path, Path]:
    issued = authority.issue_cert(name, common_name=name)
    certificate, key = (folder / f"{uuid.uuid4().hex}.{kind}.pem" for kind in ("cert", "key"))
    certificate.write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
    private = load_pem_private_key(issued.private_key_pem.bytes(), None)
    # Kafka reads no other form of PEM.
    key.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return certificate, key


def unsecured_token(user: str, seconds: float) -> str:
    """A token without a signature."""
    now = time.time()
    claims = {"sub": user, "iat": now - 1, "exp": now + seconds}
    parts = ({"alg": "none"}, claims)
    encoded = (base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts)
    return f"{'.'.join(encoded)}."


@dataclass
class UnsecuredTokenEndpoint:
    """Issues tokens without signatures for `client`, `secret` and `scope`. They have `seconds`, and `fault`
    is a status that it returns instead. `requests` counts what it was asked."""

    url: str = ""
    client: str = "lares"
    secret: str = "client-secret"
    scope: str = "kafka"
    seconds: float = 300.0
    fault: int = 0
    respond: Callable[[], web.Response] | None = None
    hangs: bool = False
    requests: int = 0

    async def answer(self, request: web.Request) -> web.Response:
        self.requests += 1
        if self.hangs:
            await asyncio.Event().wait()
        if self.respond:
            return self.respond()
        if self.fault:
            return web.json_response({"error": "temporarily_unavailable"}, status=self.fault)
        login = base64.b64encode(f"{self.client}:{self.secret}".encode()).decode()
        form = await request.post()
        if request.headers.get("Authorization") != f"Basic {login}":
            return web.json_response({"error": "invalid_client"}, status=401)
        if (form.get("grant_type"), form.get("scope")) != ("client_credentials", self.scope):
            return web.json_response({"error": "invalid_scope"}, status=400)
        token = unsecured_token(self.client, self.seconds)
        return web.json_response({"access_token": token, "expires_in": self.seconds, "token_type": "Bearer"})


@asynccontextmanager
async def running_token_endpoint(
    certificate: tuple[Path, Path] | None = None,
) -> AsyncIterator[UnsecuredTokenEndpoint]:
    """Over TLS, if a certificate for localhost is given."""
    endpoint = UnsecuredTokenEndpoint()
    app = web.Application()
    app.router.add_post("/token", endpoint.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    context = None
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
    port = free_port("127.0.0.1")
    await web.TCPSite(runner, "127.0.0.1", port, ssl_context=context).start()
    endpoint.url = f"{'https' if context else 'http'}://localhost:{port}/token"
    try:
        yield endpoint
    finally:
        await runner.cleanup()


class ScramResponse0(Response):  # type: ignore[misc]
    API_KEY = 51
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "results",
            CompactArray(
                ("user", CompactString("utf-8")),
                ("error_code", Int16),
                ("error_message", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class ScramRequest0(RequestStruct):  # type: ignore[misc]
    API_KEY = 51
    API_VERSION = 0
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = ScramResponse0
    SCHEMA = Schema(
        (
            "deletions",
            CompactArray(("name", CompactString("utf-8")), ("mechanism", Int8), ("tags", TaggedFields)),
        ),
        (
            "upsertions",
            CompactArray(
                ("name", CompactString("utf-8")),
                ("mechanism", Int8),
                ("iterations", Int32),
                ("salt", CompactBytes),
                ("salted_password", CompactBytes),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class ScramRequest(Request[ScramRequest0]):  # type: ignore[misc]
    """Sets a user's password for one mechanism."""

    API_KEY = 51

    def __init__(self, user: str, password: str, mechanism: int) -> None:
        salt = uuid.uuid4().bytes
        name = {SHA256: "sha256", SHA512: "sha512"}[mechanism]
        salted = hashlib.pbkdf2_hmac(name, password.encode(), salt, ITERATIONS)
        self._upsertion: tuple[Any, ...] = (user, mechanism, ITERATIONS, salt, salted, {})

    def build(self, request_struct_class: Any) -> Any:
        return request_struct_class([], [self._upsertion], {})
