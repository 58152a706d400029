"""Valid URLs. tests/contract/test_detector.py has invalid ones."""

import pytest

from detect_svc.detectors.detector_url import TritonUrl, parse_triton_url
from mesh.problems import Invalid


def test_one_server() -> None:
    assert parse_triton_url("triton://host:8001/rtdetrv2") == TritonUrl(("host:8001",), "rtdetrv2")


def test_several_servers_with_all_options() -> None:
    url = "triton://:se%2Fcret@one:8001,[::1]:8002/m?version=3&tls=true&in_flight=32&processes=4"
    parsed = parse_triton_url(url)
    assert parsed == TritonUrl(("one:8001", "[::1]:8002"), "m", "se/cret", "3", True, 32, 4)
    assert "se" + "/cret" not in repr(parsed)


def test_the_error_for_an_invalid_url_does_not_contain_the_token() -> None:
    for url in ("triton://:s3cret@host/m", "triton://:s3cret@host:1/", "triton://user:s3cret@host:1/m"):
        with pytest.raises(Invalid) as refused:
            parse_triton_url(url)
        assert "s3cret" not in refused.value.message
