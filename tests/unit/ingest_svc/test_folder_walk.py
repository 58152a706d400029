import shutil
from pathlib import Path

import pytest

from ingest_svc.cameras_root import CamerasRoot
from ingest_svc.fingerprint import fingerprint, fingerprints
from ingest_svc.watching.folder_walk import outermost, walk
from ingest_svc.watching.ignored_names import IgnoredNames
from tests.support.image_files import jpeg


def test_files_in_linked_folders_are_ignored(tmp_path: Path) -> None:
    failed = list[str]()
    root = (tmp_path / "cameras").resolve()
    for real in (root / "door" / "real", tmp_path / "elsewhere"):
        real.mkdir(parents=True)
        (real / "one.jpg").write_bytes(jpeg())
    (root / "door" / "out").symlink_to(tmp_path / "elsewhere")
    (root / "door" / "in").symlink_to(root / "door" / "real")
    cameras = CamerasRoot(root)
    assert fingerprint(cameras, "door/real/one.jpg") is not None
    for folder in ("door/out", "door/in"):
        assert fingerprint(cameras, f"{folder}/one.jpg") is None
        assert list(walk(cameras, folder, IgnoredNames(), failed.append)) == []
    assert failed == ["door/out", "door/in"]
    paths = [f"door/{folder}/one.jpg" for folder in ("in", "real", "out", "gone")]
    assert fingerprints(cameras, paths).keys() == {"door/real/one.jpg"}
    assert {(file.path, file.outside) for file in walk(cameras, "", IgnoredNames(), failed.append)} == {
        ("door/real/one.jpg", False),
        ("door/out", True),
    }


def test_folders_that_vanish_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = list[str]()
    for name in ("a/deep", "b"):
        (tmp_path / "door" / name).mkdir(parents=True)
        (tmp_path / "door" / name / "one.jpg").write_bytes(jpeg())
    files = walk(CamerasRoot(tmp_path.resolve()), "door", IgnoredNames(), failed.append)
    first = next(files)
    shutil.rmtree(tmp_path / "door")
    assert len([first, *files]) == 1
    assert len(failed) == 1
    assert list(walk(CamerasRoot(tmp_path.resolve()), "gone", IgnoredNames(), failed.append)) == []
    assert failed[1:] == ["gone"]


def test_the_outermost_folders() -> None:
    assert outermost(["a/b", "c", "a", "ab", "c/d/e"]) == ["c", "a", "ab"]
    assert outermost(["a", "", "b/c"]) == [""]
