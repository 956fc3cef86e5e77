"""What can go wrong between us and a peer; the class says whether sending again can help."""

from __future__ import annotations

from dicom_node.errors import NodeError, Refused, Transient


class DeliveryError(NodeError):
    """An object did not reach its peer, or a question got no answer."""

    code = "delivery"


class PeerUnreachableError(DeliveryError, Transient):
    """No connection, or it broke."""

    code = "peer-unreachable"

    def __init__(self, peer: str, reason: str) -> None:
        super().__init__(peer, reason)

    def __str__(self) -> str:
        return f"peer {self.args[0]}: {self.args[1]}; tried again later, check host, port and network"


class PeerTimeoutError(DeliveryError, Transient):
    """The peer did not answer in time."""

    code = "peer-timeout"

    def __init__(self, peer: str, waited_for: str, timeout_s: float) -> None:
        super().__init__(peer, waited_for, timeout_s)

    def __str__(self) -> str:
        peer, waited_for, timeout_s = self.args
        return f"peer {peer}: no {waited_for} within {timeout_s:g} s; tried again later"


class AssociationRejectedError(DeliveryError, Transient):
    """The peer does not want us: an AE title is unknown to it, until its administrator adds ours."""

    code = "association-rejected"

    def __init__(self, peer: str, reason: str) -> None:
        super().__init__(peer, reason)

    def __str__(self) -> str:
        return (
            f"peer {self.args[0]}: association rejected: {self.args[1]}; "
            "check the AE titles on both sides; it is tried again"
        )


class AssociationBusyError(DeliveryError, Transient):
    """The peer has no place now."""

    code = "association-busy"

    def __init__(self, peer: str, reason: str) -> None:
        super().__init__(peer, reason)

    def __str__(self) -> str:
        return f"peer {self.args[0]}: association rejected for now: {self.args[1]}; tried again later"


class AssociationAbortedError(DeliveryError, Transient):
    """The association ended before the answer."""

    code = "association-aborted"

    def __init__(self, peer: str, reason: str) -> None:
        super().__init__(peer, reason)

    def __str__(self) -> str:
        return f"peer {self.args[0]}: association ended before its time: {self.args[1]}; tried again later"


class NotPart10Error(DeliveryError, Refused):
    """The object has no file meta information, so its data set cannot be found."""

    code = "not-part10"

    def __init__(self, peer: str, sop_instance_uid: str) -> None:
        super().__init__(peer, sop_instance_uid)

    def __str__(self) -> str:
        peer, sop_instance_uid = self.args
        return f"instance {sop_instance_uid} for peer {peer}: no Part 10 file meta information; restore the object"


class ContextRefusedError(DeliveryError, Refused):
    """The peer does not take this SOP class in this transfer syntax."""

    code = "context-refused"

    def __init__(self, peer: str, sop_class_uid: str, transfer_syntax_uid: str) -> None:
        super().__init__(peer, sop_class_uid, transfer_syntax_uid)

    def __str__(self) -> str:
        peer, sop_class_uid, transfer_syntax_uid = self.args
        return (
            f"peer {peer}: does not accept SOP class {sop_class_uid} in transfer syntax {transfer_syntax_uid}; "
            "allow both there, then retry"
        )


class EchoFailedError(DeliveryError, Transient):
    """The peer answers a C-ECHO with a failure."""

    code = "echo-failed"

    def __init__(self, peer: str, status: int) -> None:
        super().__init__(peer, status)

    def __str__(self) -> str:
        return f"peer {self.args[0]}: C-ECHO answered with status 0x{self.args[1]:04X}; see the peer's log"


class QueryFailedError(DeliveryError, Transient):
    """The peer answers a C-FIND with a failure."""

    code = "query-failed"

    def __init__(self, peer: str, status: int, comment: str) -> None:
        super().__init__(peer, status, comment)

    def __str__(self) -> str:
        peer, status, comment = self.args
        said = f" ({comment})" if comment else ""
        return f"peer {peer}: C-FIND answered with status 0x{status:04X}{said}; asked again later, see the peer's log"


class QueryUnreadableError(DeliveryError, Transient):
    """The peer's answer to a query is none."""

    code = "query-unreadable"

    def __init__(self, peer: str, found: str) -> None:
        super().__init__(peer, found)

    def __str__(self) -> str:
        return f"peer {self.args[0]}: answers a query with {self.args[1]}; asked again later, check URL and peer"


class StoreRefusedError(DeliveryError, Refused):
    """The peer has the object and does not keep it."""

    code = "store-refused"

    def __init__(self, peer: str, sop_instance_uid: str, status: int, comment: str) -> None:
        super().__init__(peer, sop_instance_uid, status, comment)

    def __str__(self) -> str:
        peer, sop_instance_uid, status, comment = self.args
        said = f" ({comment})" if comment else ""
        return f"peer {peer}: instance {sop_instance_uid} refused with status 0x{status:04X}{said}; see the peer's log"


class StoreFailedForNowError(DeliveryError, Transient):
    """The peer cannot keep the object now: out of resources, or a failure of its own."""

    code = "store-failed-for-now"

    def __init__(self, peer: str, sop_instance_uid: str, status: int, comment: str) -> None:
        super().__init__(peer, sop_instance_uid, status, comment)

    def __str__(self) -> str:
        peer, sop_instance_uid, status, comment = self.args
        said = f" ({comment})" if comment else ""
        return f"peer {peer}: instance {sop_instance_uid} failed with status 0x{status:04X}{said}; tried again later"


class HttpRefusedError(DeliveryError, Refused):
    """The peer's HTTP answer says that the request itself is wrong."""

    code = "http-refused"

    def __init__(self, peer: str, status: int, url: str) -> None:
        super().__init__(peer, status, url)

    def __str__(self) -> str:
        peer, status, url = self.args
        return f"peer {peer}: HTTP {status} from {url}; check the URL and the peer's log, then retry"


class HttpFailedForNowError(DeliveryError, Transient):
    """The peer's HTTP answer says that it may work later, or when access is set right."""

    code = "http-failed-for-now"

    def __init__(self, peer: str, status: int, url: str) -> None:
        super().__init__(peer, status, url)

    def __str__(self) -> str:
        peer, status, url = self.args
        return f"peer {peer}: HTTP {status} from {url}; tried again later, check URL and token if it stays so"


class UnconfirmedError(DeliveryError, Transient):
    """The peer's answer does not say what became of the object."""

    code = "store-unconfirmed"

    def __init__(self, peer: str, sop_instance_uid: str) -> None:
        super().__init__(peer, sop_instance_uid)

    def __str__(self) -> str:
        return f"peer {self.args[0]}: its answer does not name instance {self.args[1]}; tried again later"


class TokenMissingError(DeliveryError, Transient):
    """The environment variable that should hold the peer's token is not set."""

    code = "token-missing"

    def __init__(self, peer: str, variable: str) -> None:
        super().__init__(peer, variable)

    def __str__(self) -> str:
        return f"peer {self.args[0]}: environment variable {self.args[1]} is not set; set it and restart the node"


class DownloadRefusedError(Refused):
    """What an address gives is not what was asked for."""

    code = "download-refused"

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(url, reason)

    def __str__(self) -> str:
        return f"{self.args[0]}: {self.args[1]}"


class DownloadFailedError(Transient):
    """An address did not answer, or not to the end."""

    code = "download-failed"

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(url, reason)

    def __str__(self) -> str:
        return f"{self.args[0]}: {self.args[1]}; try again, or fetch the file yourself and give its path"
