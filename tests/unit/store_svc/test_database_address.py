"""LARES_DATABASE_URL."""

from pathlib import Path

import pytest

from mesh.problems import Invalid
from store_svc.database.address import DatabaseAddress
from store_svc.database.connector import Connector

SECRET = "hunter2"


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+asyncpg"])
def test_the_parts_of_a_url(scheme: str) -> None:
    address = DatabaseAddress.parse(f"{scheme}://me%40home:p%2F%3A@a:1,b,[::1]:2/my%20db?sslmode=require")
    assert address.hosts == (("a", 1), ("b", 5432), ("::1", 2))
    assert (address.user, address.password, address.database) == ("me@home", "p/:", "my db")
    assert address.mode == "require"
    options = address.options()
    assert (options["host"], options["port"]) == (["a", "b", "::1"], [1, 5432, 2])


def test_a_socket_and_several_hosts_as_an_option() -> None:
    assert DatabaseAddress.parse("postgresql://me@/db?host=%2Frun").hosts == (("/run", 5432),)
    address = DatabaseAddress.parse("postgresql://me@/db?host=a:1,b&target_session_attrs=read-write")
    assert (address.hosts, address.session) == ((("a", 1), ("b", 5432)), "read-write")


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://me:{SECRET}@h:port/db",
        f"postgresql:me:{SECRET}@",
        f"mysql://me:{SECRET}@h/db",
        f"postgresql://me:{SECRET}@h:99999/db",
        f"postgresql://me:{SECRET}@[::1/db",
        f"postgresql://me:12?{SECRET}@h/db",
        f"postgresql://me:1/{SECRET}@h/db?sslmode=never",
        f"postgresql://me@h/db?{SECRET}=1",
        f"postgresql://me@h/db?sslmode={SECRET}",
        "postgresql://me@h/db?sslmode=require&sslmode=disable",
    ],
)
def test_a_url_that_does_not_fit_is_refused_without_its_secret(url: str) -> None:
    with pytest.raises(Invalid, match=r"^LARES_DATABASE_URL: .*the form is postgresql://") as invalid:
        DatabaseAddress.parse(url)
    assert SECRET not in invalid.value.message


@pytest.mark.parametrize(
    ("host", "mode", "exposed"),
    [
        ("127.0.0.1", "disable", False),
        ("[::1]:5432", "", False),
        ("localhost", "prefer", False),
        ("", "", False),
        ("db.example", "", True),
        ("db.example", "disable", True),
        ("db.example", "allow", True),
        ("db.example", "prefer", True),
        ("localhost,db.example", "prefer", True),
        ("db.example", "require", False),
        ("db.example", "verify-full", False),
        ("10.0.0.1", "", True),
    ],
)
def test_beyond_this_machine_tls_is_needed(host: str, mode: str, exposed: bool) -> None:
    url = f"postgresql://me:{SECRET}@{host}/db{f'?sslmode={mode}' if mode else ''}"
    if exposed:
        with pytest.raises(Invalid, match=r"LARES_ALLOW_PLAINTEXT=true") as refused:
            Connector(url, allow_plaintext=False)
        assert SECRET not in refused.value.message
    else:
        Connector(url, allow_plaintext=False)
    Connector(url, allow_plaintext=True)


def test_a_ca_turns_on_verification(tmp_path: Path) -> None:
    authority = tmp_path / "ca.pem"
    assert DatabaseAddress.parse("postgresql://me@h/db", authority).mode == "verify-full"
    assert DatabaseAddress.parse("postgresql://me@h/db?sslmode=require", authority).mode == "require"
    assert DatabaseAddress.parse(f"postgresql://me@h/db?sslrootcert={authority}").mode == "verify-full"
    authority.write_text("nothing")
    with pytest.raises(Invalid, match="LARES_DATABASE_CA"):
        Connector("postgresql://me@h/db", authority=authority)
