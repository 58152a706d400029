"""The lock of a cameras folder."""

import asyncio
import errno
import os
import signal
import subprocess
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from ingest_svc.folder_id import folder_id, read_folder_id
from ingest_svc.folder_lock import lock_folder
from mesh.problems import Conflict


async def test_only_one_ingest_uses_a_cameras_folder(tmp_path: Path) -> None:
    async with lock_folder(tmp_path, "one"):
        with pytest.raises(Conflict) as raised:
            async with lock_folder(tmp_path, "two", patience=0.1):
                pass
    assert raised.value.reason == "INGEST_RUNNING"
    async with lock_folder(tmp_path, "two", patience=0):
        with pytest.raises(Conflict):
            async with lock_folder(tmp_path, "one", patience=0):
                pass


async def test_replicas_of_one_lares_share_the_lock(tmp_path: Path) -> None:
    """Until the last of them has ended."""
    async with AsyncExitStack() as last:
        async with AsyncExitStack() as first:
            locks = [await first.enter_async_context(lock_folder(tmp_path, "one")) for _ in range(2)]
            await last.enter_async_context(lock_folder(tmp_path, "one"))
            assert all(lock.clock() > 0 for lock in locks)
        with pytest.raises(Conflict):
            async with lock_folder(tmp_path, "two", patience=0):
                pass
        async with lock_folder(tmp_path, "one", patience=0):
            pass
    async with lock_folder(tmp_path, "two", patience=0):
        pass


async def test_replicas_that_start_at_once_share_the_lock(tmp_path: Path) -> None:
    (tmp_path / ".lares.lock").write_text("somebody who has ended")
    async with AsyncExitStack() as stack:
        locks = (stack.enter_async_context(lock_folder(tmp_path, "one")) for _ in range(8))
        assert len(await asyncio.gather(*locks)) == 8


async def test_a_folder_to_which_nobody_can_write_has_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(*_: object, **__: object) -> int:
        raise OSError(errno.EROFS, "Read-only file system")

    with monkeypatch.context() as patched:
        patched.setattr("ingest_svc.folder_lock.os.open", read_only)
        patched.setattr("ingest_svc.folder_id._make", read_only)
        async with lock_folder(tmp_path, "one") as lock:
            assert abs(lock.clock() - time.time_ns()) < 60 * 10**9
        assert folder_id(tmp_path) == f"path:{tmp_path}"
        with pytest.raises(FileNotFoundError):
            folder_id(tmp_path / "away")


async def test_all_who_mount_a_folder_call_it_the_same(tmp_path: Path) -> None:
    made = await asyncio.gather(*(asyncio.to_thread(folder_id, tmp_path) for _ in range(8)))
    assert len(set(made)) == 1
    assert [path.name for path in tmp_path.iterdir()] == [".lares.id"]
    assert folder_id(tmp_path) == read_folder_id(tmp_path) == made[0]
    (tmp_path / ".lares.id").write_text("")  # after a power failure, perhaps
    assert folder_id(tmp_path) not in ("", made[0])
    other = tmp_path / "other"
    other.mkdir()
    assert read_folder_id(other) == ""
    assert folder_id(other) != folder_id(tmp_path)
    with pytest.raises(FileNotFoundError):
        folder_id(tmp_path / "away")


async def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    code = (
        "import asyncio, sys, pathlib\n"
        "from ingest_svc.folder_lock import lock_folder\n"
        "async def main():\n"
        "    async with lock_folder(pathlib.Path(sys.argv[1]), 'one'):\n"
        "        print('held', flush=True); await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    root = Path(__file__).parents[3]
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdout=subprocess.PIPE,
        cwd=root,
        env=os.environ | {"PYTHONPATH": f"{root}:{root / 'proto/gen'}"},
    )
    assert process.stdout is not None
    assert await asyncio.to_thread(process.stdout.readline) == b"held\n"
    with pytest.raises(Conflict):
        async with lock_folder(tmp_path, "two", patience=0):
            pass
    process.send_signal(signal.SIGKILL)
    await asyncio.to_thread(process.wait)
    process.stdout.close()
    async with lock_folder(tmp_path, "two"):
        pass
