"""Errors of writing masks and verdicts as DICOM objects."""

from __future__ import annotations

from typing import ClassVar


class WriterError(Exception):
    """Base of all errors of this package."""

    code: ClassVar[str] = "writer"


class Refused(WriterError):
    """No result can be written for the source series; retrying cannot help."""


class SourceHeaderError(Refused):
    """A source instance lacks an attribute that every object derived from it needs."""

    code = "source-header"

    def __init__(self, series_instance_uid: str, keyword: str) -> None:
        super().__init__(series_instance_uid, keyword)

    def __str__(self) -> str:
        uid, keyword = self.args
        return (
            f"series {uid}: {keyword} is missing from a source instance, and a SEG cannot be written without it; "
            "nothing was written, ask the sender to repair the series"
        )


class PlaneSourceError(Refused):
    """The source frame of a slice of the mask is missing or ambiguous."""

    code = "plane-source"

    def __init__(self, series_instance_uid: str, slice_number: int, n_candidates: int) -> None:
        super().__init__(series_instance_uid, slice_number, n_candidates)

    def __str__(self) -> str:
        uid, number, n_candidates = self.args
        return (
            f"series {uid}: slice {number} of the mask lies at the position of {n_candidates} source frames, expected "
            "exactly 1; nothing was written, pass plane_sources to say which frame each slice came from"
        )


class GridMismatchError(WriterError):
    """A mask, or the list of sources, does not have the shape of the grid; a bug of the caller."""

    code = "grid-mismatch"

    def __init__(self, what: str, found: tuple[int, ...], expected: tuple[int, ...]) -> None:
        super().__init__(what, found, expected)

    def __str__(self) -> str:
        what, found, expected = self.args
        return f"{what} has shape {found}, expected {expected} as the source grid has it; nothing was written"


class GeometryProofError(WriterError):
    """The written bytes differ from the mask; a bug of this package, so the object is discarded."""

    code = "geometry-proof"

    def __init__(self, sop_instance_uid: str, finding: str) -> None:
        super().__init__(sop_instance_uid, finding)

    def __str__(self) -> str:
        uid, finding = self.args
        return (
            f"SEG {uid}: read back, the written bytes differ from the mask: {finding}; the object was discarded, "
            "please report this with the geometry of the series"
        )
