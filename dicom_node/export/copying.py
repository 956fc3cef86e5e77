"""Copy one file de-identified: read, check, clean, write, read again and compare."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Final

from pydicom import Dataset, dcmread, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID

from dicom_node.export.admission import check_object
from dicom_node.export.cleaner import Cleaner, PatientKey, Report
from dicom_node.export.errors import NotExportableError
from dicom_node.export.persons import Person, person_of
from dicom_node.export.pixel_text import bytes_that_are_no_pixels
from dicom_node.export.residue import PIXEL_TAGS, OwnValues, find_residue, own_values
from dicom_node.export.statements import method_values
from part10.damage import PYDICOM_ERRORS
from part10.errors import InflatesTooLargeError
from part10.identity import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from part10.inflate import bounded_for_pydicom
from part10.limits import MAX_INFLATED_BYTES

MAX_OBJECT_BYTES: Final = 2**32


@dataclass(frozen=True, slots=True)
class Copied:
    """A copy that was written and verified; ``person`` is that of its source, to compare objects of a study."""

    source_sha256: str
    sha256: str
    n_bytes: int
    sop_class_uid: str
    transfer_syntax_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    study_instance_uid: str
    patient_id: str
    person: Person = field(repr=False)
    report: Report = field(repr=False)

    @property
    def relative_path(self) -> Path:
        """Path of the copy below the output folder; every part is a pseudonym."""
        return Path(self.patient_id, self.study_instance_uid, self.series_instance_uid, f"{self.sop_instance_uid}.dcm")


def read_source(file: BinaryIO) -> tuple[Dataset, str]:
    """Return the dataset of a Part 10 file and the SHA-256 of the whole file.

    Raises
    ------
    NotExportableError
        It is too large, or not readable as DICOM.
    """
    content = file.read(MAX_OBJECT_BYTES + 1)
    if len(content) > MAX_OBJECT_BYTES:
        raise NotExportableError("too-large", f"the file has more than {MAX_OBJECT_BYTES} bytes")
    try:
        ds = dcmread(bounded_for_pydicom(BytesIO(content), max_inflated_bytes=MAX_INFLATED_BYTES))
    except InflatesTooLargeError as error:
        raise NotExportableError("too-large", f"the file {error}") from None
    except InvalidDicomError:
        raise NotExportableError("not-dicom", "the file is not a DICOM Part 10 file") from None
    except PYDICOM_ERRORS as error:
        raise NotExportableError("unreadable", f"the file cannot be read as DICOM ({type(error).__name__})") from error
    return ds, hashlib.sha256(content).hexdigest()


def write_copy(file: BinaryIO, staging: Path, cleaner: Cleaner, *, is_face_gone: bool = False) -> Copied:
    """Write the de-identified copy of one file under ``staging`` and verify it against its source.

    Raises
    ------
    NotExportableError
        The object must not be copied, or its copy failed the verification; nothing is left in ``staging``.
    """
    source, source_sha256 = read_source(file)
    try:
        check_object(source, cleaner.profile)
        own = own_values(source)
        patient = PatientKey(str(source.PatientID).strip(), str(source.get("IssuerOfPatientID") or "").strip())
        copy, report = cleaner.clean(source, patient, own, is_face_gone=is_face_gone)
        encoded = _encode(source, copy)
    except PYDICOM_ERRORS as error:
        raise NotExportableError(
            "unreadable", f"an element of the object cannot be read ({type(error).__name__})"
        ) from error
    _verify(source, encoded, own, cleaner)
    copied = Copied(
        source_sha256=source_sha256,
        sha256=hashlib.sha256(encoded).hexdigest(),
        n_bytes=len(encoded),
        sop_class_uid=str(source.SOPClassUID),
        transfer_syntax_uid=str(source.file_meta.TransferSyntaxUID),
        sop_instance_uid=cleaner.pseudonyms.mapped_uid(str(source.SOPInstanceUID)),
        series_instance_uid=cleaner.pseudonyms.mapped_uid(str(source.SeriesInstanceUID)),
        study_instance_uid=cleaner.pseudonyms.mapped_uid(str(source.StudyInstanceUID)),
        patient_id=str(copy.PatientID),
        person=person_of(source),
        report=report,
    )
    _write(staging / copied.relative_path, encoded)
    return copied


def _encode(source: Dataset, copy: Dataset) -> bytes:
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = UID(str(source.SOPClassUID))
    meta.MediaStorageSOPInstanceUID = UID(str(copy.SOPInstanceUID))
    meta.TransferSyntaxUID = source.file_meta.TransferSyntaxUID
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    copy.file_meta = meta
    copy.preamble = bytes(128)
    buffer = BytesIO()
    dcmwrite(buffer, copy, enforce_file_format=True)
    return buffer.getvalue()


def _verify(source: Dataset, encoded: bytes, own: OwnValues, cleaner: Cleaner) -> None:
    """Read the bytes again; refuse them if they differ from what was intended, or contain patient data."""
    again = dcmread(BytesIO(encoded))
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
        if str(again.get(keyword)) != cleaner.pseudonyms.mapped_uid(str(source.get(keyword))):
            raise NotExportableError("not-verified", f"{keyword} of the copy is not the intended one")
    header: list[bytes] = [encoded]
    for tag in PIXEL_TAGS:
        was, is_now = source.get_item(tag), again.get_item(tag)
        if (was is None) != (is_now is None) or (was is not None and is_now is not None and was.value != is_now.value):
            raise NotExportableError("not-verified", "the pixel data of the copy differ from the source's")
        if is_now is not None and isinstance(is_now.value, bytes):
            is_last = encoded.endswith(is_now.value)  # as good as always, and found at once
            begin = len(encoded) - len(is_now.value) if is_last else encoded.rfind(is_now.value)
            header = [encoded[:begin], encoded[begin + len(is_now.value) :]] if begin >= 0 else header
            header += bytes_that_are_no_pixels(again, is_now.value)
    stated = ["\\".join(method_values(cleaner.profile)).encode("utf-8")]
    residue = find_residue(again, header, own, cleaner.public_tags, stated, cleaner.safe_private)
    if residue is not None:
        told = f"the copy still holds {residue}; it was discarded (see residue in docs/deidentify.md)"
        raise NotExportableError("residue", told)


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:  # synced with the other files of its study, when that is published
        file.write(content)
