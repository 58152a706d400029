"""Runs a command that shall not outlive whoever holds the other end of standard input.

For systems without PDEATHSIG: the parent keeps a pipe open and never writes; when the parent is gone, however
it went, the pipe ends and the command is killed. Stands alone: `python -I launcher.py COMMAND...`.
"""

import os
import signal
import subprocess
import sys
import threading


def main() -> int:
    child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)  # noqa: S603
    for passed_on in (signal.SIGTERM, signal.SIGINT):
        signal.signal(passed_on, lambda number, _: child.send_signal(number))

    def watch() -> None:
        while os.read(0, 1024):
            pass
        child.kill()

    threading.Thread(target=watch, daemon=True).start()
    status = child.wait()
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main())
