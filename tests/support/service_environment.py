"""An environment that has only the packages of one image, made of links into this one."""

import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

from deploy.images.contents import Image, is_left_out
from deploy.images.licences import locked

ROOT = Path(__file__).parents[2]


class ServiceEnvironment:
    """A folder with the files of the packages in an image's lock, and a way to run Python with it."""

    def __init__(self, image: Image, folder: Path) -> None:
        self.packages = folder
        for name in locked(image.lock):
            package = distribution(name)
            for file in package.files or ():
                if not (is_left_out(str(file)) or ".." in file.parts or "__pycache__" in file.parts):
                    self._link(Path(str(package.locate_file(file))), folder / file)

    def _link(self, source: Path, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(source)
        compiled = source.parent / "__pycache__"
        if compiled.is_dir() and not (target.parent / "__pycache__").exists():
            (target.parent / "__pycache__").symlink_to(compiled)

    def run(self, code: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Runs Python code that sees Lares, the packages and the standard library, and nothing else."""
        paths = [str(ROOT), str(ROOT / "proto/gen"), str(self.packages)]
        start = f"import sys; sys.path[:0] = {paths!r}\n{code}"
        return subprocess.run(
            [sys.executable, "-I", "-S", "-c", start, *arguments], capture_output=True, text=True, timeout=120
        )
