"""Starts service processes by a fork, in a fraction of a second: this process has imported all of Lares and
does nothing else. It has one thread, no event loop and no gRPC, so that a fork of it is as good as a new
process.

Run by `python -m tests.faults.process_host`. Reads a line of JSON for each start from its standard input, and
writes lines of JSON: {"started": pid} in the order of the requests, and {"ended": pid, "status": ...}. Ends,
and all its processes with it, when its standard input ends.
"""

import importlib
import json
import os
import select
import signal
import sys
import traceback
from typing import Any, Never

from mesh.processes.parent_death import die_with_parent
from tests.faults.service_process import main as run_service

PRELOADED = (
    "deploy.cli",
    "deploy.targets",
    "deploy.mesh_factory",
    "detect_svc.service",
    "detect_svc.rendering.child",
    "store_svc.service",
    "reason_svc.service",
    "ingest_svc.service",
    "gateway.service",
    "mesh.blobs.s3",
    "mesh.blobs.files",
    "tests.faults.boundaries",
    "tests.faults.stub_detector",
)


def main() -> None:
    for module in PRELOADED:
        importlib.import_module(module)
    wake, woken = os.pipe()
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    requests = b""
    while True:
        readable, _, _ = select.select([0, wake], [], [])
        if wake in readable:
            os.read(wake, 4096)
            _report_ended()
        if 0 in readable:
            piece = os.read(0, 65536)
            if not piece:
                return
            *lines, requests = (requests + piece).split(b"\n")
            for line in lines:
                _write({"started": _start(json.loads(line), wake, woken)})


def _start(request: dict[str, Any], *unused: int) -> int:
    parent = os.getpid()
    pid = os.fork()
    if not pid:
        _become_service(request, parent, unused)
    return pid


def _become_service(request: dict[str, Any], parent: int, unused: tuple[int, ...]) -> Never:
    """In the new process: takes its environment, its log and its command line, and never returns."""
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        die_with_parent(parent)
        os.setsid()
        for descriptor in unused:
            os.close(descriptor)
        log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((nothing, 0), (log, 1), (log, 2)):
            os.dup2(source, target)
        os.environ.clear()
        os.environ.update(request["environment"])
        sys.argv = ["lares", *request["arguments"]]
        run_service(request["arguments"])
        status = 0
    except SystemExit as exit:
        if isinstance(exit.code, str):
            print(exit.code, file=sys.stderr)
        status = exit.code if isinstance(exit.code, int) else int(exit.code is not None)
    except KeyboardInterrupt:
        status = 130
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _report_ended() -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        _write({"ended": pid, "status": os.waitstatus_to_exitcode(status)})


def _write(line: dict[str, Any]) -> None:
    os.write(1, json.dumps(line).encode() + b"\n")


if __name__ == "__main__":
    main()
