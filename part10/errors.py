"""What is wrong with the bytes; messages name no file, which only the caller knows, and quote no value."""

from __future__ import annotations


class Part10Error(ValueError):
    """The bytes cannot be read as DICOM, or not within the bounds of `part10.limits`."""


class NotPart10Error(Part10Error):
    """There is no preamble followed by file meta information and its length (PS3.10 7.1)."""


class NotADatasetError(Part10Error):
    """The bytes are not elements as PS3.5 7.1 describes them."""


class CutShortError(NotADatasetError):
    """The bytes end within an element."""


class TooManyElementsError(Part10Error):
    """More elements than any real header has."""


class TooDeepError(Part10Error):
    """Sequences nested more deeply than in any real header."""


class InflatesTooLargeError(Part10Error):
    """A deflated dataset is larger than the caller takes."""


class ReadsTooMuchError(Part10Error):
    """A header, a frame or what follows the pixel data is larger than the caller takes."""
