"""A wall clock that can be set while a process runs, for one process: `clock_shift.c`, loaded by LD_PRELOAD.
It stands for libfaketime, which no package that we may install brings."""

import ctypes
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).with_suffix(".c")


def compiled(folder: Path) -> Path | None:
    """The library, made in this folder if it is missing; None where there is no C compiler, or no Linux."""
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        return None
    library = folder / f"clock-shift-{hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:12]}.so"
    if not library.exists():
        folder.mkdir(parents=True, exist_ok=True)
        made = library.with_suffix(".new")
        subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", made, SOURCE, "-ldl"], check=True)
        made.rename(library)
    return library


def follow(switches: Path) -> None:
    """Has this process's clock follow the switches, if the library is loaded."""
    shift = getattr(ctypes.CDLL(None), "lares_clock_shift", None)
    if shift is not None and shift(bytes(switches)):
        raise OSError(f"the clock cannot follow {switches}")
