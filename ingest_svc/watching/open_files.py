"""Whether a file is open for writing."""

import fcntl
import os
import signal
from pathlib import Path


def open_for_writing(path: Path) -> bool | None:
    """Whether any process has the file open for writing; None if that is unknown, because the system is not
    Linux or the file belongs to another user."""
    if not hasattr(fcntl, "F_SETLEASE"):
        return None
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        # The kernel grants a read lease only if no process has the file open for writing. A process that
        # opens it during these microseconds waits, and the kernel signals us: by SIGURG, which is ignored by
        # default, because the usual SIGIO would end this process.
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
