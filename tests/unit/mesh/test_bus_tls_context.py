"""Certificates for connections to Kafka, and their replacement."""

import ssl
from pathlib import Path

import pytest
import trustme

from mesh.bus.tls_context import TlsContext
from mesh.problems import Invalid
from tests.support.secured_kafka import write_issued


def names(context: ssl.SSLContext) -> int:
    return len(context.get_ca_certs())


def test_the_files_are_read_again_when_they_have_changed(tmp_path: Path) -> None:
    old, new, bundle = trustme.CA().cert_pem.bytes(), trustme.CA().cert_pem.bytes(), tmp_path / "ca.pem"
    bundle.write_bytes(old)
    tls = TlsContext(bundle, None, None)
    first = tls.current()
    assert names(first) == 1
    assert tls.current() is first
    bundle.write_bytes(old + new)
    assert names(tls.current()) == 2
    bundle.write_bytes(new)
    assert names(tls.current()) == 1


def test_files_that_cannot_be_used_now_leave_the_earlier_ones(tmp_path: Path) -> None:
    authority, ca = trustme.CA(), tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(ca)
    certificate, key = write_issued(tmp_path, authority, "lares")
    tls = TlsContext(ca, certificate, key)
    first = tls.current()
    other_certificate, other_key = write_issued(tmp_path, authority, "lares")
    certificate.write_bytes(other_certificate.read_bytes())  # and the key is still that of the first
    assert tls.current() is first
    key.write_bytes(other_key.read_bytes())
    second = tls.current()
    assert second is not first
    for content in (b"", b"nothing"):
        ca.write_bytes(content)
        assert tls.current() is second
    ca.unlink()
    assert tls.current() is second


@pytest.mark.parametrize("broken", ["ca", "cert", "key"])
def test_files_that_cannot_be_used_at_first_are_refused(tmp_path: Path, broken: str) -> None:
    authority, ca = trustme.CA(), tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(ca)
    certificate, key = write_issued(tmp_path, authority, "lares")
    {"ca": ca, "cert": certificate, "key": key}[broken].write_bytes(b"nothing")
    with pytest.raises(Invalid, match=f"LARES_BUS_{broken.upper()}") as refused:
        TlsContext(ca, certificate, key)
    assert refused.value.reason == "BAD_SETTING"


def test_nothing_older_than_tls_1_2(tmp_path: Path) -> None:
    assert TlsContext(None, None, None).current().minimum_version >= ssl.TLSVersion.TLSv1_2
