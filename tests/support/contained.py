"""Lares from an image that `make images` has built with buildah: with a read-only root file system, as the
image's user, and with nothing else of this machine but its network. Needs root.
"""

import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from deploy.images.build import tag
from deploy.images.contents import IMAGES, Image
from tests.support.lares import Lares

USER = 10001
HOME = "/var/lib/lares"
# What runtimes of containers do, by util-linux, because buildah runs nothing with a read-only root. The
# arguments are the image's root, pairs of a folder and where it is mounted, `--` and the command.
ENTER = """
root=$1; shift
mount --make-rprivate /
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
while [ "$1" != -- ]; do
  case $2 in /tmp/*) mkdir -p "$root$2";; esac
  mount --bind "$1" "$root$2"; shift 2
done
shift
mount -o remount,bind,ro "$root"
exec "$@"
"""


class BuiltImage:
    """The files of an image, mounted, and what the image says of itself."""

    def __init__(self, image: Image, root: Path, config: Mapping[str, object]) -> None:
        self.image = image
        self.root = root
        self.config: dict[str, object] = dict(config)

    @property
    def environment(self) -> dict[str, str]:
        return dict(item.split("=", 1) for item in self.config["Env"])  # type: ignore[attr-defined]

    def command(
        self, command: Sequence[str], settings: Mapping[str, str], folders: Mapping[Path, str]
    ) -> list[str]:
        """The command line that runs a program of the image. `folders`: where folders of this machine are."""
        mounts = [str(part) for pair in folders.items() for part in pair]
        variables = [f"{name}={value}" for name, value in (self.environment | dict(settings)).items()]
        user = ["--setgid", str(USER), "--setuid", str(USER)]
        within = ["/usr/bin/setpriv", "--no-new-privs", "/usr/bin/unshare", f"--root={self.root}", "--wd=/"]
        enter = ["unshare", "--mount", "bash", "-ec", ENTER, "enter", str(self.root), *mounts, "--"]
        return [*enter, "/usr/bin/env", "-i", *variables, *within, *user, *command]

    def run(self, *command: str, **settings: str) -> "subprocess.CompletedProcess[str]":
        words = self.command(command, settings, {})
        return subprocess.run(words, capture_output=True, text=True, timeout=60)


@contextmanager
def built_image(name: str) -> Iterator[BuiltImage]:
    """The image of this name, until the block ends."""
    container = _buildah("from", "--pull-never", f"localhost/{tag(IMAGES[name])}")
    try:
        described = json.loads(_buildah("inspect", "--type", "container", container))["Docker"]["config"]
        yield BuiltImage(IMAGES[name], Path(_buildah("mount", container)), described)
    finally:
        _buildah("rm", container)


class ContainedLares(Lares):
    """A Lares that runs from an image."""

    def __init__(
        self,
        built: BuiltImage,
        home: Path,
        settings: Mapping[str, str] | None = None,
        folders: Mapping[Path, str] | None = None,
    ) -> None:
        super().__init__(home, settings)
        cache = home.with_name(home.name + "-cache")
        for folder in (home, cache):
            folder.mkdir()
            shutil.chown(folder, USER, USER)
        self._built = built
        self._folders = {home: HOME, cache: "/var/cache/lares", **(folders or {})}

    def start(self) -> None:
        command = [*self._built.config["Entrypoint"], *self._built.config["Cmd"]]  # type: ignore[misc]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self._built.command(command, self._settings | {"LARES_HOME": HOME}, self._folders),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )


def _buildah(*arguments: str) -> str:
    ran = subprocess.run(["buildah", *arguments], capture_output=True, text=True)
    assert ran.returncode == 0, f"{ran.stderr}: has `make images` built it, with buildah?"
    return ran.stdout.strip()
