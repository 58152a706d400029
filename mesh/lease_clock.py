"""The clock by which whoever holds a lease of the store counts how long it has it."""

import time

# Goes on while the machine is suspended, as the store's clock does, by which another may get the lease.
# Linux leaves that time out of CLOCK_MONOTONIC, which is used where there is no CLOCK_BOOTTIME.
CLOCK: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def lease_time() -> float:
    """Seconds since a time in the past. Nobody can set it."""
    return time.clock_gettime(CLOCK)
