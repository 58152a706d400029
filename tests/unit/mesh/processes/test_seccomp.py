"""The filter of system calls: what it lets through on each machine, instruction by instruction."""

import struct

import pytest

from mesh.processes.seccomp import (
    DENIED,
    JUMP_IF_AT_LEAST,
    JUMP_IF_EQUAL,
    LOAD,
    MACHINES,
    RETURN,
    X32,
    program,
)

ALLOWED, REFUSED = 0x7FFF0000, 0x00050001  # EPERM is 1
I386 = 0x40000003


def run(instructions: bytes, architecture: int, number: int) -> int:
    """What the kernel's machine returns."""
    lines = list(struct.iter_unpack("=HBBI", instructions))
    data, loaded, at = {0: number, 4: architecture}, 0, 0
    while True:
        code, if_so, if_not, operand = lines[at]
        at += 1
        if code == LOAD:
            loaded = data[operand]
        elif code == JUMP_IF_EQUAL:
            at += if_so if loaded == operand else if_not
        elif code == JUMP_IF_AT_LEAST:
            at += if_so if loaded >= operand else if_not
        else:
            assert code == RETURN
            return int(operand)


@pytest.mark.parametrize("machine", MACHINES)
def test_only_what_is_denied_is_refused(machine: str) -> None:
    architecture, numbers = MACHINES[machine]
    refused = {number for number in range(1000) if run(program(machine), architecture, number) == REFUSED}
    assert refused == {numbers[name] for name in DENIED}
    allowed = {number for number in range(1000) if run(program(machine), architecture, number) == ALLOWED}
    assert allowed | refused == set(range(1000))


@pytest.mark.parametrize("machine", MACHINES)
def test_calls_of_other_tables_are_refused(machine: str) -> None:
    architecture, _ = MACHINES[machine]
    others = {I386, *(other for other, _ in MACHINES.values())} - {architecture}
    assert {run(program(machine), other, number) for other in others for number in range(1000)} == {REFUSED}
    assert {run(program(machine), architecture, X32 + number) for number in range(1000)} == {REFUSED}
