"""Unpacks buf/validate/validate.proto, out of the jar that third_party.lock pins, into proto/third_party/."""

import zipfile
from pathlib import Path

from mesh.artifacts import fetch_jars
from mesh.config import load_config

HERE = Path(__file__).parent
MEMBER = "buf/validate/validate.proto"


def main() -> None:
    folder = fetch_jars(load_config().cache, HERE / "third_party.lock")
    (jar,) = folder.glob("protovalidate-*.jar")
    with zipfile.ZipFile(jar) as archive:
        archive.extract(MEMBER, HERE / "third_party")


if __name__ == "__main__":
    main()
