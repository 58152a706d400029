"""Secrets in files, and the servers that know them, replaced in the order that docs/deploy.md gives."""

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from uuid import uuid4

import asyncpg
import obstore
from obstore.exceptions import BaseError

from mesh.blobs.s3 import open_store
from mesh.bus.access import KafkaAccess
from mesh.bus.cluster import open_cluster
from mesh.bus.settings import BusSettings
from mesh.problems import Denied
from tests.support.s3 import S3
from tests.support.secured_kafka import SecuredKafka


class RotatedSecret(Protocol):
    """A secret with numbers, from 0 on."""

    async def accept(self, number: int) -> None:
        """Lets the server accept one, beside the one before where it can."""

    def write(self, number: int) -> None:
        """Puts one into its files."""

    async def drop(self, number: int) -> None:
        """Ends all use of one, also on connections that exist."""

    async def is_accepted(self, number: int) -> bool:
        """Whether the server lets a new connection in with it."""
        ...


async def rotate(secret: RotatedSecret, number: int) -> None:
    """Replaces the one before by this one."""
    await secret.accept(number)
    secret.write(number)
    await secret.drop(number - 1)
    assert await secret.is_accepted(number)
    assert not await secret.is_accepted(number - 1)


def replace(file: Path, content: str) -> None:
    """As Kubernetes and other managers of secrets do it, so that nobody reads half of it."""
    new = file.with_name(f"{file.name}.new")
    new.write_text(f"{content}\n")
    new.rename(file)


@dataclass(frozen=True)
class DatabasePassword(RotatedSecret):
    """Of a role of PostgreSQL, in `file`; `url` is without it. `admin` is a superuser's connection."""

    admin: asyncpg.Connection
    role: str
    url: str
    file: Path

    async def accept(self, number: int) -> None:
        await self.admin.execute(f"ALTER ROLE {self.role} PASSWORD 'password {number}'")

    def write(self, number: int) -> None:
        replace(self.file, f"password {number}")

    async def drop(self, number: int) -> None:
        """Ends the role's sessions: those that exist go on after their password was changed."""
        await self.admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1", self.role
        )

    async def is_accepted(self, number: int) -> bool:
        try:
            connection = await asyncpg.connect(
                self.url.replace("+asyncpg", ""), password=f"password {number}"
            )
        except asyncpg.InvalidPasswordError:
            return False
        await connection.close()
        return True


@asynccontextmanager
async def database_password(database_url: str, file: Path) -> AsyncIterator[DatabasePassword]:
    """A new role, with password 0, who owns the database and may use the tables that it has."""
    admin = await asyncpg.connect(database_url.replace("+asyncpg", ""))
    role = f"role_{uuid4().hex[:8]}"
    secret = DatabasePassword(admin, role, re.sub("//.*@", f"//{role}@", database_url), file)
    try:
        await admin.execute(f"CREATE ROLE {role} LOGIN")
        await secret.accept(0)
        secret.write(0)
        name = await admin.fetchval("SELECT current_database()")
        await admin.execute(f"ALTER DATABASE {name} OWNER TO {role}")
        await admin.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}")
        yield secret
    finally:
        await secret.drop(0)
        await admin.execute(f"REASSIGN OWNED BY {role} TO CURRENT_USER")
        await admin.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
        await admin.close()


@dataclass(frozen=True)
class S3Keys(RotatedSecret):
    """Keys and their secrets of a user, in `key_file` and `secret_file`, who uses a prefix of the bucket
    `lares` that is named after it; `url` is without them."""

    server: S3
    user: str
    key_file: Path
    secret_file: Path

    @property
    def url(self) -> str:
        return f"s3://lares/{self.user}?endpoint={self.server.endpoint}&region=us-east-1"

    async def accept(self, number: int) -> None:
        await asyncio.to_thread(self.server.add_key, self.user, *self._pair(number))

    def write(self, number: int) -> None:
        """One file after the other: in between they do not fit together."""
        for file, content in zip((self.key_file, self.secret_file), self._pair(number), strict=True):
            replace(file, content)

    async def drop(self, number: int) -> None:
        key, _ = self._pair(number)
        await asyncio.to_thread(self.server.remove_key, self.user, key)

    async def is_accepted(self, number: int) -> bool:
        store = open_store(self.server.url("lares", self.user, *self._pair(number)))
        try:
            await obstore.list(store).collect_async()
        except BaseError:
            return False
        return True

    def _pair(self, number: int) -> tuple[str, str]:
        return f"{self.user}-{number}", f"secret-{number}"


async def s3_keys(server: S3, folder: Path) -> S3Keys:
    """A new user, with key 0."""
    keys = S3Keys(server, f"user-{uuid4().hex[:8]}", folder / "s3-key", folder / "s3-secret")
    await keys.accept(0)
    keys.write(0)
    return keys


@dataclass(frozen=True)
class KafkaPassword(RotatedSecret):
    """Of a user of Kafka who logs in by SCRAM, in `file`; `url` is without it."""

    kafka: SecuredKafka
    user: str
    file: Path

    @property
    def url(self) -> str:
        return self._url(self.user)

    async def accept(self, number: int) -> None:
        await self.kafka.set_password(self.user, f"password {number}")

    def write(self, number: int) -> None:
        replace(self.file, f"password {number}")

    async def drop(self, number: int) -> None:
        """Kills the broker, which is started again: sessions that exist go on after their password was
        changed."""
        os.kill(self.kafka.pid, signal.SIGKILL)
        async with open_cluster(KafkaAccess(self.kafka.admin_url), "again", patience=60.0):
            pass

    async def is_accepted(self, number: int) -> bool:
        access = KafkaAccess(self._url(f"{self.user}:password%20{number}"), BusSettings(ca=self.kafka.ca))
        try:
            async with open_cluster(access, "test", patience=60.0):
                return True
        except Denied:
            return False

    def _url(self, login: str) -> str:
        url = self.kafka.url("secure", mechanism="SCRAM-SHA-512")
        return url.replace("//", f"//{login}@")


async def kafka_password(kafka: SecuredKafka, user: str, folder: Path) -> KafkaPassword:
    """With password 0."""
    password = KafkaPassword(kafka, user, folder / "kafka-password")
    await password.accept(0)
    password.write(0)
    return password
