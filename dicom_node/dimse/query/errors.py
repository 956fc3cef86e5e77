"""Why a query or retrieval is not answered."""

from __future__ import annotations

from dicom_node.errors import Refused


class IdentifierError(Refused):
    """The identifier of a request cannot be used."""

    code = "query-identifier"

    def __init__(self, tag: int | None, what: str) -> None:
        super().__init__(tag, what)

    def __str__(self) -> str:
        return f"identifier refused: {self.args[1]}"

    @property
    def tag(self) -> int | None:
        """The attribute that is missing or cannot be used."""
        return None if self.args[0] is None else int(self.args[0])

    @property
    def comment(self) -> str:
        """Return the Error Comment for the peer."""
        return str(self.args[1])


class UnreadableIdentifierError(IdentifierError):
    """The identifier cannot be decoded."""

    code = "query-identifier-unreadable"


class TooLargeToConvertError(Refused):
    """An instance is too large to be written anew in Implicit VR Little Endian."""

    code = "too-large-to-convert"

    def __init__(self, sop_instance_uid: str, n_bytes: int, max_bytes: int) -> None:
        super().__init__(sop_instance_uid, n_bytes, max_bytes)

    def __str__(self) -> str:
        uid, n_bytes, max_bytes = self.args
        return f"instance {uid}: {n_bytes} bytes, at most {max_bytes} are converted; ask for Explicit VR Little Endian"
