"""What a log shows of text from outside. Each test has a process of its own, as a log has."""

import json
import subprocess
import sys

PROGRAM = """
import logging, sys
import structlog
from mesh.telemetry.logs import configure_logging

configure_logging(sys.argv[1], "info")
name = "\\x1b]0;owned\\x07 \\x9b2J \\u202e.jpg\\nforged line \\udcff"
log = structlog.get_logger("lares")
log.info("photo " + name, path=name, paths=[name], short="a\\x1bb")
logging.getLogger("another").warning("cannot read %s", name)
try:
    raise ValueError(name)
except ValueError:
    log.exception("failed")
"""


def logged(form: str) -> str:
    done = subprocess.run([sys.executable, "-c", PROGRAM, form], capture_output=True, check=True)
    return done.stderr.decode()


def test_the_console_gets_no_character_that_it_obeys() -> None:
    text = logged("console")
    assert not {"\x1b", "\x07", "\x9b", "\u202e", "\udcff"}.intersection(text)
    for escaped in (r"\x1b]0;owned\x07", r"\x9b2J", r"\u202e.jpg\nforged line", r"a\x1bb"):
        assert escaped in text.replace("\\\\", "\\")
    lines = text.splitlines()
    assert not any(line.startswith("forged") for line in lines[:2])
    assert any(line.startswith("Traceback") for line in lines)  # which has several lines


def test_json_has_one_line_for_each_entry_and_the_exact_text() -> None:
    lines = logged("json").splitlines()
    entries = [json.loads(line) for line in lines]
    assert len(entries) == 3
    assert entries[0]["path"] == "\x1b]0;owned\x07 \x9b2J \u202e.jpg\nforged line \udcff"
    assert not any(character in "".join(lines) for character in "\x1b\x07\x9b\u202e")
