"""Runs a command of `lares` as an administrator does."""

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]


async def lares_command(settings: Mapping[str, str], *arguments: str) -> tuple[int, str]:
    """Returns its exit status and what it printed. `settings` are environment variables."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "deploy", *arguments),
        cwd=ROOT,
        env=dict(settings),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()
