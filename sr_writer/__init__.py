"""Masks and verdicts to DICOM objects, proved against their own written bytes."""

from sr_writer.errors import GeometryProofError, GridMismatchError, PlaneSourceError, SourceHeaderError, WriterError
from sr_writer.objects import WRITER_VERSION, AlgorithmIdentity, Lineage, Role, WrittenObject
from sr_writer.segmentation import write_segmentation

__all__ = [
    "WRITER_VERSION",
    "AlgorithmIdentity",
    "GeometryProofError",
    "GridMismatchError",
    "Lineage",
    "PlaneSourceError",
    "Role",
    "SourceHeaderError",
    "WriterError",
    "WrittenObject",
    "write_segmentation",
]
