"""Running PostgreSQL as root, which it refuses itself."""

import os
import pwd
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.embedded import rootless as rootless_module
from deploy.embedded.rootless import Rootless, find_rootless, namespace
from mesh.problems import Denied, Unavailable
from mesh.processes import parent_death

CURRENT_USER = pwd.getpwuid(os.geteuid())
UID, GID = CURRENT_USER.pw_uid + 54321, CURRENT_USER.pw_gid + 54321
STRANGER = pwd.struct_passwd(("stranger", "x", UID, GID, "", "/", "/bin/sh"))


async def test_other_users_run_it_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert await find_rootless() == Rootless()


async def test_root_runs_it_in_a_namespace_or_as_another_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    found = await find_rootless()
    assert found.within == namespace() or found.user is not None


async def test_without_namespaces_another_user_runs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    found = await find_rootless(namespaces=False)
    assert found.user is not None
    assert found.user.pw_uid != 0
    assert found.owner == found.user.pw_uid
    assert found.ids == (found.user.pw_uid, found.user.pw_gid)
    assert found.within == ()


def test_the_namespace_s_user_is_one_that_the_system_knows() -> None:
    """Otherwise initdb refuses, and many containers have no user 1000."""
    ids = dict(word.removeprefix("--map-").split("=") for word in namespace() if "=" in word)
    assert pwd.getpwuid(int(ids["user"])).pw_name in rootless_module.OTHER_USERS


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
        Rootless(user=STRANGER).take(home / "postgres")
    assert caught.value.reason == "HOME_NOT_CROSSABLE"


class TestAccess:
    """The mode decides here; the real users are in tests/mesh/test_embedded_postgres.py."""

    @pytest.fixture(autouse=True)
    def by_mode(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def reaches(self: Rootless, path: Path, test: str) -> bool:
            assert self.user
            target = path / "x" if test == "-x" and path.is_dir() else path
            user, folders = self.user, rootless_module._folders(target)
            return all(rootless_module._may_enter(each, user.pw_uid, user.pw_gid) for each in folders)

        monkeypatch.setattr(Rootless, "_reaches", reaches)

    @pytest.fixture
    def place(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
        """With a program and a Python that everybody may run."""
        with tempfile.TemporaryDirectory(prefix="lares-") as folder:
            place = Path(folder)
            place.chmod(0o755)
            for name in ("program", "python"):
                (place / name / "bin").mkdir(parents=True)
                (place / name / "bin" / name).touch()
            monkeypatch.setattr("sys.executable", str(place / "python" / "bin" / "python"))
            monkeypatch.setattr(parent_death, "__file__", str(place / "python" / "parent_death.py"))
            yield place

    async def refusal(self, program: Path, home: Path) -> Denied:
        before = sorted(home.parent.rglob("*"))
        with pytest.raises(Denied) as caught:
            await Rootless(("run",), STRANGER).require_access(program, home)
        assert sorted(home.parent.rglob("*")) == before
        assert caught.value.metadata["folder"] in caught.value.message
        return caught.value

    async def test_open_folders_are_enough(self, place: Path) -> None:
        rootless = Rootless(("run",), STRANGER)
        await rootless.require_access(place / "program/bin/program", place / "home")
        (place / "home").mkdir(mode=0o700)  # `take` opens it
        await rootless.require_access(place / "program/bin/program", place / "home")

    @pytest.mark.parametrize("closed", ["program", "program/bin", "python", "python/bin"])
    async def test_the_folder_that_keeps_programs_away_is_named(self, place: Path, closed: str) -> None:
        (place / closed).chmod(0o700)
        refusal = await self.refusal(place / "program/bin/program", place / "home")
        assert (refusal.reason, refusal.metadata["folder"]) == ("PROGRAMS_NOT_CROSSABLE", str(place / closed))

    async def test_who_starts_it_as_another_user_needs_no_python_for_that_user(self, place: Path) -> None:
        (place / "python").chmod(0o700)
        await Rootless(user=STRANGER).require_access(place / "program/bin/program", place / "home")

    async def test_so_is_one_that_a_link_leads_into(self, place: Path) -> None:
        """As the Python of a virtual environment, and of one whose folder is a link."""
        (place / "venv").symlink_to(place / "python")
        (place / "other").mkdir()
        (place / "other" / "program").symlink_to("../venv/bin/python")
        (place / "python").chmod(0o700)
        refusal = await self.refusal(place / "other/program", place / "home")
        assert refusal.metadata["folder"] == str(place / "python")

    @pytest.mark.parametrize("home", ["closed/home", "closed/not/yet/there/home", "link/home"])
    async def test_so_is_one_above_the_home(self, place: Path, home: str) -> None:
        (place / "closed").mkdir(mode=0o700)
        (place / "link").symlink_to("closed")
        refusal = await self.refusal(place / "program/bin/program", place / home)
        expected = ("HOME_NOT_CROSSABLE", str(place / "closed"))
        assert (refusal.reason, refusal.metadata["folder"]) == expected


async def test_who_is_no_root_runs_what_it_may_run_itself(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.touch(mode=0o700)
    tmp_path.chmod(0o700)
    await Rootless().require_access(program, tmp_path / "home")


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
