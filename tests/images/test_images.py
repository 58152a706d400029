"""The images that `make images` has built: what they hold, and that they run. Run by `make test-images`."""

import json
import re
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import unquote

import pytest
from packaging.utils import canonicalize_name

from deploy.images.contents import IMAGES
from deploy.images.inventory import refused
from deploy.images.licences import locked
from tests.support.certificates import write_certificate
from tests.support.clips import make_clip, walker_scene
from tests.support.contained import USER, BuiltImage, ContainedLares, built_image
from tests.support.lares import free_ports
from tests.support.parts import running_kafka, running_postgres
from tests.support.photos import person_photo

LARES = "/app/venv/bin/lares"
# Programs that an image has no use for, and an intruder would.
TOOLS = r"(pip|uv|apt|apt-get|dpkg|gcc|cc|g\+\+|ld|make|perl|bash|curl|wget|psql)(\d[\d.]*)?"
ASSESSED = "{ events(first: 5) { edges { node { status labels media { kind frames { index } } } } } }"


@pytest.fixture(scope="module", params=list(IMAGES))
def built(request: pytest.FixtureRequest) -> Iterator[BuiltImage]:
    with built_image(request.param) as found:
        yield found


def files(built: BuiltImage) -> Iterator[Path]:
    return (path for path in built.root.rglob("*") if path.is_file() and not path.is_symlink())


def test_it_says_what_it_is(built: BuiltImage) -> None:
    labels: dict[str, str] = built.config["Labels"]  # type: ignore[assignment]
    assert labels["org.opencontainers.image.licenses"] == built.image.licences
    assert re.fullmatch(r"[0-9a-f]{40}(-changed)?", labels["org.opencontainers.image.revision"])
    assert built.config["User"] == f"{USER}:{USER}"
    assert built.config["Healthcheck"]["Test"] == ["CMD", LARES, "probe", "ready"]  # type: ignore[index]


def test_it_has_no_tools_and_no_shell_but_the_one_that_postgresql_needs(built: BuiltImage) -> None:
    found = {
        file.name for file in files(built) if re.fullmatch(TOOLS, file.name) and file.stat().st_mode & 0o111
    }
    assert found == set()
    assert (built.root / "usr/bin/sh").exists() == built.image.embedded
    assert not list(built.root.glob("app/venv/lib/python3*/site-packages/pip"))


def test_nobody_can_change_it_and_no_file_gives_rights(built: BuiltImage) -> None:
    own = {built.root / "var/lib/lares", built.root / "var/cache/lares"}
    for path in built.root.rglob("*"):
        state = path.lstat()
        if path in own or path == built.root / "tmp":
            continue
        assert (state.st_uid, state.st_gid) == (0, 0), path
        assert not state.st_mode & (stat.S_ISUID | stat.S_ISGID), path
        assert path.is_symlink() or not state.st_mode & stat.S_IWOTH, path
    assert {(path.stat().st_uid, path.stat().st_gid) for path in own} == {(USER, USER)}


def test_all_its_code_is_compiled(built: BuiltImage) -> None:
    ours = [file for file in files(built) if file.suffix == ".py" and "/mesh/" in str(file)]
    assert len(ours) > 50
    for file in ours:
        compiled = file.parent / "__pycache__" / f"{file.stem}.cpython-311.pyc"
        assert compiled.read_bytes()[4:8] == b"\x01\0\0\0", file  # checked against nothing


def test_its_sbom_lists_what_it_holds_and_nothing_that_it_must_not(built: BuiltImage) -> None:
    sbom = json.loads((built.root / "app/sbom.cdx.json").read_text())
    assert list(refused(built.image, sbom)) == []
    listed = {canonicalize_name(component["name"]) for component in sbom["components"]}
    assert listed >= locked(built.image.lock).keys() | {"lares", "libc6"}
    beside = Path("build/images", f"{built.image.name}.cdx.json")
    assert json.loads(beside.read_text()) == sbom


def test_an_image_with_clips_has_the_texts_of_the_licences(built: BuiltImage) -> None:
    texts = {file.name for file in built.root.glob("app/licences/*")}
    assert texts == ({"CLIPS.md", "GPL-2", "GPL-3", "LGPL-2.1", "LGPL-3"} if built.image.clips else set())
    assert bool(list(built.root.glob("app/venv/lib/python3*/site-packages/av"))) == built.image.clips


def test_its_program_runs_and_writes_nothing_outside_its_folders(built: BuiltImage) -> None:
    ran = built.run(LARES, "up", "--help")
    assert (ran.returncode, ran.stderr) == (0, "")
    ran = built.run(LARES, "probe", "ready")
    assert ran.returncode == 1
    assert "does not answer" in ran.stderr
    writing = "import os, sys; print(os.getuid()); open('/app/x', 'w')"
    ran = built.run("/app/venv/bin/python", "-c", writing)
    assert ran.stdout == f"{USER}\n"
    assert "Read-only file system" in ran.stderr


def put_media(lares: ContainedLares, clip: bool) -> None:
    """Puts a photo of a person, or a clip of one who walks, into the folder of a camera."""
    yard = lares.cameras / "yard"
    yard.mkdir()
    if clip:
        put = make_clip(yard / "1.mp4", walker_scene(4, fps=10, walks=(0, 4)), fps=10, gop=10)
    else:
        put = yard / "1.jpg"
        put.write_bytes(person_photo().read_bytes())
    put.chmod(0o644)


async def assert_assessed(gateway: ContainedLares, clip: bool) -> None:
    await gateway.until_stored(1)
    await gateway.idle()
    edges = (await gateway.graphql(ASSESSED))["events"]["edges"]
    assert edges
    for edge in edges:  # a clip that is longer than an event's span has several
        assert edge["node"]["status"] == "ASSESSED"
        assert "PERSON" in str(edge["node"]["labels"]).upper()
        (media,) = edge["node"]["media"]
        assert media["kind"] == ("CLIP" if clip else "PHOTO")
        assert len(media["frames"]) > 1 or not clip


@pytest.mark.parametrize("name", ["all-in-one", "all-in-one-clips"])
async def test_one_container_with_its_own_postgresql_and_kafka_assesses_what_a_camera_saw(
    name: str, tmp_path: Path
) -> None:
    with built_image(name) as built:
        (port,) = free_ports(1)
        metrics = {"LARES_METRICS_LISTEN": f"127.0.0.1:{port}"}
        lares = ContainedLares(
            built,
            tmp_path / "home",
            metrics | {"LARES_EVENT_GAP_SECONDS": "1", "LARES_EVENT_SPAN_SECONDS": "3"},
        )
        lares.start()
        try:
            await lares.ready()
            health = built.config["Healthcheck"]["Test"][1:]  # type: ignore[index]
            assert built.run(*health, **metrics).returncode == 0
            put_media(lares, built.image.clips)
            await assert_assessed(lares, built.image.clips)
        finally:
            await lares.close()


@pytest.mark.parametrize("clips", [False, True])
async def test_a_container_for_each_service_with_a_kafka_and_a_postgresql_of_their_own(
    clips: bool, tmp_path: Path
) -> None:
    shared = tmp_path / "shared"
    (shared / "blobs").mkdir(parents=True)
    shared.chmod(0o755)
    (shared / "blobs").chmod(0o777)
    certificates = {f"LARES_{n.upper()}": p for n, p in write_certificate(shared).items()}
    for path in certificates.values():
        path.chmod(0o644)
    names = ("store", "reason", "ingest", "detect", "gateway")
    images = {name: f"{name}-clips" if clips and f"{name}-clips" in IMAGES else name for name in names}
    meshes = dict(zip(names, free_ports(len(names)), strict=True))
    probes = dict(zip(names, free_ports(len(names)), strict=True))
    async with running_kafka() as kafka, running_postgres() as postgres:
        sockets = Path(unquote(postgres.rpartition("host=")[2]))
        for path in (sockets, *sockets.iterdir()):  # of another user
            path.chmod(0o777)
        common = {
            **{name: str(path) for name, path in certificates.items()},
            "LARES_BUS_URL": kafka,
            "LARES_DATABASE_URL": f"{postgres.rpartition('host=')[0]}host=/tmp/sockets",
            "LARES_BLOBS_URL": f"file://{shared}/blobs",
            "LARES_EVENT_GAP_SECONDS": "1",
            "LARES_EVENT_SPAN_SECONDS": "3",
            "LARES_PEERS": ",".join(f"{n}=127.0.0.1:{meshes[n]}" for n in names if n != "gateway"),
        }
        with ExitStack() as stack:
            all_of = {}
            for name in names:
                image = stack.enter_context(built_image(images[name]))
                own = {"LARES_METRICS_LISTEN": f"127.0.0.1:{probes[name]}"}
                peers = ",".join(p for p in common["LARES_PEERS"].split(",") if not p.startswith(f"{name}="))
                own |= {"LARES_MESH_LISTEN": f"127.0.0.1:{meshes[name]}", "LARES_PEERS": peers}
                folders = {shared: str(shared), sockets: "/tmp/sockets"}
                lares = ContainedLares(image, tmp_path / name, common | own, folders)
                all_of[name] = lares
            try:
                for lares in all_of.values():
                    lares.start()
                gateway, ingest = all_of["gateway"], all_of["ingest"]
                for lares in all_of.values():
                    await lares.until_up()
                await gateway.ready()
                gateway.home = all_of["store"].home  # which has the key
                put_media(ingest, clips)
                await assert_assessed(gateway, clips)
                for name, lares in all_of.items():
                    assert not [*lares.children("java"), *lares.children("postgres")]
                    setting = {"LARES_METRICS_LISTEN": f"127.0.0.1:{probes[name]}"}
                    with built_image(images[name]) as image:
                        assert image.run(LARES, "probe", "ready", **setting).returncode == 0, lares.tail()
            finally:
                for lares in reversed(all_of.values()):
                    await lares.close()
