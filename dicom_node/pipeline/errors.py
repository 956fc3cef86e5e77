"""Errors between a complete series and a delivered result."""

from __future__ import annotations

from typing import ClassVar

from dicom_node.errors import NodeError, Refused, Transient


class RulesError(Refused):
    """The rules cannot be used; nothing is started."""

    code: ClassVar[str] = "rules"

    def __init__(self, origin: str, problems: tuple[str, ...]) -> None:
        super().__init__(origin, problems)

    def __str__(self) -> str:
        origin, problems = self.args
        return "\n".join(f"{origin}: {problem}" for problem in problems)


class NoInstancesError(Refused):
    """No instance of a series is left to read, because they were deleted in the meantime."""

    code: ClassVar[str] = "no-instances"

    def __init__(self, series_instance_uid: str) -> None:
        super().__init__(series_instance_uid)

    def __str__(self) -> str:
        return f"series {self.args[0]}: its instances are no longer stored; send the series again to have it processed"


class SourcesDeletedError(Refused):
    """New instances arrived after retention deleted the sources; their results would replace those of all instances."""

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
    """Work was abandoned because the lease is lost or the process is stopping; another worker takes it over."""

    code: ClassVar[str] = "abandoned"


class AuditChainError(Transient):
    """The hash chain of the audit trail does not fit its digest in the data directory."""

    code: ClassVar[str] = "audit-chain"

    def __init__(self, path: str) -> None:
        super().__init__(path)

    def __str__(self) -> str:
        return (
            f"the hash chain of the audit trail does not have the digest that {self.args[0]} has; run `dicom-node "
            "audit verify` and find out who changed the database; after a restored backup remove the file, and write "
            "down why"
        )
