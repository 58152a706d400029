"""Running PostgreSQL as root, which it refuses itself."""

import os
import pwd
from pathlib import Path

import pytest

from deploy.embedded import rootless as rootless_module
from deploy.embedded.rootless import NAMESPACE, Rootless, find_rootless
from mesh.problems import Denied, Unavailable

CURRENT_USER = pwd.getpwuid(os.geteuid())


async def test_other_users_run_it_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert await find_rootless() == Rootless()


async def test_root_runs_it_in_a_namespace_or_as_another_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    found = await find_rootless()
    assert found.within == NAMESPACE or found.user is not None


async def test_without_namespaces_another_user_runs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    found = await find_rootless(namespaces=False)
    assert found.user is not None
    assert found.user.pw_uid != 0
    assert found.owner == found.user.pw_uid
    assert found.ids == (found.user.pw_uid, found.user.pw_gid)
    assert found.within == ()


async def test_a_missing_user_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(rootless_module, "OTHER_USERS", ("no-such-user",))
    with pytest.raises(Unavailable) as caught:
        await find_rootless(namespaces=False)
    assert caught.value.reason == "NO_USER"


def test_a_folder_that_the_user_cannot_enter_is_reported(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    home = closed / "home"
    (home / "postgres").mkdir(parents=True)
    closed.chmod(0o700)
    with pytest.raises(Denied, match="cannot enter") as caught:
        Rootless(user=CURRENT_USER).take(home / "postgres")
    assert caught.value.reason == "HOME_NOT_CROSSABLE"


def test_files_of_another_user_are_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "file").touch()
    given: list[Path] = []
    monkeypatch.setattr("os.chown", lambda path, *_, **__: given.append(Path(path)))
    Rootless().take(tmp_path / "data")
    assert not given  # this user owns it already
    monkeypatch.setattr("os.geteuid", lambda: CURRENT_USER.pw_uid + 1)
    Rootless().take(tmp_path / "data")
    assert given == [tmp_path / "data" / "file", tmp_path / "data"]
