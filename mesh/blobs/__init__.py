"""Originals, kept by their content: in a folder or in a bucket. The only importer of obstore, and nobody
outside builds a path."""

from mesh.blobs.factory import open_blobs
from mesh.blobs.files import FileBlobs
from mesh.blobs.port import Blobs
from mesh.blobs.spool import Blob, SpooledFile

__all__ = ["Blob", "Blobs", "FileBlobs", "SpooledFile", "open_blobs"]
