"""What a log shows of text from outside. Each test has a process of its own, as a log has."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as some

TIME = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z")

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


FULL_DISK = """
import logging, sys
import structlog
from mesh.telemetry.logs import configure_logging

configure_logging(sys.argv[1], "info")
structlog.get_logger("lares").info("first")
logging.getLogger("another").warning("second")
structlog.get_logger("lares").info("third", odd=type("Odd", (), {"__repr__": lambda _: 1 / 0})())
print("still running")
"""


@pytest.mark.parametrize("form", ["console", "json"])
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_log_that_cannot_be_written_stops_nothing(form: str) -> None:
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-c", FULL_DISK, form]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=full)
    assert done.stdout == b"still running\n"


BOTH_WAYS = """
import json, logging, sys
import structlog
from mesh.telemetry.logs import configure_logging
from mesh.telemetry.trace_context import enter_request

configure_logging(sys.argv[1], "info")
for entry in json.load(sys.stdin):
    enter_request({"x-request-id": entry["text"], "traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01"})
    level, text = entry["level"], entry["text"]
    getattr(structlog.get_logger("lares"), level)(text)
    getattr(logging.getLogger("lares"), level)("%s", text)
"""

entries = some.fixed_dictionaries(
    {
        "level": some.sampled_from(["info", "warning", "error", "critical"]),
        "text": some.text(max_size=20) | some.just("lares_" + "k" * 24) | some.just("kafka://me:hunter2@h"),
    }
)


@settings(max_examples=5, phases=[Phase.generate])  # each example is a process
@pytest.mark.parametrize("form", ["console", "json"])
@given(logged=some.lists(entries, min_size=50, max_size=50))
def test_an_entry_of_lares_looks_like_one_of_a_library(form: str, logged: list[dict[str, str]]) -> None:
    """They go different ways: those of libraries through logging."""
    command = [sys.executable, "-c", BOTH_WAYS, form]
    done = subprocess.run(command, input=json.dumps(logged).encode(), stderr=subprocess.PIPE, check=True)
    lines = [TIME.sub("", line) for line in done.stderr.decode().splitlines()]
    assert lines[::2] == lines[1::2]
    assert len(lines) == 2 * len(logged)
