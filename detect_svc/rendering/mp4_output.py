"""Writes MP4 whose index comes first, so that it plays while it arrives. Runs in a sandbox's child only."""

from collections.abc import Iterator
from contextlib import contextmanager

import av
from av.container import OutputContainer

from detect_svc.rendering.output_file import OutputFile

# With `bitexact`, nothing in it says when and by which version it was written.
OPTIONS = {"movflags": "+faststart", "fflags": "+bitexact"}


@contextmanager
def mp4_output(file: OutputFile) -> Iterator[OutputContainer]:
    """Raises the file's refusal in place of the error that it led to."""

    def open_again(*_: object) -> OutputFile:
        """To move the content behind the index, FFmpeg reads what it has written."""
        return file.opened_again()

    try:
        with av.open(file, "w", format="mp4", options=OPTIONS, io_open=open_again) as container:
            yield container
    except Exception as error:
        raise file.refusal or error from None
