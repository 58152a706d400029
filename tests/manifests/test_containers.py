"""The containers of Lares in the manifests run images of `make images`, and what these hold."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from deploy.images.build import tag_of_version
from deploy.images.contents import IMAGES, Image
from tests.support.compose import ALONE, WHOLE, composed
from tests.support.compose import of_lares as services_of_lares
from tests.support.kustomize import OVERLAYS, rendered
from tests.support.workloads import of_lares as pods_of_lares

BY_TAG = {tag_of_version(image): image for image in IMAGES.values()}
# What an image needs for a command of `lares` that is no service.
EXTRAS_OF_JOBS = {"migrate": "store", "topics": "store"}
# What is written, while the root file system is read-only.
WRITTEN = {"/var/lib/lares", "/var/cache/lares", "/tmp"}


@dataclass(frozen=True)
class Container:
    """`arguments` are those of `lares`, `None` if they are the image's; `replaced`: another program runs."""

    where: str
    tag: str
    arguments: Sequence[str] | None
    replaced: bool
    mounted: frozenset[str]

    @property
    def image(self) -> Image:
        assert self.tag in BY_TAG, f"{self.where}: `make images` builds no {self.tag}"
        return BY_TAG[self.tag]


def in_pods(overlay: str) -> Iterator[Container]:
    for pod in pods_of_lares(rendered(f"overlays/{overlay}")):
        container = pod.container
        yield Container(
            f"{overlay} {pod.name}",
            container["image"],
            container.get("args"),
            "command" in container,
            frozenset(mount["mountPath"] for mount in container["volumeMounts"]),
        )


def in_compose(file: Path, variables: dict[str, str]) -> Iterator[Container]:
    for name, service in services_of_lares(composed(file, variables)).items():
        yield Container(
            f"{file.stem} {name}",
            service["image"],
            service.get("command"),
            "entrypoint" in service,
            # Docker makes a volume for each that the image names, where nothing else is mounted.
            frozenset(tmpfs.partition(":")[0] for tmpfs in service["tmpfs"])
            | {"/var/lib/lares", "/var/cache/lares"},
        )


@cache
def containers() -> list[Container]:
    found = [container for overlay in OVERLAYS for container in in_pods(overlay)]
    for clips in ("", "-clips"):
        for file in (WHOLE, ALONE):
            found += in_compose(file, {"CLIPS": clips})
    return found


def test_every_image_is_used_and_no_other() -> None:
    assert {container.image.name for container in containers()} == IMAGES.keys()


def test_a_container_runs_what_its_image_holds() -> None:
    for container in containers():
        assert not container.replaced, container.where
        arguments = tuple(container.arguments or container.image.command)
        if arguments[0] in EXTRAS_OF_JOBS:
            assert EXTRAS_OF_JOBS[arguments[0]] in container.image.extras, container.where
        else:
            assert arguments == container.image.command, container.where


def test_a_container_has_a_volume_for_whatever_is_written() -> None:
    for container in containers():
        assert container.mounted >= WRITTEN, container.where
