"""The unit for one machine without containers."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from deploy.cli import parser
from mesh.config import Config, setting

UNIT = Path(__file__).parents[3] / "deploy/systemd/lares.service"
TEXT = UNIT.read_text()
# What the page says. Of 10; the lower, the less the service may do.
EXPOSURE = 1.4

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="only systemd-analyze can read a unit"
)


def analyze(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["systemd-analyze", "--no-pager", *arguments], capture_output=True, text=True)


@needs_systemd
def test_its_exposure_is_what_the_page_says() -> None:
    ran = analyze("security", "--offline=yes", str(UNIT))
    found = re.search(r"Overall exposure level for lares\.service: ([\d.]+)", ran.stdout)
    assert found, ran.stderr
    print(f"exposure: {found[1]}")
    assert float(found[1]) <= EXPOSURE
    assert f"exposure of {EXPOSURE}" in (UNIT.parents[2] / "docs/deploy.md").read_text()


@needs_systemd
def test_systemd_knows_all_that_it_says(tmp_path: Path) -> None:
    copy = tmp_path / "lares.service"
    copy.write_text(TEXT.replace("/opt/lares/bin/lares", "/bin/true"))
    ran = analyze("verify", "--man=no", str(copy))
    assert not [line for line in ran.stderr.splitlines() if "lares.service" in line]


def test_its_command_and_its_settings_are_those_that_there_are() -> None:
    (command,) = re.findall(r"^ExecStart=(.*)$", TEXT, re.MULTILINE)
    program, *arguments = shlex.split(command)
    assert program == "/opt/lares/bin/lares"
    parser().parse_args(arguments)
    names = set(re.findall(r"(LARES_[A-Z_]+)=", TEXT))
    assert names == {"LARES_HOME", "LARES_CACHE", "LARES_METRICS_LISTEN"}
    assert names <= {setting(field) for field in Config.model_fields}


def test_it_may_not_gain_rights() -> None:
    assert {"NoNewPrivileges=yes", "CapabilityBoundingSet=", "ProtectSystem=strict", "User=lares"} <= set(
        TEXT.splitlines()
    )
    assert " lares -" in UNIT.with_name("lares.sysusers").read_text()
