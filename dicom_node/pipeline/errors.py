"""What can go wrong between a complete series and a delivered result."""

from __future__ import annotations

from typing import ClassVar

from dicom_node.errors import NodeError, Refused


class RulesError(Refused):
    """The rules cannot be used; nothing is started."""

    code: ClassVar[str] = "rules"

    def __init__(self, origin: str, problems: tuple[str, ...]) -> None:
        super().__init__(origin, problems)

    def __str__(self) -> str:
        origin, problems = self.args
        return "\n".join(f"{origin}: {problem}" for problem in problems)


class NoInstancesError(Refused):
    """A series has nothing that could be read, because its instances were deleted in the meantime."""

    code: ClassVar[str] = "no-instances"

    def __init__(self, series_instance_uid: str) -> None:
        super().__init__(series_instance_uid)

    def __str__(self) -> str:
        return f"series {self.args[0]}: no instance of it is kept any more; send the series again to have it processed"


class SourcesDeletedError(Refused):
    """A part of a series came after its instances were deleted: its results would replace those of the whole."""

    code: ClassVar[str] = "sources-deleted"

    def __init__(self, series_instance_uid: str, n_here: int, n_deleted: int) -> None:
        super().__init__(series_instance_uid, n_here, n_deleted)

    def __str__(self) -> str:
        uid, n_here, n_deleted = self.args
        return (
            f"series {uid}: {n_here} instances came after {n_deleted} were processed and deleted; "
            "the earlier results stay, send the whole series again to have them replaced"
        )


class AbandonedError(NodeError):
    """Work was given up half way, and someone else does it or will: the lease is lost, or the process is stopping."""

    code: ClassVar[str] = "abandoned"
