"""What of backups needs no PostgreSQL."""

import asyncio
import hashlib
import json
from pathlib import Path

import pytest

from deploy.backup import DamagedBlob, back_up, copy_blob
from deploy.embedded.home import require_restored
from deploy.restore import _new_home, _restore_blobs, _verified, restore
from mesh.artifacts import sha256_of
from mesh.config import load_config
from mesh.problems import Conflict, Invalid, NotFound


def put(folder: Path, content: bytes, name: str = "") -> str:
    sha256 = name or hashlib.sha256(content).hexdigest()
    (folder / sha256[:2]).mkdir(parents=True, exist_ok=True)
    (folder / sha256[:2] / sha256).write_bytes(content)
    return sha256


class TestBlobs:
    def test_a_copy_has_the_content_and_the_time(self, tmp_path: Path) -> None:
        sha256 = put(tmp_path / "a", b"photo")
        assert copy_blob(tmp_path / "a", tmp_path / "b", sha256) == 5
        old, new = (tmp_path / folder / sha256[:2] / sha256 for folder in "ab")
        assert (new.read_bytes(), new.stat().st_mtime_ns) == (b"photo", old.stat().st_mtime_ns)
        assert new.stat().st_mode & 0o777 == 0o600

    def test_a_cut_copy_is_made_again(self, tmp_path: Path) -> None:
        sha256 = put(tmp_path / "a", b"photo")
        put(tmp_path / "b", b"pho", sha256)
        copy_blob(tmp_path / "a", tmp_path / "b", sha256)
        assert (tmp_path / "b" / sha256[:2] / sha256).read_bytes() == b"photo"

    def test_damaged_content_is_not_copied(self, tmp_path: Path) -> None:
        sha256 = put(tmp_path / "a", b"photo", hashlib.sha256(b"other").hexdigest())
        with pytest.raises(DamagedBlob):
            copy_blob(tmp_path / "a", tmp_path / "b", sha256)
        assert [path for path in (tmp_path / "b").rglob("*") if path.is_file()] == []

    def test_a_restore_names_what_is_missing_or_damaged(self, tmp_path: Path) -> None:
        good = put(tmp_path / "media", b"good")
        damaged = put(tmp_path / "media", b"bad", hashlib.sha256(b"x").hexdigest())
        missing = hashlib.sha256(b"y").hexdigest()
        backup = tmp_path / "20260101T000000Z"
        backup.mkdir()
        (backup / "blobs").write_text(f"{good} 4\n{damaged} 3\n{missing} 1\n")
        assert _restore_blobs(backup, tmp_path / "home" / "media") == [damaged, missing]
        assert (tmp_path / "home" / "media" / good[:2] / good).exists()


class TestManifest:
    def test_a_changed_file_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "database.dump").write_bytes(b"dump")
        entry = {"size": 4, "sha256": sha256_of(tmp_path / "database.dump")}
        (tmp_path / "manifest.json").write_text(json.dumps({"database.dump": entry}))
        assert _verified(tmp_path) == ["database.dump"]
        (tmp_path / "database.dump").write_bytes(b"dumb")
        with pytest.raises(Conflict) as refused:
            _verified(tmp_path)
        assert refused.value.reason == "BACKUP_DAMAGED"


class TestHome:
    def test_a_home_with_anything_is_refused_and_kept(self, tmp_path: Path) -> None:
        (tmp_path / "admin.key").write_text("key")
        with pytest.raises(Conflict) as refused, _new_home(tmp_path):
            pass
        assert refused.value.reason == "HOME_EXISTS"
        assert (tmp_path / "admin.key").read_text() == "key"
        require_restored(tmp_path)

    def test_an_interrupted_restore_is_made_anew_and_keeps_cameras(self, tmp_path: Path) -> None:
        (tmp_path / "cameras").mkdir()
        with pytest.raises(RuntimeError), _new_home(tmp_path):
            (tmp_path / "postgres").mkdir()
            raise RuntimeError
        with pytest.raises(Conflict) as refused:
            require_restored(tmp_path)
        assert refused.value.reason == "RESTORE_UNFINISHED"
        with _new_home(tmp_path):
            assert not (tmp_path / "postgres").exists()
        require_restored(tmp_path)
        assert (tmp_path / "cameras").is_dir()


class TestRefusals:
    def test_a_folder_without_a_backup(self, tmp_path: Path) -> None:
        (tmp_path / ".new").mkdir()
        with pytest.raises(NotFound) as refused:
            asyncio.run(restore(load_config(home=tmp_path / "home"), tmp_path, ""))
        assert refused.value.reason == "NO_BACKUP"
        assert not (tmp_path / "home").exists()

    def test_a_damaged_backup_makes_no_home(self, tmp_path: Path) -> None:
        backup = tmp_path / "backups" / "20260101T000000Z"
        backup.mkdir(parents=True)
        (backup / "database.dump").write_bytes(b"dumb")
        wanted = {"size": 4, "sha256": hashlib.sha256(b"dump").hexdigest()}
        (backup / "manifest.json").write_text(json.dumps({"database.dump": wanted}))
        with pytest.raises(Conflict, match=r"database\.dump was changed") as refused:
            asyncio.run(restore(load_config(home=tmp_path / "home"), backup.parent, ""))
        assert refused.value.reason == "BACKUP_DAMAGED"
        assert not (tmp_path / "home").exists()

    def test_a_home_on_which_lares_never_ran(self, tmp_path: Path) -> None:
        with pytest.raises(Invalid) as refused:
            asyncio.run(back_up(load_config(home=tmp_path / "home"), tmp_path / "backups"))
        assert refused.value.reason == "NO_HOME"
        assert not (tmp_path / "backups").exists()

    @pytest.mark.parametrize("where", ["", "backups", "media/backups"])
    def test_a_folder_in_the_home(self, tmp_path: Path, where: str) -> None:
        (tmp_path / "postgres").mkdir()
        with pytest.raises(Invalid) as refused:
            asyncio.run(back_up(load_config(home=tmp_path), tmp_path / where))
        assert refused.value.reason == "BAD_FOLDER"

    def test_a_database_of_ones_own(self, tmp_path: Path) -> None:
        config = load_config(home=tmp_path, database_url="postgresql://lares@db/lares")
        for work in (back_up(config, tmp_path / "backups"), restore(config, tmp_path, "")):
            with pytest.raises(Invalid) as refused:
                asyncio.run(work)
            assert refused.value.reason == "BAD_SETTING"
