"""What all adapters share that process photos in a sandbox."""

import os
from dataclasses import astuple
from typing import Any

from detect_svc.detectors.detector import DecodedPicture, Photo
from mesh.problems import Invalid, NotFound, Unavailable
from mesh.processes.sandbox import Sandbox

# Calls sent ahead to each process, so that it starts the next photo while the event loop is busy.
DEPTH = 2
# Requests of clients take precedence over a backlog of photos.
NICE = 5
PHOTO_SECONDS = 20.0


async def run_on_photo(sandbox: Sandbox, photo: Photo) -> Any:
    """Returns the child's result. Raises NotFound if there is no file at the path, and what Sandbox.run
    raises."""
    try:
        if isinstance(photo, DecodedPicture):
            return await sandbox.run(astuple(photo))
        return await sandbox.run(photo if isinstance(photo, bytes) else str(photo))
    except Invalid as problem:
        if problem.reason == "BLOB_NOT_FOUND":
            raise NotFound(problem.message, problem.reason) from None
        raise


def require_running_child(sandbox: Sandbox) -> None:
    """Raises Unavailable while no child process runs."""
    if not sandbox.pids:
        raise Unavailable("no detector process is running", "DETECTOR_DOWN")


def process_count(configured: int) -> int:
    """`configured`, or if it is 0, two processes (one on a machine with one core)."""
    return configured or min(2, os.cpu_count() or 1)
