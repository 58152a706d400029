"""The filter of system calls: what it lets through on each machine, instruction by instruction."""

import os
import struct
from collections.abc import Sequence

import pytest

from mesh.processes.seccomp import (
    ARGUMENTS,
    DENIED,
    DENIED_WRITES,
    JUMP_IF_ANY_BIT,
    JUMP_IF_AT_LEAST,
    JUMP_IF_EQUAL,
    LOAD,
    MACHINES,
    OPENS,
    RETURN,
    X32,
    program,
)

ALLOWED, REFUSED = 0x7FFF0000, 0x00050001  # EPERM is 1
I386 = 0x40000003


def run(instructions: bytes, architecture: int, number: int, arguments: Sequence[int] = (0,) * 6) -> int:
    """What the kernel's machine returns."""
    lines = list(struct.iter_unpack("=HBBI", instructions))
    data = {0: number, 4: architecture} | {ARGUMENTS + 8 * i: value for i, value in enumerate(arguments)}
    loaded, at = 0, 0
    while True:
        code, if_so, if_not, operand = lines[at]
        at += 1
        if code == LOAD:
            loaded = data[operand]
        elif code == JUMP_IF_EQUAL:
            at += if_so if loaded == operand else if_not
        elif code == JUMP_IF_ANY_BIT:
            at += if_so if loaded & operand else if_not
        elif code == JUMP_IF_AT_LEAST:
            at += if_so if loaded >= operand else if_not
        else:
            assert code == RETURN
            return int(operand)


@pytest.mark.parametrize("machine", MACHINES)
def test_only_what_is_denied_is_refused(machine: str) -> None:
    architecture, numbers = MACHINES[machine]
    refused = {number for number in range(1000) if run(program(machine), architecture, number) == REFUSED}
    assert refused == {numbers[name] for name in DENIED if name in numbers}
    allowed = {number for number in range(1000) if run(program(machine), architecture, number) == ALLOWED}
    assert allowed | refused == set(range(1000))


@pytest.mark.parametrize("machine", MACHINES)
def test_calls_of_other_tables_are_refused(machine: str) -> None:
    architecture, _ = MACHINES[machine]
    others = {I386, *(other for other, _ in MACHINES.values())} - {architecture}
    assert {run(program(machine), other, number) for other in others for number in range(1000)} == {REFUSED}
    assert {run(program(machine), architecture, X32 + number) for number in range(1000)} == {REFUSED}


@pytest.mark.parametrize("machine", MACHINES)
def test_files_are_opened_for_reading_only(machine: str) -> None:
    architecture, numbers = MACHINES[machine]
    instructions = program(machine, read_only=True)
    everything = (0xFFFFFFFF,) * 6

    def refused(arguments: Sequence[int]) -> set[int]:
        return {i for i in range(1000) if run(instructions, architecture, i, arguments) == REFUSED}

    always = {numbers[name] for name in (*DENIED, *DENIED_WRITES) if name in numbers}
    opens = {numbers[name]: flags for name, flags in OPENS.items() if name in numbers}
    assert refused((0,) * 6) == always
    assert refused(everything) == always | opens.keys()
    for number, place in opens.items():
        for flag in (os.O_WRONLY, os.O_RDWR, os.O_CREAT, os.O_TRUNC, os.O_RDONLY | os.O_CREAT):
            arguments = [0] * 6
            arguments[place] = flag | os.O_CLOEXEC
            assert run(instructions, architecture, number, arguments) == REFUSED
        arguments = list(everything)
        arguments[place] = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
        assert run(instructions, architecture, number, arguments) == ALLOWED
