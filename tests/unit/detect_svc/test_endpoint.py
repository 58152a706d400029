"""What a triton:// URL says. Wrong ones: tests/contract/test_detector.py."""

import pytest

from detect_svc.endpoint import Endpoint, endpoint_of
from mesh.problems import Invalid


def test_one_server() -> None:
    assert endpoint_of("triton://host:8001/rtdetrv2") == Endpoint(("host:8001",), "rtdetrv2")


def test_several_with_everything() -> None:
    url = "triton://:se%2Fcret@one:8001,[::1]:8002/m?version=3&tls=true&in_flight=32&processes=4"
    endpoint = endpoint_of(url)
    assert endpoint == Endpoint(("one:8001", "[::1]:8002"), "m", "se/cret", "3", True, 32, 4)
    assert "se" + "/cret" not in repr(endpoint)


def test_no_secret_in_what_is_said_of_a_wrong_one() -> None:
    for url in ("triton://:s3cret@host/m", "triton://:s3cret@host:1/", "triton://user:s3cret@host:1/m"):
        with pytest.raises(Invalid) as refused:
            endpoint_of(url)
        assert "s3cret" not in refused.value.message
