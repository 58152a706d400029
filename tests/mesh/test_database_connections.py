"""How the store connects to PostgreSQL: TLS, connection poolers, and the bounds of the pool."""

import asyncio
import ssl
from pathlib import Path

import pytest
import trustme

from mesh.problems import Exhausted, Invalid, Unavailable
from store_svc.database import measures, open_database
from store_svc.database.connector import Connector
from store_svc.database.session_check import require_sessions
from store_svc.database.statement import Connection
from tests.support.database_proxies import (
    SilentWay,
    fake_tls_server,
    fake_transaction_pooler,
    through,
)

HOST = "127.0.0.1"


def server_context(ca: trustme.CA, *names: str, client_ca: trustme.CA | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert(*names).configure_cert(context)
    if client_ca:
        context.verify_mode = ssl.CERT_REQUIRED
        client_ca.configure_trust(context)
    return context


def written(ca: trustme.CA, file: Path, *others: trustme.CA) -> Path:
    file.write_bytes(b"".join(each.cert_pem.bytes() for each in (*others, ca)))
    return file


async def connects(url: str, authority: Path | None = None) -> bool:
    """Whether a connection can be made, over TLS if it is."""
    async with open_database(Connector(url, authority=authority)) as database:
        try:
            await database.check()
        except Unavailable:
            return False
    return True


@pytest.mark.parametrize(
    ("mode", "signed", "named", "connected"),
    [
        ("require", False, False, True),
        ("verify-ca", False, True, False),
        ("verify-ca", True, False, True),
        ("verify-full", True, False, False),
        ("verify-full", False, True, False),
        ("verify-full", True, True, True),
        ("", True, True, True),  # verify-full, because there is a CA
        ("", True, False, False),
    ],
)
async def test_the_server_is_verified_as_sslmode_says(
    postgres_url: str, tmp_path: Path, mode: str, signed: bool, named: bool, connected: bool
) -> None:
    ours, other = trustme.CA(), trustme.CA()
    context = server_context(ours if signed else other, HOST if named else "elsewhere.example")
    authority = None if mode == "require" else written(ours, tmp_path / "ca.pem")
    async with fake_tls_server(postgres_url, context) as port:
        options = f"?sslmode={mode}" if mode else ""
        assert await connects(through(postgres_url, port, options), authority) == connected


async def test_a_ca_verifies_the_server_also_with_require(postgres_url: str, tmp_path: Path) -> None:
    """As in libpq."""
    authority = written(trustme.CA(), tmp_path / "ca.pem")
    async with fake_tls_server(postgres_url, server_context(trustme.CA(), HOST)) as port:
        url = through(postgres_url, port, "?sslmode=require")
        assert await connects(url)
        assert not await connects(url, authority)
        assert not await connects(f"{url}&sslrootcert={authority}")


async def test_a_server_without_tls_gets_no_password(postgres_url: str, tmp_path: Path) -> None:
    async with fake_tls_server(postgres_url, None) as port:
        assert await connects(through(postgres_url, port, "?sslmode=prefer"))
        for mode in ("require", "verify-ca", "verify-full"):
            assert not await connects(through(postgres_url, port, f"?sslmode={mode}"))


async def test_a_ca_file_is_read_for_every_connection(postgres_url: str, tmp_path: Path) -> None:
    """It may hold the old and the new authority, so that the server's certificate can change in between."""
    old, new = trustme.CA(), trustme.CA()
    authority = written(old, tmp_path / "ca.pem")
    async with (
        fake_tls_server(postgres_url, server_context(new, HOST)) as port,
        open_database(Connector(through(postgres_url, port), authority=authority)) as database,
    ):
        with pytest.raises(Unavailable):
            await database.check()
        written(new, authority, old)
        await database.check()


async def test_a_client_certificate_is_presented(postgres_url: str, tmp_path: Path) -> None:
    ours, clients = trustme.CA(), trustme.CA()
    authority = written(ours, tmp_path / "ca.pem")
    issued = clients.issue_cert("lares")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    async with fake_tls_server(postgres_url, server_context(ours, HOST, client_ca=clients)) as port:
        url = through(postgres_url, port, "?sslmode=verify-full")
        assert not await connects(url, authority)
        certificate = f"&sslcert={tmp_path}/cert.pem&sslkey={tmp_path}/key.pem"
        assert await connects(url + certificate, authority)
        with pytest.raises(Invalid, match="LARES_DATABASE_CA, or a certificate"):
            Connector(f"{url}&sslcert={tmp_path}/missing.pem")


@pytest.mark.parametrize("last_first", [True, False])
async def test_a_pooler_of_transactions_is_refused(postgres_url: str, last_first: bool) -> None:
    async with fake_transaction_pooler(postgres_url, last_first=last_first) as port:
        connector = Connector(through(postgres_url, port))
        with pytest.raises(Invalid, match="connection pooler that shares sessions") as refused:
            await require_sessions(connector)
        assert refused.value.reason == "TRANSACTION_POOLING"


async def test_the_server_itself_and_a_proxy_of_connections_are_not_refused(postgres_url: str) -> None:
    await require_sessions(Connector(postgres_url))
    async with fake_tls_server(postgres_url, None) as port:
        await require_sessions(Connector(through(postgres_url, port)))


async def test_the_pool_tells_its_state_and_bounds_the_wait(postgres_url: str) -> None:
    async with open_database(postgres_url, limit=2, wait_seconds=0.3) as database:
        assert (database.state().open, database.state().limit) == (0, 2)
        async with database.connection(), database.connection():
            waiting = asyncio.create_task(database.check())
            while not database.state().waiting:
                await asyncio.sleep(0.001)
            state = database.state()
            assert (state.open, state.in_use, state.waiting) == (2, 2, 1)
            with pytest.raises(Exhausted) as busy:
                await waiting
            assert (busy.value.reason, busy.value.retryable) == ("DATABASE_BUSY", True)
            assert database.state().waiting == 0
        async with database.connection():
            values = {
                (sample.name, *sample.labels.values()): sample.value
                for metric in await measures.sample(database)
                for sample in metric.samples
            }
        assert values == {
            ("lares_database_connections", "in_use"): 1,
            ("lares_database_connections", "idle"): 1,
            ("lares_database_connection_limit",): 2,
            ("lares_database_waiting_calls",): 0,
        }


async def test_a_connection_that_fell_silent_is_not_used_again(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Callers give up earlier than a statement may take, so none of them waits for its end."""
    monkeypatch.setattr("store_svc.database.pool.SETTLE_SECONDS", 0.2)
    way = SilentWay(postgres_url)
    async with way.listening() as port, open_database(through(postgres_url, port)) as database:

        async def write(connection: Connection) -> None:
            await connection.execute("SELECT 1")

        for use in (database.check, lambda: database.transaction(write)):
            await use()
            assert database.state().open == 1
            way.fall_silent()
            async with asyncio.timeout(20):  # less than asyncpg waits for a statement that was cancelled
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.5):
                        await use()
                await use()


async def test_a_connection_is_used_again_after_a_statement_was_cancelled(postgres_url: str) -> None:
    async with open_database(postgres_url) as database:
        async with database.connection() as connection:
            before = connection.get_server_pid()
        for statement in ("SELECT 1", "SELECT pg_sleep(60)"):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5), database.connection() as connection:
                    await connection.execute(statement)
                    await asyncio.Event().wait()
            async with asyncio.timeout(20), database.connection() as connection:
                assert connection.get_server_pid() == before
