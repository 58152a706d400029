"""`lares certificates`, and what the banner says of Lares's own CA."""

from pathlib import Path

import pytest
from cryptography import x509

from deploy.certificates import service_names
from deploy.cli import banner, main
from deploy.targets import TARGETS
from mesh.config import load_config
from mesh.tls.files import own_authority
from tests.support.certificates import opened


@pytest.fixture(autouse=True)
def _empty_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def names_in(file: Path) -> set[str]:
    found = x509.load_pem_x509_certificate(file.read_bytes())
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {str(name.value) for name in names}


def test_each_service_gets_a_folder_for_a_secret(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["certificates", "secrets", "--namespace", "lares", "--name", "lares.example.org"])
    assert {path.name for path in (tmp_path / "secrets").iterdir() if path.is_dir()} == {
        f"lares-{target}" for target in TARGETS
    }
    store = tmp_path / "secrets" / "lares-store"
    assert {path.name: path.stat().st_mode & 0o777 for path in store.iterdir()} == {
        "ca.crt": 0o644,
        "tls.crt": 0o644,
        "tls.key": 0o600,
    }
    assert names_in(store / "tls.crt") == {
        *("lares-store", "lares-store.lares", "lares-store.lares.svc", "lares-store.lares.svc.cluster.local"),
        *("localhost", "127.0.0.1", "::1", "lares.example.org"),
    }
    assert capsys.readouterr().out.count("  made") == len(TARGETS)
    files = {name: store / file for name, file in (("tls_cert", "tls.crt"), ("tls_key", "tls.key"))}
    assert opened(files | {"tls_ca": store / "ca.crt"}).warnings() == {}


def test_a_second_run_renews_what_is_needed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["certificates", "secrets"])
    before = {path: path.read_bytes() for path in (tmp_path / "secrets").rglob("*") if path.is_file()}
    (tmp_path / "secrets" / "lares-store" / "tls.key").unlink()
    # Another CA to trust, while the CA is replaced.
    main(["certificates", "other"])
    both = before[tmp_path / "secrets" / "ca.pem"] + (tmp_path / "other" / "ca.pem").read_bytes()
    (tmp_path / "secrets" / "ca.pem").write_bytes(both)
    capsys.readouterr()
    main(["certificates", "secrets"])
    printed = capsys.readouterr().out
    assert (printed.count("  made"), printed.count("  kept")) == (1, len(TARGETS) - 1)
    changed = {
        str(path.relative_to(tmp_path / "secrets")) for path in before if path.read_bytes() != before[path]
    }
    assert changed == {
        *("ca.pem", "lares-store/tls.key", "lares-store/tls.crt"),
        *(f"lares-{target}/ca.crt" for target in TARGETS),
    }
    for target in TARGETS:
        assert (tmp_path / "secrets" / f"lares-{target}" / "ca.crt").read_bytes() == both


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["/proc/nowhere"], "cannot write to"),
        (["secrets", "nobody"], "no such target: nobody"),
        (["secrets", "--name", "a b"], "'a b' is neither"),
        (["secrets", "--namespace", "a/b"], "'a/b' is neither"),
    ],
)
def test_what_cannot_be_is_said(arguments: list[str], why: str) -> None:
    with pytest.raises(SystemExit, match=why):
        main(["certificates", *arguments])


def test_names_without_a_namespace_are_those_of_compose() -> None:
    assert service_names("store", "") == ["lares-store"]


def test_the_banner_names_the_ca_that_lares_has_made(tmp_path: Path) -> None:
    addresses = {"gateway": "https://127.0.0.1:8000", "grpc": "127.0.0.1:50051"}
    config = load_config(home=tmp_path, tls_mode="self_signed")
    assert own_authority(config) == tmp_path / "tls" / "ca.pem"
    assert f"{tmp_path}/tls/ca.pem (for browsers" in banner(config, addresses)
    assert "ca.pem" not in banner(load_config(home=tmp_path), addresses)
