"""The originals of media, stored under the SHA-256 of their content, in a folder or an S3 bucket.

The only importer of obstore. No other package builds paths of blobs.
"""

from mesh.blobs.factory import open_blobs
from mesh.blobs.files import FileBlobs
from mesh.blobs.port import Blobs
from mesh.blobs.spool import Blob, SpooledFile

__all__ = ["Blob", "Blobs", "FileBlobs", "SpooledFile", "open_blobs"]
