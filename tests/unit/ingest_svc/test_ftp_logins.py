"""How failed logins are slowed down, and which files are tests of a camera's maker."""

import pytest

from ingest_svc.receiving.ftp.login_delays import (
    FIRST_SECONDS,
    LONGEST_SECONDS,
    MAX_REMEMBERED,
    REMEMBERED_SECONDS,
    LoginDelays,
)
from ingest_svc.receiving.ftp.maker_tests import is_maker_test
from tests.support.image_files import jpeg


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_each_failure_makes_the_next_login_wait_longer() -> None:
    delays = LoginDelays(Clock())
    waits = []
    for _ in range(12):
        waits.append(delays.seconds("10.0.0.1", "porch"))
        delays.failed("10.0.0.1", "porch")
    assert waits[:4] == [0, FIRST_SECONDS, 2 * FIRST_SECONDS, 4 * FIRST_SECONDS]
    assert waits[-1] == LONGEST_SECONDS


@pytest.mark.parametrize(
    ("address", "account", "waits"),
    [
        ("10.0.0.1", "door", True),
        ("10.0.0.2", "porch", True),
        ("10.0.0.2", "door", False),
        ("::ffff:10.0.0.1", "door", True),
    ],
)
def test_failures_count_by_address_and_by_account(address: str, account: str, waits: bool) -> None:
    delays = LoginDelays(Clock())
    delays.failed("10.0.0.1", "porch")
    assert (delays.seconds(address, account) > 0) is waits


def test_all_addresses_of_one_ipv6_network_count_as_one() -> None:
    delays = LoginDelays(Clock())
    delays.failed("fe80::1:2:3:4%eth0", "porch")
    assert delays.seconds("fe80::5:6:7:8", "door") > 0
    assert delays.seconds("fe81::1:2:3:4", "door") == 0


def test_guesses_from_elsewhere_do_not_shut_the_camera_out() -> None:
    delays = LoginDelays(Clock())
    delays.succeeded("10.0.0.1", "porch")
    for _ in range(20):
        delays.failed("10.0.0.9", "porch")
    assert delays.seconds("10.0.0.1", "porch") == 0
    assert delays.seconds("10.0.0.9", "porch") == LONGEST_SECONDS
    delays.failed("10.0.0.1", "porch")
    assert delays.seconds("10.0.0.1", "porch") == FIRST_SECONDS


def test_failures_are_forgotten_and_bounded() -> None:
    clock = Clock()
    delays = LoginDelays(clock)
    for number in range(MAX_REMEMBERED + 10):
        delays.failed(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", f"camera{number}")
    delays.failed("192.0.2.1", "porch")
    clock.now = REMEMBERED_SECONDS + 1
    assert delays.seconds("192.0.2.1", "porch") == 0


@pytest.mark.parametrize(
    ("name", "content", "dropped"),
    [
        ("test.txt", b"test", True),
        ("Test.txt", b"", True),
        ("TESTFILE", b"\x00" * 16, True),
        ("hello.txt", b"hello", True),
        ("test.txt", b"t" * 4097, False),
        ("test.jpg", jpeg("a small picture"), False),
        ("greatest.gif", b"GIF89a", False),
        ("front.jpg", b"damaged", False),
        ("checkout-till.jpg", b"damaged", False),
    ],
)
def test_only_a_small_file_that_is_no_media_and_is_called_so_is_a_test(
    name: str, content: bytes, dropped: bool
) -> None:
    assert is_maker_test(name, len(content), content) is dropped
