"""Errors of de-identification. No message contains a value of the source or a path."""

from __future__ import annotations

from typing import ClassVar

from dicom_node.errors import Refused


class ExportError(Refused):
    """Base of all errors of this package."""

    code: ClassVar[str] = "export"


class ProfileError(ExportError):
    """The profile cannot be used; nothing was written."""

    code = "deidentify-profile"

    def __init__(self, where: str, finding: str) -> None:
        super().__init__(where, finding)

    def __str__(self) -> str:
        where, finding = self.args
        return f"de-identification profile {where}: {finding}; nothing was written, correct the profile"


class KeyFileError(ExportError):
    """The key file cannot be trusted; nothing was written."""

    code = "deidentify-key"

    def __init__(self, finding: str, way_out: str) -> None:
        super().__init__(finding, way_out)

    def __str__(self) -> str:
        finding, way_out = self.args
        return f"key file: {finding}; nothing was written, {way_out}"


class OutputFolderError(ExportError):
    """The output folder cannot be used for this run; nothing was written."""

    code = "deidentify-output"

    def __init__(self, finding: str, way_out: str) -> None:
        super().__init__(finding, way_out)

    def __str__(self) -> str:
        finding, way_out = self.args
        return f"output folder: {finding}; nothing was written, {way_out}"


class NotExportableError(ExportError):
    """One object is not copied; ``reason`` is a stable code, and the message says what would have to change."""

    code = "not-exportable"

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(reason, sentence)
        self.reason = reason

    def __str__(self) -> str:
        return str(self.args[1])
