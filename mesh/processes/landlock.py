"""Keeps a child out of its parent's memory, and of that of all other processes, by Landlock.

A process may open `/proc/<pid>/mem` of any other of the same user, and so act through it. No filter of system
calls can tell that file from others. Under Landlock, a process has no such access to those that are not
restricted as it is: https://docs.kernel.org/userspace-api/landlock.html. Imports nothing but the standard
library.
"""

import ctypes
import os
import struct
import sys

# The same on every machine.
CREATE_RULESET, RESTRICT_SELF = 444, 446
PR_SET_NO_NEW_PRIVS = 38
# A ruleset must deny something: making block devices, which no child needs.
MAKE_BLOCK = 1 << 11


def deny_other_processes() -> bool:
    """From now on this thread, and the threads and processes that it begins, have no access to the memory of
    others. False where that cannot be had: elsewhere than on Linux, and on kernels without Landlock."""
    if sys.platform != "linux" or sys.maxsize < 2**32:
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, *map(ctypes.c_ulong, (1, 0, 0, 0))):
        return False
    rules = struct.pack("=Q", MAKE_BLOCK)
    ruleset = libc.syscall(
        ctypes.c_long(CREATE_RULESET), rules, ctypes.c_size_t(len(rules)), ctypes.c_uint32(0)
    )
    if ruleset < 0:
        return False
    outcome: int = libc.syscall(ctypes.c_long(RESTRICT_SELF), ctypes.c_int(ruleset), ctypes.c_uint32(0))
    os.close(ruleset)
    return outcome == 0
