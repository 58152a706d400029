"""How long a login waits because others have failed: by address and by account."""

import threading
import time
from collections.abc import Callable, MutableMapping
from ipaddress import IPv6Address, ip_address

from cachetools import TTLCache

FIRST_SECONDS, LONGEST_SECONDS = 0.5, 30.0
REMEMBERED_SECONDS, MAX_REMEMBERED = 900.0, 10_000


class LoginDelays:
    """Any thread may use it. Failures are forgotten after REMEMBERED_SECONDS without another."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        def counts() -> MutableMapping[str, int]:
            return TTLCache(MAX_REMEMBERED, REMEMBERED_SECONDS, timer=clock)

        self._of_address, self._of_account = counts(), counts()
        # Of an address from which the account was opened: guesses from elsewhere do not shut the camera out.
        self._of_both = TTLCache[tuple[str, str], int](MAX_REMEMBERED, 24 * 3600.0, timer=clock)
        self._lock = threading.Lock()

    def seconds(self, address: str, account: str) -> float:
        """How long to wait before the password is looked at."""
        address = _network(address)
        with self._lock:
            own = self._of_both.get((address, account))
            if own is not None:
                return _seconds(own)
            return _seconds(max(self._of_address.get(address, 0), self._of_account.get(account, 0)))

    def failed(self, address: str, account: str) -> None:
        address = _network(address)
        with self._lock:
            if (address, account) in self._of_both:
                self._of_both[address, account] += 1
            self._of_address[address] = self._of_address.get(address, 0) + 1
            self._of_account[account] = self._of_account.get(account, 0) + 1

    def succeeded(self, address: str, account: str) -> None:
        with self._lock:
            self._of_both[_network(address), account] = 0


def _seconds(failures: int) -> float:
    return min(FIRST_SECONDS * 2.0 ** min(failures - 1, 16), LONGEST_SECONDS) if failures else 0.0


def _network(address: str) -> str:
    """One machine may have all addresses of an IPv6 network of 64 bits."""
    found = ip_address(address.partition("%")[0])
    if isinstance(found, IPv6Address) and found.ipv4_mapped is None:
        return str(int(found) >> 64)
    return str(getattr(found, "ipv4_mapped", None) or found)
