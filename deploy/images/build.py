"""Builds the images and says how large they are: `python -m deploy.images.build [IMAGE ...]` (`make images`).

Uses docker, podman or buildah, whichever works first, and builds on the base that the Dockerfile pins.
`--base local` makes one with mmdebstrap instead, for a machine that reaches Debian's archive but no image
registry. Exits with status 1 if an image is larger than it may be.
"""

import argparse
import shlex
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import IO

from deploy.images.contents import IMAGES, Image
from mesh.problems import Problem, Unavailable

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
SBOM = "app/sbom.cdx.json"
MEGABYTE = 1_000_000


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m deploy.images.build", description=__doc__)
    parser.add_argument("images", nargs="*", metavar="IMAGE", help=f"all by default: {', '.join(IMAGES)}")
    parser.add_argument("--builder", choices=BUILDERS, help="docker, podman or buildah; the first that works")
    parser.add_argument("--base", default="", help="image to build on; `local` makes one with mmdebstrap")
    parser.add_argument("--options", default="", help="more options of the builder, as for a shell")
    parser.add_argument("--version", default=f"{version('lares')}+local", help="the label of the version")
    parser.add_argument("--source", default="unknown", help="the label of where the source is")
    parser.add_argument("--out", type=Path, default=ROOT / "build/images", help="folder for the SBOMs")
    options = parser.parse_args(arguments)
    if unknown := set(options.images) - IMAGES.keys():
        parser.error(f"no such image: {', '.join(sorted(unknown))}")
    try:
        builder = chosen_builder(options.builder)
        base = local_base() if options.base == "local" else options.base
        labels = {"VERSION": options.version, "REVISION": revision(), "SOURCE": options.source}
        arguments_of_build = labels | ({"BASE": base} if base else {})
        images = [IMAGES[name] for name in options.images or IMAGES]
        options.out.mkdir(parents=True, exist_ok=True)
        sizes = {}
        for image in images:
            builder.build(image, arguments_of_build, shlex.split(options.options))
            sizes[image.name] = builder.inspect(image, options.out / f"{image.name}.cdx.json")
            print(f"{image.name}: {sizes[image.name] / MEGABYTE:.0f} MB", flush=True)
    except Problem as problem:
        sys.exit(problem.message)
    print(table(sizes))
    if large := [name for name, size in sizes.items() if size > IMAGES[name].megabytes * MEGABYTE]:
        sys.exit(f"too large: {', '.join(large)}")


def table(sizes: dict[str, int]) -> str:
    """A table of the images' sizes in MB (10^6 bytes of files, not compressed) beside what they may be."""
    rows = [f"| {name} | {size / MEGABYTE:.0f} | {IMAGES[name].megabytes} |" for name, size in sizes.items()]
    return "\n".join(["| Image | MB | Maximum |", "| --- | --- | --- |", *rows])


def revision() -> str:
    """The commit that is checked out, with `-changed` if files differ from it."""
    ran = subprocess.run(
        ["git", "describe", "--always", "--abbrev=40", "--dirty=-changed", "--exclude=*"],  # noqa: S607
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return ran.stdout.strip() or "unknown"


def tag(image: Image) -> str:
    return f"lares-{image.name}"


def tag_of_version(image: Image) -> str:
    """The tag by which `deploy/compose` and `deploy/k8s` name it."""
    return f"{tag(image)}:{version('lares')}"


@dataclass(frozen=True)
class Builder:
    """A program that builds images, with the options of docker that all three understand."""

    program: str
    # What builds, and what shows that the program works here.
    build_command: tuple[str, ...]
    works: tuple[str, ...]

    def build(self, image: Image, arguments: dict[str, str], options: Sequence[str]) -> None:
        """Raises Unavailable BUILD_FAILED."""
        given = [word for name, value in arguments.items() for word in ("--build-arg", f"{name}={value}")]
        _run(
            self.program,
            *self.build_command,
            *("--file", str(HERE / "Dockerfile"), "--target", image.name),
            *("--tag", tag(image), "--tag", tag_of_version(image)),
            *given,
            *options,
            str(ROOT),
        )

    def inspect(self, image: Image, sbom: Path) -> int:
        """Copies the image's SBOM to a file. Returns the bytes of all files in the image."""
        with self._container(image) as container, self._archive(container) as stream:
            size = 0
            with tarfile.open(fileobj=stream, mode="r|") as archive:
                for member in archive:
                    size += member.size
                    if member.name.removeprefix("./") == SBOM and (file := archive.extractfile(member)):
                        sbom.write_bytes(file.read())
            return size

    @contextmanager
    def _container(self, image: Image) -> Iterator[str]:
        create = ("from",) if self.program == "buildah" else ("create",)
        container = _output(self.program, *create, tag(image))
        try:
            yield container
        finally:
            _output(self.program, "rm", container)

    @contextmanager
    def _archive(self, container: str) -> Iterator[IO[bytes]]:
        command = [self.program, "export", container]
        if self.program == "buildah":  # which exports nothing: the files themselves
            command = ["tar", "-C", _output(self.program, "mount", container), "-cf", "-", "."]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:  # noqa: S603
            assert process.stdout
            yield process.stdout


# Docker's own format, because the other knows no health check.
IGNORED = ("--format", "docker", "--ignorefile", str(HERE / "Dockerfile.dockerignore"))
BUILDERS = {
    "docker": Builder("docker", ("build",), ("version",)),
    "podman": Builder("podman", ("build", *IGNORED), ("info",)),
    "buildah": Builder("buildah", ("build", "--layers", *IGNORED), ("info",)),
}


def chosen_builder(name: str | None) -> Builder:
    """The builder of this name, else the first that works. Raises Unavailable NO_BUILDER."""
    for builder in [BUILDERS[name]] if name else BUILDERS.values():
        if shutil.which(builder.program):
            ran = subprocess.run([builder.program, *builder.works], capture_output=True, check=False)  # noqa: S603
            if ran.returncode == 0:
                return builder
    raise Unavailable(
        f"`make images` needs {name or 'docker, podman or buildah'}, and none works here", "NO_BUILDER"
    )


def local_base() -> str:
    """Makes a base of Debian's packages, unless there is one, and returns its name. Raises Unavailable."""
    if missing := [name for name in ("mmdebstrap", "buildah") if not shutil.which(name)]:
        raise Unavailable(f"a local base needs {' and '.join(missing)}", "NO_BUILDER")
    name = "localhost/lares-base"
    if _output("buildah", "images", "--quiet", "--filter", f"reference={name}"):
        return name
    return _output(str(HERE / "base.sh"))


def _run(*command: str) -> None:
    if subprocess.run(command, check=False).returncode:  # noqa: S603
        raise Unavailable(f"failed: {shlex.join(command)}", "BUILD_FAILED")


def _output(*command: str) -> str:
    ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)  # noqa: S603
    if ran.returncode:
        raise Unavailable(f"failed: {shlex.join(command)}", "BUILD_FAILED")
    return ran.stdout.strip()


if __name__ == "__main__":
    main()
