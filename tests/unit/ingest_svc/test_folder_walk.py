from pathlib import Path

from ingest_svc.fingerprint import fingerprint, fingerprints
from ingest_svc.watching.folder_walk import walk
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
    assert fingerprint(root, "door/real/one.jpg") is not None
    for folder in ("door/out", "door/in"):
        assert fingerprint(root, f"{folder}/one.jpg") is None
        assert list(walk(root, folder, IgnoredNames(), failed.append)) == []
    paths = [f"door/{folder}/one.jpg" for folder in ("in", "real", "out", "gone")]
    assert fingerprints(root, paths).keys() == {"door/real/one.jpg"}
    assert {(file.path, file.outside) for file in walk(root, "", IgnoredNames(), failed.append)} == {
        ("door/real/one.jpg", False),
        ("door/out", True),
    }
