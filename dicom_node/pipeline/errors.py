"""What can go wrong between a complete series and a delivered result."""

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
    """A series has nothing that could be read, because its instances were deleted in the meantime."""

    code: ClassVar[str] = "no-instances"

    def __init__(self, series_instance_uid: str) -> None:
        super().__init__(series_instance_uid)

    def __str__(self) -> str:
        return f"series {self.args[0]}: no instance of it is kept any more; send the series again to have it processed"


class UnknownPeerError(Transient):
    """A delivery names a peer that the settings do not have."""

    code: ClassVar[str] = "unknown-peer"

    def __init__(self, peer_name: str, known: tuple[str, ...]) -> None:
        super().__init__(peer_name, known)

    def __str__(self) -> str:
        name, known = self.args
        return (
            f"no peer is named {name!r} (known: {', '.join(known) or 'none'}); the delivery waits, "
            "add the peer to the settings or cancel it"
        )


class AbandonedError(NodeError):
    """Work was given up half way, and someone else does it or will: the lease is lost, or the process is stopping."""

    code: ClassVar[str] = "abandoned"
