"""The body of the form of uploads (RFC 7578): its token first, then the files."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

from dicom_node.http_intake.errors import MalformedBodyError
from dicom_node.http_intake.multipart_reader import MultipartReader, Sink
from dicom_node.page.protection import TOKEN_FIELD
from dicom_node.page.uploading.files import UploadedFile, UploadedFiles

FILES_FIELD: Final = "files"
MAX_TOKEN_BYTES: Final = 256
_NAME: Final = re.compile(r';\s*name="([^"]*)"')
_FILENAME: Final = re.compile(r';\s*filename="([^"]*)"')


class UploadForm:
    """Takes the bytes of a form; nothing of a file is read before its token was checked.

    Parameters
    ----------
    check
        Raises unless the form, with the fields before its files, may change something.
    """

    def __init__(self, boundary: bytes, files: UploadedFiles, check: Callable[[Mapping[str, str]], None]) -> None:
        self._reader = MultipartReader(boundary, self._begin_part)
        self._files = files
        self._check = check
        self._fields: dict[str, str] = {}
        self._is_checked = False
        self._open: UploadedFile | None = None
        self.feed = self._reader.feed
        self.finish = self._reader.finish

    def discard(self, error: Exception) -> None:
        """Drop the file that is not complete, because of an error."""
        if self._open is not None:
            self._open.discard(error)

    def _begin_part(self, _: int, fields: Mapping[str, str]) -> Sink:
        said = fields.get("content-disposition", "")
        name, filename = _first(_NAME, said), _first(_FILENAME, said)
        if name == TOKEN_FIELD:
            return _Token(self._fields)
        if name != FILES_FIELD:
            return _Ignored()
        if not self._is_checked:
            self._check(self._fields)
            self._is_checked = True
        if not filename:  # a field of the form in which no file was chosen
            return _Ignored()
        self._open = self._files.begin(filename)
        return self._open


class _Token:
    """The field by which a form shows whose it is."""

    def __init__(self, fields: dict[str, str]) -> None:
        self._fields = fields
        self._content = bytearray()

    def write(self, piece: bytes) -> None:
        self._content += piece
        if len(self._content) > MAX_TOKEN_BYTES:
            raise MalformedBodyError(f"its token is longer than {MAX_TOKEN_BYTES} bytes")

    def finish(self) -> None:
        self._fields[TOKEN_FIELD] = self._content.decode("ascii", "replace")


class _Ignored:
    def write(self, piece: bytes) -> None:
        pass

    def finish(self) -> None:
        pass


def _first(pattern: re.Pattern[str], said: str) -> str:
    """Return a parameter of Content-Disposition; browsers write it in UTF-8, with %22 for a quotation mark."""
    found = pattern.search(said)
    return "" if found is None else found[1].encode("latin-1").decode(errors="replace").replace("%22", '"')
