"""`lares probe`: what it asks, what it returns, and that it starts quickly."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from deploy.probe import main
from tests.support.lares import free_ports

ROOT = Path(__file__).parents[3]
# These take long to import.
HEAVY = {"grpc", "pydantic", "asyncio", "structlog", "uvloop", "mesh.config", "deploy.cli"}
PROGRAM = """
import sys
from deploy.__main__ import main
try:
    main()
finally:
    print(*sorted(sys.modules), file=sys.stderr)
"""


class Answers(BaseHTTPRequestHandler):
    """A process that is live and not ready."""

    def do_GET(self) -> None:
        self.send_response({"/live": 200, "/started": 200}.get(self.path, 503))
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def probe(
    *arguments: str, folder: Path, settings: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    plain = {name: value for name, value in os.environ.items() if not name.upper().startswith("LARES_")}
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, "probe", *arguments],
        cwd=folder,
        env=plain | {"PYTHONPATH": str(ROOT)} | dict(settings or {}),
        capture_output=True,
        text=True,
        timeout=90,
    )


@pytest.mark.parametrize(("question", "status"), [("live", 0), ("started", 0), ("ready", 1)])
def test_the_status_is_the_answer(port: int, tmp_path: Path, question: str, status: int) -> None:
    asked = probe(question, folder=tmp_path, settings={"LARES_METRICS_LISTEN": f"127.0.0.1:{port}"})
    assert (asked.returncode, asked.stdout) == (status, "{}\n"), asked.stderr
    assert not HEAVY & set(asked.stderr.split())


@pytest.mark.parametrize("address", ["0.0.0.0", "localhost"])
def test_the_address_is_that_of_the_setting_on_this_machine(port: int, tmp_path: Path, address: str) -> None:
    assert (
        probe("live", folder=tmp_path, settings={"lares_metrics_listen": f"{address}:{port}"}).returncode == 0
    )


def test_the_setting_may_be_in_the_env_file(port: int, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"LARES_METRICS_LISTEN=127.0.0.1:{port}\n")
    assert probe("live", folder=tmp_path).returncode == 0


def test_nobody_who_answers_is_a_no(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    asked = probe("live", folder=tmp_path, settings={"LARES_METRICS_LISTEN": f"127.0.0.1:{port}"})
    assert asked.returncode == 1
    assert "does not answer" in asked.stderr
    assert "Traceback" not in asked.stderr


@pytest.mark.parametrize(
    ("arguments", "status"), [((), 2), (("alive",), 2), (("live", "ready"), 2), (("live",), 1)]
)
def test_wrong_usage_and_no_setting(tmp_path: Path, arguments: tuple[str, ...], status: int) -> None:
    assert probe(*arguments, folder=tmp_path).returncode == status


@pytest.mark.parametrize(
    ("setting", "host"), [("0.0.0.0:7", "127.0.0.1"), ("[::]:7", "::1"), (":7", "127.0.0.1"), ("h:7", "h")]
)
def test_whoever_listens_on_all_addresses_is_asked_on_this_machine(
    monkeypatch: pytest.MonkeyPatch, setting: str, host: str
) -> None:
    asked = list[tuple[str, int]]()

    def refuse(host: str, port: int, **_: object) -> None:
        asked.append((host, port))
        raise OSError("refused")

    monkeypatch.setenv("LARES_METRICS_LISTEN", setting)
    monkeypatch.setattr("deploy.probe.HTTPConnection", refuse)
    assert main(["live"]) == 1
    assert asked == [(host, 7)]


def test_one_that_accepts_and_says_nothing_is_a_no(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("deploy.probe.SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("LARES_METRICS_LISTEN", f"127.0.0.1:{silent.getsockname()[1]}")
        assert main(["live"]) == 1
    assert "does not answer: timed out" in capsys.readouterr().err
