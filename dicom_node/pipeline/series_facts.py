"""Read the facts on a series that routing may use, from index and headers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO

from pydicom.charset import convert_encodings, decode_bytes
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.valuerep import CUSTOMIZABLE_CHARSET_VR

from dicom_node.pipeline.conditions import SENDER_KEYWORD
from dicom_node.pipeline.routing import SEGMENTED_SOP_CLASSES, InstanceFacts
from dicom_node.store import InstanceRow, Origin, Store
from inference.series.errors import UnsuitableObjectError
from inference.series.instances import read_header
from sr_writer.objects import MANUFACTURER, MANUFACTURER_MODEL_NAME

log = logging.getLogger(__name__)

# The equipment that `sr_writer` writes. A PACS that coerces patient or study does not change the equipment, and an
# instance that returns from it can no longer be recognised by its UID or bytes.
OWN_SIGNATURE = {"Manufacturer": MANUFACTURER, "ManufacturerModelName": MANUFACTURER_MODEL_NAME}

_NUMBERS = frozenset({"US", "SS", "UL", "SL", "UV", "SV", "FL", "FD", "AT", "US or SS"})
_ESCAPE_ENDS = {ord("\\")}  # a value ends an escape sequence of ISO 2022 (PS3.5 6.1.2.5.3)


@dataclass(frozen=True, slots=True)
class _StoredInstance:
    """An instance in the store, in the form that the header reader takes."""

    name: str
    open: Callable[[], BinaryIO]


def facts_of_series(
    store: Store, instances: Sequence[InstanceRow], keywords: Collection[str]
) -> tuple[InstanceFacts, ...]:
    """Return the facts on the instances of a series, each distinct set of facts once.

    Raises
    ------
    UnsuitableObjectError
        The header of a CT or MR image is damaged or hostile.
    """
    distinct: dict[tuple[object, ...], InstanceFacts] = {}
    for row in instances:
        facts = _facts_of_instance(store, row, keywords)
        key = (facts.sop_class_uid, facts.is_own, tuple(sorted(facts.values.items())))
        distinct.setdefault(key, facts)
    return tuple(distinct.values())


def values_of(header: Dataset, keywords: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Return values of attributes as text; absent, empty and unreadable ones are left out."""
    found = {}
    for keyword in keywords:
        try:
            values = _texts(header, keyword)
        except Exception:  # noqa: BLE001 - values may be anything; rules ignore unreadable ones
            log.debug("value not readable", extra={"keyword": keyword})
            continue
        if values:
            found[keyword] = values
    return found


def is_signed_by_us(header: Dataset) -> bool:
    """Return whether the equipment of an instance is this node, or another installation of it."""
    return all(_texts(header, keyword) == (value,) for keyword, value in OWN_SIGNATURE.items())


def header_of(store: Store, row: InstanceRow) -> Dataset:
    """Read the header of a stored instance, without its pixels.

    Raises
    ------
    UnsuitableObjectError
        It is damaged or hostile.
    """
    opened = partial(store.objects.open, row.digest, dataset_bytes=row.dataset_bytes)
    return read_header(_StoredInstance(row.sop_instance_uid, opened))


def _facts_of_instance(store: Store, row: InstanceRow, keywords: Collection[str]) -> InstanceFacts:
    try:
        header = header_of(store, row)
    except UnsuitableObjectError:
        if row.sop_class_uid in SEGMENTED_SOP_CLASSES:
            raise  # reported where the volume is built
        header = Dataset()
    return InstanceFacts(
        row.sop_class_uid,
        row.origin is Origin.NODE or is_signed_by_us(header),
        {**values_of(header, keywords), SENDER_KEYWORD: (row.calling_ae_title,)},
    )


def _texts(header: Dataset, keyword: str) -> tuple[str, ...]:
    """Return the values of one attribute; text is decoded here, because pydicom's warnings would quote the value."""
    element = header.get_item(keyword)
    if element is None or not element.value:
        return ()
    vr = element.VR or dictionary_VR(keyword)
    if vr in _NUMBERS or not isinstance(element.value, bytes):
        return tuple(str(value) for value in _as_tuple(header[keyword].value))
    encodings = ["latin_1"]
    if vr in CUSTOMIZABLE_CHARSET_VR:
        encodings = convert_encodings([str(name) for name in _as_tuple(header.get("SpecificCharacterSet", ""))])
    text = decode_bytes(element.value, encodings, _ESCAPE_ENDS)
    return tuple(part for part in (part.strip(" \0") for part in text.split("\\")) if part)


def _as_tuple(value: object) -> tuple[object, ...]:
    return tuple(value) if isinstance(value, list | tuple | MultiValue) else (value,)
