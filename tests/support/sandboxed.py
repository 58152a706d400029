"""What the sandbox's tests run in its children."""

import ctypes
import os
import sys
import time
from collections.abc import Callable

from mesh.child import Refused


def echo(*args: object) -> list[object]:
    return list(args)


def obey(order: str) -> str:
    """Does what photos do to decoders. `deed@folder` makes the folder first: a sign of having begun."""
    order, _, sign = order.partition("@")
    if sign:
        os.mkdir(sign)
    if order == "crash":
        os.abort()
    if order == "read address zero":
        ctypes.string_at(0)
    if order == "hang":
        time.sleep(3600)
    if order == "hold the interpreter":
        ctypes.PyDLL(None).sleep(3600)
    if order == "refuse":
        raise Refused("this is no order", "NO_ORDER")
    if order == "fail":
        raise RuntimeError("a bug")
    if order == "print":
        print("noise on standard output")
        print("noise on standard error", file=sys.stderr)
    if order == "devour":
        bytearray(3 << 30)  # more than the limit, less than most machines have
    if order == "speak nonsense":
        os.write(_answers(), b"\0\0\0\4\0\0\0\0nope")
    return order


def _answers() -> int:
    """The pipe to the parent: the highest descriptor of the private pair."""
    return max(int(name) for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}"))


def pid_and_settings() -> dict[str, object]:
    return {"pid": os.getpid(), "settings": [name for name in os.environ if name.startswith("LARES_")]}


def write_file(path: str) -> int:
    with open(path, "wb") as file:
        return file.write(b"x")


def counter(start: int) -> Callable[[], int]:
    """A target with set-up: counts the calls that its child has seen."""
    seen = start

    def count() -> int:
        nonlocal seen
        seen += 1
        return seen

    return count


def broken_setup(_: str) -> Callable[[], None]:
    raise ValueError("no such weights")


MAGIC = b"this photo crashes its decoder"


def fragile(*setup: object) -> Callable[[str], dict[str, object]]:
    """The embedded detector, with a decoder that some photos kill."""
    from detect_svc.efficientdet import load

    detect = load(*setup)  # type: ignore[arg-type]

    def look(photo: str) -> dict[str, object]:
        if os.path.exists(photo):
            with open(photo, "rb") as file:
                if MAGIC in file.read():
                    os.abort()
        return detect(photo)

    return look
