"""Read the bytes of one source as an instance: its header, and the location of its encoded pixel data."""

from __future__ import annotations

import io
import logging
import struct
import warnings
import zipfile
from collections.abc import Iterator, MutableSequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from pydicom import Dataset
from pydicom.charset import convert_encodings, default_encoding
from pydicom.dataelem import DataElement, RawDataElement, convert_raw_data_element
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_partial
from pydicom.tag import BaseTag
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from inference.series.encoded import InstanceSource, PixelData, is_near
from inference.series.errors import (
    NestedTooDeeplyError,
    NotDicomError,
    ObjectTooLargeError,
    UnreadableError,
    UnsuitableObjectError,
)
from inference.series.limits import MAX_INFLATED_BYTES, MAX_OBJECT_BYTES, MAX_SEQUENCE_ITEMS, MAX_UNUSUAL_BYTES
from part10.damage import PYDICOM_ERRORS, is_about_the_disk
from part10.errors import InflatesTooLargeError, Part10Error, TooDeepError
from part10.file_meta import has_prefix
from part10.header import HEAD_BYTES, Header, is_bulk
from part10.header import read_header as scan_header
from part10.inflate import InflatedFile, bounded_for_pydicom, is_deflated
from part10.limits import MAX_ELEMENTS, MAX_SEQUENCE_DEPTH
from part10.pixel_data import PIXEL_DATA_TAGS

__all__ = [
    "Instance",
    "InstanceSource",
    "looks_like_dicom",
    "read_damaged_identity",
    "read_header",
    "read_instance",
    "reading",
    "without_pydicom_warnings",
]

SPECIFIC_CHARACTER_SET = BaseTag(0x00080005)
SERIES_INSTANCE_UID = BaseTag(0x0020000E)
ITEM_TAGS = (b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00")
FIRST_GROUPS = frozenset({0x0002, 0x0004, 0x0008})  # a dataset without preamble begins in one of these


@dataclass(frozen=True, slots=True, eq=False)
class Instance:
    """A dataset without its bulk, and where its pixel data are (None where it has none)."""

    name: str
    header: Dataset
    transfer_syntax_uid: str
    pixel_data: PixelData | None


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Translate all exceptions that pydicom raises on damaged bytes into errors about ``name``.

    Use it also where values are first used, because pydicom decodes them only then. pydicom's warnings and log lines
    are suppressed, because they quote values, which can be patient names; values are checked by this package.
    """
    try:
        with without_pydicom_warnings():
            yield
    except TooDeepError as error:
        raise NestedTooDeeplyError(name, str(error)) from error
    except InflatesTooLargeError as error:
        raise ObjectTooLargeError(name, str(error)) from error
    except Part10Error as error:
        raise UnreadableError(name, str(error)) from error
    except RecursionError as error:
        raise NestedTooDeeplyError(name) from error
    except InvalidDicomError as error:
        raise NotDicomError(name) from error
    except OSError as error:
        reason = f"cannot be read: {error.strerror}" if is_about_the_disk(error) else type(error).__name__
        raise UnreadableError(name, reason) from error
    except (*PYDICOM_ERRORS, zipfile.BadZipFile) as error:
        raise UnreadableError(name, type(error).__name__) from error


@contextmanager
def without_pydicom_warnings() -> Iterator[None]:
    """Suppress pydicom's warnings and log lines, which quote values."""
    token = _is_reading.set(True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        _is_reading.reset(token)


_is_reading: ContextVar[bool] = ContextVar("is_reading", default=False)
logging.getLogger("pydicom").addFilter(lambda _record: not _is_reading.get())


def read_header(source: InstanceSource) -> Dataset:
    """Read the elements before the pixel data, without overlays and large private values.

    Raises
    ------
    UnsuitableObjectError
        A leaf that says why the bytes cannot be read as DICOM.
    """
    return read_instance(source).header


def read_damaged_identity(source: InstanceSource, damage: UnreadableError) -> Dataset:
    """Read a damaged header up to its Series Instance UID; raise ``damage`` if that cannot be read either."""
    try:
        with reading(source.name), source.open() as file:
            head = bounded_for_pydicom(io.BytesIO(file.read(HEAD_BYTES)), max_inflated_bytes=MAX_INFLATED_BYTES)
            ds = read_partial(head, lambda tag, _vr, _length: tag > SERIES_INSTANCE_UID, force=True)
            is_told = bool(ds.get("SeriesInstanceUID"))
    except UnsuitableObjectError:
        raise damage from None
    if not is_told:
        raise damage
    return ds


def read_instance(source: InstanceSource) -> Instance:
    """Read the header of an instance and find its pixel data; raises as ``read_header`` does."""
    with reading(source.name), source.open() as file:
        if is_near(file):
            n_bytes = file.seek(0, io.SEEK_END)
            file.seek(0)
            head = file.read(HEAD_BYTES)
        else:
            head = file.read(MAX_OBJECT_BYTES + 1)
            n_bytes = len(head)
        if n_bytes > MAX_OBJECT_BYTES:
            raise ObjectTooLargeError(source.name, f"{n_bytes} bytes, expected at most {MAX_OBJECT_BYTES}")
        if not looks_like_dicom(head):
            raise NotDicomError(source.name)
        if is_deflated(head):
            inflated = InflatedFile(file, start=head, max_bytes=MAX_INFLATED_BYTES)
            return _instance_in(inflated.getvalue(), source)
        header = scan_header(file, head, n_bytes)
        if header is not None:
            return _instance(header, source, n_bytes)
        file.seek(0)
        return _unusual_instance(file.read(), source)


def _instance_in(data: bytes, source: InstanceSource) -> Instance:
    """Return the instance in bytes that differ from those of the source."""
    header = scan_header(io.BytesIO(), data, len(data))
    return _unusual_instance(data, source) if header is None else _instance(header, source, len(data), held=data)


def _instance(header: Header, source: InstanceSource, n_bytes: int, held: bytes | None = None) -> Instance:
    """Return an instance whose header was scanned."""
    ds = Dataset(header.elements)
    ds.file_meta = FileMetaDataset(header.meta)
    ds.set_original_encoding(header.is_implicit_vr, header.is_little_endian, _character_sets(ds))
    place = header.pixel_data
    if place is None:
        return Instance(source.name, ds, header.transfer_syntax_uid, None)
    there = max(0, n_bytes - place.offset)
    there = there if place.n_bytes is None else min(there, place.n_bytes)
    value = None if held is None else held[place.offset : place.offset + there]
    pixel_data = PixelData(source, place.tag, place.offset, there, place.n_bytes is None, value)
    return Instance(source.name, ds, header.transfer_syntax_uid, pixel_data)


def _character_sets(ds: Dataset) -> str | MutableSequence[str]:
    """Python's names of the dataset's character sets."""
    element = ds.get_item(SPECIFIC_CHARACTER_SET) if SPECIFIC_CHARACTER_SET in ds else None
    if not isinstance(element, RawDataElement):
        return default_encoding
    return convert_encodings(convert_raw_data_element(element).value)


def _unusual_instance(data: bytes, source: InstanceSource) -> Instance:
    """Read with pydicom, which tolerates more deviations, with bounded memory."""
    if len(data) > MAX_UNUSUAL_BYTES:
        reason = f"{len(data)} bytes in an unusual encoding, expected at most {MAX_UNUSUAL_BYTES}"
        raise ObjectTooLargeError(source.name, reason)
    n_items = sum(map(data.count, ITEM_TAGS))
    if n_items > MAX_SEQUENCE_ITEMS:
        raise UnreadableError(source.name, f"{n_items} sequence items, expected at most {MAX_SEQUENCE_ITEMS}")
    # BytesIO bounds every element by what is there, whatever length it claims.
    file = bounded_for_pydicom(io.BytesIO(data), max_inflated_bytes=MAX_INFLATED_BYTES)
    ds = read_partial(file, _StopBehindPixels(source.name), force=True)
    _check_depth(ds, source.name)
    transfer_syntax_uid = str(ds.file_meta.get("TransferSyntaxUID", "")) or _guessed_transfer_syntax_uid(ds)
    return Instance(source.name, _without_bulk(ds), transfer_syntax_uid, _pixel_data_of(ds, source))


def _pixel_data_of(ds: FileDataset, source: InstanceSource) -> PixelData | None:
    """The pixel data that pydicom has read."""
    for tag in PIXEL_DATA_TAGS:
        item = ds.get_item(tag) if tag in ds else None
        if item is not None and isinstance(item.value, bytes):
            is_encapsulated = bool(getattr(item, "is_undefined_length", False)) or item.value[:4] == ITEM_TAGS[0]
            return PixelData(source, tag, 0, len(item.value), is_encapsulated, item.value)
    return None


class _StopBehindPixels:
    """Stops reading at or after the pixel data, because a hostile file may continue with endless padding."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._n_elements = 0
        self._seen = False

    def __call__(self, tag: BaseTag, _vr: str | None, _length: int) -> bool:
        self._n_elements += 1
        if self._n_elements > MAX_ELEMENTS:
            raise UnreadableError(self._name, f"more than {MAX_ELEMENTS} elements before the pixel data")
        if self._seen:
            return True
        self._seen = tag in PIXEL_DATA_TAGS
        return False


def looks_like_dicom(head: bytes) -> bool:
    """Whether the first bytes are a preamble with ``DICM``, or a first element without one."""
    if has_prefix(head):
        return True
    if len(head) < 8:
        return False
    group, element = struct.unpack("<HH", head[:4])
    if group not in FIRST_GROUPS:
        group, element = struct.unpack(">HH", head[:4])
    if group not in FIRST_GROUPS or element > 0x1000:
        return False
    is_explicit = head[4:6].isalpha() and head[4:6].isupper()
    return is_explicit or struct.unpack("<I", head[4:8])[0] <= 0xFFFF


def _guessed_transfer_syntax_uid(ds: FileDataset) -> str:
    """Return the transfer syntax that pydicom detected if there is no file meta information."""
    is_implicit_vr, is_little_endian = ds.original_encoding
    if is_implicit_vr:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if is_little_endian else ExplicitVRBigEndian


def _check_depth(ds: Dataset, name: str, depth: int = 0) -> None:
    """Refuse nesting beyond MAX_SEQUENCE_DEPTH, before anything walks or copies the dataset."""
    if depth > MAX_SEQUENCE_DEPTH:
        raise NestedTooDeeplyError(name, f"more than {MAX_SEQUENCE_DEPTH} levels")
    for tag, unread in list(ds.items()):
        if _may_be_sequence(unread):
            element = ds[tag]
            if element.VR == "SQ":
                for item in element.value:
                    _check_depth(item, name, depth + 1)


def _may_be_sequence(element: DataElement | RawDataElement | None) -> bool:
    """Whether the element is a sequence, or unread bytes that begin as one; all others stay unread."""
    if element is None or element.tag in PIXEL_DATA_TAGS:
        return False
    if isinstance(element, RawDataElement):
        return element.VR == "SQ" or (element.value or b"")[:4] in ITEM_TAGS
    return element.VR == "SQ"


def _without_bulk(ds: FileDataset) -> Dataset:
    """Return a dataset without pixels, overlays and bulky private values, elements still unread."""
    header = Dataset({tag: item for tag, item in ds.items() if not is_bulk(int(tag), _value_bytes(item))})
    header.file_meta = ds.file_meta
    is_implicit_vr, is_little_endian = ds.original_encoding
    header.set_original_encoding(is_implicit_vr, is_little_endian, ds.original_character_set)
    return header


def _value_bytes(element: DataElement | RawDataElement) -> int:
    return len(element.value) if isinstance(element.value, bytes) else 0
