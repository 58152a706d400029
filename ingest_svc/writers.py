"""Whether somebody still has a file open for writing."""

import fcntl
import os
import signal
from pathlib import Path


def open_for_writing(path: Path) -> bool | None:
    """None where the system cannot say: only Linux can, and only to the file's owner."""
    if not hasattr(fcntl, "F_SETLEASE"):
        return None
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        # The kernel grants a read lease only while nobody writes. A writer who comes during these
        # microseconds waits for us; its signal is one that is ignored by default (SIGIO would kill us).
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except BlockingIOError:
        return True
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return False
