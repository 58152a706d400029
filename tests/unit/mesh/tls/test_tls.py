"""Files of certificates that change while the process runs."""

import asyncio
import os
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from structlog.testing import capture_logs

from mesh.problems import Invalid, Unavailable
from mesh.telemetry.metrics import Metrics
from mesh.tls import tls as tls_module
from mesh.tls.certificates import Certificates
from mesh.tls.files import Contents
from mesh.tls.tls import Tls
from tests.support.certificates import Issuer, opened, renew, serial_in
from tests.support.waiting import until


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture
def files(issuer: Issuer, tmp_path: Path) -> dict[str, Path]:
    issuer.write(tmp_path)
    (tmp_path / "ca.pem").write_bytes(issuer.pem)
    return {f"tls_{name}": tmp_path / f"{name}.pem" for name in ("cert", "key", "ca")}


@pytest.fixture
def tls(files: dict[str, Path]) -> Tls:
    return opened(files)


def shown(tls: Tls) -> bytes:
    return tls.now.clients.chain


async def test_new_files_are_used_once_they_were_the_same_twice(
    tls: Tls, issuer: Issuer, tmp_path: Path
) -> None:
    before = shown(tls)
    issuer.write(tmp_path)
    await tls.refresh()
    assert shown(tls) == before
    await tls.refresh()
    assert shown(tls) == (tmp_path / "cert.pem").read_bytes() != before


async def test_half_of_a_chain_is_not_used(tls: Tls, issuer: Issuer, tmp_path: Path) -> None:
    """Half of a CA file that ends between two certificates looks whole, and would refuse siblings."""
    old = (tmp_path / "ca.pem").read_bytes()
    new = Issuer().pem
    for content in (old, new, new + old):
        (tmp_path / "ca.pem").write_bytes(content)
        await tls.refresh()
        assert tls.now.authorities == old
    await tls.refresh()
    assert tls.now.authorities == new + old


@pytest.mark.parametrize("file", ["cert.pem", "key.pem", "ca.pem"])
@pytest.mark.parametrize("damage", ["removed", "empty", "cut", "other", "endless"])
async def test_files_that_do_not_fit_leave_everything_as_it_is(
    tls: Tls, tmp_path: Path, file: str, damage: str
) -> None:
    path, before, whole = tmp_path / file, tls.now, (tmp_path / file).read_bytes()
    path.unlink()
    if damage == "other":
        Issuer().write(tmp_path / "other")
        path.write_bytes((tmp_path / "other" / ("cert.pem" if file == "key.pem" else "key.pem")).read_bytes())
    elif damage == "endless":
        path.symlink_to("/dev/zero")
    elif damage != "removed":
        path.write_bytes(whole[: len(whole) // 2] if damage == "cut" else b"")
    with capture_logs() as logged:
        for _ in range(4):
            await tls.refresh()
    assert tls.now is before
    assert tls.warnings()["files"]
    assert [entry["log_level"] for entry in logged] == ["error"]  # once
    path.unlink(missing_ok=True)
    path.write_bytes(whole)
    await renew(tls)
    assert tls.now is before
    assert tls.warnings() == {}


async def test_content_that_does_not_fit_is_checked_once(
    tls: Tls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check, checked = tls._check_contents, list[Contents]()

    def counted(contents: Contents) -> Certificates:
        checked.append(contents)
        return check(contents)

    monkeypatch.setattr(tls, "_check_contents", counted)
    for times in (1, 2):
        (tmp_path / "cert.pem").write_text("garbage" * times)
        for _ in range(5):
            await tls.refresh()
        assert len(checked) == times
        assert tls.warnings()["files"]


async def test_a_key_that_comes_after_its_certificate_is_waited_for(
    tls: Tls, issuer: Issuer, tmp_path: Path
) -> None:
    issuer.write(tmp_path / "new")
    before = shown(tls)
    (tmp_path / "cert.pem").write_bytes((tmp_path / "new" / "cert.pem").read_bytes())
    await renew(tls)
    assert shown(tls) == before
    assert "LARES_TLS_KEY" in tls.warnings()["files"]
    (tmp_path / "key.pem").write_bytes((tmp_path / "new" / "key.pem").read_bytes())
    await renew(tls)
    assert shown(tls) != before
    assert tls.warnings() == {}


async def test_a_secret_of_kubernetes_is_exchanged_as_a_whole(issuer: Issuer, tmp_path: Path) -> None:
    """Its files are links through `..data`, which is replaced by a rename."""
    for version in ("one", "two"):
        issuer.write(tmp_path / version)
        (tmp_path / version / "ca.pem").write_bytes(issuer.pem)
    (tmp_path / "..data").symlink_to("one")
    for name in ("cert", "key", "ca"):
        (tmp_path / f"{name}.pem").symlink_to(f"..data/{name}.pem")
    tls = opened({f"tls_{name}": tmp_path / f"{name}.pem" for name in ("cert", "key", "ca")})
    (tmp_path / "..tmp").symlink_to("two")
    (tmp_path / "..tmp").rename(tmp_path / "..data")
    await renew(tls)
    assert shown(tls) == (tmp_path / "two" / "cert.pem").read_bytes()


async def test_a_file_with_an_old_time_and_the_same_size_is_seen(
    tls: Tls, issuer: Issuer, tmp_path: Path
) -> None:
    path = tmp_path / "ca.pem"
    was = path.stat()
    other = Issuer()
    while len(other.pem) != was.st_size:
        other = Issuer()
    path.write_bytes(other.pem)
    os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))
    await renew(tls)
    assert tls.now.authorities == other.pem


async def test_the_files_are_followed_and_renewed(
    files: dict[str, Path], issuer: Issuer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls_module, "READ_SECONDS", 0.01)
    monkeypatch.setattr(tls_module, "RENEWAL_SECONDS", 0.0)
    failing = True
    made = list[int]()

    def make() -> None:
        if failing:
            raise PermissionError("read-only file system")
        if not made:
            made.append(issuer.write(tmp_path))

    given = opened(files)
    tls = Tls(given._read_files, given._check_contents, make)
    before = shown(tls)
    following = asyncio.create_task(tls.keep_fresh())
    await until(lambda: "read-only" in tls.warnings().get("renewal", ""))
    failing = False
    await until(lambda: shown(tls) != before)
    await until(lambda: tls.warnings() == {})
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)


async def test_expiry_is_warned_of_two_weeks_before(files: dict[str, Path], issuer: Issuer) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    issuer.write(files["tls_cert"].parent, expires_at=now + timedelta(days=20))
    clock = now

    tls = opened(files)
    tls._clock = lambda: clock
    assert tls.now.expiries().keys() == {"clients", "siblings", "ca"}
    clock = now + timedelta(days=5, hours=23)
    assert tls.warnings() == {}
    clock = now + timedelta(days=6, hours=1)
    assert tls.warnings() == dict.fromkeys(("clients", "siblings"), "expires in 13 days")
    await tls.check()
    clock = now + timedelta(days=20, seconds=1)
    assert tls.warnings() == dict.fromkeys(("clients", "siblings"), "has expired")
    with pytest.raises(Unavailable, match="expired") as expired:
        await tls.check()
    assert expired.value.reason == "CERTIFICATE_EXPIRED"


async def test_metrics_tell_when_certificates_expire_and_that_files_are_not_used(
    tls: Tls, issuer: Issuer, tmp_path: Path
) -> None:
    expires_at = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)
    issuer.write(tmp_path, expires_at=expires_at)
    await renew(tls)
    metrics = Metrics()
    name = "lares_tls_certificate_expiry_timestamp_seconds"
    with metrics.sampling(tls.sample):
        text = (await metrics.text()).decode()
    numbers = dict(line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("lares_tls"))
    for certificate in ("clients", "siblings"):
        assert float(numbers[f'{name}{{certificate="{certificate}"}}']) == expires_at.timestamp()
    assert f'{name}{{certificate="ca"}}' in numbers
    assert float(numbers["lares_tls_files_unused"]) == 0
    assert tls.report()["certificates"]["clients"] == expires_at.isoformat()  # type: ignore[index]
    (tmp_path / "key.pem").unlink()
    await renew(tls)
    metrics = Metrics()
    with metrics.sampling(tls.sample):
        assert "lares_tls_files_unused 1.0" in (await metrics.text()).decode()


def test_a_certificate_that_has_expired_can_be_opened(files: dict[str, Path], issuer: Issuer) -> None:
    """Lares still records: what clients are shown is another matter."""
    issuer.write(files["tls_cert"].parent, expires_at=datetime.now(UTC) - timedelta(days=1))
    assert opened(files).warnings()["clients"] == "has expired"


@pytest.mark.parametrize(
    ("file", "setting"),
    [("cert.pem", "LARES_TLS_CERT"), ("key.pem", "LARES_TLS_KEY"), ("ca.pem", "LARES_TLS_CA")],
)
def test_a_file_that_cannot_be_used_is_named(files: dict[str, Path], file: str, setting: str) -> None:
    path = files["tls_cert"].parent / file
    path.write_text("-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n")
    with pytest.raises(Invalid, match=setting) as refused:
        opened(files)
    assert refused.value.reason == "BAD_CERTIFICATE"


def test_a_key_with_a_password_is_refused_without_a_prompt(files: dict[str, Path]) -> None:
    key = load_pem_private_key(files["tls_key"].read_bytes(), None)
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    files["tls_key"].write_bytes(locked)
    with pytest.raises(Invalid, match="LARES_TLS_KEY"):
        opened(files)


def test_a_ca_that_this_machine_trusts_for_every_site_is_refused(
    files: dict[str, Path], issuer: Issuer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Everybody can have a certificate of such a CA, and would be a sibling. So would everybody who has one
    of a CA below it, which certificates of public CAs come with."""
    public = Issuer()
    system = tmp_path / "system"
    system.mkdir()
    (system / "bundle.pem").write_bytes(b"# Some CA\n" + Issuer().pem + public.pem)
    (system / "broken.pem").write_bytes(b"\xff")
    paths = ssl.get_default_verify_paths()._replace(openssl_cafile="/nowhere", openssl_capath=str(system))
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: paths)
    below = Issuer(public.ca.create_child_ca())
    for pem in (public.pem, below.pem, issuer.pem + public.pem):
        files["tls_ca"].write_bytes(pem)
        with pytest.raises(Invalid, match=r"LARES_TLS_CA.*lares certificates") as refused:
            opened(files)
        assert refused.value.reason == "BAD_CERTIFICATE"
    files["tls_ca"].write_bytes(issuer.pem)
    assert opened(files).now.authorities == issuer.pem


def test_without_a_ca_there_are_no_siblings(files: dict[str, Path]) -> None:
    tls = opened({name: files[name] for name in ("tls_cert", "tls_key")})
    assert tls.now.expiries().keys() == {"clients"}
    assert serial_in(files["tls_cert"])
