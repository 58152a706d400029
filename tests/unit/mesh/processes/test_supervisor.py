"""Owned children, with shells in the place of servers."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from mesh.problems import Unavailable
from mesh.processes import parent_death
from mesh.processes.child_log import ChildLog
from mesh.processes.child_process import run_command, start_time
from mesh.processes.parent_death import tied_to_parent
from mesh.processes.supervisor import ChildSpec, open_child
from tests.support.waiting import until

ROOT = Path(__file__).parents[4]


def shell(folder: Path, script: str) -> ChildSpec:
    """A part that is ready once its script has made the file `up`, which is removed before every start."""
    up = folder / "up"

    async def prepare() -> Sequence[str]:
        up.unlink(missing_ok=True)
        return ["sh", "-c", script.replace("UP", str(up))]

    async def ready() -> bool:
        return up.exists()

    return ChildSpec("shell", folder, prepare, ready, ready_seconds=90.0, stop_seconds=90.0)


@pytest.fixture(params=sorted({parent_death.WAY, "pipe"}))
def by(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to tie a child to its parent, where the system has both."""
    if request.param == "pipe":
        monkeypatch.setattr(parent_death, "WAY", "pipe")
    return str(request.param)


async def test_it_runs_while_the_block_does(tmp_path: Path, by: str) -> None:
    async with open_child(shell(tmp_path, "touch UP; exec sleep 60")) as child:
        born = start_time(child.pid)
        pid = child.pid
        assert born
    assert start_time(pid) != born
    assert not (tmp_path / "shell.pid").exists()


async def test_it_is_asked_before_it_is_killed(tmp_path: Path, by: str) -> None:
    script = "trap 'echo asked; exit 0' TERM; touch UP; while :; do sleep 0.05; done"
    async with open_child(shell(tmp_path, script)):
        pass
    assert "asked" in (tmp_path / "shell.log").read_text()


async def test_it_is_killed_when_it_does_not_listen(tmp_path: Path, by: str) -> None:
    part = shell(tmp_path, "trap '' TERM; echo $$; touch UP; while :; do sleep 0.05; done")
    async with open_child(replace(part, stop_seconds=0.2)):
        pid = int((tmp_path / "shell.log").read_text())
        assert start_time(pid)
    await until(lambda: start_time(pid) is None)


async def test_it_comes_back_when_it_dies(tmp_path: Path, by: str) -> None:
    async with open_child(shell(tmp_path, "touch UP; exec sleep 60")) as child:
        first = child.pid
        os.kill(first, signal.SIGKILL)
        await until(lambda: child.pid not in (0, first) and (tmp_path / "up").exists())
        assert start_time(first) is None


async def test_it_comes_back_after_failed_attempts(tmp_path: Path) -> None:
    script = "touch ran; if [ -e broken ]; then rm broken; exit 1; fi; touch UP; exec sleep 60"
    part = shell(tmp_path, f"cd {tmp_path}; {script}")
    async with open_child(part) as child:
        (tmp_path / "broken").touch()
        first = child.pid
        os.kill(first, signal.SIGKILL)
        await until(lambda: child.pid not in (0, first) and (tmp_path / "up").exists())
        assert not (tmp_path / "broken").exists()


async def test_a_failed_start_shows_the_last_words(tmp_path: Path) -> None:
    with pytest.raises(Unavailable) as caught:
        async with open_child(shell(tmp_path, "echo earlier; echo out of luck >&2; exit 3")):
            pass
    assert caught.value.reason == "CHILD_NOT_READY"
    assert "shell ended" in caught.value.message
    assert "out of luck" in caught.value.message


async def test_a_start_without_end_is_given_up(tmp_path: Path) -> None:
    part = replace(shell(tmp_path, "while [ ! -e UP ]; do sleep 0.05; done"), ready_seconds=0.5)
    with pytest.raises(Unavailable, match="was not ready after"):
        async with open_child(part):
            pass
    # It may have had no time to say its pid, but it is known by what it waits for.
    commands = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
    assert not [command for command in commands if str(tmp_path) in " ".join(command)]


async def test_a_passing_reason_is_tried_again(tmp_path: Path) -> None:
    script = (
        f"cd {tmp_path}; echo x >> starts; [ $(wc -l < starts) -ge 3 ] || {{ echo still busy; exit 1; }};"
    )
    part = shell(tmp_path, script + "touch UP; exec sleep 60")
    async with open_child(replace(part, retry_start=lambda tail: "still busy" in tail)):
        assert len((tmp_path / "starts").read_text().split()) == 3


async def test_the_last_words_are_those_of_this_life(tmp_path: Path) -> None:
    (tmp_path / "shell.log").write_text("old news\n")
    with pytest.raises(Unavailable) as caught:
        async with open_child(shell(tmp_path, "echo fresh; exit 1")):
            pass
    assert "fresh" in caught.value.message
    assert "old news" not in caught.value.message


async def test_what_an_earlier_parent_left_is_ended(tmp_path: Path) -> None:
    left = subprocess.Popen(["sleep", "60"])
    try:
        (tmp_path / "shell.pid").write_text(f"{left.pid} {start_time(left.pid)}")
        async with open_child(shell(tmp_path, "touch UP; exec sleep 60")):
            assert left.wait(90) == -signal.SIGKILL
    finally:
        left.kill()
        left.wait()


async def test_a_stranger_with_the_same_pid_is_spared(tmp_path: Path) -> None:
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        (tmp_path / "shell.pid").write_text(f"{stranger.pid} another birth")
        async with open_child(shell(tmp_path, "touch UP; exec sleep 60")):
            assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


async def test_a_cancelled_start_leaves_nothing(tmp_path: Path) -> None:
    async def run() -> None:
        async with open_child(shell(tmp_path, "echo $$; exec sleep 60")):
            raise AssertionError("it never gets ready")

    log = tmp_path / "shell.log"
    task = asyncio.create_task(run())
    await until(lambda: log.exists() and log.read_text().strip())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert start_time(int(log.read_text())) is None


PARENT = """
import asyncio, sys
from pathlib import Path
from mesh.processes import parent_death
from mesh.processes.supervisor import open_child
from tests.unit.mesh.processes.test_supervisor import shell
parent_death.WAY = sys.argv[2]
async def main():
    async with open_child(shell(Path(sys.argv[1]), "echo $$; touch UP; exec sleep 3600")):
        print("ready", flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""


async def test_it_dies_with_its_parent(tmp_path: Path, by: str) -> None:
    command = [sys.executable, "-c", PARENT, str(tmp_path), by]
    path = os.pathsep.join([str(ROOT), str(ROOT / "proto" / "gen")])
    parent = subprocess.Popen(
        command, stdout=subprocess.PIPE, cwd=ROOT, env={**os.environ, "PYTHONPATH": path}
    )
    assert parent.stdout
    with parent.stdout:
        assert parent.stdout.readline() == b"ready\n"
        births = {
            child.pid: start_time(child.pid) for child in psutil.Process(parent.pid).children(recursive=True)
        }
        assert int((tmp_path / "shell.log").read_text()) in births
        parent.kill()
        parent.wait()
    await until(lambda: not any(start_time(pid) == born for pid, born in births.items()))


def test_a_child_born_after_its_parent_died_does_not_run(by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # A child whose parent died before the kernel was asked has another parent than it expects.
    monkeypatch.setattr("os.getpid", lambda: 1)
    command = tied_to_parent(["echo", "running"] if by == "kernel" else ["sleep", "60"])
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=90)
    if by == "kernel":
        assert (done.returncode, done.stdout) == (parent_death.ORPHANED, b"")
    else:  # seen by the end of standard input
        assert done.returncode == 128 + signal.SIGKILL


async def test_a_command_that_fails_says_why() -> None:
    with pytest.raises(Unavailable, match=r"sh failed \(status 4\):\nno way"):
        await run_command(["sh", "-c", "echo no way; exit 4"])
    with pytest.raises(Unavailable, match="took too long"):
        await run_command(["sleep", "60"], seconds=0.2)


def test_the_log_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ChildLog, "MAX_BYTES", 1000)
    journal = ChildLog(tmp_path / "x.log")
    with journal.open() as file:
        for _ in range(5):
            file.write(b"a line of some length\n" * 100)
            file.flush()
            journal.trim()
            assert (tmp_path / "x.log").stat().st_size == 0
        file.write(b"the end\n")
    assert journal.tail() == "the end"
    assert (tmp_path / "x.log.1").stat().st_size == 1000


async def test_not_from_another_thread(tmp_path: Path) -> None:
    def elsewhere() -> None:
        async def run() -> None:
            async with open_child(shell(tmp_path, "touch UP; exec sleep 60")):
                pass

        asyncio.run(run())

    with pytest.raises(RuntimeError, match="main thread"):
        await asyncio.to_thread(elsewhere)
