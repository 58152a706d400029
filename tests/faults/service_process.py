"""A service process of the harness: `lares up` as it is, with what a fault run needs around it.

FAULTS_DETECTOR=stub has the stub in place of the detector. With FAULTS_SWITCHES, a file, the process follows
its switches: it ends at a commit boundary, its disk is full, its clock is set. All that is done from outside,
by replacing functions after their import; the product contains none of it.
"""

import errno
import io
import os
import sys
from pathlib import Path
from typing import Any

from tests.faults.switches import DISK_FULL, DISK_REFUSED, Switches

# Settings of a process that the product does not have as settings.
STUB, SWITCHES = "FAULTS_DETECTOR", "FAULTS_SWITCHES"
UPLOAD_LEASE_SECONDS = 3.0


def main(arguments: list[str]) -> None:
    """Runs the command line of Lares in this process."""
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from deploy.cli import main as run

    prepare({argument for argument in arguments if not argument.startswith("-")} - {"up"})
    run(arguments)


def prepare(targets: set[str]) -> None:
    if os.environ.get(STUB) == "stub":
        use_stub_detector()
    if path := os.environ.get(SWITCHES):
        from tests.faults import clock_shift
        from tests.faults.boundaries import wrap_boundaries

        switches = Switches(Path(path))
        clock_shift.follow(switches.path)
        fill_the_disk(switches)
        shorten_upload_leases()
        wrap_boundaries(targets, switches)


def use_stub_detector() -> None:
    from detect_svc.detectors import opener
    from tests.faults.stub_detector import open_stub_detector

    setattr(opener, "open_detector", open_stub_detector)  # noqa: B010


def fill_the_disk(switches: Switches) -> None:
    """Simulates a full disk: while its switch is on, nothing can be added to a file of the spool or of the
    cache, as on a disk without free blocks. Only a simulation, because no file system is full."""
    from mesh.blobs import spool

    class Disk(io.FileIO):
        def write(self, data: Any, /) -> int:
            if switches[DISK_FULL]:
                switches[DISK_REFUSED] += 1
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(data)

    setattr(spool, "FileIO", Disk)  # noqa: B010


def shorten_upload_leases() -> None:
    """So that an upload goes on within seconds after a kill, as settings have it for other leases."""
    from ingest_svc.receiving import upload_records

    upload_records.LEASE_SECONDS = UPLOAD_LEASE_SECONDS


if __name__ == "__main__":
    main(sys.argv[1:])
