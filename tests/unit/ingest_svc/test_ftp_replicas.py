"""Two FTP receivers that write into one cameras folder, as those of two machines do."""

import errno
import os
from pathlib import Path

import pytest

from ingest_svc.cameras_root import CamerasRoot
from ingest_svc.receiving.ftp.camera_uploads import CameraUploads, KeptFile, Upload
from ingest_svc.watching.ignored_names import IgnoredNames
from ingest_svc.watching.watchdog_inotify import FolderInotify

ONE, OTHER = b"\xff\xd8\xff" + b"1" * 5000, b"\xff\xd8\xff" + b"2" * 7000


def receiver(root: Path) -> CameraUploads:
    return CameraUploads(CamerasRoot(root), IgnoredNames(), 10**6, lambda: "")


def started(uploads: CameraUploads, path: str, content: bytes) -> Upload:
    upload = uploads.start("porch", path)
    upload.write(content)
    return upload


def files(root: Path) -> list[bytes]:
    return sorted(file.read_bytes() for file in (root / "porch").glob("*.*g"))


def refused(uploads: CameraUploads, path: str) -> bool:
    with pytest.raises(OSError, match="being written") as raised:
        uploads.start("porch", path)
    return raised.value.errno == errno.EBUSY


def test_two_do_not_write_one_file(tmp_path: Path) -> None:
    upload = started(receiver(tmp_path), "/a.jpg", ONE[:1000])
    other = receiver(tmp_path)
    assert refused(other, "/a.jpg")
    upload.write(ONE[1000:])
    assert refused(other, "/a.jpg")
    upload.keep()
    started(other, "/a.jpg", OTHER).keep()
    assert files(tmp_path) == [ONE, OTHER]


def test_one_goes_on_with_what_another_has_begun(tmp_path: Path) -> None:
    started(receiver(tmp_path), "/a.jpg", ONE[:1000]).close()
    other = receiver(tmp_path)
    assert other.arrived("porch", "/a.jpg") == 1000
    upload = other.start("porch", "/a.jpg", 1000)
    upload.write(ONE[1000:])
    upload.keep()
    assert files(tmp_path) == [ONE]


def test_a_file_that_gets_its_name_while_another_opens_it_is_not_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload, other = started(receiver(tmp_path), "/a.jpg", ONE), receiver(tmp_path)
    real = os.open

    def opening(name: str, flags: int, *arguments: int, **options: int) -> int:
        descriptor = real(name, flags, *arguments, **options)
        if flags & os.O_CREAT:
            monkeypatch.undo()
            upload.keep()
        return descriptor

    monkeypatch.setattr(os, "open", opening)
    started(other, "/a.jpg", OTHER).keep()
    assert files(tmp_path) == [ONE, OTHER]


@pytest.mark.parametrize("path", ["/a.jpg", "/a.jpg.tmp"])
def test_two_files_that_get_one_name_at_the_same_time_are_both_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    uploads = receiver(tmp_path)
    upload = started(uploads, path, ONE)
    link = os.link

    def linking(*arguments: str, **options: int) -> None:
        if arguments[1] == "a.jpg":  # another machine has been faster
            (tmp_path / "porch" / "a.jpg").write_bytes(OTHER)
        link(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "link", linking)
    kept = upload.keep()
    if path != "/a.jpg":
        uploads.rename("porch", kept.path, "/a.jpg")
    assert files(tmp_path) == [ONE, OTHER]
    assert (tmp_path / "porch" / "a.jpg").read_bytes() == OTHER


def test_a_file_system_without_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "no links")

    monkeypatch.setattr(os, "link", fails)
    kept = [started(receiver(tmp_path), "/a.jpg", content).keep() for content in (ONE, OTHER)]
    assert [isinstance(file, KeptFile) for file in kept] == [True, True]
    assert files(tmp_path) == [ONE, OTHER]


def test_the_watcher_is_told_that_a_file_is_complete(tmp_path: Path) -> None:
    """And that nobody has it open any more."""
    uploads = receiver(tmp_path)
    upload = started(uploads, "/a.jpg", ONE)
    inotify = FolderInotify()
    try:
        inotify.add(str(tmp_path / "porch"))
        upload.keep()
        events = []
        while (event := inotify.next_event(0.2)) is not None:
            events.append(event)
        assert [event.is_close_write for event in events if event.name == b"a.jpg"][-1:] == [True]
        assert upload.closed
    finally:
        inotify.close()
