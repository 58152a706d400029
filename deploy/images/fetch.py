"""Fetches into an image what Lares would download when it first starts: `python fetch.py IMAGE FOLDER`."""

import sys
from pathlib import Path

from deploy.images.contents import IMAGES
from mesh.artifacts import efficientdet_lite0, fetch_jars


def main() -> None:
    image, folder = IMAGES[sys.argv[1]], Path(sys.argv[2])
    if image.detector:
        efficientdet_lite0(folder)
    if image.embedded:
        from deploy.embedded.kafka import JARS

        fetch_jars(folder, JARS)
    for lock in folder.glob("*.lock"):
        lock.unlink()


if __name__ == "__main__":
    main()
