"""Originals, kept by their content: in a folder or in a bucket. The only importer of obstore, and nobody
outside builds a path."""

from mesh.blobs.files import FileBlobs
from mesh.blobs.opening import open_blobs
from mesh.blobs.port import Blobs
from mesh.blobs.spool import Blob, Spooled

__all__ = ["Blob", "Blobs", "FileBlobs", "Spooled", "open_blobs"]
