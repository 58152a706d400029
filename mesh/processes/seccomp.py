"""A filter of system calls, for children that parse foreign bytes: they can connect to nothing.

It is a program for the kernel's classic BPF machine, which runs it at every system call of every thread and
of every process begun later, for ever: https://docs.kernel.org/userspace-api/seccomp_filter.html. Imports
nothing but the standard library.
"""

import ctypes
import errno
import platform
import struct
import sys

# A system call's number and the architecture whose table it is from, as offsets in `struct seccomp_data`.
NUMBER, ARCHITECTURE = 0, 4
LOAD, JUMP_IF_EQUAL, JUMP_IF_AT_LEAST, RETURN = 0x20, 0x15, 0x35, 0x06
ALLOW, FAIL = 0x7FFF0000, 0x00050000  # the latter with an errno in its low half
# System calls of x86-64's second table have this bit in their number.
X32 = 0x40000000
PR_SET_NO_NEW_PRIVS = 38
SET_MODE_FILTER, EVERY_THREAD = 1, 1

# Those that make or connect a socket (io_uring does it by calls of its own), and those by which a process can
# act through another, such as its parent.
DENIED = (
    *("socket", "socketpair", "connect", "io_uring_setup", "io_uring_enter", "io_uring_register"),
    *("ptrace", "process_vm_readv", "process_vm_writev", "pidfd_getfd"),
)
COMMON = {"io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427, "pidfd_getfd": 438}
# By machine: the audit number of the architecture, and its numbers of system calls.
MACHINES: dict[str, tuple[int, dict[str, int]]] = {
    "x86_64": (
        0xC000003E,
        COMMON
        | {"socket": 41, "connect": 42, "socketpair": 53, "ptrace": 101}
        | {"process_vm_readv": 310, "process_vm_writev": 311, "seccomp": 317},
    ),
    "aarch64": (
        0xC00000B7,
        COMMON
        | {"socket": 198, "socketpair": 199, "connect": 203, "ptrace": 117}
        | {"process_vm_readv": 270, "process_vm_writev": 271, "seccomp": 277},
    ),
}


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def deny_connections() -> bool:
    """From now on the calls of DENIED fail with EPERM, in all threads. False where that cannot be had:
    elsewhere than on Linux, on machines other than x86-64 and ARM64, and on kernels without such filters."""
    if sys.platform != "linux" or platform.machine() not in MACHINES or sys.maxsize < 2**32:
        return False
    numbers = MACHINES[platform.machine()][1]
    instructions = program(platform.machine())
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, *map(ctypes.c_ulong, (1, 0, 0, 0))):
        return False
    order = map(ctypes.c_long, (numbers["seccomp"], SET_MODE_FILTER, EVERY_THREAD))
    # It returns 0, or -1, or the id of a thread that has another filter.
    outcome: int = libc.syscall(*order, ctypes.byref(_Program(len(instructions) // 8, instructions)))
    return outcome == 0


def program(machine: str) -> bytes:
    """The filter: another architecture's calls fail, then those of DENIED, and all others are allowed."""
    architecture, numbers = MACHINES[machine]
    denied = [numbers[name] for name in DENIED]
    refuse = 5 + len(denied)  # where the last instruction is
    lines = [
        (LOAD, 0, 0, ARCHITECTURE),
        (JUMP_IF_EQUAL, 0, refuse - 2, architecture),
        (LOAD, 0, 0, NUMBER),
        (JUMP_IF_AT_LEAST, refuse - 4, 0, X32),
        *((JUMP_IF_EQUAL, refuse - 5 - place, 0, number) for place, number in enumerate(denied)),
        (RETURN, 0, 0, ALLOW),
        (RETURN, 0, 0, FAIL | errno.EPERM),
    ]
    # `struct sock_filter`: what to do, how many lines to skip if so and if not so, the operand.
    return b"".join(struct.pack("=HBBI", *line) for line in lines)
