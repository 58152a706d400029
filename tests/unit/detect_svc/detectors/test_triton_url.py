"""What a triton:// URL says. Wrong ones: tests/contract/test_detector.py."""

import pytest

from detect_svc.detectors.triton_url import TritonUrl, parse_triton_url
from mesh.problems import Invalid


def test_one_server() -> None:
    assert parse_triton_url("triton://host:8001/rtdetrv2") == TritonUrl(("host:8001",), "rtdetrv2")


def test_several_with_everything() -> None:
    url = "triton://:se%2Fcret@one:8001,[::1]:8002/m?version=3&tls=true&in_flight=32&processes=4"
    endpoint = parse_triton_url(url)
    assert endpoint == TritonUrl(("one:8001", "[::1]:8002"), "m", "se/cret", "3", True, 32, 4)
    assert "se" + "/cret" not in repr(endpoint)


def test_no_secret_in_what_is_said_of_a_wrong_one() -> None:
    for url in ("triton://:s3cret@host/m", "triton://:s3cret@host:1/", "triton://user:s3cret@host:1/m"):
        with pytest.raises(Invalid) as refused:
            parse_triton_url(url)
        assert "s3cret" not in refused.value.message
