"""A filter of system calls that keeps a child process from connecting to anything, from removing and renaming
files, and from writing to them.

The filter is a program for the kernel's classic BPF machine, which runs it at every system call of every
thread, and of every process that they start: https://docs.kernel.org/userspace-api/seccomp_filter.html.
Imports only the standard library.
"""

import ctypes
import errno
import os
import platform
import struct
import sys

# Offsets in `struct seccomp_data` of a system call's number, of the architecture that the number is for, and
# of the arguments, each of 8 bytes.
NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, 16
LOAD, JUMP_IF_EQUAL, JUMP_IF_AT_LEAST, JUMP_IF_ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
ALLOW, FAIL = 0x7FFF0000, 0x00050000  # the low half of FAIL holds the errno
# This bit is set in the numbers of x86-64's second table of system calls.
X32 = 0x40000000
SET_MODE_FILTER, EVERY_THREAD = 1, 1

# Calls that make or connect a socket (io_uring has its own), calls by which a process can act through another
# one, such as its parent, and calls that remove or replace files, which no limit on their size prevents.
DENIED = (
    *("socket", "socketpair", "connect", "io_uring_setup", "io_uring_enter", "io_uring_register"),
    *("ptrace", "process_vm_readv", "process_vm_writev", "pidfd_getfd"),
    *("unlink", "unlinkat", "rmdir", "rename", "renameat", "renameat2"),
)
# Calls that open a file for writing whatever their flags are, or whose flags a filter cannot see; or change a
# file that is not open; or make a file in memory, which counts for nobody's address space.
DENIED_WRITES = ("openat2", "creat", "truncate", "open_by_handle_at", "memfd_create")
# Calls that do so depending on their flags, and which argument those are.
OPENS = {"open": 1, "openat": 2}
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
COMMON = {"io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427, "pidfd_getfd": 438} | {
    "openat2": 437
}
# By machine: the audit number of its architecture, and the numbers of its system calls.
MACHINES: dict[str, tuple[int, dict[str, int]]] = {
    "x86_64": (
        0xC000003E,
        COMMON
        | {"socket": 41, "connect": 42, "socketpair": 53, "ptrace": 101}
        | {"process_vm_readv": 310, "process_vm_writev": 311, "seccomp": 317}
        | {"open": 2, "openat": 257, "creat": 85, "truncate": 76, "open_by_handle_at": 304}
        | {"unlink": 87, "unlinkat": 263, "rmdir": 84, "rename": 82, "renameat": 264, "renameat2": 316}
        | {"memfd_create": 319},
    ),
    "aarch64": (
        0xC00000B7,
        COMMON
        | {"socket": 198, "socketpair": 199, "connect": 203, "ptrace": 117}
        | {"process_vm_readv": 270, "process_vm_writev": 271, "seccomp": 277}
        | {"openat": 56, "truncate": 45, "open_by_handle_at": 265}
        | {"unlinkat": 35, "renameat": 38, "renameat2": 276, "memfd_create": 279},
    ),
}


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def restrict(*, read_only: bool = False) -> bool:
    """Makes the calls in DENIED fail with EPERM from now on, in all threads; with `read_only` also those that
    open or make files for writing. Files that are open can still be written to.

    The process must have forbidden itself new privileges. Returns False if the filter is not available: on
    systems other than Linux, on machines other than x86-64 and ARM64, and on kernels without seccomp.
    """
    if sys.platform != "linux" or platform.machine() not in MACHINES or sys.maxsize < 2**32:
        return False
    numbers = MACHINES[platform.machine()][1]
    instructions = program(platform.machine(), read_only=read_only)
    libc = ctypes.CDLL(None, use_errno=True)
    arguments = map(ctypes.c_long, (numbers["seccomp"], SET_MODE_FILTER, EVERY_THREAD))
    # Returns 0, or -1, or the id of a thread that has another filter.
    outcome: int = libc.syscall(*arguments, ctypes.byref(_Program(len(instructions) // 8, instructions)))
    return outcome == 0


def program(machine: str, *, read_only: bool = False) -> bytes:
    """The filter for a machine. Calls for other architectures and those that are denied fail; all others
    pass."""
    architecture, numbers = MACHINES[machine]
    denied = [numbers[name] for name in DENIED + DENIED_WRITES * read_only if name in numbers]
    opens = [(numbers[name], flags) for name, flags in OPENS.items() if read_only and name in numbers]
    refuse = 5 + len(denied) + 3 * len(opens)  # the index of the last instruction; the one before it allows
    lines = [
        (LOAD, 0, 0, ARCHITECTURE),
        (JUMP_IF_EQUAL, 0, refuse - 2, architecture),
        (LOAD, 0, 0, NUMBER),
        (JUMP_IF_AT_LEAST, refuse - 4, 0, X32),
        *((JUMP_IF_EQUAL, refuse - 5 - place, 0, number) for place, number in enumerate(denied)),
    ]
    for number, flags in opens:
        lines += [
            (JUMP_IF_EQUAL, 0, 2, number),
            (LOAD, 0, 0, ARGUMENTS + 8 * flags),
            (JUMP_IF_ANY_BIT, refuse - len(lines) - 3, refuse - len(lines) - 4, WRITES),
        ]
    lines += [(RETURN, 0, 0, ALLOW), (RETURN, 0, 0, FAIL | errno.EPERM)]
    # `struct sock_filter`: the instruction, how many lines to skip if it holds and if not, the operand.
    return b"".join(struct.pack("=HBBI", *line) for line in lines)
