"""What we say of ourselves in an association request or acceptance (PS3.8 9.3.2.3, PS3.7 D.3.3)."""

from __future__ import annotations

from typing import Any

from pynetdicom.pdu_primitives import (
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
)

from dicom_node.upper_layer.items import ItemType, encode_item
from part10.identity import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

APPLICATION_CONTEXT_NAME = "1.2.840.10008.3.1.1.1"


def user_information(*, max_pdu_bytes: int) -> list[Any]:
    """Items for the longest PDU that we take and for which implementation we are."""
    maximum_length = MaximumLengthNotification()
    maximum_length.maximum_length_received = max_pdu_bytes
    implementation = ImplementationClassUIDNotification()
    implementation.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    version = ImplementationVersionNameNotification()
    version.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    return [maximum_length, implementation, version]


def encode_user_information(*, max_pdu_bytes: int) -> bytes:
    """The same as a user information item."""
    return encode_item(
        ItemType.USER_INFORMATION,
        encode_item(ItemType.MAXIMUM_LENGTH, max_pdu_bytes.to_bytes(4, "big"))
        + encode_item(ItemType.IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_CLASS_UID.encode("ascii"))
        + encode_item(ItemType.IMPLEMENTATION_VERSION_NAME, IMPLEMENTATION_VERSION_NAME.encode("ascii")),
    )
