"""What the sandbox's tests run in its children."""

import contextlib
import ctypes
import errno
import io
import os
import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from functools import partial

from mesh.processes.sandbox_child import InputRefused


def echo(*args: object) -> list[object]:
    return list(args)


def first_of(*args: object) -> object:
    return args[0]


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
        raise InputRefused("this is no order", "NO_ORDER")
    if order == "refuse at length":
        raise InputRefused("no" * 10**6, "NO_ORDER")
    if order == "refuse for no reason":
        raise InputRefused("no", "\r\n" * 10**6)
    if order == "fail at length":
        raise ValueError("no" * 10**6)
    if order == "refuse an object":
        raise InputRefused(f"cannot obey {object()!r}", "NO_ORDER")
    if order == "fail on an object":
        raise ValueError(f"cannot read {io.BytesIO()!r}")
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
    settings = [name for name in os.environ if name.startswith(("LARES_", "AWS_", "OTEL_"))]
    return {"pid": os.getpid(), "settings": settings}


def status_of_process() -> list[str]:
    """The lines of Linux about this process; none on other systems."""
    try:
        with open("/proc/self/status") as status:
            return list(status)
    except FileNotFoundError:
        return []


def write_file(path: str) -> int:
    with open(path, "wb") as file:
        return file.write(b"x")


def write_output(descriptor: int, size: int) -> int:
    return os.pwrite(descriptor, b"x" * size, 0)


def write_elsewhere(folder: str, descriptor: int) -> dict[str, str]:
    """Tries all ways to change files. Returns what came of each."""
    there = os.path.join(folder, "there")

    def by_call(*numbers: int | bytes) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        arguments = (ctypes.c_long(n) if isinstance(n, int) else ctypes.c_char_p(n) for n in numbers)
        if libc.syscall(*arguments) < 0:
            raise OSError(ctypes.get_errno(), "")

    def in_process() -> None:
        order = [sys.executable, "-c", f"open({there!r}, 'ab').write(b'x')"]
        said = subprocess.run(order, stdout=2, stderr=subprocess.PIPE, text=True, check=False).stderr
        if "[Errno 1]" in said:
            raise PermissionError(errno.EPERM, "")

    ways: dict[str, Callable[[], object]] = {
        "append": lambda: open(there, "ab").close(),
        "new": lambda: open(os.path.join(folder, "new"), "xb").close(),
        "nameless": lambda: os.open(folder, os.O_TMPFILE | os.O_RDWR),
        "truncate": lambda: os.truncate(there, 0),
        "again": lambda: os.open(f"/proc/self/fd/{descriptor}", os.O_RDWR),
        "open": lambda: by_call(2, there.encode(), os.O_WRONLY, 0),
        "openat2": lambda: by_call(437, -100, there.encode(), 0, 0),
        "creat": lambda: by_call(85, there.encode(), 0o600),
        "in memory": lambda: os.memfd_create("film"),
        **removals(there),
        "process": in_process,
    }
    outcome = {}
    for name, way in ways.items():
        try:
            way()
            outcome[name] = "done"
        except OSError as error:
            outcome[name] = errno.errorcode[error.errno or 0]
    return outcome


def removals(path: str) -> dict[str, Callable[[], object]]:
    """The ways to make a file go."""
    return {
        "unlink": lambda: os.unlink(path),
        "unlink in a folder": lambda: os.unlink(path, dir_fd=os.open("/", os.O_RDONLY)),
        "rmdir": lambda: os.rmdir(path),
        "rename": lambda: os.rename(path, path + "2"),
        "rename in a folder": lambda: os.rename(path, path + "2", src_dir_fd=os.open("/", os.O_RDONLY)),
        "replace": lambda: os.replace(path + "2", path),
    }


def remove(path: str) -> dict[str, str]:
    """Tries to make the file go. Returns what came of each way."""
    outcome = {}
    for name, way in removals(path).items():
        try:
            way()
            outcome[name] = "done"
        except OSError as error:
            outcome[name] = errno.errorcode[error.errno or 0]
    return outcome


def progressing(*shares: object) -> Generator[object, None, list[object]]:
    yield from shares
    return list(shares)


def progressing_then(order: str) -> Generator[float, None, str]:
    yield 0.5
    return obey(order)


def burn() -> None:
    while True:
        pass


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


def reach(places: list[list[object]], parent: int) -> dict[str, str]:
    """Tries to talk to each place (a path, or host and port) and to act through the parent. Returns what came
    of each attempt."""
    outcome: dict[str, str] = {}

    def attempt(name: str, work: Callable[[], object]) -> None:
        try:
            work()
            outcome[name] = "done"
        except OSError as error:
            outcome[name] = errno.errorcode[error.errno or 0]

    for place in places:
        talk = partial(connect, place)
        attempt(f"connect {place}", talk)
        thread = threading.Thread(target=attempt, args=(f"connect {place} in a thread", talk))
        thread.start()
        thread.join()
        order = [sys.executable, "-c", f"from {__name__} import connect; connect({place!r})"]
        said = subprocess.run(order, capture_output=True, text=True, check=False).stderr
        outcome[f"connect {place} in a process"] = "EPERM" if "[Errno 1]" in said else said or "done"
    attempt("a pair of sockets", socket.socketpair)
    for name, numbers in CALLS.items():
        attempt(name, partial(system_call, *numbers, parent))
    return outcome


def write_memory(pid: int, address: int) -> str:
    """Tries to write a `?` into the memory of a process. Returns what came of it."""
    try:
        with open(f"/proc/{pid}/mem", "r+b", buffering=0) as memory:
            memory.seek(address)
            memory.write(b"?")
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "done"


def write_memory_in_early_thread() -> Callable[[int, int], str]:
    """A target whose set-up begins the thread that tries it."""
    orders, outcomes = queue.SimpleQueue[tuple[int, int]](), queue.SimpleQueue[str]()
    threading.Thread(target=lambda: outcomes.put(write_memory(*orders.get())), daemon=True).start()

    def ask(pid: int, address: int) -> str:
        orders.put((pid, address))
        return outcomes.get(timeout=60)

    return ask


def connect(place: list[object]) -> None:
    """Raises OSError. A listener that takes the connection sends something: HTTP/2's settings."""
    path_or_host, *port = place
    family, address = (socket.AF_INET, (path_or_host, *port)) if port else (socket.AF_UNIX, path_or_host)
    with socket.socket(family, socket.SOCK_STREAM) as opened:
        opened.settimeout(60)
        opened.connect(address)  # type: ignore[arg-type]
        opened.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
        assert opened.recv(1)


# On x86-64. The last ones are of its second table, of which there need not be any in a kernel.
CALLS = {
    "socket": (41, 1, 1, 0),
    "connect": (42, 0, 0, 0),
    "io_uring_setup": (425, 1, 0),
    "ptrace": (101, 9999),  # no request that there is: one that were let through would stop the parent
    "process_vm_readv": (310,),
    "process_vm_writev": (311,),
    "pidfd_getfd": (438, 0, 0, 0),
    "x32 socket": (0x40000000 + 41, 1, 1, 0),
}


def system_call(*numbers: int) -> None:
    """Without Python's or the C library's own functions between. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(*map(ctypes.c_long, numbers)) < 0:
        raise OSError(ctypes.get_errno(), "")


def early_thread() -> Callable[[], str]:
    """A target whose set-up begins a thread. Says what became of a socket that the thread makes later."""
    asked, outcome = threading.Event(), queue.SimpleQueue[str]()

    def wait() -> None:
        asked.wait()
        try:
            socket.socket().close()
            outcome.put("done")
        except OSError as error:
            outcome.put(errno.errorcode[error.errno or 0])

    threading.Thread(target=wait, daemon=True).start()

    def ask() -> str:
        asked.set()
        return outcome.get(timeout=60)

    return ask


def descriptors() -> list[str]:
    """What the child's file descriptors lead to."""
    links = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the folder's own
            links.append(os.readlink(f"/proc/self/fd/{name}"))
    return links


MAGIC = b"this photo crashes its decoder"


def fragile(*setup: object) -> Callable[[str], bytes]:
    """The embedded detector, with a decoder that some photos kill."""
    from detect_svc.detectors.efficientdet import load

    detect = load(*setup)  # type: ignore[arg-type]

    def look(photo: str) -> bytes:
        if os.path.exists(photo):
            with open(photo, "rb") as file:
                if MAGIC in file.read():
                    os.abort()
        return detect(photo)

    return look


def crash(*_: object) -> None:
    os.abort()


def what_a_renderer_may(*_: object) -> None:
    """Refuses with what it could do."""
    outcome = []
    listener: list[object] = ["127.0.0.1", 9]
    writes = os.O_WRONLY | os.O_CREAT
    deeds: dict[str, Callable[[], object]] = {
        "connect": lambda: connect(listener),
        "write": lambda: os.open("/tmp/x", writes),
    }
    for name, deed in deeds.items():
        try:
            deed()
            outcome.append(f"{name}: done")
        except OSError as error:
            outcome.append(f"{name}: {errno.errorcode[error.errno or 0]}")
    try:
        bytearray(2**30)
        outcome.append("memory: done")
    except MemoryError:
        outcome.append("memory: refused")
    lower = os.nice(0) - os.getpriority(os.PRIO_PROCESS, os.getppid())
    raise InputRefused(", ".join([*outcome, f"nice: {lower}"]), "LOOKED")
