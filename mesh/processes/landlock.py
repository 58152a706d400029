"""Keeps a child process out of the memory of its parent and of all other processes, by Landlock.

A process may open `/proc/<pid>/mem` of any other process of the same user, and so act through it. A filter of
system calls cannot distinguish that file from others. Under Landlock a process has no such access to
processes that are less restricted: https://docs.kernel.org/userspace-api/landlock.html. Imports only the
standard library.
"""

import ctypes
import os
import struct
import sys

# System calls, with the same numbers on every machine.
CREATE_RULESET, RESTRICT_SELF = 444, 446
# A ruleset must deny something; this denies making block devices, which no child needs.
MAKE_BLOCK = 1 << 11


def deny_other_processes() -> bool:
    """Denies this thread, and the threads and processes that it starts, the memory of other processes.

    The process must have forbidden itself new privileges. Returns False if Landlock is not available: on
    systems other than Linux, and on kernels without it.
    """
    if sys.platform != "linux" or sys.maxsize < 2**32:
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    rules = struct.pack("=Q", MAKE_BLOCK)
    ruleset = libc.syscall(
        ctypes.c_long(CREATE_RULESET), rules, ctypes.c_size_t(len(rules)), ctypes.c_uint32(0)
    )
    if ruleset < 0:
        return False
    outcome: int = libc.syscall(ctypes.c_long(RESTRICT_SELF), ctypes.c_int(ruleset), ctypes.c_uint32(0))
    os.close(ruleset)
    return outcome == 0
