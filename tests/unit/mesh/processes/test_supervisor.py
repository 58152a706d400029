"""Servers as child processes, with shells in the place of the servers."""

import asyncio
import os
import shutil
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
    """A server that is ready once its script has made the file `up`, which is removed before every start."""
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


async def test_a_server_runs_until_the_block_ends(tmp_path: Path, by: str) -> None:
    async with open_child(shell(tmp_path, "touch UP; exec sleep 60")) as child:
        start = start_time(child.pid)
        pid = child.pid
        assert start
    assert start_time(pid) != start
    assert not (tmp_path / "shell.pid").exists()


async def test_a_server_receives_a_signal_before_it_is_killed(tmp_path: Path, by: str) -> None:
    script = "trap 'echo asked; exit 0' TERM; touch UP; while :; do sleep 0.05; done"
    async with open_child(shell(tmp_path, script)):
        pass
    assert "asked" in (tmp_path / "shell.log").read_text()


async def test_a_server_that_ignores_the_signal_is_killed(tmp_path: Path, by: str) -> None:
    spec = shell(tmp_path, "trap '' TERM; echo $$; touch UP; while :; do sleep 0.05; done")
    async with open_child(replace(spec, stop_seconds=0.2)):
        pid = int((tmp_path / "shell.log").read_text())
        assert start_time(pid)
    await until(lambda: start_time(pid) is None)


async def test_a_server_that_ends_is_restarted(tmp_path: Path, by: str) -> None:
    async with open_child(shell(tmp_path, "touch UP; exec sleep 60")) as child:
        first = child.pid
        os.kill(first, signal.SIGKILL)
        await until(lambda: child.pid not in (0, first) and (tmp_path / "up").exists())
        assert start_time(first) is None


async def test_a_restart_is_repeated_until_it_succeeds(tmp_path: Path) -> None:
    script = "touch ran; if [ -e broken ]; then rm broken; exit 1; fi; touch UP; exec sleep 60"
    spec = shell(tmp_path, f"cd {tmp_path}; {script}")
    async with open_child(spec) as child:
        (tmp_path / "broken").touch()
        first = child.pid
        os.kill(first, signal.SIGKILL)
        await until(lambda: child.pid not in (0, first) and (tmp_path / "up").exists())
        assert not (tmp_path / "broken").exists()


async def test_a_failed_start_reports_the_end_of_the_log(tmp_path: Path) -> None:
    with pytest.raises(Unavailable) as caught:
        async with open_child(shell(tmp_path, "echo earlier; echo out of luck >&2; exit 3")):
            pass
    assert caught.value.reason == "CHILD_NOT_READY"
    assert "shell ended" in caught.value.message
    assert "out of luck" in caught.value.message


async def test_a_server_that_does_not_become_ready_is_killed(tmp_path: Path) -> None:
    spec = replace(shell(tmp_path, "while [ ! -e UP ]; do sleep 0.05; done"), ready_seconds=0.5)
    with pytest.raises(Unavailable, match="was not ready after"):
        async with open_child(spec):
            pass
    # It may not have had the time to write its pid, but its command line contains the folder.
    commands = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
    assert not [command for command in commands if str(tmp_path) in " ".join(command)]


async def test_a_start_is_repeated_after_a_temporary_error(tmp_path: Path) -> None:
    script = (
        f"cd {tmp_path}; echo x >> starts; [ $(wc -l < starts) -ge 3 ] || {{ echo still busy; exit 1; }};"
    )
    spec = shell(tmp_path, script + "touch UP; exec sleep 60")
    async with open_child(replace(spec, retry_start=lambda tail: "still busy" in tail)):
        assert len((tmp_path / "starts").read_text().split()) == 3


async def test_the_reported_log_is_that_of_the_failed_start(tmp_path: Path) -> None:
    (tmp_path / "shell.log").write_text("old news\n")
    with pytest.raises(Unavailable) as caught:
        async with open_child(shell(tmp_path, "echo fresh; exit 1")):
            pass
    assert "fresh" in caught.value.message
    assert "old news" not in caught.value.message


async def test_the_server_of_an_earlier_parent_is_killed(tmp_path: Path) -> None:
    left = subprocess.Popen(["sleep", "60"])
    try:
        (tmp_path / "shell.pid").write_text(f"{left.pid} {start_time(left.pid)}")
        async with open_child(shell(tmp_path, "touch UP; exec sleep 60")):
            assert left.wait(90) == -signal.SIGKILL
    finally:
        left.kill()
        left.wait()


async def test_another_process_with_the_recorded_pid_is_spared(tmp_path: Path) -> None:
    other = subprocess.Popen(["sleep", "60"])
    try:
        (tmp_path / "shell.pid").write_text(f"{other.pid} another start time")
        async with open_child(shell(tmp_path, "touch UP; exec sleep 60")):
            assert other.poll() is None
    finally:
        other.kill()
        other.wait()


async def test_a_cancelled_start_leaves_no_process(tmp_path: Path) -> None:
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


async def test_a_server_ends_with_its_parent(tmp_path: Path, by: str) -> None:
    command = [sys.executable, "-c", PARENT, str(tmp_path), by]
    path = os.pathsep.join([str(ROOT), str(ROOT / "proto" / "gen")])
    parent = subprocess.Popen(
        command, stdout=subprocess.PIPE, cwd=ROOT, env={**os.environ, "PYTHONPATH": path}
    )
    assert parent.stdout
    with parent.stdout:
        assert parent.stdout.readline() == b"ready\n"
        started = {
            child.pid: start_time(child.pid) for child in psutil.Process(parent.pid).children(recursive=True)
        }
        assert int((tmp_path / "shell.log").read_text()) in started
        parent.kill()
        parent.wait()
    await until(lambda: not any(start_time(pid) == start for pid, start in started.items()))


def test_a_child_whose_parent_has_ended_does_not_run(by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # If its parent has ended before the child could be tied to it, the child has another parent.
    monkeypatch.setattr("os.getpid", lambda: 1)
    command = tied_to_parent(["echo", "running"] if by == "kernel" else ["sleep", "60"])
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=90)
    if by == "kernel":
        assert (done.returncode, done.stdout) == (parent_death.ORPHANED, b"")
    else:  # seen by the end of standard input
        assert done.returncode == 128 + signal.SIGKILL


async def test_a_failed_command_reports_its_output() -> None:
    with pytest.raises(Unavailable, match=r"sh failed \(status 4\):\nno way"):
        await run_command(["sh", "-c", "echo no way; exit 4"])
    with pytest.raises(Unavailable, match="took too long"):
        await run_command(["sleep", "60"], seconds=0.2)


async def test_a_command_runs_as_a_user_that_cannot_read_lares(
    tmp_path: Path, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only root can change the user; others run the command as themselves."""
    user = (65534, 65534) if os.geteuid() == 0 else None
    tmp_path.chmod(0o700)
    launcher = shutil.copy(parent_death.__file__, tmp_path)
    monkeypatch.setattr(parent_death, "__file__", str(launcher))
    uid, gid = user or (os.geteuid(), os.getegid())
    check = f'[ "$(id -u) $(id -g) $(id -G)" = "{uid} {gid} {gid}" ]'
    await run_command(["sh", "-c", check if user else "true"], user=user)


def test_the_log_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ChildLog, "MAX_BYTES", 1000)
    log = ChildLog(tmp_path / "x.log")
    with log.open() as file:
        for _ in range(5):
            file.write(b"a line of some length\n" * 100)
            file.flush()
            log.trim()
            assert (tmp_path / "x.log").stat().st_size == 0
        file.write(b"the end\n")
    assert log.tail() == "the end"
    assert (tmp_path / "x.log.1").stat().st_size == 1000


async def test_only_the_main_thread_may_start_servers(tmp_path: Path) -> None:
    def elsewhere() -> None:
        async def run() -> None:
            async with open_child(shell(tmp_path, "touch UP; exec sleep 60")):
                pass

        asyncio.run(run())

    with pytest.raises(RuntimeError, match="main thread"):
        await asyncio.to_thread(elsewhere)
