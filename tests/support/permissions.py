"""Makes the permissions of files apply to the tests, also when root runs them."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

CAPABILITY_VERSION = 0x20080522
OVERRIDES = (1 << 1) | (1 << 2)  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH


@contextmanager
def permissions_apply() -> Iterator[None]:
    """Gives up, for the block, the right to read what may not be read: of this thread, and of those that it
    starts."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0)
    # Effective, permitted and inheritable, the lower halves first.
    sets = (ctypes.c_uint32 * 6)()
    _check(libc.capget(header, sets))
    before = sets[0]
    sets[0] = before & ~OVERRIDES
    _check(libc.capset(header, sets))
    try:
        yield
    finally:
        sets[0] = before
        _check(libc.capset(header, sets))


def _check(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
