"""Completes the list of what an image holds, its SBOM.

`python -m deploy.images.inventory IMAGE PYTHON_SBOM ROOT`: cyclonedx-py has listed the Python packages. This
adds their licences where the metadata say too little, the libraries that wheels bundle, Kafka's jars and the
packages of the base, and writes `app/sbom.cdx.json` in ROOT. Exits if anything is under a licence that the
image's label does not name.
"""

import json
import sys
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from deploy.images.contents import IMAGES, OF_CLIPS, Image
from deploy.images.licences import BASE, CLARIFIED, OF_JARS, denied, is_gpl_library, licence_of

JARS = Path(__file__).parents[1] / "embedded" / "jars.lock"
Component = dict[str, Any]


def main() -> None:
    image, python, root = IMAGES[sys.argv[1]], Path(sys.argv[2]), Path(sys.argv[3])
    described = root / "app/base.json"
    sbom = complete(image, json.loads(python.read_text()), json.loads(described.read_text()), root)
    if found := list(refused(image, sbom)):
        sys.exit("\n".join(found))
    described.unlink()
    (root / "app/sbom.cdx.json").write_text(json.dumps(sbom, indent=1) + "\n")


def complete(image: Image, sbom: Component, base: list[dict[str, str]], root: Path) -> Component:
    """The whole list. `base`: the packages of the base, by `name`, `version` and `type` (deb or generic)."""
    components = sbom["components"]
    packages = root.glob("app/venv/lib/python3*/site-packages")
    installed = {canonicalize_name(d.name): d for d in distributions(path=[*map(str, packages)])}
    for component in components:
        name = canonicalize_name(component["name"])
        if name in CLARIFIED:
            component["licenses"] = [{"expression": CLARIFIED[name]}]
        elif not licence_in(component) and name in installed:
            component["licenses"] = [{"license": {"name": licence_of(installed[name])}}]
    components += bundled(root)
    if image.embedded:
        components += jars()
    for package in base:
        label, version = package["name"], package["version"]
        purl = f"pkg:{package['type']}/{label}@{version}".replace("pkg:deb/", "pkg:deb/debian/")
        components.append(_component(label, version, purl, BASE.get(label, "")))
    sbom["metadata"]["component"] = {
        "type": "container",
        "name": f"lares-{image.name}",
        "bom-ref": f"lares-{image.name}",
        "licenses": [{"expression": image.licences}],
    }
    sbom["dependencies"] = [d for d in sbom.get("dependencies", []) if d["ref"] != "root-component"]
    return sbom


def refused(image: Image, sbom: Component) -> Iterator[str]:
    """A line for each component that the image must not have."""
    for component in sbom["components"]:
        inside = "/" in component["name"]  # of a wheel, which states the licence
        if reason := denied(
            image, component["name"], licence_in(component) or ("in a wheel" if inside else "")
        ):
            yield reason


def licence_in(component: Component) -> str:
    """The licences that a component states, as one expression; an empty string if it states none."""
    found = []
    for entry in component.get("licenses", []):
        licence = entry.get("license", {})
        found.append(entry.get("expression") or licence.get("id") or licence.get("name") or "")
    # Of several classifiers of one package one may choose. cyclonedx-py names a text so itself.
    return " OR ".join(name for name in found if name and not name.startswith("declared license"))


def bundled(root: Path) -> Iterator[Component]:
    """The libraries that wheels bundle, of whose licences the wheels' own texts tell."""
    for file in sorted(root.glob("app/venv/lib/python3*/site-packages/*.libs/*.so*")):
        name = file.name.partition(".so")[0].partition("-")[0]
        version = file.name.partition(".so")[2].strip(".")
        wheel = file.parent.name.removesuffix(".libs")
        licence = OF_CLIPS if is_gpl_library(file.name) else ""
        yield _component(f"{wheel}/{name}", version, "", licence)


def jars() -> Iterator[Component]:
    for line in JARS.read_text().splitlines():
        if not line.startswith("#"):
            group, artifact, version = line.split()[0].split(":")
            licence = OF_JARS.get(group, "Apache-2.0")
            yield _component(artifact, version, f"pkg:maven/{group}/{artifact}@{version}", licence)


def _component(name: str, version: str, purl: str, licence: str) -> Component:
    return {
        "type": "library",
        "bom-ref": f"{name}@{version}",
        "name": name,
        "version": version,
        **({"purl": purl} if purl else {}),
        **({"licenses": [{"expression": licence}]} if licence else {}),
    }


if __name__ == "__main__":
    main()
