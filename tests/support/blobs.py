"""Photos in the blobs, put there as an upload's are."""

from hashlib import sha256
from pathlib import Path

from mesh.blobs import Blobs


async def keep_blob(blobs: Blobs, content: bytes) -> str:
    """Returns its sha256."""
    name = sha256(content).hexdigest()
    with blobs.spool.file() as file:
        file.write(content)
        file.flush()
        await blobs.put(name, Path(file.name), content)
    return name
