"""Errors between the node and a peer; the class says whether sending again can help."""

from __future__ import annotations

from pydicom.uid import UID, ComprehensiveSRStorage, KeyObjectSelectionDocumentStorage, SegmentationStorage

from dicom_node.errors import NodeError, Refused, Transient


def _named(uid: str) -> str:
    """Return a UID with its name in the standard, if it has one."""
    name = UID(uid).name
    return uid if name == uid else f"{uid} ({name})"


_KINDS = {SegmentationStorage: "seg", ComprehensiveSRStorage: "sr", KeyObjectSelectionDocumentStorage: "kos"}
"""Kinds of results, as the settings name them, by their SOP class."""


class DeliveryError(NodeError):
    """An object did not reach its peer, or a query got no answer."""

    code = "delivery"


class PeerUnreachableError(DeliveryError, Transient):
    """The connection to the peer failed or broke."""

    code = "peer-unreachable"

    def __init__(self, peer: str, reason: str) -> None:
        super().__init__(peer, reason)

    def __str__(self) -> str:
        return f"peer {self.args[0]}: {self.args[1]}; tried again later, check host, port and network"


class TlsFailedError(DeliveryError, Transient):
    """No TLS connection: a certificate was not accepted on one side, or the peer does not use TLS."""

    code = "tls-failed"

    def __init__(self, peer: str, reason: str) -> None:
        super().__init__(peer, reason)

    def __str__(self) -> str:
        return f"peer {self.args[0]}: no TLS connection: {self.args[1]}; tried again later"


class TlsFilesUnusableError(DeliveryError, Transient):
    """A key or certificate for TLS with the peer is missing or cannot be used now."""

    code = "tls-files-unusable"

    def __init__(self, peer: str, finding: str) -> None:
        super().__init__(peer, finding)

    def __str__(self) -> str:
        return f"peer {self.args[0]}: {self.args[1]}; tried again later"


class PeerTimeoutError(DeliveryError, Transient):
    """The peer did not answer in time."""

    code = "peer-timeout"

    def __init__(self, peer: str, waited_for: str, timeout_s: float) -> None:
        super().__init__(peer, waited_for, timeout_s)

    def __str__(self) -> str:
        peer, waited_for, timeout_s = self.args
        return f"peer {peer}: no {waited_for} within {timeout_s:g} s; tried again later"


class AssociationRejectedError(DeliveryError, Transient):
    """The peer rejects the association, most often because its administrator has not added the node's AE title."""

    code = "association-rejected"

    def __init__(self, peer: str, reason: str) -> None:
        super().__init__(peer, reason)

    def __str__(self) -> str:
        return (
            f"peer {self.args[0]}: association rejected: {self.args[1]}; "
            "check the AE titles on both sides; it is tried again"
        )


class AssociationBusyError(DeliveryError, Transient):
    """The peer accepts no more associations at the moment."""

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
        return f"peer {self.args[0]}: association ended too early: {self.args[1]}; tried again later"


class NotPart10Error(DeliveryError, Refused):
    """The object has no file meta information, so its data set cannot be found."""

    code = "not-part10"

    def __init__(self, peer: str, sop_instance_uid: str) -> None:
        super().__init__(peer, sop_instance_uid)

    def __str__(self) -> str:
        peer, sop_instance_uid = self.args
        return f"instance {sop_instance_uid} for peer {peer}: no Part 10 file meta information; restore the object"


class ContextRefusedError(DeliveryError, Refused):
    """The peer does not accept this SOP class in this transfer syntax."""

    code = "context-refused"

    def __init__(self, peer: str, sop_class_uid: str, transfer_syntax_uid: str) -> None:
        super().__init__(peer, sop_class_uid, transfer_syntax_uid)

    def __str__(self) -> str:
        peer, sop_class_uid, transfer_syntax_uid = self.args
        told = (
            f"peer {peer}: does not accept SOP class {_named(sop_class_uid)} in transfer syntax "
            f"{_named(transfer_syntax_uid)}; objects are sent in their own, so allow both there, then retry"
        )
        kind = _KINDS.get(sop_class_uid)
        if kind is None:
            return told
        stop = f"dicom-node deliveries cancel --peer {peer} --kind {kind}"
        return f"{told}, or leave {kind} out of its results and type: {stop}"


class CommitmentNotOfferedError(DeliveryError, Refused):
    """The peer does not accept a presentation context for storage commitment."""

    code = "commitment-not-offered"

    def __init__(self, peer: str) -> None:
        super().__init__(peer)

    def __str__(self) -> str:
        return (
            f"peer {self.args[0]}: does not offer storage commitment to this node; "
            "switch it on there, or set commitment: false for this peer"
        )


class EchoFailedError(DeliveryError, Transient):
    """The peer answered a C-ECHO with a failure status."""

    code = "echo-failed"

    def __init__(self, peer: str, status: int) -> None:
        super().__init__(peer, status)

    def __str__(self) -> str:
        return f"peer {self.args[0]}: C-ECHO answered with status 0x{self.args[1]:04X}; see the peer's log"


class QueryFailedError(DeliveryError, Transient):
    """The peer answered a C-FIND with a failure status."""

    code = "query-failed"

    def __init__(self, peer: str, status: int, comment: str) -> None:
        super().__init__(peer, status, comment)

    def __str__(self) -> str:
        peer, status, comment = self.args
        said = f" ({comment})" if comment else ""
        return f"peer {peer}: C-FIND answered with status 0x{status:04X}{said}; asked again later, see the peer's log"


class QueryUnreadableError(DeliveryError, Transient):
    """The peer's answer to a query cannot be used."""

    code = "query-unreadable"

    def __init__(self, peer: str, found: str) -> None:
        super().__init__(peer, found)

    def __str__(self) -> str:
        return f"peer {self.args[0]}: answers a query with {self.args[1]}; asked again later, check URL and peer"


class StoreRefusedError(DeliveryError, Refused):
    """The peer received the object and refused to store it."""

    code = "store-refused"

    def __init__(self, peer: str, sop_instance_uid: str, status: int, comment: str) -> None:
        super().__init__(peer, sop_instance_uid, status, comment)

    def __str__(self) -> str:
        peer, sop_instance_uid, status, comment = self.args
        said = f" ({comment})" if comment else ""
        return f"peer {peer}: instance {sop_instance_uid} refused with status 0x{status:04X}{said}; see the peer's log"


class StoreFailedForNowError(DeliveryError, Transient):
    """The peer cannot store the object now: it is out of resources, or has an internal failure."""

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
    """The peer's HTTP answer says that the request may succeed later, or once access is granted."""

    code = "http-failed-for-now"

    def __init__(self, peer: str, status: int, url: str) -> None:
        super().__init__(peer, status, url)

    def __str__(self) -> str:
        peer, status, url = self.args
        return f"peer {peer}: HTTP {status} from {url}; tried again later, check URL and token if it persists"


class UnconfirmedError(DeliveryError, Transient):
    """The peer's answer does not say whether the object was stored."""

    code = "store-unconfirmed"

    def __init__(self, peer: str, sop_instance_uid: str) -> None:
        super().__init__(peer, sop_instance_uid)

    def __str__(self) -> str:
        return f"peer {self.args[0]}: its answer does not name instance {self.args[1]}; tried again later"


class TokenMissingError(DeliveryError, Transient):
    """The environment variable that should hold the peer's token, password or secret is not set."""

    code = "token-missing"

    def __init__(self, peer: str, variable: str) -> None:
        super().__init__(peer, variable)

    def __str__(self) -> str:
        return f"peer {self.args[0]}: environment variable {self.args[1]} is not set; set it and restart the node"


class SecretUnusableError(DeliveryError, Refused):
    """The environment variable that should hold a webhook's secret does not hold base64 of 24 to 64 bytes."""

    code = "secret-unusable"

    def __init__(self, target: str, variable: str, finding: str) -> None:
        super().__init__(target, variable, finding)

    def __str__(self) -> str:
        target, variable, finding = self.args
        return (
            f"target {target}: environment variable {variable} {finding}; expected base64 of 24 to 64 bytes "
            f"(openssl rand -base64 32)"
        )


class StudyNotThereError(DeliveryError, Transient):
    """The target does not have the study (yet), so it cannot show its state."""

    code = "study-not-there"

    def __init__(self, target: str, study_instance_uid: str) -> None:
        super().__init__(target, study_instance_uid)

    def __str__(self) -> str:
        return f"target {self.args[0]}: has no study {self.args[1]}; told again later, once the study is there"


class MetadataUnknownError(DeliveryError, Refused):
    """Orthanc does not know the name of the metadata that should hold the state."""

    code = "metadata-unknown"

    def __init__(self, target: str, name: str) -> None:
        super().__init__(target, name)

    def __str__(self) -> str:
        target, name = self.args
        return (
            f"target {target}: metadata {name!r} is not in Orthanc's UserMetadata; register it there with a number "
            "from 1024, or set metadata to such a number"
        )


class DownloadRefusedError(Refused):
    """A download was refused, or what was downloaded is not the file that was asked for."""

    code = "download-refused"

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(url, reason)

    def __str__(self) -> str:
        return f"{self.args[0]}: {self.args[1]}"


class DownloadFailedError(Transient):
    """The server did not answer, or its answer was incomplete."""

    code = "download-failed"

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(url, reason)

    def __str__(self) -> str:
        return f"{self.args[0]}: {self.args[1]}; try again, or download the file yourself and pass its path"


class SyslogError(DeliveryError, Transient):
    """The syslog receiver of audit messages cannot be reached, or ends the connection."""

    code = "syslog"

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(url, reason)

    def __str__(self) -> str:
        url, reason = self.args
        return f"{url}: {reason}; audit messages wait, correct audit.syslog or start the receiver"
