"""The throughput of a whole Lares for 500 photos of 1080p, compared with decoder and detector alone."""

import asyncio
import time
from pathlib import Path

import psutil

from detect_svc.detectors.factory import open_detector
from mesh.bus import open_bus
from mesh.config import load_config
from mesh.topics import DETECTED
from tests.bench.measure import Row, cpu_seconds
from tests.support.lares import Lares, running_lares
from tests.support.photos import person_photo, renumbered

PHOTOS, CAMERAS, IN_FLIGHT = 500, 4, 8


async def measure(folder: Path) -> list[Row]:
    staging = folder / "pipeline" / "staging"
    files = await asyncio.to_thread(_photos, staging)
    alone = PHOTOS / await _alone(files)
    async with running_lares(folder / "pipeline" / "home") as lares:
        seconds, cpu = await _whole(lares, staging)
    whole = PHOTOS / seconds
    share = whole / alone
    spent = ", ".join(f"{name} {used:.1f} s" for name, used in sorted(cpu.items(), key=lambda item: -item[1]))
    return [
        Row(
            f"{PHOTOS} photos of 1080p, whole pipeline (CPU: {spent})",
            f"{whole:.0f}/s",
            f"decode+detect {alone:.0f}/s",
            f"{share:.0%}",
            ">= 80 %",
            share >= 0.8,
        )
    ]


def _photos(staging: Path) -> list[Path]:
    """Writes different photos, in one folder for each camera."""
    files = []
    for index in range(PHOTOS):
        camera = staging / f"cam-{index % CAMERAS}"
        camera.mkdir(parents=True, exist_ok=True)
        files.append(camera / f"{index:04}.jpg")
        files[-1].write_bytes(renumbered(person_photo(), index))
    return files


async def _alone(files: list[Path]) -> float:
    """Returns the seconds that the detector's processes take for all files when they never wait for work."""
    async with open_detector(load_config()) as detector:
        for file in files[:10]:
            await detector.detect(file)
        slots = asyncio.Semaphore(IN_FLIGHT)

        async def one(file: Path) -> None:
            async with slots:
                await detector.detect(file)

        began = time.monotonic()
        await asyncio.gather(*(one(file) for file in files))
        return time.monotonic() - began


async def _whole(lares: Lares, staging: Path) -> tuple[float, dict[str, float]]:
    """Returns the seconds from the first file until the store has recorded the last one, and CPU seconds by
    program."""
    assert lares.process is not None
    tree = [psutil.Process(lares.process.pid), *lares.children()]
    async with (
        open_bus(lares.admin_kafka_url, client_id="bench") as bus,
        bus.tail(DETECTED, start="end") as tail,
    ):
        before = {process.pid: cpu_seconds([process]) for process in tree}
        began = time.monotonic()
        for camera in sorted(staging.iterdir()):
            camera.rename(lares.cameras / camera.name)
        seen = 0
        async for _ in tail:
            seen += 1
            if seen == PHOTOS:
                break
        while (await lares.graphql("{ status { store { detectionsLag } } }"))["status"]["store"][
            "detectionsLag"
        ]:
            await asyncio.sleep(0.02)
        seconds = time.monotonic() - began
    cpu: dict[str, float] = {}
    for process in tree:
        name = program(process)
        cpu[name] = cpu.get(name, 0.0) + cpu_seconds([process]) - before[process.pid]
    return seconds, cpu


# The module that the child of a sandbox runs. tests.bench.against needs its name in earlier commits, too.
SANDBOX_CHILD = ("mesh.processes.sandbox_child", "mesh.child")


def program(process: psutil.Process) -> str:
    """Returns the part of Lares to which a process belongs."""
    line = " ".join(process.cmdline())
    if any(module in line for module in SANDBOX_CHILD):
        return "detector"
    return "lares" if "-m deploy" in line else process.name()
