"""The lock of the home, and its private folders."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.embedded.home import (
    LONGEST_SOCKET_FOLDER,
    lock_home,
    private_folder,
    private_socket_folder,
)
from mesh.problems import Conflict, Denied

ROOT = Path(__file__).parents[3]
HOLDER = """
import sys
from pathlib import Path
from deploy.embedded.home import lock_home
with lock_home(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_only_the_owner_may_enter_the_home(tmp_path: Path) -> None:
    with lock_home(tmp_path / "new" / "home"):
        assert mode(tmp_path / "new" / "home") == 0o700
        assert mode(tmp_path / "new" / "home" / "run") == 0o700


def test_a_second_lares_gets_the_pid_of_the_first(tmp_path: Path) -> None:
    path = os.pathsep.join([str(ROOT), str(ROOT / "proto" / "gen")])
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
    )
    with holder:
        assert holder.stdout
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(Conflict) as caught, lock_home(tmp_path):
            pass
        assert caught.value.reason == "HOME_IN_USE"
        assert caught.value.metadata["pid"] == str(holder.pid)
        assert str(holder.pid) in caught.value.message
        holder.kill()
    with lock_home(tmp_path):  # the lock ends with its process
        assert (tmp_path / "run" / "lares.lock").read_text() == str(os.getpid())


def test_a_home_that_cannot_be_created_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Denied, match="cannot create") as caught:
        private_folder(tmp_path / "file" / "home", "run")
    assert caught.value.reason == "HOME_NOT_WRITABLE"


def test_sockets_are_in_the_home(tmp_path: Path) -> None:
    folder = private_socket_folder(tmp_path)
    assert folder == tmp_path / "run"
    assert mode(folder) == 0o700


def test_a_home_with_a_long_path_gets_a_short_socket_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    long = tmp_path / ("x" * 100)
    folder = private_socket_folder(long)
    assert len(os.fsencode(folder)) <= LONGEST_SOCKET_FOLDER
    assert folder.parent == tmp_path
    assert mode(folder) == 0o700
    assert private_socket_folder(long) == folder
    assert private_socket_folder(tmp_path / ("y" * 100)) != folder
    assert private_socket_folder(long, "postgres") != folder


def test_a_short_folder_that_others_can_enter_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    long = tmp_path / ("x" * 100)
    folder = private_socket_folder(long)
    folder.chmod(0o755)
    with pytest.raises(Denied) as caught:
        private_socket_folder(long)
    assert caught.value.reason == "SOCKET_FOLDER"
    folder.rmdir()
    folder.symlink_to(tmp_path)
    with pytest.raises(Denied):
        private_socket_folder(long)
