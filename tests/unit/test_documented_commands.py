"""The commands on the pages are commands that there are."""

import re
import shlex
from pathlib import Path

import pytest

from deploy.cli import parser
from tests.judge.__main__ import arguments

ROOT = Path(__file__).parents[2]
PAGES = {page: page.read_text() for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}


def commands(pattern: str) -> list[str]:
    return [found for text in PAGES.values() for found in re.findall(pattern, text, re.MULTILINE)]


def test_those_of_lares() -> None:
    found = commands(r"^\$ \.venv/bin/lares (.+)$")
    assert len(found) >= 9
    for text in found:
        parser().parse_args(shlex.split(text))


def test_those_of_make_judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = commands(r"^\$ make judge(?: ARGS=\"(.+)\")?$")
    assert len(found) == 6
    # What an earlier one of them writes.
    monkeypatch.chdir(tmp_path)
    for name in ("scores.json", "home.jsonl"):
        (tmp_path / name).touch()
    for text in found:
        arguments().parse_args(shlex.split(text))
