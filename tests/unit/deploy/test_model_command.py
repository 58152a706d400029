"""`lares model` on the command line; and that the commands in the docs are valid."""

import os
import re
import shlex
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.cli import parser
from deploy.model.checkpoint import Checkpoint
from deploy.model.environment import ROOT, command_of
from deploy.model.repository import readme
from mesh.problems import NotFound

SECONDS = 90


def lares(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "deploy", *arguments],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        cwd=ROOT,
        env={**os.environ, **variables},
    )


def executable(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_without_its_environment_the_export_says_how_to_create_it(tmp_path: Path) -> None:
    done = lares("model", "export", "--from", "a", "--out", "b", LARES_EXPORT_PYTHON=str(tmp_path / "python"))
    assert done.returncode == 1
    assert done.stderr.startswith(f"lares: there is no {tmp_path / 'python'}: ")
    assert "run `make model-export FROM=... OUT=...`" in done.stderr


def test_the_export_runs_in_the_other_python_and_returns_its_status(tmp_path: Path) -> None:
    python = executable(tmp_path / "python", '#!/bin/sh\nprintf "%s\\n" "$@"\nexit 3\n')
    done = lares(
        "model", "export", "--from", "a b", "--out", "c", "--name", "d", LARES_EXPORT_PYTHON=str(python)
    )
    assert done.returncode == 3
    assert done.stdout.splitlines()[-7:] == [str(ROOT), "--from", "a b", "--out", "c", "--name", "d"]


def test_the_environment_in_the_project_is_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"\.venv-export/bin/python"):
        command_of([], None, tmp_path)
    (tmp_path / ".venv-export" / "bin").mkdir(parents=True)
    python = executable(tmp_path / ".venv-export" / "bin" / "python", "")
    command = command_of(["--out", "x"], None, tmp_path)
    assert (command[0], command[-3:]) == (str(python), [str(tmp_path), "--out", "x"])


def test_a_check_from_the_command_line() -> None:
    done = lares(
        "model", "check", "--url", "onnx:tests/fixtures/rtdetrv2-tiny.onnx?processes=1", "--calls", "2"
    )
    assert done.returncode == 0, done.stderr
    assert "rtdetrv2-tiny@a7981a8a7c61" in done.stdout


def test_a_check_that_fails_prints_one_line() -> None:
    done = lares("model", "check", "--url", "onnx:/nowhere.onnx")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "lares: LARES_DETECTOR_URL: there is no file /nowhere.onnx\n"


@pytest.mark.parametrize("calls", ["0", "10001", "many"])
def test_the_number_of_calls_is_limited(calls: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        parser().parse_args(["model", "check", "--calls", calls])
    assert "--calls" in capsys.readouterr().err


def test_the_commands_in_the_docs_are_valid() -> None:
    page = readme(Checkpoint(Path("unused"), "rtdetrv2-r18", ("person",), 640, "ab" * 32), 300)
    text = page + (ROOT / "docs" / "models.md").read_text()
    commands = re.findall(r"^\s*(?:LARES_\S+ )?(?:\.venv/bin/)?(lares .*)$", text, re.MULTILINE)
    assert len(commands) >= 4
    for command in commands:
        assert parser().parse_args(shlex.split(command, comments=True)[1:]).run
    targets = re.findall(r"^\s*make ([a-z-]+)", text, re.MULTILINE)
    assert "model-export" in targets
    makefile = (ROOT / "Makefile").read_text()
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
