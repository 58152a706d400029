"""The lock of a cameras folder."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ingest_svc.folder_lock import lock_folder
from mesh.problems import Conflict


async def test_only_one_ingest_uses_a_cameras_folder(tmp_path: Path) -> None:
    async with lock_folder(tmp_path):
        with pytest.raises(Conflict) as raised:
            async with lock_folder(tmp_path, patience=0.1):
                pass
    assert raised.value.reason == "INGEST_RUNNING"
    async with lock_folder(tmp_path, patience=0):
        pass


async def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    code = (
        "import asyncio, sys, pathlib\n"
        "from ingest_svc.folder_lock import lock_folder\n"
        "async def main():\n"
        "    async with lock_folder(pathlib.Path(sys.argv[1])):\n"
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
        async with lock_folder(tmp_path, patience=0):
            pass
    process.send_signal(signal.SIGKILL)
    await asyncio.to_thread(process.wait)
    process.stdout.close()
    async with lock_folder(tmp_path):
        pass
