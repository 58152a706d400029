"""What GraphQL says of the certificates of the gateway's process."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.support.certificates import Issuer, opened, renew
from tests.unit.gateway.conftest import Gateway, open_gateway

QUERY = "{ status { certificates { name expiresAt warning } } }"


async def test_without_tls_there_are_none(gateway: Gateway) -> None:
    assert await gateway.ask(QUERY) == {"status": {"certificates": []}}


async def test_each_certificate_has_its_expiry_and_what_is_wrong_with_it(tmp_path: Path) -> None:
    issuer, now = Issuer(), datetime.now(UTC).replace(microsecond=0)
    issuer.write(tmp_path, expires_at=now + timedelta(days=7, hours=1))
    (tmp_path / "ca.pem").write_bytes(issuer.pem)
    tls = opened({f"tls_{name}": tmp_path / f"{name}.pem" for name in ("cert", "key", "ca")})
    async with open_gateway(tmp_path, tls=tls) as gateway:
        found = (await gateway.ask(QUERY))["status"]["certificates"]
        expires_at = (now + timedelta(days=7, hours=1)).isoformat()
        for name in ("clients", "siblings"):
            assert {"name": name, "expiresAt": expires_at, "warning": "expires in 7 days"} in found
        assert [one["warning"] for one in found if one["name"] == "ca"] == [None]
        assert len(found) == 3
        (tmp_path / "key.pem").unlink()
        await renew(tls)
        files = (await gateway.ask(QUERY))["status"]["certificates"][-1]
        assert (files["name"], files["expiresAt"]) == ("files", None)
        assert "key.pem" in files["warning"]
