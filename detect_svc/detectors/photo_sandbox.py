"""Asking a sandbox about a photo, as all adapters do."""

import os
from typing import Any

from detect_svc.detectors.detector import Photo
from mesh.problems import Invalid, NotFound, Unavailable
from mesh.processes.sandbox import Sandbox

# Two calls in each process's pipe, so that it starts the next photo while this event loop is busy.
DEPTH = 2
# People who look are answered while a backlog is worked off.
NICE = 5
PHOTO_SECONDS = 20.0


async def run_on_photo(sandbox: Sandbox, photo: Photo) -> Any:
    """What the child says to a photo. Raises what Sandbox.run raises; NotFound where no photo is."""
    try:
        return await sandbox.run(photo if isinstance(photo, bytes) else str(photo))
    except Invalid as problem:
        if problem.reason == "BLOB_NOT_FOUND":
            raise NotFound(problem.message, problem.reason) from None
        raise


def require_running_child(sandbox: Sandbox) -> None:
    """Raises Unavailable while no child runs."""
    if not sandbox.pids:
        raise Unavailable("no detector process runs", "DETECTOR_DOWN")


def process_count(processes: int) -> int:
    """`processes`; 0: two, or one on a machine of one core."""
    return processes or min(2, os.cpu_count() or 1)
