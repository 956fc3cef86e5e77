"""What the index wants from a dataset's header: UIDs, and the attributes that QIDO-RS returns.

Only these elements are read, and nothing behind (0040,0245); values that cannot be decoded are left out or carry the
replacement character, they never keep an instance out. Missing or invalid UIDs do.
"""

from __future__ import annotations

import json
import re
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Literal

from pydicom.charset import decode_bytes, python_encoding
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from dicom_node.store.errors import MismatchedInstanceError, UnreadableInstanceError
from dicom_node.store.objects import Spool
from dicom_node.store.records import Arrival

Level = Literal["study", "series", "instance"]

MAX_HEADER_BYTES = 4 * 1024 * 1024  # the wanted elements begin within this, or the header is hostile
_LAST_WANTED_TAG = 0x00400245
_UID = re.compile(r"[0-9]+(\.[0-9]+)+")

ATTRIBUTES: Mapping[int, tuple[str, str, Level]] = {
    0x00080008: ("ImageType", "CS", "instance"),
    0x00080016: ("SOPClassUID", "UI", "instance"),
    0x00080018: ("SOPInstanceUID", "UI", "instance"),
    0x00080020: ("StudyDate", "DA", "study"),
    0x00080021: ("SeriesDate", "DA", "series"),
    0x00080023: ("ContentDate", "DA", "instance"),
    0x00080030: ("StudyTime", "TM", "study"),
    0x00080031: ("SeriesTime", "TM", "series"),
    0x00080033: ("ContentTime", "TM", "instance"),
    0x00080050: ("AccessionNumber", "SH", "study"),
    0x00080060: ("Modality", "CS", "series"),
    0x00080070: ("Manufacturer", "LO", "series"),
    0x00080090: ("ReferringPhysicianName", "PN", "study"),
    0x00080201: ("TimezoneOffsetFromUTC", "SH", "study"),
    0x00081010: ("StationName", "SH", "series"),
    0x00081030: ("StudyDescription", "LO", "study"),
    0x0008103E: ("SeriesDescription", "LO", "series"),
    0x00081090: ("ManufacturerModelName", "LO", "series"),
    0x00100010: ("PatientName", "PN", "study"),
    0x00100020: ("PatientID", "LO", "study"),
    0x00100030: ("PatientBirthDate", "DA", "study"),
    0x00100040: ("PatientSex", "CS", "study"),
    0x00120062: ("PatientIdentityRemoved", "CS", "series"),
    0x00180015: ("BodyPartExamined", "CS", "series"),
    0x00181030: ("ProtocolName", "LO", "series"),
    0x00185100: ("PatientPosition", "CS", "series"),
    0x0020000D: ("StudyInstanceUID", "UI", "study"),
    0x0020000E: ("SeriesInstanceUID", "UI", "series"),
    0x00200010: ("StudyID", "SH", "study"),
    0x00200011: ("SeriesNumber", "IS", "series"),
    0x00200012: ("AcquisitionNumber", "IS", "instance"),
    0x00200013: ("InstanceNumber", "IS", "instance"),
    0x00200052: ("FrameOfReferenceUID", "UI", "series"),
    0x00280008: ("NumberOfFrames", "IS", "instance"),
    0x00280010: ("Rows", "US", "instance"),
    0x00280011: ("Columns", "US", "instance"),
    0x00280100: ("BitsAllocated", "US", "instance"),
    0x00280301: ("BurnedInAnnotation", "CS", "instance"),
    0x00280302: ("RecognizableVisualFeatures", "CS", "series"),
    0x00400244: ("PerformedProcedureStepStartDate", "DA", "series"),
    0x00400245: ("PerformedProcedureStepStartTime", "TM", "series"),
}
"""Tag → keyword, VR, level at which it is searched and returned (PS3.18 10.6.3.3)."""

TAGS = {keyword: f"{tag:08X}" for tag, (keyword, _, _) in ATTRIBUTES.items()}
_SPECIFIC_CHARACTER_SET = 0x00080005
_WANTED = [_SPECIFIC_CHARACTER_SET, *ATTRIBUTES]
# What a hostile dataset makes the parser raise has no common base.
_PARSE_ERRORS = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    NotImplementedError,
    OSError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
_ENCODED_VRS = frozenset(
    {"SH", "LO", "PN"}
)  # of those above, the ones that Specific Character Set governs (PS3.5 6.1.2.3)


@dataclass(frozen=True, slots=True)
class Header:
    """Identity of an instance, and the texts of its attributes by keyword."""

    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    study_instance_uid: str
    texts: Mapping[str, str]  # several values with a backslash between, padding gone

    @property
    def instance_number(self) -> int | None:
        """Instance Number where it is a number."""
        return integer(self.texts.get("InstanceNumber", ""))

    def dicom_json(self, level: Level) -> str:
        """The attributes of a level as a DICOM JSON object."""
        members: dict[str, Any] = {}
        for tag, (keyword, vr, attribute_level) in ATTRIBUTES.items():
            if attribute_level == level and keyword in self.texts:
                member = _json_member(vr, self.texts[keyword])
                if member is not None:
                    members[f"{tag:08X}"] = member
        return json.dumps(members, ensure_ascii=False, separators=(",", ":"))


def read_header(spool: Spool, arrival: Arrival) -> Header:
    """Read what the index wants from a spooled dataset and check it against what the sender announced."""
    texts = _read_texts(spool, arrival)
    uids = []
    for keyword in ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
        uid = texts.get(keyword, "")
        if len(uid) > 64 or not _UID.fullmatch(uid):
            found = f"{keyword} is {uid[:80]!r}, a UID expected" if uid else f"{keyword} is missing"
            raise UnreadableInstanceError(_shown(arrival.sop_instance_uid), found)
        uids.append(uid)
    header = Header(uids[0], uids[1], uids[2], uids[3], texts)
    for keyword, found, announced in (
        ("SOPClassUID", header.sop_class_uid, arrival.sop_class_uid),
        ("SOPInstanceUID", header.sop_instance_uid, arrival.sop_instance_uid),
    ):
        if found != announced:
            reason = f"{keyword} is {found} in the dataset, {_shown(announced)} was announced"
            raise MismatchedInstanceError(_shown(arrival.sop_instance_uid), reason)
    return header


def integer(text: str) -> int | None:
    """First value of an IS, where it is a number that fits 32 bits."""
    try:
        number = int(text.split("\\", 1)[0])
    except ValueError:
        return None
    return number if -(2**31) <= number < 2**31 else None


def _shown(uid: str) -> str:
    return uid if _UID.fullmatch(uid) and len(uid) <= 64 else repr(uid[:80])


def _read_texts(spool: Spool, arrival: Arrival) -> dict[str, str]:
    for n_bytes in (len(spool.head), MAX_HEADER_BYTES):
        head = spool.read_head(n_bytes)
        try:
            dataset, is_whole = _parse(head, arrival.transfer_syntax_uid)
            if is_whole or len(head) == spool.dataset_bytes or n_bytes == MAX_HEADER_BYTES:
                return _texts(dataset, is_little_endian=arrival.transfer_syntax_uid != ExplicitVRBigEndian)
        except _PARSE_ERRORS as error:
            if len(head) < spool.dataset_bytes and n_bytes < MAX_HEADER_BYTES:
                continue  # cut in the middle of an element
            reason = f"header cannot be read ({type(error).__name__})"
            raise UnreadableInstanceError(_shown(arrival.sop_instance_uid), reason) from error
    raise AssertionError("unreachable: the second round returns or raises")


def _parse(head: bytes, transfer_syntax_uid: str) -> tuple[Dataset, bool]:
    """Wanted elements, and whether all of them were passed before the bytes ended."""
    if transfer_syntax_uid == DeflatedExplicitVRLittleEndian:
        head = zlib.decompressobj(-zlib.MAX_WBITS).decompress(head, MAX_HEADER_BYTES)
    is_whole = False

    def is_behind(tag: BaseTag, _vr: str | None, _length: int) -> bool:
        nonlocal is_whole
        is_whole = bool(tag > _LAST_WANTED_TAG)
        return is_whole

    dataset = read_dataset(
        BytesIO(head),
        is_implicit_VR=transfer_syntax_uid == ImplicitVRLittleEndian,
        is_little_endian=transfer_syntax_uid != ExplicitVRBigEndian,
        stop_when=is_behind,
        specific_tags=_WANTED,
    )
    return dataset, is_whole


def _texts(dataset: Dataset, *, is_little_endian: bool) -> dict[str, str]:
    charset = _raw(dataset, _SPECIFIC_CHARACTER_SET)
    encodings = _encodings(charset.decode("ascii", "replace").strip(" \0") if charset else "")
    texts = {}
    for tag, (keyword, vr, _) in ATTRIBUTES.items():
        value = _raw(dataset, tag)
        if not value:
            continue
        if vr == "US":
            if len(value) >= 2:
                texts[keyword] = str(int.from_bytes(value[:2], "little" if is_little_endian else "big"))
            continue
        text = _decoded(value, encodings if vr in _ENCODED_VRS else ["ascii"], vr).strip(" \0")
        if text:
            texts[keyword] = text
    return texts


def _raw(dataset: Dataset, tag: int) -> bytes | None:
    if tag not in dataset:
        return None
    value = dataset.get_item(tag).value  # undecoded: a RawDataElement unless it is a sequence
    return value if isinstance(value, bytes) else None


def _encodings(terms: str) -> list[str]:
    """Python codecs of Specific Character Set (PS3.3 C.12.1.1.2); an unknown term reads as Latin-1, which takes all."""
    return [python_encoding.get(term.strip(), "latin-1") for term in terms.split("\\")]


def _decoded(value: bytes, encodings: list[str], vr: str) -> str:
    if value.isascii() and b"\x1b" not in value:
        return value.decode("ascii")
    if len(encodings) > 1 and b"\x1b" in value:
        try:
            return decode_bytes(value, encodings, set(b"\\^=" if vr == "PN" else b"\\"))
        except (ValueError, LookupError, UserWarning):
            pass
    codec = {"iso8859": "latin-1", "ascii": "utf-8"}.get(encodings[0], encodings[0])
    return value.decode(codec, "replace")


def _json_member(vr: str, text: str) -> dict[str, Any] | None:
    values = [_json_value(vr, part.strip(" \0")) for part in text.split("\\")]
    if all(value is None for value in values):
        return None
    return {"vr": vr, "Value": values}


def _json_value(vr: str, text: str) -> object:
    if not text:
        return None  # PS3.18 F.2.4: an empty value among others is null
    if vr in ("IS", "US"):
        return integer(text)
    if vr == "PN":
        groups = zip(("Alphabetic", "Ideographic", "Phonetic"), text.split("="), strict=False)
        return {name: group for name, group in groups if group} or None
    return text
